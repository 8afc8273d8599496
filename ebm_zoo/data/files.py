"""Image files: finding them in a folder, splitting them, decoding them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import ExifTags, Image
from torch import Tensor

from ebm_zoo.errors import DataError
from ebm_zoo.files import user_path as user_path

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16L", "I;16B", "I;16N"})
COLOUR_MODES = frozenset({"RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV"})

# How a viewer turns a picture that the camera was not held upright for, by its EXIF tag.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = frozenset(TURNS[tag] for tag in (5, 6, 7, 8))

TEST_EVERY = 10


def image_files(folder: Path, *, skip: str | None = None) -> list[Path]:
    """All image files below a folder, sorted by their path relative to it.

    Args:
        folder: Where to look, at any depth; hidden files and folders are left out.
        skip: Name of one direct subfolder that is left out.
    """
    found = []
    for here, folders, names in os.walk(folder):
        top = Path(here) == folder
        folders[:] = [name for name in folders if not name.startswith(".") and not (top and name == skip)]
        found += [Path(here, name) for name in names if not name.startswith(".")]
    found = [path for path in found if path.suffix.lower() in SUFFIXES]
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def training_files(folder: Path) -> list[Path]:
    """The image files of a folder outside ``test``: below ``train`` where there is such a subfolder, else all."""
    train = folder / "train"
    return image_files(train) if train.is_dir() else image_files(folder, skip="test")


def split_files(folder: Path, split: str) -> list[Path]:
    """The image files of one split of a folder.

    The subfolders ``train`` and ``test`` hold the splits. Where ``train`` is missing, everything outside
    ``test`` is training data; where ``test`` is missing, every 10th training file in sorted order (the 10th,
    20th, ...) is test data instead.

    Args:
        folder: An existing folder.
        split: ``"train"`` or ``"test"``.

    Raises:
        DataError: The split has no image.
    """
    test = folder / "test"
    if split == "test" and test.is_dir():
        files = image_files(test)
    else:
        files = training_files(folder)
        if not test.is_dir():
            every_tenth = slice(TEST_EVERY - 1, None, TEST_EVERY)
            tests = files[every_tenth]
            del files[every_tenth]
            files = tests if split == "test" else files
    if not files:
        raise DataError(
            f"{folder} has no {split} images ({', '.join(sorted(SUFFIXES))}): put some into "
            f"{folder / split}, or {TEST_EVERY} or more into it, every {TEST_EVERY}th a test image."
        )
    return files


def stored_shape(path: Path) -> tuple[int, int, int]:
    """Channels, height and width of an image file as `decode` gives them; of most kinds the header alone is read.

    Raises:
        DataError: The file cannot be read.
    """
    with _opened(path) as image:
        if image.format in ("PNG", "TIFF"):
            # Of these the tag may stand behind the pixels, or what the header says depends on Pillow's version.
            image.load()
        width, height = reversed(image.size) if _turn(image) in SIDEWAYS else image.size
        return _channels(image, path), height, width


def decode(path: Path) -> UInt8[Tensor, "c h w"]:
    """Read an image file as 8-bit pixels, grey or RGB as it is stored (transparency is dropped).

    Args:
        path: An image file; of an animation the first frame is read. It is turned as its EXIF tag says.

    Returns:
        Pixels 0 to 255, **(C, H, W)** with C = 1 or 3.

    Raises:
        DataError: The file cannot be read.
    """
    with _opened(path) as image:
        channels, upright = _channels(image, path), _upright(image)
        if upright.mode.startswith("I;16"):
            # Pillow's own conversion to 8 bits has clipped instead of scaled in several of its versions.
            pixels = (np.asarray(upright) >> 8).astype(np.uint8)
        else:
            pixels = np.array(upright.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1).contiguous()


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        # By a handle: of a file that Pillow maps into memory it garbles TIFF that is to be turned.
        with path.open("rb") as file, Image.open(file) as image:
            yield image
    except DataError:
        raise
    except Exception as error:  # every decoder of Pillow has exceptions of its own
        raise _unreadable(path, error) from None


def _upright(image: Image.Image) -> Image.Image:
    # TIFF is turned by Pillow as it is loaded, and the tag is then gone.
    image.load()
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    # Not ImageOps.exif_transpose, which writes all tags anew and fails at those of many a camera.
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged tags, which viewers pass over
        return None


def opaque(path: Path) -> Bool[Tensor, "1 h w"] | None:
    """Where an image file is opaque, turned as `decode` does; None if it is of a kind that always is.

    Raises:
        DataError: The file cannot be read.
    """
    with _opened(path) as image:
        upright = _upright(image)
        if upright.mode.startswith("I;16") or not upright.has_transparency_data:
            return None
        return torch.from_numpy(np.array(upright.convert("RGBA"))[None, ..., 3] > 127)


def drawn_mask(path: Path) -> Bool[Tensor, "1 h w"]:
    """Read a mask as it was drawn: what is opaque where that varies; else 1 where all is 0 or 1; else what is bright.

    Raises:
        DataError: The file cannot be read.
    """
    inked = opaque(path)
    if inked is not None and inked.any() and not inked.all():
        return inked
    with _opened(path) as image:
        channels, upright = _channels(image, path), _upright(image)
        deep = upright.mode.startswith("I;16")
        values = np.array(upright if deep else upright.convert("L" if channels == 1 else "RGB"))
    values = values.reshape(1, *values.shape[:2], channels)
    threshold = 0 if values.max() <= 1 else 2**15 - 1 if deep else 127
    return torch.from_numpy(values.mean(-1) > threshold)


def _channels(image: Image.Image, path: Path) -> int:
    if image.mode in GREY_MODES:
        return 1
    if image.mode in COLOUR_MODES:
        return 3
    raise DataError(f"{path} has pixels of kind {image.mode!r}: save it with 8 or 16 bits per channel.")


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} is not a readable image ({error}): replace or delete the file.")
