"""Energies of an image given a condition."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError


class LabelledEnergy(nn.Module):
    """Energy of an image and its class: the class becomes further channels of the image.

        E(x, y) = network([x, e_y]),    e_y a learned map per class

    Args:
        network: energy of images with ``channels`` further channels.
        classes: number of classes.
        size: height and width of the images.
        channels: channels of e_y.

    Raises:
        ConfigError: if classes, size or channels are below 1, or images of another size are given.

    References:
        Xie, Zheng, Fang, Zhu, Wu. Cooperative Training of Fast Thinking Initializer and Slow Thinking Solver for
        Conditional Learning. 2021. https://arxiv.org/abs/1902.02812
    """

    def __init__(self, network: nn.Module, classes: int, size: int, channels: int = 1) -> None:
        super().__init__()
        if classes < 1 or size < 1 or channels < 1:
            raise ConfigError(f"classes, size and channels must be 1 or more, not {classes}, {size}, {channels}.")
        self.network, self.classes, self.size, self.channels = network, classes, size, channels
        self.maps = nn.Embedding(classes, channels * size * size)

    def forward(self, x: Float[Tensor, "b c h w"], labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Energies, **(B, C, H, W), (B,) -> (B,)**."""
        if x.shape[2:] != (self.size, self.size):
            raise ConfigError(
                f"Images of sides {tuple(x.shape[2:])} need maps of their size, not {self.size}: set size."
            )
        maps = self.maps(labels).view(len(x), self.channels, self.size, self.size)
        return self.network(torch.cat([x, maps.to(x.dtype)], 1))


class PairedEnergy(nn.Module):
    """Energy of an image and the image it belongs to: both are stacked as channels.

        E(x, c) = network([x, c])

    Args:
        network: energy of images with the channels of both.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d h w"]) -> Float[Tensor, " b"]:
        """Energies, **(B, C, H, W), (B, D, H, W) -> (B,)**."""
        return self.network(torch.cat([x, condition.to(x.dtype)], 1))
