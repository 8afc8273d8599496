"""Pairs of images: what is asked, and its answer."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ebm_zoo.data.files import decode, image_files, user_path
from ebm_zoo.data.loading import ShuffledData, fixed_loader
from ebm_zoo.data.sources import DIGITS, read
from ebm_zoo.data.tensors import Fit, require, require_range, to_range
from ebm_zoo.errors import DataError


class PairedImages(Dataset):
    """Answers **(B, C, H, W)** with the images they answer **(B, D, H, W)**, fetched a batch at a time.

    Args:
        images: answers, 0 to 255, **(N, C, H, W)**.
        conditions: what they answer, 0 to 255, **(N, D, H, W)**.
        value_range: values of 0 and 255.
        flip: probability that both are mirrored, drawn with torch's generator for each pair at each access.
        shift: both are moved together by up to this many pixels, edges repeated; drawn likewise.
    """

    def __init__(
        self,
        images: UInt8[Tensor, "n c h w"],
        conditions: UInt8[Tensor, "n d h w"],
        value_range: tuple[float, float],
        flip: float = 0.0,
        shift: int = 0,
    ) -> None:
        self.images, self.conditions = images, conditions
        self.value_range, self.flip, self.shift = value_range, flip, shift

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "d h w"]]:
        images, conditions = self.__getitems__([index])
        return images[0], conditions[0]

    def __getitems__(self, indices: list[int]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b d h w"]]:
        channels = self.images.shape[1]
        # One tensor of both, so that what is done to one is done to the other.
        both = torch.cat([self.images[indices], self.conditions[indices]], 1)
        if self.flip > 0:
            chosen = torch.rand(len(both)) < self.flip
            both = torch.where(chosen[:, None, None, None], both.flip(-1), both)
        if self.shift > 0:
            both = _shifted(both, self.shift)
        both = to_range(both, self.value_range)
        return both[:, :channels], both[:, channels:]


class PairedImageData(ShuffledData):
    """Batches (answers, questions), **(B, C, H, W)** and **(B, D, H, W)**, float32 in a range of values.

    All pairs are kept in memory, fitted: C + D bytes per pixel of a pair.

    Args:
        source: ``digits`` (scikit-learn's scans of handwriting, asked by their outlines: a toy), or a folder with
            the subfolders ``train`` and ``test``. Each of these holds either the two folders that ``folders`` names,
            paired by file name (and path below them) without its ending, or pictures with both halves side by side,
            as in the sets of pix2pix.
        folders: Names of the folders of answers and of questions.
        halves: For pictures side by side: which half is the answer and which the question, 0 = left, 1 = right.
        size: Side of the square in pixels, as for `ImageData`; smaller images are enlarged. None leaves all as they
            are; they must then be of one size.
        channels: C and D, 1 or 3 each; converted where needed.
        value_range: Values of black and white.
        batch_size: Pairs per batch and rank.
        flip: Probability that a pair is mirrored in training.
        shift: Pairs are moved by up to this many pixels in training, edges repeated.
        validation: How many pairs at the end of the training split are held back for validation.

    Raises:
        ConfigError: An argument is out of its range.
        DataError: The source is unknown, or a split has no pairs, a file without partner, one that cannot be read,
            or several sizes.
    """

    def __init__(
        self,
        source: str,
        *,
        folders: tuple[str, str] = ("photo", "label"),
        halves: tuple[int, int] = (0, 1),
        size: int | None = None,
        channels: tuple[int, int] = (3, 3),
        value_range: tuple[float, float] = (-1.0, 1.0),
        batch_size: int = 16,
        flip: float = 0.0,
        shift: int = 0,
        validation: int = 0,
    ):
        super().__init__()
        require(sorted(halves) == [0, 1], f"halves is {halves}: give (0, 1) or (1, 0).")
        require(size is None or size >= 1, f"size is {size}: give at least 1 pixel.")
        require(set(channels) <= {1, 3}, f"channels is {channels}: give 1 (grey) or 3 (RGB) for each.")
        require_range(value_range)
        require(batch_size >= 1, f"batch_size is {batch_size}: give at least 1.")
        require(0 <= flip <= 1, f"flip is {flip}: give a probability, 0 to 1.")
        require(shift >= 0, f"shift is {shift}: give a number of pixels, 0 or more.")
        require(validation >= 0, f"validation is {validation}: give a number of pairs, 0 or more.")
        if source != DIGITS and not user_path(source).is_dir():
            raise DataError(f"{source!r} is neither a folder nor {DIGITS}: name the folder of the pairs.")
        self.source, self.folders, self.halves = source, folders, halves
        self.size, self.channels, self.value_range = size, channels, value_range
        self.batch_size, self.flip, self.shift, self.validation = batch_size, flip, shift, validation
        self._train: Any = None
        self._validation: Any = None
        self._test: Any = None

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs: ``fit``, ``validate``, ``test`` or ``predict``; None reads all."""
        if stage == "validate" and not self.validation:
            raise DataError("There are no pairs to validate on: set validation to how many to hold back.")
        if stage in (None, "fit", "validate") and self._train is None:
            self._setup_training()
        if stage in (None, "test", "predict") and self._test is None:
            self._test = PairedImages(*self._read("test"), self.value_range)

    def _setup_training(self) -> None:
        images, conditions = self._read("train")
        kept = len(images) - self.validation
        if kept < 1:
            held = f"{len(images)} training pairs, of which validation holds back {self.validation}"
            raise DataError(f"{self.source} has {held}: lower validation.")
        if self.validation:
            self._validation = PairedImages(images[kept:], conditions[kept:], self.value_range)
        self._train = PairedImages(images[:kept], conditions[:kept], self.value_range, self.flip, self.shift)

    def _read(self, split: str) -> tuple[UInt8[Tensor, "n c h w"], UInt8[Tensor, "n d h w"]]:
        fits = [Fit(self.size, channels) for channels in self.channels]
        if self.source == DIGITS:
            digits: Any = read(DIGITS, split)
            return fits[0](digits), fits[1](outlines(digits))
        pairs: list[tuple[Tensor, Tensor]] = []
        # Fitted as they are read: the pictures as they are stored may not fit into memory.
        for path, answer, question in read_pairs(user_path(self.source) / split, self.folders, self.halves):
            _require_alike(path, answer, question, resized=self.size is not None)
            pairs.append((fits[0](answer), fits[1](question)))
            if pairs[-1][0].shape != pairs[0][0].shape:
                sizes = f"{_pixels(pairs[-1][0])}, but those before it {_pixels(pairs[0][0])}"
                raise DataError(f"{path} has {sizes}: set size to bring all images to one size.")
        return torch.stack([pair[0] for pair in pairs]), torch.stack([pair[1] for pair in pairs])

    def train_dataloader(self) -> DataLoader:
        """Shuffled pairs; the last, smaller batch is left out unless it is the only one."""
        return self.shuffled(self._train, self.batch_size)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The pairs held back, or no loader at all."""
        return [] if self._validation is None else fixed_loader(self._validation, self.batch_size)

    def test_dataloader(self) -> DataLoader:
        """The test pairs in order."""
        return fixed_loader(self._test, self.batch_size)

    def predict_dataloader(self) -> DataLoader:
        """The same as for testing."""
        return self.test_dataloader()


def read_pairs(
    folder: Path, folders: tuple[str, str], halves: tuple[int, int]
) -> Iterator[tuple[Path, Tensor, Tensor]]:
    """Pairs (file of the answer, answer, question) of a split in sorted order, pixels **(C, H, W)**, 0 to 255.

    Args:
        folder: holds the two folders, or pictures side by side.
        folders: names of the folders of answers and of questions.
        halves: which half of a picture is the answer and which the question.

    Raises:
        DataError: There are none, a file has no partner or cannot be read; names the files.
    """
    answers, questions = (folder / name for name in folders)
    if answers.is_dir() or questions.is_dir():
        first, second = _by_name(answers), _by_name(questions)
        alone = sorted({**first, **second}[name] for name in first.keys() ^ second.keys())
        if alone:
            named = ", ".join(map(str, alone[:5])) + (f" and {len(alone) - 5} more" if len(alone) > 5 else "")
            both = f"{answers} or {questions}"
            raise DataError(f"There is no partner of the same name in {both} for {named}: add it, or remove these.")
        pairs = ((first[name], decode(first[name]), decode(second[name])) for name in sorted(first))
    else:
        # Not those in folders below, which may be folders of pairs under other names.
        first = {path: path for path in image_files(folder) if path.parent == folder}
        pairs = ((path, *_split(path, halves)) for path in first)
    if not first:
        raise DataError(
            f"{folder} has no pairs: put images into {folders[0]} and {folders[1]} below it, or images with both "
            "halves side by side into it."
        )
    yield from pairs


def _by_name(folder: Path) -> dict[Path, Path]:
    files: dict[Path, Path] = {}
    for path in image_files(folder):
        name = path.relative_to(folder).with_suffix("")
        if name in files:
            raise DataError(f"{files[name]} and {path} have one name, so that neither has one partner: remove one.")
        files[name] = path
    return files


def _split(path: Path, halves: tuple[int, int]) -> tuple[Tensor, Tensor]:
    image = decode(path)
    width = image.shape[2]
    if width % 2:
        raise DataError(f"{path} is {width} pixels wide, which has no two halves: give pictures side by side.")
    both = image.chunk(2, 2)
    return both[halves[0]], both[halves[1]]


def _require_alike(path: Path, answer: Tensor, question: Tensor, resized: bool) -> None:
    (height, width), (other_height, other_width) = answer.shape[1:], question.shape[1:]
    sizes = f"{path} has {_pixels(answer)} and its partner {_pixels(question)}"
    if not resized and answer.shape[1:] != question.shape[1:]:
        raise DataError(f"{sizes}: set size to bring all images to one size.")
    # Squares cut out of other shapes would show other parts of the scene; 2 % for sides rounded to whole pixels.
    if abs(height * other_width / (width * other_height) - 1) > 0.02:
        raise DataError(f"{sizes}, which is another shape: cut both to the same part of the scene.")


def _pixels(image: Tensor) -> str:
    return f"{image.shape[2]} x {image.shape[1]} pixels"


def outlines(pixels: UInt8[Tensor, "n 1 h w"]) -> UInt8[Tensor, "n 1 h w"]:
    """Where a picture turns from ink to paper: the difference to the darkest neighbour, of ink and not of paper."""
    ink = (pixels > 127).float()
    inside = -torch.nn.functional.max_pool2d(-torch.nn.functional.pad(ink, (1, 1, 1, 1)), 3, 1)
    return ((ink - inside) * 255).byte()


def _shifted(images: Tensor, most: int) -> Tensor:
    padded = torch.nn.functional.pad(images.float(), (most,) * 4, mode="replicate").byte()
    height, width = images.shape[2:]
    moves = torch.randint(2 * most + 1, (len(images), 2)).tolist()
    return torch.stack([image[:, y : y + height, x : x + width] for image, (y, x) in zip(padded, moves, strict=True)])
