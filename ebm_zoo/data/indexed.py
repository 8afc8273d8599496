"""Pictures that tell which they are, and pictures of which only some pixels are known."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.utils.data import Dataset

from ebm_zoo.data.images import ImageData
from ebm_zoo.data.tensors import ImageSet, require


class Indexed(Dataset):
    """Pictures **(B, C, H, W)**, their known pixels **(B, 1, H, W)**, and their index **(B,)**.

    Which pixels are missing belongs to a picture: it is the same at every access. One pixel is always known.

    Args:
        images: the pictures.
        missing: part of the pixels that is missing.
        hidden: paint the missing pixels in the middle of the range; else the pictures are given whole.
    """

    def __init__(self, images: ImageSet, missing: float, hidden: bool) -> None:
        self.images, self.missing, self.hidden = images, missing, hidden

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Float[Tensor, "c h w"], Bool[Tensor, "1 h w"], Int64[Tensor, ""]]:
        images, known, indices = self.__getitems__([index])
        return images[0], known[0], indices[0]

    def __getitems__(
        self, indices: list[int]
    ) -> tuple[Float[Tensor, "b c h w"], Bool[Tensor, "b 1 h w"], Int64[Tensor, " b"]]:
        images = self.images.__getitems__(indices)
        known = torch.stack([self._known(index, images.shape[2:]) for index in indices])
        if self.hidden:
            images = images.masked_fill(~known, sum(self.images.value_range) / 2)
        return images, known, torch.tensor(indices)

    def _known(self, index: int, size: torch.Size) -> Bool[Tensor, "1 h w"]:
        if not self.missing:
            return torch.ones(1, *size, dtype=torch.bool)
        draw = torch.rand(1, *size, generator=torch.Generator().manual_seed(index))
        return draw >= min(self.missing, draw.max().item())


class IndexedImageData(ImageData):
    """Batches (pictures, known pixels, index): **(B, C, H, W)**, **(B, 1, H, W)** bool, **(B,)**.

    The index, from 0, is that of the training split, and lets a model remember something of each picture. Missing
    pixels are drawn once per picture; in training they have the colour of the middle of the range, in validation and
    test the pictures are whole, so that what a model recovers can be compared.

    Args:
        source: as for `ImageData`.
        missing: part of the pixels that is missing, in [0, 1); independent of each other.
        size: as for `ImageData`.
        channels: as for `ImageData`.
        value_range: as for `ImageData`.
        batch_size: as for `ImageData`.
        validation: as for `ImageData`.

    Raises:
        ConfigError: if ``missing`` is out of its range; and as for `ImageData`.
    """

    def __init__(
        self,
        source: str,
        *,
        missing: float = 0.0,
        size: int | None = None,
        channels: int | None = None,
        value_range: tuple[float, float] = (-1.0, 1.0),
        batch_size: int = 64,
        validation: int = 0,
    ):
        super().__init__(
            source,
            size=size,
            channels=channels,
            value_range=value_range,
            batch_size=batch_size,
            validation=validation,
        )
        require(0 <= missing < 1, f"missing is {missing}: give a part of the pixels, from 0 to less than 1.")
        self.missing = missing

    def _presented(self, images: ImageSet, *, training: bool) -> Indexed:
        """The pictures with what is known of them, and their index."""
        return Indexed(images, self.missing, hidden=training)
