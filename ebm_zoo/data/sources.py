"""Where pictures come from: torchvision's public sets, scikit-learn's digits, or a folder of image files."""

import difflib
import os
import tempfile
import textwrap
from collections.abc import Iterable
from pathlib import Path

import platformdirs
import torch
import torchvision.datasets
from jaxtyping import UInt8
from torch import Tensor

from ebm_zoo.data.files import split_files, user_path
from ebm_zoo.errors import DataError

ROOT_VARIABLE = "EBM_ZOO_DATA"

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CIFAR_FILES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch", "batches.meta")

# folder below the root, and what has to lie there
PUBLIC_SETS = {
    "MNIST": ("MNIST/raw", IDX_FILES),
    "FashionMNIST": ("FashionMNIST/raw", IDX_FILES),
    "CIFAR10": ("cifar-10-batches-py", CIFAR_FILES),
    "SVHN": ("", ("train_32x32.mat", "test_32x32.mat")),
    "CelebA": ("celeba", ("img_align_celeba", "list_eval_partition.txt")),
}
DIGITS = "digits"
DIGITS_TEST = 297


def data_root() -> Path:
    """Folder of the public sets: the environment variable EBM_ZOO_DATA, else the user's cache folder."""
    chosen = os.environ.get(ROOT_VARIABLE)
    return user_path(chosen) if chosen else Path(platformdirs.user_cache_dir("ebm_zoo"), "data")


def nearest(name: str, known: Iterable[str]) -> str:
    """A question naming the known name most like ``name``, or nothing where none is alike."""
    folded = {each.lower(): each for each in known}
    found = difflib.get_close_matches(name.lower(), folded, n=1)
    return f" Did you mean {folded[found[0]]}?" if found else ""


def check_source(source: str) -> None:
    """Raise DataError unless the source is a known name or an existing folder."""
    known = (*PUBLIC_SETS, DIGITS)
    if source not in known and not user_path(source).is_dir():
        names = ", ".join(known)
        raise DataError(f"{source!r} is neither a folder nor one of {names}.{nearest(source, known)}")


def prepare(source: str) -> None:
    """Download a public set that is missing; other sources need nothing.

    The download goes to a temporary folder and is moved when whole: the root never holds half a file.

    Raises:
        DataError: The set is missing and cannot be downloaded.
    """
    missing = _missing(source)
    if not missing:
        return
    try:
        data_root().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=data_root(), prefix=".download-") as folder:
            _download(source, folder)
            for path in missing:
                path.parent.mkdir(parents=True, exist_ok=True)
                Path(folder, path.relative_to(data_root())).replace(path)
    except Exception as error:  # network, disk, archive and Google Drive fail with exceptions of their own
        raise _absent(source, f"could not be downloaded ({_in_short(error)})") from None


def read(source: str, split: str) -> UInt8[Tensor, "n c h w"] | list[Path]:
    """The pictures of one split: pixels 0 to 255 **(N, C, H, W)**, or the files that hold them.

    Args:
        source: As `check_source` accepts. Names come before folders: write ``./digits`` for a folder.
        split: ``"train"`` or ``"test"``.

    Raises:
        DataError: The set is missing, unreadable or empty.
    """
    if source == DIGITS:
        return _digits(split)
    if source not in PUBLIC_SETS:
        return split_files(user_path(source), split)
    if _missing(source):
        raise _absent(source, "prepare_data() did not run")
    try:
        items = _public(source, split)
    except Exception as error:  # idx, pickle, mat and text files each fail with exceptions of their own
        folder = data_root() / PUBLIC_SETS[source][0]
        raise DataError(
            f"{source} in {folder} is damaged ({_in_short(error)}): delete its files to download them again."
        ) from None
    if not len(items):
        raise DataError(f"The {split} split of {source} in {data_root()} has no image: replace its files.")
    return items


def _missing(source: str) -> list[Path]:
    folder, names = PUBLIC_SETS.get(source, ("", ()))
    paths = [data_root() / folder / name for name in names]
    return [path for path in paths if not path.exists()]


def _absent(source: str, why: str) -> DataError:
    folder = data_root() / PUBLIC_SETS[source][0]
    names = ", ".join(path.name for path in _missing(source))
    return DataError(
        f"{source} is not in {data_root()} and {why}: put {names} (unpacked) into {folder}, or let the "
        f"environment variable {ROOT_VARIABLE} name another root."
    )


def _in_short(error: Exception) -> str:
    return textwrap.shorten(str(error), 200) or type(error).__name__


def _download(source: str, folder: str) -> None:
    dataset = getattr(torchvision.datasets, source)
    if source == "SVHN":
        dataset(folder, split="test", download=True)
        dataset(folder, split="train", download=True)
    else:
        dataset(folder, download=True)


def _public(source: str, split: str) -> UInt8[Tensor, "n c h w"] | list[Path]:
    root, train = data_root(), split == "train"
    if source == "CelebA":
        return _celeba(root / "celeba", "0" if train else "2")
    if source == "SVHN":
        return torch.from_numpy(torchvision.datasets.SVHN(root, split=split).data).contiguous()
    if source == "CIFAR10":
        pixels = torchvision.datasets.CIFAR10(root, train=train).data
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return getattr(torchvision.datasets, source)(root, train=train).data.unsqueeze(1)


def _celeba(folder: Path, part: str) -> list[Path]:
    """The files of one part (0 train, 1 validation, 2 test) of CelebA's own partition.

    torchvision's class would also demand and parse four files of labels, which pictures do not need.
    """
    rows = [line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines()]
    return [folder / "img_align_celeba" / row[0] for row in rows if row and row[1] == part]


def _digits(split: str) -> UInt8[Tensor, "n 1 8 8"]:
    """1,797 scans of 8 x 8 pixels, the last 297 for testing; 0-16 become 0-255."""
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    pixels = torch.from_numpy(load_digits().images).mul(255 / 16).round().byte().unsqueeze(1)
    return pixels[:-DIGITS_TEST] if split == "train" else pixels[-DIGITS_TEST:]
