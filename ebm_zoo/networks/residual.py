"""Residual energies of images."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError


class ResidualEnergy(nn.Module):
    """Residual blocks that halve the image by averaging, then a convolution whose outputs are summed.

        h_0 = act(W_0 * x);    h_l = mean2×2(branch_l(h_{l−1}) + act(S_l * h_{l−1}));    E(x) = Σ V * h_L
        branch_l(h) = act(B_l * act(A_l * h))

    Averages treat all pixels alike; the gradient of convolutions with a stride repeats with it, and Langevin steps
    draw that grid into the images.

    Args:
        channels: colour channels C of the images.
        widths: filters of the first convolution and of each block.
        head: filters and kernel of the last convolution, without padding; where the kernel is smaller than the last
            map, local energies are summed and images of any size are taken.

    Raises:
        ConfigError: if there are fewer than two widths, or a size is below 1.

    References:
        Xie, Zhu, Li, Li. A Tale of Two Flows: Cooperative Learning of Langevin Flow and Normalizing Flow Toward
        Energy-Based Model. 2022. https://arxiv.org/abs/2205.06924

    Notes:
        The official code has widths 128, 256, 512, 1024 and head 100, 4 for 32×32 images.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], head: tuple[int, int]) -> None:
        super().__init__()
        if len(widths) < 2 or min(channels, *widths, *head) < 1:
            raise ConfigError(
                f"A residual energy needs two or more widths and sizes of 1 or more, not {list(widths)}, {list(head)}."
            )
        self.channels, self.widths, self.head = channels, tuple(widths), tuple(head)
        self.stem = nn.Sequential(nn.Conv2d(channels, widths[0], 3, 1, 1), nn.SiLU())
        self.blocks = nn.ModuleList(_Block(a, b) for a, b in pairwise(widths))
        self.last = nn.Conv2d(widths[-1], *head)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Energies of images, **(B, C, H, W) -> (B,)**."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.last(x).float().sum((1, 2, 3))


class _Block(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(before, before, 3, 1, 1), nn.SiLU(), nn.Conv2d(before, after, 3, 1, 1), nn.SiLU()
        )
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 3, 1, 1), nn.SiLU())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(self.branch(x) + self.shortcut(x), 2)
