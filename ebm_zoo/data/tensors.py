"""Pixels in memory, or read lazily."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional

from ebm_zoo.data.files import decode, stored_shape
from ebm_zoo.errors import ConfigError, DataError

MEMORY_LIMIT = 512 * 2**20
CHUNK = 1024


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with the message unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def require_range(value_range: tuple[float, float]) -> None:
    """Raise ConfigError unless the range is two finite numbers, the smaller one first."""
    low, high = value_range
    require(
        math.isfinite(low) and math.isfinite(high) and low < high,
        f"value_range is {value_range}: give two numbers, the smaller one first.",
    )


def to_channels(pixels: UInt8[Tensor, "*n c h w"], channels: int) -> UInt8[Tensor, "*n d h w"]:
    """Grey to RGB by copies, RGB to grey by luma, rounded; unchanged where the number is right already."""
    if pixels.shape[-3] == channels:
        return pixels
    if channels == 1:
        # Of whole numbers torchvision cuts the luma off, whose weights sum to 0.9999: all greys would come out darker.
        return functional.rgb_to_grayscale(pixels.float()).round_().to(pixels.dtype)
    return functional.grayscale_to_rgb(pixels)


def resize_shorter(pixels: Shaped[Tensor, "*n c h w"], size: int) -> Shaped[Tensor, "*n c s t"]:
    """Resize the shorter side to ``size`` pixels (bilinear, antialiased), keeping the aspect ratio."""
    return functional.resize(pixels, [size], antialias=True)


@dataclass(frozen=True)
class Fit:
    """Brings pictures to one size and number of channels.

    Args:
        size: Side of the square in pixels: the shorter side is resized to it, then the centre is cut out.
            None leaves the size as it is.
        channels: 1 or 3. None leaves the channels as they are.
    """

    size: int | None
    channels: int | None

    def __call__(self, pixels: UInt8[Tensor, "*n c h w"]) -> UInt8[Tensor, "*n d s t"]:
        """Fit pictures, **(C, H, W)** or **(N, C, H, W)**, 0 to 255."""
        if self.channels == 1:
            pixels = to_channels(pixels, 1)
        pixels = self.sides(pixels)
        return pixels if self.channels is None else to_channels(pixels, self.channels)

    def sides(self, images: Shaped[Tensor, "*n c h w"]) -> Shaped[Tensor, "*n c s t"]:
        """Fit the sides alone, of pixels or of images in any range."""
        if self.size is None:
            return images
        return functional.center_crop(resize_shorter(images, self.size), [self.size, self.size])


class Lazy:
    """Pictures read and fitted anew at each access, for sets too large for memory.

    Args:
        items: Files, or the stored pixels **(N, C, H, W)** of a set that resizing makes too large.
        fit: Applied to each picture.
    """

    def __init__(self, items: Sequence[Path] | Tensor, fit: Fit):
        self.items, self.fit = items, fit

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, indices: list[int]) -> UInt8[Tensor, "b c h w"]:
        return torch.stack([fitted_item(self.items[i], self.fit) for i in indices])


def fitted_item(item: Path | Tensor, fit: Fit) -> UInt8[Tensor, "c h w"]:
    """One picture **(C, H, W)**, fitted."""
    return fit(decode(item) if isinstance(item, Path) else item)


def fitted(items: Sequence[Path] | Tensor, fit: Fit) -> UInt8[Tensor, "n c h w"] | Lazy:
    """All pictures fitted in one tensor, or read lazily where that tensor would exceed 512 MiB.

    Args:
        items: N files, or stored pixels **(N, C, H, W)**; N >= 1.
        fit: Size and channels of the result.

    Raises:
        DataError: A file cannot be read, or differs from the first one in what ``fit`` leaves alone.
    """
    if not isinstance(items, Tensor):
        _require_alike(items, fit)
    shape = fitted_item(items[0], fit).shape
    if len(items) * math.prod(shape) > MEMORY_LIMIT:
        return Lazy(items, fit)
    if not isinstance(items, Tensor):
        pixels = torch.empty(len(items), *shape, dtype=torch.uint8)
        for i, path in enumerate(items):
            pixels[i] = fitted_item(path, fit)
        return pixels
    return items if items.shape[1:] == shape else torch.cat([fit(chunk) for chunk in items.split(CHUNK)])


def _require_alike(paths: Sequence[Path], fit: Fit) -> None:
    if fit.size is not None and fit.channels is not None:
        return
    first = stored_shape(paths[0])
    for path in paths[1:]:
        shape = stored_shape(path)
        if fit.size is None and shape[1:] != first[1:]:
            sizes = f"{shape[2]} x {shape[1]} pixels, but {paths[0]} has {first[2]} x {first[1]}"
            raise DataError(f"{path} has {sizes}: set size to bring all images to one size.")
        if fit.channels is None and shape[0] != first[0]:
            raise DataError(f"{path} has {shape[0]} channels, but {paths[0]} has {first[0]}: set channels to 1 or 3.")


class ImageSet(Dataset):
    """Pictures as float32 in a range of values, fetched a batch at a time.

    x = lo + (hi - lo) u / 255

    Args:
        pixels: u, 0 to 255, **(N, C, H, W)**.
        value_range: lo and hi.
        flip: Probability of a horizontal flip, drawn with torch's generator for each picture at each access.
        crop: Side of a square cut out at a place drawn likewise, at most H and W. None leaves pictures whole.
    """

    def __init__(
        self, pixels: Tensor | Lazy, value_range: tuple[float, float], flip: float = 0.0, crop: int | None = None
    ):
        self.pixels, self.value_range, self.flip, self.crop = pixels, value_range, flip, crop

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Float[Tensor, "c h w"]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Float[Tensor, "b c h w"]:
        pixels = self.pixels[indices]
        if self.crop is not None:
            pixels = _cropped(pixels, self.crop)
        if self.flip > 0:
            chosen = torch.rand(len(pixels)) < self.flip
            pixels = torch.where(chosen[:, None, None, None], pixels.flip(-1), pixels)
        return to_range(pixels, self.value_range)


def _cropped(pixels: UInt8[Tensor, "b c h w"], side: int) -> UInt8[Tensor, "b c s s"]:
    free = torch.tensor(pixels.shape[2:]) - side
    places = (torch.rand(len(pixels), 2) * (free + 1)).long().tolist()
    pairs = zip(pixels, places, strict=True)
    return torch.stack([image[:, y : y + side, x : x + side] for image, (y, x) in pairs])


def to_range(pixels: UInt8[Tensor, "*n"], value_range: tuple[float, float]) -> Float[Tensor, "*n"]:
    """lo + (hi - lo) u / 255 as float32, for pixels u of any shape."""
    low, high = value_range
    return pixels.float().div_(255).mul_(high - low).add_(low)
