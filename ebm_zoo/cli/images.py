"""Reading what a user gives a model, and writing what it answers."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.utils import save_image

from ebm_zoo.callbacks import picture_grid
from ebm_zoo.data.files import decode
from ebm_zoo.data.tensors import Fit
from ebm_zoo.errors import DataError
from ebm_zoo.space import Space


def read_images(path: str | Path, space: Space, fit: Fit | None = None) -> tuple[Tensor, Tensor | None, list[str]]:
    """Read images for a model.

    Args:
        path: an image file, a folder of image files, or .npy with (N, C, H, W) or (C, H, W) in the model's range.
        space: what the model takes.
        fit: brings images of other sizes and channels to those of ``space``; they are refused unless given.

    Returns:
        Images **(N, C, H, W)** in the model's range; a mask **(N, 1, H, W)** of opaque pixels, if the files have
        transparency; one name per image.

    Raises:
        DataError: if nothing can be read, or what is read does not fit the model; names the file.
    """
    path = Path(path)
    if path.suffix == ".npy":
        array = read_array(path)
        if not array.size:
            raise DataError(f"{path} is empty, shape {array.shape}: give at least one image.")
        images = torch.as_tensor(array if array.ndim == len(space.shape) + 1 else array[None]).float()
        if fit is not None and images.dim() == 4:
            images = fit.sides(images)
        names = [f"{path.name}[{k}]" for k in range(len(images))]
        opaque = None
    else:
        files = sorted(p for p in path.iterdir() if not p.name.startswith(".")) if path.is_dir() else [path]
        if not files:
            raise DataError(f"{path} is an empty folder: put image files into it.")
        pairs = [_picture(file, space, fit) for file in files]
        images, names = torch.stack([image for image, _ in pairs]), [file.name for file in files]
        masks = [mask for _, mask in pairs if mask is not None]
        opaque = torch.stack(masks) if len(masks) == len(files) else None
    try:
        return space.check(images), opaque, names
    except DataError as error:
        raise DataError(f"{path}: {error}") from None


def read_mask(path: str | Path) -> Tensor:
    """Read a mask, nonzero = known: an image (white = known) or .npy, **(1 or N, 1, H, W)**, bool."""
    path = Path(path)
    mask = torch.as_tensor(read_array(path)).bool() if path.suffix == ".npy" else _pixels(path).float().mean(0) > 127
    return mask.view(-1, 1, *mask.shape[-2:])


def write_images(images: Tensor, path: Path, target: Path, space: Space, columns: int = 8) -> None:
    """Write images to ``target`` in the format of ``path``: a .png grid, or .npy / .npz in the model's range."""
    array = images.detach().float().cpu().numpy()
    if path.suffix == ".png":
        save_image(picture_grid(images, space.low, space.high, columns), target, format="png")
    elif path.suffix == ".npy":
        np.save(target, array)
    else:
        np.savez_compressed(target, samples=array)


def write_values(values: Tensor, task: str, names: Sequence[str], path: Path, target: Path) -> None:
    """Write one number or vector per image: .csv with names, or .npy / .npz."""
    array = values.detach().cpu().numpy()
    if path.suffix == ".csv":
        with target.open("w", newline="", encoding="utf-8") as file:
            columns = [task] if array.ndim == 1 else [f"{task}_{k}" for k in range(array.shape[1])]
            rows = array.reshape(len(array), -1).tolist()
            csv.writer(file).writerows([("image", *columns), *((n, *row) for n, row in zip(names, rows, strict=True))])
    elif path.suffix == ".npy":
        np.save(target, array)
    else:
        np.savez_compressed(target, **{task: array})  # type: ignore[arg-type]


def require_suffix(path: str | Path | None, allowed: Sequence[str]) -> Path:
    """Refuse an output file of another kind, or none.

    Raises:
        DataError: naming the kinds that can be written.
    """
    if path is None:
        raise DataError(f"Images and numbers go to a file: name one that ends in {', '.join(allowed)}, by --out.")
    if Path(path).suffix not in allowed:
        raise DataError(f"Cannot write {path}: the name must end in {', '.join(allowed)}.")
    return Path(path)


def _picture(path: Path, space: Space, fit: Fit | None) -> tuple[Tensor, Tensor | None]:
    pixels = _pixels(path)
    if fit is not None:
        pixels = fit(pixels)
    if tuple(pixels.shape) != tuple(space.shape):
        raise DataError(
            f"{path} is {' x '.join(map(str, pixels.shape))} (channels, height, width); this model takes "
            f"{' x '.join(map(str, space.shape))}. Convert it first."
        )
    with Image.open(path) as image:
        transparent = image.mode in ("LA", "PA", "RGBA")
        transparent |= image.mode in ("L", "P", "RGB") and "transparency" in image.info
        opaque = torch.as_tensor(np.array(image.convert("RGBA"))[None, ..., 3] > 127) if transparent else None
    return space.low + (space.high - space.low) * pixels.float() / 255, opaque


def _pixels(path: Path) -> Tensor:
    if not path.exists():
        raise DataError(f"{path} does not exist.")
    return decode(path)


def read_array(path: Path) -> np.ndarray:
    """An array of real numbers out of a .npy file."""
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} cannot be read as a NumPy array: {error}.") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        raise DataError(f"{path} holds no array of real numbers: save one with numpy.save.")
    return array.astype(array.dtype.newbyteorder("="), order="C")
