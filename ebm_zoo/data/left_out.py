"""Pictures of all classes but one, which is what a detector of anomalies has to find."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from ebm_zoo.data.labelled import ClassData, read_labels
from ebm_zoo.data.sources import read
from ebm_zoo.data.tensors import require
from ebm_zoo.errors import DataError


class LeftOutImageData(ClassData):
    """Pictures **(B, C, H, W)** without labels, of all classes but one; the test pictures of that one are outliers.

    The test loaders are those of the classes learned and of the class left out.

    Args:
        source: as for `LabelledImageData`: it needs classes.
        left_out: number of the class, from 0, counted as by `LabelledImageData`.
        size: as for `ImageData`.
        channels: as for `ImageData`.
        value_range: as for `ImageData`.
        batch_size: as for `ImageData`.
        flip: as for `ImageData`.
        validation: as for `ImageData`.

    Raises:
        ConfigError: if ``left_out`` is negative; and as for `ImageData`.
        DataError: if the source has no such class, no other or no classes; and as for `ImageData`.
    """

    def __init__(
        self,
        source: str,
        *,
        left_out: int,
        size: int | None = None,
        channels: int | None = None,
        value_range: tuple[float, float] = (-1.0, 1.0),
        batch_size: int = 64,
        flip: float = 0.0,
        validation: int = 0,
    ):
        super().__init__(
            source,
            size=size,
            channels=channels,
            value_range=value_range,
            batch_size=batch_size,
            flip=flip,
            validation=validation,
        )
        require(left_out >= 0, f"left_out is {left_out}: give the number of a class, from 0.")
        self.left_out = left_out

    def _training_items(self) -> Sequence[Path] | Tensor:
        return self._split("train")[0]

    def _test_sets(self) -> list[tuple[str, Sequence[Path] | Tensor]]:
        return [(self.source, items) for items in self._split("test")]

    def _split(self, split: str) -> list[Sequence[Path] | Tensor]:
        """Pictures of the classes learned, and of the class left out."""
        items, labels = read(self.source, split), read_labels(self.source, split, self.classes)
        out = labels == self.left_out
        if out.all() or not out.any():
            raise DataError(
                f"The {split} split of {self.source} has {int(out.sum())} of {len(out)} pictures in class "
                f"{self.left_out}: leave out a class beside which there are others."
            )
        parts = [mask.nonzero().flatten() for mask in (~out, out)]
        return [items[part] if isinstance(items, Tensor) else [items[k] for k in part.tolist()] for part in parts]
