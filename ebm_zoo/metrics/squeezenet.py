"""Features of colour images where Inception cannot be had."""

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import squeezenet1_0

from ebm_zoo.errors import DataError, WeightsError

SHA256 = "18d3b689247e6cdac09270e350f5da12cdd926e38c38105fb50070d7d2427e3a"
ORIGIN = (
    "the deep-compressed SqueezeNet v1.0 of https://github.com/songhan/SqueezeNet-Deep-Compression, as named arrays"
)


class SqueezeNet(nn.Module):
    """The 512 features of SqueezeNet v1.0, trained on ImageNet, averaged over the image.

    Distances over them are no FID and cannot be compared with published ones; write ``squeezenet1_0`` beside them.

    Args:
        weights: .npz file of 52 arrays named as in torchvision's ``squeezenet1_0``; environment variables in the path
            are replaced. It does not ship with the package.

    Raises:
        WeightsError: if the file is missing, or not the one that figures of this zoo were measured with.

    References:
        Iandola, Han, Moskewicz, Ashraf, Dally, Keutzer. SqueezeNet: AlexNet-level accuracy with 50x fewer parameters
        and <0.5MB model size. 2016. https://arxiv.org/abs/1602.07360
    """

    name = "squeezenet1_0"
    mean: Tensor

    def __init__(self, weights: str) -> None:
        super().__init__()
        self.weights = weights
        self.network = squeezenet1_0(weights=None).features
        self.network.load_state_dict(_read(Path(os.path.expandvars(weights)).expanduser()))
        self.register_buffer("mean", torch.tensor([123.0, 117.0, 104.0]).view(1, 3, 1, 1), persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 512"]:
        """Features of colour images in [0, 1], resized to 227×227, **(B, 3, H, W) -> (B, 512)**.

        Raises:
            DataError: if values lie outside [0, 1].
        """
        if not ((images >= -1e-3) & (images <= 1 + 1e-3)).all():
            raise DataError("The images hold values out of [0, 1] or NaN: rescale or clamp them to [0, 1] first.")
        pixels = nn.functional.interpolate(images.float(), (227, 227), mode="bilinear", antialias=True)
        return self.network(pixels.clamp(0, 1) * 255 - self.mean).mean((2, 3))


def _read(path: Path) -> dict[str, Tensor]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror}. It should be {ORIGIN}.") from None
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256:
        raise WeightsError(f"{path} has sha256 {found}, not {SHA256}: figures of other weights cannot be compared.")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {
            name.removeprefix("features."): torch.from_numpy(arrays[name])
            for name in arrays.files
            if name.startswith("features.")
        }
