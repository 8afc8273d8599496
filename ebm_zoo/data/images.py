"""Pictures of one size from a public set or a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from ebm_zoo.data.loading import ShuffledData, fixed_loader
from ebm_zoo.data.sources import check_source, prepare, read
from ebm_zoo.data.tensors import Fit, ImageSet, fitted, require, require_range
from ebm_zoo.errors import DataError


class ImageData(ShuffledData):
    """Pictures as float32 tensors **(B, C, H, W)** in a range of values, without labels.

    x = lo + (hi - lo) u / 255, for stored pixels u = 0 ... 255

    Sets of at most 512 MiB (as bytes, after resizing) are kept in memory; larger ones are read as needed.

    Args:
        source: ``MNIST``, ``FashionMNIST``, ``CIFAR10``, ``SVHN`` or ``CelebA`` (downloaded to the folder
            that the environment variable ``EBM_ZOO_DATA`` names, else to the user's cache), ``digits``
            (scikit-learn's 1,797 scans of 8 x 8 pixels, the last 297 for testing), or the path of a folder of
            image files. A folder's subfolders ``train`` and ``test`` are its splits; without ``test``, every
            10th file in sorted order is a test image. All files below are read, in any arrangement.
        size: Side of the square in pixels: the shorter side is resized to it (bilinear, antialiased), then
            the centre is cut out. None leaves all as they are; they must then be of one size.
        channels: C = 1 or 3, converted where needed. None leaves them as stored.
        value_range: lo and hi.
        batch_size: B, pictures per batch and rank.
        flip: Probability of a horizontal flip in training.
        validation: How many pictures at the end of the training split are held back for validation.
        outliers: A second source, brought to the same shape, whose test split makes a second test loader (for
            the detection of anomalies).
        workers: Processes that read; 0 is best for sets in memory.

    Raises:
        ConfigError: An argument is out of its range.
        DataError: A source is unknown, missing, damaged, empty or of several shapes.
    """

    def __init__(
        self,
        source: str,
        *,
        size: int | None = None,
        channels: int | None = None,
        value_range: tuple[float, float] = (-1.0, 1.0),
        batch_size: int = 64,
        flip: float = 0.0,
        validation: int = 0,
        outliers: str | None = None,
        workers: int = 0,
    ):
        super().__init__()
        require(size is None or size >= 1, f"size is {size}: give at least 1 pixel.")
        require(channels in (None, 1, 3), f"channels is {channels}: give 1 (grey) or 3 (RGB).")
        require_range(value_range)
        require(batch_size >= 1, f"batch_size is {batch_size}: give at least 1.")
        require(0 <= flip <= 1, f"flip is {flip}: give a probability, 0 to 1.")
        require(validation >= 0, f"validation is {validation}: give a number of pictures, 0 or more.")
        require(workers >= 0, f"workers is {workers}: give 0 or more processes.")
        self.source, self.outliers = source, outliers
        for each in self._sources:
            check_source(each)
        self._fit, self.value_range = Fit(size, channels), value_range
        self.batch_size, self.workers = batch_size, workers
        self.flip, self.validation = flip, validation
        self._shape: tuple[int, ...] | None = None
        # Any: a set of images, or of images with labels.
        self._train: Any = None
        self._validation: Any = None
        self._tests: list[Any] = []

    @property
    def _sources(self) -> list[str]:
        return [self.source] if self.outliers is None else [self.source, self.outliers]

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of every picture; known after `setup`."""
        if self._shape is None:
            raise DataError("The shape of the pictures is known only after setup(): call it first.")
        return self._shape

    def prepare_data(self) -> None:
        """Download the public sets that are missing."""
        for source in self._sources:
            prepare(source)

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs: ``fit``, ``validate``, ``test`` or ``predict``; None reads all."""
        if stage == "validate" and not self.validation:
            raise DataError("There are no pictures to validate on: set validation to how many to hold back.")
        if stage in (None, "fit", "validate") and self._train is None:
            self._setup_training()
        if stage in (None, "test", "predict") and not self._tests:
            self._tests = [
                self._presented(self._images(source, items), training=False) for source, items in self._test_sets()
            ]

    def _training_items(self) -> Sequence[Path] | Tensor:
        return read(self.source, "train")

    def _test_sets(self) -> list[tuple[str, Sequence[Path] | Tensor]]:
        return [(source, read(source, "test")) for source in self._sources]

    def _setup_training(self) -> None:
        items = self._training_items()
        kept = len(items) - self.validation
        if kept < 1:
            raise DataError(
                f"{self.source} has {len(items)} training pictures, of which validation holds back "
                f"{self.validation}: lower validation."
            )
        if self.validation:
            self._validation = self._presented(self._images(self.source, items[kept:]), training=False)
        self._train = self._presented(self._images(self.source, items[:kept], self.flip), training=True)

    def _presented(self, images: ImageSet, *, training: bool) -> Any:
        """What batches are made of: the pictures, unless a subclass shows them otherwise."""
        return images

    def _images(self, source: str, items: Sequence[Path] | Tensor, flip: float = 0.0) -> ImageSet:
        images = ImageSet(fitted(items, self._fit), self.value_range, flip)
        shape = tuple(images[0].shape)
        if self._shape not in (None, shape):
            raise DataError(f"Pictures of {source} are {shape} (C, H, W), not {self._shape}: set size and channels.")
        self._shape = shape
        return images

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; the last, smaller one is left out unless it is the only one."""
        return self.shuffled(self._train, self.batch_size, workers=self.workers)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The pictures held back, or no loader at all."""
        if self._validation is None:
            return []
        return fixed_loader(self._validation, self.batch_size, workers=self.workers)

    def test_dataloader(self) -> DataLoader | list[DataLoader]:
        """The test pictures, followed by the outliers' where these are given."""
        loaders = [fixed_loader(images, self.batch_size, workers=self.workers) for images in self._tests]
        return loaders if len(loaders) > 1 else loaders[0]

    def predict_dataloader(self) -> DataLoader:
        """The test pictures."""
        return fixed_loader(self._tests[0], self.batch_size, workers=self.workers)
