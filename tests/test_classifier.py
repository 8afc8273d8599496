"""The classifier that judges grey images: it learns labels, and its packaged form is what the catalog names."""

import pytest
import torch
from lightning import Trainer

from ebm_zoo.data import LabelledImageData
from ebm_zoo.errors import DataError
from ebm_zoo.metrics import FashionClassifier, GreyClassifier
from ebm_zoo.models import Classifier
from ebm_zoo.optim import Adam
from ebm_zoo.space import Space
from ebm_zoo.zoo import from_pretrained


def test_digits_are_learned(tmp_path):
    data = LabelledImageData("digits", size=28, value_range=(0.0, 1.0), batch_size=64)
    model = Classifier(GreyClassifier(width=8), Space((1, 28, 28), 0.0, 1.0), {"network": Adam(lr=1e-2)})
    trainer = Trainer(
        max_epochs=6, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(model, data)
    (figures,) = trainer.test(model, data, verbose=False)
    assert figures["accuracy"] > 0.8  # chance is 0.1


def test_labels_belong_to_their_images():
    data = LabelledImageData("digits", batch_size=297, validation=50)
    data.setup()
    test, held_back = next(iter(data.test_dataloader())), next(iter(data.val_dataloader()))
    from sklearn.datasets import load_digits

    digits = load_digits()
    for (images, labels), part in ((test, slice(1500, None)), (held_back, slice(1450, 1500))):
        stored = torch.from_numpy(digits.images[part]).float()[:, None] / 8 - 1
        assert (images - stored).abs().max() < 0.005
        assert labels.tolist() == digits.target[part].tolist()


def test_folder_classes_are_subfolder_names(tmp_path):
    from torchvision.utils import save_image

    for split, name in (("train", "b"), ("train", "a"), ("test", "b"), ("test", "a")):
        folder = tmp_path / split / name
        folder.mkdir(parents=True)
        for k in range(2):
            save_image(torch.full((1, 4, 4), 0.0 if name == "a" else 1.0), folder / f"{k}.png")
    data = LabelledImageData(str(tmp_path), channels=1, batch_size=4)
    data.setup()
    images, labels = next(iter(data.test_dataloader()))
    assert labels.tolist() == [0, 0, 1, 1]
    assert images.mean((1, 2, 3)).round().tolist() == [-1.0, -1.0, 1.0, 1.0]


def test_a_folder_without_classes_is_refused(tmp_path):
    from torchvision.utils import save_image

    for k in range(3):
        save_image(torch.zeros(1, 4, 4), tmp_path / f"{k}.png")
    data = LabelledImageData(str(tmp_path))
    with pytest.raises(DataError, match="has no classes"):
        data.setup("fit")


def test_packaged_features_are_the_catalog_model():
    images = torch.rand(5, 1, 28, 28)
    model = from_pretrained("classifier/fashion_mnist")
    with torch.no_grad():
        assert torch.equal(FashionClassifier()(images), model.network(images))
        assert torch.equal(model.classify(images), FashionClassifier().logits(images).argmax(1))
