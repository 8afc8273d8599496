"""Generators that translate an image into another."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError


class UNetGenerator(nn.Module):
    """An encoder and a decoder joined by skips at every size; a latent vector enters where the map is smallest.

        d_l = act(norm(W_l * d_{l−1})), stride 2;    u_L = [d_L, z];    u_{l−1} = act(norm(V_l * twice(u_l))) ⊕ d_{l−1}
        g(z, c) = tanh(u_0)

    Args:
        channels: channels of the condition and of the image, (D, C).
        widths: filters at half the size, a quarter, and so on.
        latent_dim: d, entries of z, spread over all positions of the smallest map; 1 or more.
        groups: channels are normalised in this many groups per image.
        drop: probability of dropping a decoder feature in training.

    Raises:
        ConfigError: if there are fewer than two widths, or one is no multiple of the groups, or there are no latent
            entries.

    References:
        Isola, Zhu, Zhou, Efros. Image-to-Image Translation with Conditional Adversarial Networks. 2017.
        https://arxiv.org/abs/1611.07004 (the shape of the network).
        Odena, Dumoulin, Olah. Deconvolution and Checkerboard Artifacts. 2016. https://doi.org/10.23915/distill.00003

    Notes:
        Pixels are repeated and convolved where the original has transposed convolutions, which drew a grid here.
    """

    def __init__(
        self, channels: tuple[int, int], widths: tuple[int, ...], latent_dim: int, groups: int = 8, drop: float = 0.0
    ) -> None:
        super().__init__()
        if latent_dim < 1:
            raise ConfigError(f"A U-Net needs 1 or more latent entries, not {latent_dim}.")
        if len(widths) < 2 or groups < 1 or any(width % groups for width in widths):
            raise ConfigError(f"A U-Net needs two or more widths, multiples of groups ({groups}), not {list(widths)}.")
        self.channels, self.widths, self.latent_dim = tuple(channels), tuple(widths), latent_dim
        self.groups, self.drop = groups, drop
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(a, b, 4, 2, 1), nn.GroupNorm(groups, b), nn.SiLU())
            for a, b in pairwise((channels[0], *widths))
        )
        rising = widths[::-1]
        self.up = nn.ModuleList(
            nn.Sequential(*_doubled(a + extra, b), nn.GroupNorm(groups, b), nn.SiLU(), nn.Dropout2d(drop))
            for a, b, extra in zip(rising, rising[1:], (latent_dim, *rising[1:]), strict=False)
        )
        self.last = nn.Sequential(
            nn.Sequential(*_doubled(2 * widths[0], widths[0])),
            nn.SiLU(),
            nn.Conv2d(widths[0] + channels[0], channels[1], 3, 1, 1),
        )
        self.to(memory_format=torch.channels_last)

    def forward(self, latent: Float[Tensor, "b d"], condition: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e h w"]:
        """Images from latent vectors and conditions, **(B, d), (B, D, H, W) -> (B, C, H, W)** in [−1, 1].

        Raises:
            ConfigError: if a side is no multiple of the total stride.
        """
        stride = 2 ** len(self.widths)
        if condition.shape[2] % stride or condition.shape[3] % stride:
            raise ConfigError(f"Sides must be multiples of {stride}, not {tuple(condition.shape[2:])}: resize first.")
        skips, x = [], condition
        for layer in self.down:
            x = layer(x)
            skips.append(x)
        x = torch.cat([skips.pop(), latent[:, :, None, None].expand(-1, -1, *x.shape[2:]).to(x.dtype)], 1)
        for layer in self.up:
            x = torch.cat([layer(x), skips.pop()], 1)
        x = self.last[1](self.last[0](x))
        return self.last[2](torch.cat([x, condition.to(x.dtype)], 1)).float().tanh()


def _doubled(before: int, after: int) -> tuple[nn.Module, nn.Module]:
    return nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, 1, 1)
