"""Generators that translate an image into another."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError
from ebm_zoo.networks.generators import doubled


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
            nn.Sequential(*doubled(a + extra, b), nn.GroupNorm(groups, b), nn.SiLU(), nn.Dropout2d(drop))
            for a, b, extra in zip(rising, rising[1:], (latent_dim, *rising[1:]), strict=False)
        )
        self.last = nn.Sequential(
            nn.Sequential(*doubled(2 * widths[0], widths[0])),
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


class ResNetTranslator(nn.Module):
    """A residual network between two strided convolutions down and two up: an image of one domain to another.

        h = up ∘ blocks ∘ down (x),    g(x) = tanh(h + artanh(ρ x))

    What bypasses the network is cut to [−1, 1]: a predicted frame may lie beyond.

    Args:
        channels: channels of the images of either domain.
        width: filters at full size; twice as many at half the size, four times at a quarter.
        blocks: residual blocks at a quarter of the size.
        drop: probability of dropping a feature within a block in training.
        keep: ρ, 0 to below 1. At 0 nothing of the image bypasses the network, as in the paper. Above 0 the last layer
            starts at zero, so that learning starts at g(x) = ρ x: images of which most should stay as it is.

    Raises:
        ConfigError: if channels, width or blocks are below 1, drop or keep is not from 0 to below 1, or a side of an
            image is no multiple of 4, or below 8.

    References:
        Zhu, Park, Isola, Efros. Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks. 2017.
        https://arxiv.org/abs/1703.10593 (the network).

    Notes:
        The official code of CycleCoopNets drops half of the features within a block in learning; here the default is
        none. Starting at a multiple of the identity is not in the papers.
    """

    def __init__(self, channels: int, width: int = 64, blocks: int = 9, drop: float = 0.0, keep: float = 0.0) -> None:
        super().__init__()
        if channels < 1 or width < 1 or blocks < 1:
            raise ConfigError(f"A translator needs 1 or more channels, filters, blocks, not {channels, width, blocks}.")
        if not 0 <= drop < 1 or not 0 <= keep < 1:
            raise ConfigError(f"drop and keep must be from 0 to below 1, not {drop} and {keep}.")
        self.channels, self.width, self.blocks, self.drop, self.keep = channels, width, blocks, drop, keep
        n = width
        self.down = nn.Sequential(
            *_normalised(nn.Conv2d(channels, n, 7, 1, 3, padding_mode="reflect")),
            *_normalised(nn.Conv2d(n, 2 * n, 3, 2, 1)),
            *_normalised(nn.Conv2d(2 * n, 4 * n, 3, 2, 1)),
        )
        self.middle = nn.Sequential(*(_ResidualBlock(4 * n, drop) for _ in range(blocks)))
        self.up = nn.Sequential(*self.rise(4 * n, 2 * n), *self.rise(2 * n, n))
        self.last = nn.Conv2d(n, channels, 7, 1, 3, padding_mode="reflect")
        for parameter in self.last.parameters() if keep else ():
            nn.init.zeros_(parameter)

    @staticmethod
    def rise(before: int, after: int) -> tuple[nn.Module, ...]:
        """Layers that double the sides, **(B, before, H, W) -> (B, after, 2H, 2W)**."""
        return _normalised(nn.ConvTranspose2d(before, after, 3, 2, 1, 1))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Images of the other domain, **(B, C, H, W) -> (B, C, H, W)** in [−1, 1].

        Raises:
            ConfigError: if a side is no multiple of 4, or below 8.
        """
        if x.shape[2] % 4 or x.shape[3] % 4 or min(x.shape[2:]) < 8:
            raise ConfigError(f"Sides must be multiples of 4 from 8 on, not {tuple(x.shape[2:])}: resize first.")
        change = self.last(self.up(self.middle(self.down(x)))).float()
        return (change + (self.keep * x.float().clamp(-1, 1)).atanh()).tanh()


class DoublingTranslator(ResNetTranslator):
    """The same with repeated pixels and convolutions on the way up, for photographs.

    Transposed convolutions with a stride draw a grid of its period into smooth pictures; repeated pixels do not.

    References:
        Odena, Dumoulin, Olah. Deconvolution and Checkerboard Artifacts. 2016. https://doi.org/10.23915/distill.00003
    """

    @staticmethod
    def rise(before: int, after: int) -> tuple[nn.Module, ...]:
        """Layers that double the sides, **(B, before, H, W) -> (B, after, 2H, 2W)**."""
        repeat, convolution = doubled(before, after)
        return repeat, *_normalised(convolution)


class _ResidualBlock(nn.Module):
    """x + network(x), two 3×3 convolutions."""

    def __init__(self, width: int, drop: float) -> None:
        super().__init__()
        first, second = (nn.Conv2d(width, width, 3, 1, 1, padding_mode="reflect") for _ in range(2))
        self.network = nn.Sequential(*_normalised(first), nn.Dropout(drop), *_normalised(second)[:-1])

    def forward(self, x):
        return x + self.network(x)


def _normalised(convolution: nn.Conv2d | nn.ConvTranspose2d) -> tuple[nn.Module, ...]:
    # Instance norm as group norm of one channel each: 3 to 5 times as fast on a CPU, and it takes maps of one pixel.
    width = convolution.out_channels
    return convolution, nn.GroupNorm(width, width), nn.ReLU()


class WarpedTranslator(nn.Module):
    """A translator that first scales and moves all images alike, by factors and shifts that it learns.

        g(x) = network(x ∘ A),    A p = exp(−s) p + t,    p the places in a picture, from −1 to 1

    For domains that differ in how large things are: the network need only change what is near.

    Args:
        network: translator, **(B, C, H, W) -> (B, C, H, W)**.
        scale: exp(s) before learning, how much things are enlarged; t is 0 then.
        outside: value around a picture, where it is reduced: −1 is black.

    Raises:
        ConfigError: unless the scale is above 0.

    Notes:
        Not in the papers. From a scale of 1 learning hardly moves: each other one blurs, which the cycle is against.
    """

    def __init__(self, network: nn.Module, scale: float = 1.0, outside: float = -1.0) -> None:
        super().__init__()
        if not scale > 0:
            raise ConfigError(f"scale must be above 0, not {scale}.")
        self.network, self.scale, self.outside = network, scale, outside
        self.log_scale = nn.Parameter(torch.full((2,), math.log(scale)))
        self.shift = nn.Parameter(torch.zeros(2))

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Images of the other domain, **(B, C, H, W) -> (B, C, H, W)**."""
        # In float32: bfloat16 does not tell neighbouring places of a large picture apart.
        with torch.autocast(x.device.type, enabled=False):
            matrix = torch.cat([(-self.log_scale).exp().diag(), self.shift[:, None]], 1)
            grid = nn.functional.affine_grid(matrix.expand(len(x), -1, -1), list(x.shape), align_corners=False)
            # Zeros surround what is sampled.
            warped = nn.functional.grid_sample(x.float() - self.outside, grid, align_corners=False) + self.outside
        return self.network(warped)
