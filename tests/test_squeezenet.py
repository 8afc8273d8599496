"""SqueezeNet features with weights made here: the file of the real ones does not ship."""

import hashlib

import numpy as np
import pytest
import torch
from torchvision.models import squeezenet1_0

from ebm_zoo.errors import DataError, WeightsError
from ebm_zoo.metrics import SqueezeNet, squeezenet


@pytest.fixture
def network():
    return squeezenet1_0(weights=None).eval()


@pytest.fixture
def file(network, tmp_path, monkeypatch):
    path = tmp_path / "weights.npz"
    np.savez(path, **{name: value.numpy() for name, value in network.state_dict().items()})
    monkeypatch.setattr(squeezenet, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    monkeypatch.setenv("FOLDER", str(tmp_path))
    return path


def test_features_are_the_mean_of_the_last_maps(network, file):
    images = torch.rand(2, 3, 227, 227)
    found = SqueezeNet("$FOLDER/weights.npz")(images)
    with torch.no_grad():
        maps = network.features(images * 255 - torch.tensor([123.0, 117.0, 104.0]).view(3, 1, 1))
    assert found.shape == (2, 512) and not found.requires_grad
    torch.testing.assert_close(found, maps.mean((2, 3)), rtol=1e-4, atol=1e-3)
    assert SqueezeNet(str(file))(torch.rand(1, 3, 16, 16)).shape == (1, 512)


def test_images_out_of_range_are_refused(file):
    extractor = SqueezeNet(str(file))
    for images in (torch.full((1, 3, 8, 8), 1.5), torch.full((1, 3, 8, 8), float("nan"))):
        with pytest.raises(DataError, match="rescale"):
            extractor(images)


def test_other_weights_are_refused(file, tmp_path):
    with pytest.raises(WeightsError, match="SqueezeNet-Deep-Compression"):
        SqueezeNet(str(tmp_path / "nothing.npz"))
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="sha256"):
        SqueezeNet(str(file))
