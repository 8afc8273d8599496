"""Pictures with their class labels."""

import torch
import torchvision.datasets
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from ebm_zoo.data.images import ImageData
from ebm_zoo.data.sources import DIGITS, DIGITS_TEST, PUBLIC_SETS, data_root, read
from ebm_zoo.data.tensors import ImageSet
from ebm_zoo.errors import DataError


class Labelled(Dataset):
    """Pictures **(B, C, H, W)** with labels **(B,)**, fetched a batch at a time.

    Args:
        images: the pictures.
        labels: one per picture, **(N,)**.
    """

    def __init__(self, images: ImageSet, labels: Int64[Tensor, " n"]) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c h w"], Int64[Tensor, ""]]:
        images, labels = self.__getitems__([index])
        return images[0], labels[0]

    def __getitems__(self, indices: list[int]) -> tuple[Float[Tensor, "b c h w"], Int64[Tensor, " b"]]:
        return self.images.__getitems__(indices), self.labels[indices]


class LabelledImageData(ImageData):
    """Batches of pictures **(B, C, H, W)** and their classes **(B,)**, 0 to the number of classes less one.

    Arguments as for `ImageData`. In a folder the class is the name of the subfolder that holds the file, classes
    numbered in sorted order; CelebA has none.

    Raises:
        DataError: if the source has no labels.
    """

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs, with its labels."""
        super().setup(stage)
        if self._train is not None and not isinstance(self._train, Labelled):
            labels = read_labels(self.source, "train")
            if self._validation is not None:
                self._validation = Labelled(self._validation, labels[len(self._train) :])
            self._train = Labelled(self._train, labels[: len(self._train)])
        self._tests = [
            images if isinstance(images, Labelled) else Labelled(images, read_labels(source, "test"))
            for source, images in zip(self._sources, self._tests, strict=False)
        ]


def read_labels(source: str, split: str) -> Int64[Tensor, " n"]:
    """Class labels of one split, in the order of `ebm_zoo.data.sources.read`."""
    if source == "CelebA":
        raise DataError("CelebA has no classes: choose another source, or ImageData for its pictures alone.")
    if source == DIGITS:
        from sklearn.datasets import load_digits  # slow to import, and only this source needs it

        labels = torch.from_numpy(load_digits().target).long()
        return labels[:-DIGITS_TEST] if split == "train" else labels[-DIGITS_TEST:]
    if source == "SVHN":
        return torch.from_numpy(torchvision.datasets.SVHN(data_root(), split=split).labels).long()
    if source in PUBLIC_SETS:
        return torch.as_tensor(getattr(torchvision.datasets, source)(data_root(), train=split == "train").targets)
    names = [path.parent.name for path in read(source, split)]
    classes = sorted(set(names))
    if len(classes) < 2:
        raise DataError(f"{source} has no classes: put the images of each class into a subfolder of its name.")
    return torch.tensor([classes.index(name) for name in names])
