"""Reading what a user gives a model, and writing what it answers."""

import csv
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from torchvision.utils import save_image

from ebm_zoo.callbacks import picture_grid
from ebm_zoo.data.files import decode, drawn_mask, opaque
from ebm_zoo.data.tensors import Fit
from ebm_zoo.errors import DataError
from ebm_zoo.files import user_path
from ebm_zoo.space import Space

ARRAYS = frozenset({".npy", ".npz"})
SAMPLES = "samples"
"""Name of the array of an answer in .npz."""
# Files that Windows and macOS leave in folders of images, in small letters; others of theirs are hidden.
LEFT = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"})


def read_images(place: str | Path, space: Space, fit: Fit | None = None) -> tuple[Tensor, Tensor | None, list[str]]:
    """Read images for a model.

    Args:
        place: an image file, a folder of image files, or .npy or .npz with (N, C, H, W) or (C, H, W) in the model's
            range.
        space: what the model takes.
        fit: brings images of other sizes and channels to those of ``space``; they are refused unless given.

    Returns:
        Images **(N, C, H, W)** in the model's range; a mask **(N, 1, H, W)** of opaque pixels, if the files have
        transparency; one name per image.

    Raises:
        DataError: if nothing can be read, or what is read does not fit the model; names the file.
    """
    path = user_path(place)
    if path.suffix.lower() in ARRAYS:
        images = read_values(path, space)
        images = images if images.dim() == len(space.shape) + 1 else images[None]
        if fit is not None and images.dim() == 4:
            images = fit.sides(images)
        names = [f"{path.name}[{k}]" for k in range(len(images))]
        known = None
    else:
        files = _inside(path) if path.is_dir() else [path]
        pairs = [_picture(file, space, fit) for file in files]
        images, names = torch.stack([image for image, _ in pairs]), [file.name for file in files]
        masks = [mask for _, mask in pairs if mask is not None]
        known = torch.stack(masks) if len(masks) == len(files) else None
    try:
        return space.check(images), known, names
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_mask(place: str | Path) -> Tensor:
    """Read a mask, **(1 or N, 1, H, W)**, bool: an array, nonzero = known, or an image as it was drawn.

    Raises:
        DataError: if it is neither; see `ebm_zoo.data.files.drawn_mask` for what is known of an image.
    """
    path = user_path(place)
    if path.suffix.lower() in ARRAYS:
        array = read_array(path)
        if array.ndim < 2 or not array.size or not np.isfinite(array).all():
            raise DataError(f"{path} is no mask: give (H, W) or (N, 1, H, W), nonzero where a pixel is known.")
        mask = torch.as_tensor(array).bool()
    else:
        mask = drawn_mask(_existing(path))
    return mask.reshape(-1, 1, *mask.shape[-2:])


def write_images(images: Tensor, path: Path, target: Path, space: Space, columns: int = 8) -> None:
    """Write images to ``target`` in the format of ``path``: a .png grid, or .npy / .npz in the model's range."""
    if path.suffix.lower() == ".png":
        save_image(picture_grid(images, space.low, space.high, columns), target, format="png")
    else:
        _save(images.detach().float().cpu().numpy(), SAMPLES, path, target)


def write_values(values: Tensor, task: str, names: Sequence[str], path: Path, target: Path) -> None:
    """Write one number or vector per image: .csv with names, or .npy / .npz."""
    array = values.detach().cpu().numpy()
    if path.suffix.lower() != ".csv":
        _save(array, task, path, target)
        return
    with target.open("w", newline="", encoding="utf-8") as file:
        columns = [task] if array.ndim == 1 else [f"{task}_{k}" for k in range(array.shape[1])]
        rows = array.reshape(len(array), -1).tolist()
        shown = (name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for name in names)
        csv.writer(file).writerows([("image", *columns), *((n, *row) for n, row in zip(shown, rows, strict=True))])


def require_suffix(place: str | Path | None, allowed: Sequence[str]) -> Path:
    """Refuse an output file of another kind, none, or one that cannot be written.

    Returns:
        Where to write; of a link, what it leads to.

    Raises:
        DataError: naming the kinds that can be written.
    """
    if place is None:
        raise DataError(f"Images and numbers go to a file: name one that ends in {', '.join(allowed)}, by --out.")
    path = user_path(place)
    if path.suffix.lower() not in allowed:
        raise DataError(f"Cannot write {path}: the name must end in {', '.join(allowed)}.")
    if path.exists() and not os.access(path, os.W_OK):
        raise DataError(f"Cannot write {path}: it is there already and may not be written to. Choose another place.")
    # A new file is renamed onto the old one, which would take the link's place and not its end's.
    return path.resolve() if path.is_symlink() else path


def _inside(folder: Path) -> list[Path]:
    """Files of a folder, sorted, without those that systems leave there."""
    found = sorted(each for each in folder.iterdir() if not each.name.startswith(".") and each.name.lower() not in LEFT)
    if not found:
        raise DataError(f"{folder} is an empty folder: put image files into it.")
    for each in found:
        if each.is_dir():
            raise DataError(f"{each} is a folder inside of {folder}: move it away, or give that one as --input.")
    return found


def _picture(path: Path, space: Space, fit: Fit | None) -> tuple[Tensor, Tensor | None]:
    pixels = decode(_existing(path))
    if fit is not None:
        pixels = fit(pixels)
    if tuple(pixels.shape) != tuple(space.shape):
        raise DataError(
            f"{path} is {' x '.join(map(str, pixels.shape))} (channels, height, width); this model takes "
            f"{' x '.join(map(str, space.shape))}. Convert it first."
        )
    return space.low + (space.high - space.low) * pixels.float() / 255, opaque(path)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    return path


def read_values(path: Path, space: Space) -> Tensor:
    """Numbers in the range of a model out of a .npy or .npz file, float32.

    Raises:
        DataError: if there are none, or whole numbers, of which nobody knows what black and white are.
    """
    array = read_array(path)
    if not array.size:
        raise DataError(f"{path} is empty, shape {array.shape}: give at least one image.")
    if array.dtype.kind != "f":
        wanted = f"[{space.low:g}, {space.high:g}]"
        raise DataError(
            f"{path} holds whole numbers ({array.dtype}), this model takes real ones in {wanted}: rescale what black "
            "and white are (0 and 1, or 0 and 255) to these, and save as float32."
        )
    return torch.as_tensor(array).float()


def read_array(path: Path) -> np.ndarray:
    """An array of real or whole numbers out of a .npy or .npz file, of several there the one that `sample` writes."""
    try:
        # By a handle: NumPy leaves the file of a damaged archive open.
        with path.open("rb") as file:
            found = np.load(file, allow_pickle=False)
            if path.suffix.lower() == ".npz" and isinstance(found, np.lib.npyio.NpzFile):
                found = found[_chosen(found.files, path)]
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (OSError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as a NumPy array: {error}.") from None
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise DataError(f"{path} holds no array of real numbers: save one with numpy.save.")
    return found.astype(found.dtype.newbyteorder("="), order="C")


def _chosen(names: Sequence[str], path: Path) -> str:
    if len(names) != 1 and SAMPLES not in names:
        raise DataError(f"{path} holds {len(names)} arrays: save one alone, or name it {SAMPLES}.")
    return names[0] if len(names) == 1 else SAMPLES


def _save(array: np.ndarray, name: str, path: Path, target: Path) -> None:
    # By a handle: NumPy would add an ending to a name in capitals.
    with target.open("wb") as file:
        if path.suffix.lower() == ".npy":
            np.save(file, array)
        else:
            np.savez_compressed(file, **{name: array})  # type: ignore[arg-type]
