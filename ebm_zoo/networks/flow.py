"""Flow++: a normalizing flow of images."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError
from ebm_zoo.networks.flow_conditioner import CouplingSize, GatedConv, NormedConv
from ebm_zoo.networks.flow_layers import ActNorm, Steps, from_checkerboard, to_checkerboard

LEVELS = 256
BOUND = 0.9
"""Part of the unit interval that pixels take before the logit, so that it stays finite."""


class Dequantisation(nn.Module):
    """Noise that fills the steps between the levels of a pixel: a flow conditioned by the image.

        u = σ(f(ε; x)) in (0, 1),    ε ~ N(0, I);    −log q(u | x) = −log N(ε) + log |du/dε|

    Any distribution of u gives a lower bound of the probability of the pixels' levels; this one is learned to make
    it tight. The couplings are those of a checkerboard.

    Args:
        shape: (C, H, W) of the images.
        couplings: how many couplings.
        size: of each; its blocks, 1 or more, are what sees the image.
        context: channels of the map of the image that they see.
        squeezes: how often 2×2 pixels are stacked as channels first, which saves work; 0 in the paper.

    Raises:
        ConfigError: if a number is out of its range, or the images cannot be halved so often.

    References:
        Ho, Chen, Srinivas, Duan, Abbeel. Flow++: Improving Flow-Based Generative Models with Variational
        Dequantization and Architecture Design. 2019. https://arxiv.org/abs/1902.00275
    """

    def __init__(
        self, shape: tuple[int, int, int], couplings: int, size: CouplingSize, context: int, squeezes: int = 0
    ) -> None:
        super().__init__()
        if couplings < 1 or context < 1 or squeezes < 0 or size.blocks < 1:
            given = f"{couplings}, {context}, {size.blocks}, {squeezes}"
            raise ConfigError(f"Dequantisation needs couplings, context, blocks >= 1, squeezes >= 0, not {given}.")
        self.shape, self.couplings, self.size = tuple(shape), couplings, size
        self.context, self.squeezes = context, squeezes
        c, h, w = self.shape
        # No more than would leave less than one pixel: two to the power of a huge number fills the memory.
        side = 2 ** min(squeezes, h.bit_length())
        if h % side or w % (2 * side):
            raise ConfigError(
                f"Dequantisation of {c} x {h} x {w} images after {squeezes} squeezes needs a height that is a multiple "
                f"of {side} and a width that is one of {2 * side}: lower squeezes, or resize the images."
            )
        channels, map_size = 2 * c * side**2, (h // side, w // (2 * side))
        self.first = NormedConv(channels, context, 3)
        self.seen = GatedConv(context, 0, size.drop)
        self.steps = Steps(channels, map_size, couplings, size, context)

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
        """Noise u and −log q(u | x) for pixels in [0, 1], **(B, C, H, W) -> (B, C, H, W), (B,)**."""
        packed = self._packed(x)
        context = self.first(packed - 0.5)
        context = context + self.seen(context, None)
        noise = torch.randn_like(packed)
        filled, total = self.steps(noise, context)
        u = filled.sigmoid()
        slope = nn.functional.logsigmoid(filled) + nn.functional.logsigmoid(-filled)
        unpacked = nn.functional.pixel_shuffle(from_checkerboard(u), 2**self.squeezes)
        return unpacked, total + slope.sum((1, 2, 3)) - gaussian(noise)

    def _packed(self, x: Tensor) -> Tensor:
        return to_checkerboard(nn.functional.pixel_unshuffle(x, 2**self.squeezes))


class FlowPlusPlus(nn.Module):
    """An invertible map between Gaussian noise and images, with the exact density of what it draws.

        x = g(z), z ~ N(0, I);    log q(x) = log N(g⁻¹(x)) + log |∂g⁻¹(x)/∂x|

    Images are dequantised, squeezed into (1 − .9)/2 … (1 + .9)/2 and unfolded by a logit. Then come the scales:
    channel-wise and checkerboard couplings (`Coupling`), each after a normalisation (`ActNorm`) and a mixing of
    channels; 2×2 pixels are stacked as channels; and half of the channels leave, as a part of z.

    Args:
        shape: (C, H, W) of the images.
        scales: one row per scale: number of channel-wise couplings, of checkerboard couplings. At a scale without
            couplings no channels leave: it only stacks pixels. Channel-wise couplings need an even number of
            channels, checkerboards an even width, and all scales but the last even sides. One channel of 28×28
            becomes 4 of 14×14, and 16 of 7×7 if none leave, or 8; 7×7 allows channel-wise couplings only.
        size: of the couplings.
        dequantiser: pixels in [0, 1], **(B, C, H, W)** -> noise u in (0, 1) and −log q(u | x), see `Dequantisation`.

    Raises:
        ConfigError: if there are no couplings, or a scale does not fit the images.

    References:
        Ho, Chen, Srinivas, Duan, Abbeel. Flow++: Improving Flow-Based Generative Models with Variational
        Dequantization and Architecture Design. 2019. https://arxiv.org/abs/1902.00275
        Xie, Zhu, Li, Li. A Tale of Two Flows: Cooperative Learning of Langevin Flow and Normalizing Flow Toward
        Energy-Based Model. 2022. https://arxiv.org/abs/2205.06924

    Notes:
        g inverts all that is done to an image, and clips to the range; CoopFlow's code leaves out the bound .9 and
        the levels. Conditioning networks run in the precision of autocast, all else in that of the parameters.
    """

    initialised: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        scales: tuple[tuple[int, int], ...],
        size: CouplingSize,
        dequantiser: nn.Module,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or min(shape) < 1:
            raise ConfigError(f"A flow takes images of shape (C, H, W), not {tuple(shape)}.")
        if not any(count for row in scales for count in row) or any(len(row) != 2 or min(row) < 0 for row in scales):
            raise ConfigError(f"The scales of a flow are rows [channel-wise, checkerboard], not {list(scales)}.")
        self.shape, self.scales = tuple(shape), tuple(tuple(row) for row in scales)
        self.size, self.dequantiser = size, dequantiser
        self.latent_dim = math.prod(shape)
        self.channelwise, self.checkerboard = nn.ModuleList(), nn.ModuleList()
        self._maps = list(_maps(self.shape, self.scales))
        for (c, h, w), row in zip(self._maps, self.scales, strict=True):
            self.channelwise.append(Steps(c, (h, w), row[0], size))
            self.checkerboard.append(Steps(2 * c, (h, w // 2), row[1], size))
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """Images g(z), **(B, D) -> (B, C, H, W)** in [−1, 1]."""
        unit = (self.decode(latent.to(self._dtype)).sigmoid() - 0.5) / BOUND + 0.5
        return (2 * (LEVELS * unit - 0.5) / (LEVELS - 1) - 1).clamp(-1, 1)

    def latent_of(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        """g⁻¹ of images in [−1, 1], as if each pixel lay in the middle of its level, **(B, C, H, W) -> (B, D)**."""
        return self.encode(_logit(self._levels(images), torch.tensor(0.5))[0])[0]

    def log_prob(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """log probability of images in [−1, 1], in nats, **(B, C, H, W) -> (B,)**.

        It is a lower bound drawn at random, log q(y) − log q(u | x) − D log 256 with y = (255 x + u)/256: the
        density of dequantised images is exact, the probability of their levels is at least the mean of these draws.
        """
        levels = self._levels(images)
        u, entropy = self.dequantiser(levels / (LEVELS - 1))
        unfolded, slope = _logit(levels, u)
        latent, total = self.encode(unfolded)
        return gaussian(latent) + total + slope + entropy - self.latent_dim * math.log(LEVELS)

    @torch.no_grad()
    def initialise(self, images: Float[Tensor, "b c h w"]) -> None:
        """Let all normalisations begin as whitenings of images in [−1, 1]."""
        norms = [module for module in self.modules() if isinstance(module, ActNorm)]
        for norm in norms:
            norm.fitting = True
        self.log_prob(images)
        for norm in norms:
            norm.fitting = False
        self.initialised.fill_(True)

    def encode(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b d"], Float[Tensor, " b"]]:
        """Latent vectors of unfolded pixels, and log |det|, **(B, C, H, W) -> (B, D), (B,)**."""
        parts, total, last = [], x.new_zeros(len(x)), len(self.scales) - 1
        for k, (channelwise, checkerboard) in enumerate(zip(self.channelwise, self.checkerboard, strict=True)):
            x, first = channelwise(x)
            second = 0.0
            if self.scales[k][1]:
                packed, second = checkerboard(to_checkerboard(x))
                x = from_checkerboard(packed)
            total = total + first + second
            if k < last:
                x = nn.functional.pixel_unshuffle(x, 2)
                if any(self.scales[k]):
                    x, out = x.chunk(2, 1)
                    parts.append(out.flatten(1))
        return torch.cat([*parts, x.flatten(1)], 1), total

    def decode(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """Unfolded pixels of latent vectors: the inverse of `encode`, **(B, D) -> (B, C, H, W)**."""
        rest, x = _parted(latent, self._maps[-1])
        for k in reversed(range(len(self.scales))):
            if k < len(self.scales) - 1:
                if any(self.scales[k]):
                    rest, out = _parted(rest, tuple(x.shape[1:]))
                    x = torch.cat([x, out], 1)
                x = nn.functional.pixel_shuffle(x, 2)
            if self.scales[k][1]:
                checkerboard: Any = self.checkerboard[k]  # a ModuleList hides the type of its items
                x = from_checkerboard(checkerboard.inverse(to_checkerboard(x)))
            channelwise: Any = self.channelwise[k]
            x = channelwise.inverse(x)
        return x

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def _levels(self, images: Tensor) -> Tensor:
        if tuple(images.shape[1:]) != self.shape:
            raise ConfigError(f"This flow takes images of {self.shape}, not {tuple(images.shape[1:])}: resize them.")
        return (images.to(self._dtype) + 1) / 2 * (LEVELS - 1)


def gaussian(x: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """log N(x; 0, I), **(B, *) -> (B,)**."""
    x = x.flatten(1)
    return -(x.square().sum(1) + x.shape[1] * math.log(2 * math.pi)) / 2


def _parted(latent: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """All but the last entries of latent vectors, and these as maps."""
    rest, last = latent.split([latent.shape[1] - math.prod(shape), math.prod(shape)], 1)
    return rest, last.unflatten(1, shape)


def _logit(levels: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Unfold dequantised pixels (255 x + u)/256; log |det| per datum."""
    p = 0.5 + BOUND * ((levels + u) / LEVELS - 0.5)
    up, down = p.log(), (1 - p).log()
    return up - down, (math.log(BOUND) - up - down).sum((1, 2, 3))


def _maps(shape: tuple[int, ...], scales: tuple[tuple[int, ...], ...]) -> Iterator[tuple[int, int, int]]:
    """(C, H, W) of the maps at each scale."""
    c, h, w = shape
    for k, (channelwise, checkerboard) in enumerate(scales):
        here = f"scale {k} of the flow, whose maps are {c} x {h} x {w},"
        if channelwise and c % 2:
            raise ConfigError(
                f"Channel-wise couplings halve the channels, but {here} has an odd number: squeeze first."
            )
        if checkerboard and w % 2:
            raise ConfigError(f"Checkerboards halve the width, but {here} has an odd one: use channel-wise couplings.")
        yield c, h, w
        if k < len(scales) - 1:
            if h % 2 or w % 2:
                raise ConfigError(f"All scales but the last halve height and width, but {here} has an odd one.")
            c, h, w = (2 if channelwise or checkerboard else 4) * c, h // 2, w // 2
