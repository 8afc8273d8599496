"""Pictures with their class labels."""

from typing import Any

import torch
import torchvision.datasets
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from ebm_zoo.data.files import image_files, training_files, user_path
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


class ClassData(ImageData):
    """Pictures of a source that has classes. The checkpoint of a training keeps their names.

    Attributes:
        classes: names by number, known after `setup`; none for public sets, whose classes are numbers.
    """

    classes: tuple[str, ...] = ()

    def setup(self, stage: str | None = None) -> None:
        """Look up the classes, and read what a stage needs."""
        self.classes = class_names(self.source)
        super().setup(stage)

    def state_dict(self) -> dict[str, Any]:
        """The classes beside what other data keep in a checkpoint."""
        return {**super().state_dict(), "classes": list(self.classes)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a checkpoint whose model learned the same classes.

        Raises:
            DataError: if a number would stand for another class.
        """
        super().load_state_dict(state_dict)
        learned = state_dict.get("classes", [])
        if not learned or not self.classes or tuple(learned) == self.classes:
            return
        missing, new = sorted(set(learned) - set(self.classes)), sorted(set(self.classes) - set(learned))
        differences = [f"{kind} {', '.join(names)}" for kind, names in (("lacks", missing), ("adds", new)) if names]
        raise DataError(
            f"{self.source} has other classes than the checkpoint's model learned: it {' and '.join(differences)}. "
            f"Give each of {', '.join(learned)} a training folder of its name, and no other."
        )


class LabelledImageData(ClassData):
    """Batches of pictures **(B, C, H, W)** and their classes **(B,)**, 0 to the number of classes less one.

    Arguments as for `ImageData`. In a folder the class is the name of the subfolder that holds the file, and its
    number that of the name in the sorted names of all classes that there are training files of; see `class_names`.
    CelebA has none.

    Raises:
        DataError: if the source has no labels, or a test picture is of a class that there is no training file of.
    """

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs, with its labels."""
        super().setup(stage)
        if self._train is not None and not isinstance(self._train, Labelled):
            labels = read_labels(self.source, "train", self.classes)
            if self._validation is not None:
                self._validation = Labelled(self._validation, labels[len(self._train) :])
            self._train = Labelled(self._train, labels[: len(self._train)])
        self._tests = [
            images
            if isinstance(images, Labelled)
            else Labelled(images, read_labels(source, "test", class_names(source)))
            for source, images in zip(self._sources, self._tests, strict=False)
        ]


def class_names(source: str) -> tuple[str, ...]:
    """Names of the classes of a folder, in the order of their numbers; none for a public set.

    Every file outside ``test`` counts, one that is a test image for want of that folder too: whatever a split lacks,
    no number shifts. Where all files are test images, they tell the classes.

    Raises:
        DataError: if there is but one.
    """
    if source == DIGITS or source in PUBLIC_SETS:
        return ()
    folder = user_path(source)
    files = training_files(folder) or image_files(folder)
    names = sorted({path.parent.name for path in files})
    if len(names) == 1:
        raise DataError(f"{source} has no classes: put the images of each class into a subfolder of its name.")
    return tuple(names)


def read_labels(source: str, split: str, classes: tuple[str, ...]) -> Int64[Tensor, " n"]:
    """Class labels of one split, in the order of `ebm_zoo.data.sources.read`.

    Args:
        source: as for `read`.
        split: as for `read`.
        classes: `class_names` of the source.

    Raises:
        DataError: if the source has no classes, or a file belongs to none of them.
    """
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
    paths, numbers = read(source, split), {name: number for number, name in enumerate(classes)}
    for path in paths:
        if path.parent.name not in numbers:
            raise DataError(
                f"{path} is of class {path.parent.name}, of which {source} has no training file, but of "
                f"{', '.join(classes)}: add training files of this class, or remove its folder."
            )
    return torch.tensor([numbers[path.parent.name] for path in paths])
