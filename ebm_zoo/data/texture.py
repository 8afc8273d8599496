"""Crops of a single picture of a texture."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ebm_zoo.data.files import decode, user_path
from ebm_zoo.data.loading import ShuffledData, fixed_loader
from ebm_zoo.data.sources import nearest
from ebm_zoo.data.tensors import ImageSet, require, require_range, resize_shorter, to_channels, to_range
from ebm_zoo.errors import DataError

# 512 x 512 grey, shipped inside scikit-image's wheel, so that they need no network
PHOTOGRAPHS = ("brick", "grass", "gravel")


class RandomCrops(Dataset):
    """Square crops at uniformly drawn places of one picture, new ones at each access.

    Args:
        pixels: u, 0 to 255, **(C, H, W)**.
        crop: Side k of a crop in pixels, at most H and W.
        length: How many crops make an epoch.
        value_range: Values of u = 0 and u = 255.
    """

    def __init__(self, pixels: UInt8[Tensor, "c h w"], crop: int, length: int, value_range: tuple[float, float]):
        self.windows = pixels.unfold(1, crop, 1).unfold(2, crop, 1)
        self.length, self.value_range = length, value_range

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Float[Tensor, "c k k"]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> Float[Tensor, "b c k k"]:
        _, rows, columns, _, _ = self.windows.shape
        top = torch.randint(rows, (len(indices),))
        left = torch.randint(columns, (len(indices),))
        return to_range(self.windows[:, top, left].transpose(0, 1), self.value_range)


class TextureData(ShuffledData):
    """Crops **(B, C, k, k)** of one picture, float32 in a range of values.

    Training takes crops at random places (drawn with torch's generator, so that a seed repeats them), testing
    those of a regular grid without overlap, from the upper left corner. There is no validation set.

    Args:
        image: ``brick``, ``grass`` or ``gravel`` (scikit-image's photographs, 512 x 512), or a file.
        crop: k, side of a crop in pixels. None takes the whole picture each time, **(B, C, H, W)**.
        length: How many crops make an epoch. None: 1000 crops, or the whole picture once.
        channels: C = 1 or 3, converted where needed.
        value_range: Values of black and white.
        size: The picture's shorter side is first resized to this many pixels. None leaves it as it is.
        batch_size: B, crops per batch and rank.

    Raises:
        ConfigError: An argument is out of its range.
        DataError: The picture is unknown, unreadable or smaller than a crop.
    """

    def __init__(
        self,
        image: str = "brick",
        *,
        crop: int | None = 64,
        length: int | None = None,
        channels: int = 1,
        value_range: tuple[float, float] = (-1.0, 1.0),
        size: int | None = None,
        batch_size: int = 16,
    ):
        super().__init__()
        require(crop is None or crop >= 1, f"crop is {crop}: give at least 1 pixel.")
        require(length is None or length >= 1, f"length is {length}: give at least 1 crop.")
        require(channels in (1, 3), f"channels is {channels}: give 1 (grey) or 3 (RGB).")
        require_range(value_range)
        require(size is None or size >= 1, f"size is {size}: give at least 1 pixel.")
        require(batch_size >= 1, f"batch_size is {batch_size}: give at least 1.")
        if image not in PHOTOGRAPHS and not user_path(image).is_file():
            names = ", ".join(PHOTOGRAPHS)
            raise DataError(f"{image!r} is neither a file nor one of {names}.{nearest(image, PHOTOGRAPHS)}")
        self.image, self.channels, self.size = image, channels, size
        self.crop, self.length = crop, length or (1 if crop is None else 1000)
        self.value_range, self.batch_size = value_range, batch_size
        self._pixels: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of every batch's elements; known after `setup`."""
        picture = self._picture
        return tuple(picture.shape) if self.crop is None else (self.channels, self.crop, self.crop)

    @property
    def _picture(self) -> Tensor:
        if self._pixels is None:
            raise DataError("The picture is read by setup(): call it first.")
        return self._pixels

    def setup(self, stage: str | None = None) -> None:
        """Read the picture; every stage needs it."""
        if self._pixels is not None:
            return
        pixels = to_channels(_photograph(self.image), self.channels)
        if self.size is not None:
            pixels = resize_shorter(pixels, self.size)
        height, width = pixels.shape[1:]
        if self.crop is not None and self.crop > min(height, width):
            raise DataError(
                f"crop is {self.crop}, but {self.image} has {width} x {height} pixels: lower it, raise size."
            )
        self._pixels = pixels

    def train_dataloader(self) -> DataLoader:
        """Random crops, or copies of the whole picture."""
        if self.crop is None:
            crops: Dataset = ImageSet(self._picture.expand(self.length, -1, -1, -1), self.value_range)
        else:
            crops = RandomCrops(self._picture, self.crop, self.length, self.value_range)
        return self.shuffled(crops, self.batch_size)

    def test_dataloader(self) -> DataLoader:
        """The crops of the grid row by row, or the whole picture once."""
        if self.crop is None:
            grid = self._picture.unsqueeze(0)
        else:
            k = self.crop
            grid = self._picture.unfold(1, k, k).unfold(2, k, k).permute(1, 2, 0, 3, 4).flatten(0, 1)
        return fixed_loader(ImageSet(grid, self.value_range), self.batch_size)

    def predict_dataloader(self) -> DataLoader:
        """The same as for testing."""
        return self.test_dataloader()


def _photograph(image: str) -> UInt8[Tensor, "c h w"]:
    if image not in PHOTOGRAPHS:
        return decode(user_path(image))
    import skimage.data  # slow to import, and only these three pictures need it

    return torch.from_numpy(getattr(skimage.data, image)()).unsqueeze(0)
