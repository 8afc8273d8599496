"""Two sets of pictures of which no two belong together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Int64
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ebm_zoo.data.files import SUFFIXES, image_files, user_path
from ebm_zoo.data.labelled import class_names, read_labels
from ebm_zoo.data.loading import ShuffledData, fixed_loader
from ebm_zoo.data.paired import outlines
from ebm_zoo.data.sources import DIGITS, check_source, prepare, read
from ebm_zoo.data.tensors import Fit, ImageSet, fitted, require, require_range
from ebm_zoo.errors import DataError


class InTurn(Dataset):
    """The data of several sets side by side, fetched a batch at a time; None of a set that has come to its end.

    Args:
        sets: sets that fetch whole batches.
    """

    def __init__(self, sets: Sequence[Any]) -> None:
        self.sets = sets

    def __len__(self) -> int:
        return max(map(len, self.sets))

    def __getitems__(self, indices: list[int]) -> tuple[Tensor | None, ...]:
        inside = [[index for index in indices if index < len(each)] for each in self.sets]
        return tuple(each.__getitems__(rows) if rows else None for each, rows in zip(self.sets, inside, strict=True))


class TwoDomains(ShuffledData):
    """Batches (a, b) out of two sets of any sizes.

    In training each domain is shuffled by itself, and the smaller set begins anew until the larger one has been seen.
    In testing each is seen once in order, with None in place of the one that has come to its end.

    Args:
        batch_size: B, data of either domain per batch and rank.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        require(batch_size >= 1, f"batch_size is {batch_size}: give at least 1.")
        self.batch_size = batch_size
        # Any: a set of images, or of clips, per domain.
        self._train: tuple[Any, ...] = ()
        self._test: tuple[Any, ...] = ()

    def train_dataloader(self) -> CombinedLoader:
        """Shuffled batches of both domains."""
        loaders = tuple(self.shuffled(each, self.batch_size, stream=k) for k, each in enumerate(self._train))
        return CombinedLoader(loaders, "max_size_cycle")

    def test_dataloader(self) -> DataLoader:
        """Batches of both domains in order."""
        return fixed_loader(InTurn(self._test), self.batch_size)

    def predict_dataloader(self) -> DataLoader:
        """The same as for testing."""
        return self.test_dataloader()


class UnpairedImageData(TwoDomains):
    """Batches (a, b) of pictures of two domains, **(B, C, H, W)** each, float32 in a range of values.

    Args:
        source: a folder with the subfolders ``trainA``, ``trainB``, ``testA`` and ``testB``, as in the sets of
            CycleGAN; or two sources as for `ImageData`, one for each domain; or ``digits``: half of scikit-learn's
            scans of handwriting, and the outlines of the other half, a toy that needs no download.
        size: side H = W of the square in pixels: the shorter side is resized to it, then the centre is cut out.
            None leaves all as they are; they must then be of one size.
        load_size: in training pictures are fitted to this size, and squares of ``size`` cut out of them at random.
            None trains on whole pictures.
        channels: C = 1 or 3, converted where needed. None leaves them as stored.
        value_range: values of black and white.
        batch_size: B, pictures of either domain per batch and rank.
        flip: probability that a picture is mirrored in training.

    Raises:
        ConfigError: An argument is out of its range.
        DataError: A source is unknown, empty or damaged, or the domains have several sizes or numbers of channels.
    """

    def __init__(
        self,
        source: str | tuple[str, str] = DIGITS,
        *,
        size: int | None = None,
        load_size: int | None = None,
        channels: int | None = None,
        value_range: tuple[float, float] = (-1.0, 1.0),
        batch_size: int = 16,
        flip: float = 0.0,
    ):
        super().__init__(batch_size)
        require(size is None or size >= 1, f"size is {size}: give at least 1 pixel.")
        require(
            load_size is None or (size is not None and load_size >= size),
            f"load_size is {load_size} and size {size}: give a load_size of at least size.",
        )
        require(channels in (None, 1, 3), f"channels is {channels}: give 1 (grey) or 3 (RGB).")
        require_range(value_range)
        require(0 <= flip <= 1, f"flip is {flip}: give a probability, 0 to 1.")
        self.source, self.size, self.load_size, self.channels = source, size, load_size, channels
        self.value_range, self.flip = value_range, flip
        if not isinstance(source, str):
            for each in source:
                check_source(each)
        elif source != DIGITS and not user_path(source).is_dir():
            raise DataError(f"{source!r} is neither a folder nor {DIGITS}: name the folder of trainA and trainB.")

    def prepare_data(self) -> None:
        """Download the public sets that are missing."""
        for source in () if isinstance(self.source, str) else self.source:
            prepare(source)

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs: ``fit``, ``test`` or ``predict``; None reads all."""
        if stage in (None, "fit") and not self._train:
            crop = None if self.load_size is None else self.size
            self._train = self._domains("train", self.load_size or self.size, self.flip, crop)
        if stage in (None, "test", "predict") and not self._test:
            self._test = self._domains("test", self.size)

    def labels(self) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " m"]] | None:
        """Classes of the test pictures of both domains, in order; a folder in CycleGAN's layout has none.

        Raises:
            DataError: if a number would stand for one class in one domain and for another in the other.
        """
        if isinstance(self.source, str) and self.source != DIGITS:
            return None
        sources = (DIGITS, DIGITS) if isinstance(self.source, str) else self.source
        first, second = (class_names(source) for source in sources)
        if first and second and first != second:
            raise DataError(
                f"{sources[0]} has the classes {', '.join(first)}, {sources[1]} has {', '.join(second)}: give both "
                "domains training files of the same classes, or leave figures by class out."
            )
        return read_labels(sources[0], "test", first), read_labels(sources[1], "test", second)

    def _domains(
        self, split: str, side: int | None, flip: float = 0.0, crop: int | None = None
    ) -> tuple[ImageSet, ...]:
        fit = Fit(side, self.channels)
        domains = tuple(ImageSet(fitted(items, fit), self.value_range, flip, crop) for items in self._items(split))
        shapes = [tuple(domain[0].shape) for domain in domains]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"Pictures of the first domain are {shapes[0]} (C, H, W), those of the second {shapes[1]}, in "
                f"{self.source}: set size and channels."
            )
        return domains

    def _items(self, split: str) -> tuple[Sequence[Path] | Tensor, ...]:
        if not isinstance(self.source, str):
            return tuple(read(source, split) for source in self.source)
        if self.source == DIGITS:
            digits: Any = read(DIGITS, split)
            # In training no digit is in both domains: there is no pair to be found.
            return (digits, outlines(digits)) if split == "test" else (digits[::2], outlines(digits[1::2]))
        return tuple(_files(user_path(self.source) / f"{split}{domain}") for domain in "AB")


def _files(folder: Path) -> list[Path]:
    files = image_files(folder)
    if not files:
        raise DataError(f"{folder} has no images ({', '.join(sorted(SUFFIXES))}): put those of this domain into it.")
    return files
