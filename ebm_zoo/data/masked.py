"""Pictures with holes: inpainting as a question whose answer is known."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import Dataset

from ebm_zoo.data.images import ImageData
from ebm_zoo.data.tensors import ImageSet, require
from ebm_zoo.errors import DataError


class Holed(Dataset):
    """Pictures **(B, C, H, W)** with copies of them that have a square hole, painted in the middle of the range.

    Args:
        images: the pictures.
        hole: side of the square in pixels.
        anywhere: draw its place with torch's generator for each picture at each access; else it is the middle.
    """

    def __init__(self, images: ImageSet, hole: int, anywhere: bool) -> None:
        self.images, self.hole, self.anywhere = images, hole, anywhere

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c h w"], Float[Tensor, "c h w"]]:
        images, holed = self.__getitems__([index])
        return images[0], holed[0]

    def __getitems__(self, indices: list[int]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        images = self.images.__getitems__(indices)
        free = torch.tensor(images.shape[2:]) - self.hole
        places = (free // 2).expand(len(images), 2)
        if self.anywhere:
            places = (torch.rand(len(images), 2) * (free + 1)).long()
        inside = [
            (torch.arange(side) >= place[:, None]) & (torch.arange(side) < place[:, None] + self.hole)
            for side, place in zip(images.shape[2:], places.unbind(1), strict=True)
        ]
        hole = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
        return images, images.masked_fill(hole, sum(self.images.value_range) / 2)


class MaskedImageData(ImageData):
    """Batches (answers, questions): pictures **(B, C, H, W)** and the same with a square hole.

    In training the hole is anywhere, in validation and test in the middle. The hole has the colour of the middle of
    the range.

    Args:
        source: as for `ImageData`.
        hole: side of the square in pixels.
        size: as for `ImageData`.
        channels: as for `ImageData`.
        value_range: as for `ImageData`.
        batch_size: as for `ImageData`.
        flip: as for `ImageData`.
        validation: as for `ImageData`.

    Raises:
        ConfigError: if the hole has no pixel.
        DataError: if it is larger than the pictures; and as for `ImageData`.
    """

    def __init__(
        self,
        source: str,
        *,
        hole: int,
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
        require(hole >= 1, f"hole is {hole}: give at least 1 pixel.")
        self.hole = hole

    def _presented(self, images: ImageSet, *, training: bool) -> Holed:
        """The pictures with their holes."""
        if self.hole > min(self.shape[1:]):
            raise DataError(f"hole is {self.hole}, but {self.source} has {self.shape[2]} x {self.shape[1]}: lower it.")
        return Holed(images, self.hole, anywhere=training)
