"""The networks that condition the couplings of a flow: gated convolutions and gated attention."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError


@dataclass(frozen=True)
class CouplingSize:
    """How large a coupling of a flow is.

    Args:
        width: channels of the network that conditions it.
        blocks: blocks of gated convolution and attention in it; 0 = two convolutions.
        components: logistic distributions in the mixture.
        heads: heads of the attention, a divisor of the width; 0 = no attention.
        drop: probability of dropping a feature in training.

    Raises:
        ConfigError: if a number is out of its range.
    """

    width: int
    blocks: int
    components: int
    heads: int = 0
    drop: float = 0.0

    def __post_init__(self) -> None:
        if self.width < 1 or self.blocks < 0 or self.components < 1 or not 0 <= self.drop < 1:
            raise ConfigError(f"A coupling needs width, components >= 1, blocks >= 0, drop in [0, 1), not {self}.")
        if self.heads < 0 or (self.heads and self.width % self.heads):
            raise ConfigError(
                f"The heads of a coupling must divide its width, {self.width}, or be 0, not {self.heads}."
            )


class NormedConv(nn.Conv2d):
    """A convolution whose filters have a length of their own: w = g v / ‖v‖.

    Args:
        channels: channels of the input.
        filters: channels of the output.
        kernel: side of the filters, odd.
        start: what the output begins as, **(D,)**, whatever the input; none unless given.

    References:
        Salimans, Kingma. Weight Normalization: A Simple Reparameterization to Accelerate Training of Deep Neural
        Networks. 2016. https://arxiv.org/abs/1602.07868
    """

    def __init__(self, channels: int, filters: int, kernel: int, start: Tensor | None = None) -> None:
        super().__init__(channels, filters, kernel, padding=kernel // 2)
        self.gain = nn.Parameter(torch.full((filters, 1, 1, 1), 1.0 if start is None else 0.0))
        if start is not None:
            self.bias = nn.Parameter(start)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
        """Maps, **(B, C, H, W) -> (B, D, H, W)**."""
        norm = self.weight.square().sum((1, 2, 3), keepdim=True).sqrt()
        weight = (self.weight * (self.gain / norm)).contiguous(memory_format=torch.channels_last)
        return nn.functional.conv2d(x, weight, self.bias, padding=self.padding)


def concat_elu(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h w"]:
    """ELU of both signs, **(B, C, H, W) -> (B, 2C, H, W)**."""
    return nn.functional.elu(torch.cat([x, -x], 1))


class GatedConv(nn.Module):
    """What a residual block adds: a σ(b), where [a, b] = W₂ φ(W₁ φ(x) + W₃ φ(c)) and φ is `concat_elu`.

    Args:
        width: channels of x.
        context: channels of the context c; 0 = none.
        drop: probability of dropping a feature in training.
    """

    def __init__(self, width: int, context: int, drop: float) -> None:
        super().__init__()
        self.conv = NormedConv(2 * width, width, 3)
        self.context = NormedConv(2 * context, width, 1) if context else None
        self.drop = nn.Dropout2d(drop)
        self.gate = NormedConv(2 * width, 2 * width, 1)

    def forward(self, x: Float[Tensor, "b c h w"], context: Tensor | None) -> Float[Tensor, "b c h w"]:
        """Residual, **(B, C, H, W)** beside a context **(B, D, H, W)**."""
        y = self.conv(concat_elu(x))
        if self.context is not None and context is not None:
            y = y + self.context(concat_elu(context))
        return nn.functional.glu(self.gate(self.drop(concat_elu(y))), 1)


class GatedAttention(nn.Module):
    """What a residual block adds: self-attention over all positions of a map, gated.

    Args:
        width: channels, a multiple of the heads.
        heads: number of heads.
        size: height and width of the map; each position is marked by sinusoids.

    References:
        Vaswani et al. Attention Is All You Need. 2017. https://arxiv.org/abs/1706.03762
    """

    marks: Tensor

    def __init__(self, width: int, heads: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.heads = heads
        self.project = NormedConv(width, 3 * width, 1)
        self.gate = NormedConv(width, 2 * width, 1)
        position = torch.arange(size[0] * size[1]).view(1, -1)
        rate = torch.exp(torch.arange((width + 1) // 2) * (-2 * math.log(1e4) / width)).view(-1, 1)
        waves = torch.cat([(rate * position).sin(), (rate * position).cos()])[:width]
        self.register_buffer("marks", waves.view(1, width, *size), persistent=False)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Residual, **(B, C, H, W)**."""
        projected = self.project(x + self.marks).flatten(2).unflatten(1, (3, self.heads, -1))
        query, key, value = projected.transpose(3, 4).unbind(1)
        # Written out: on a CPU the fused form takes three to ten times as long in bfloat16, most of it backwards.
        seen = (query * query.shape[-1] ** -0.5 @ key.transpose(2, 3)).softmax(3) @ value
        return nn.functional.glu(self.gate(seen.transpose(2, 3).flatten(1, 2).view_as(x)), 1)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each position."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Maps, **(B, C, H, W)**."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """A gated convolution and a gated attention, each added to its input and normalised.

    Args:
        map_size: height and width of the map.
        size: of the network.
        context: channels of a context; 0 = none.
    """

    def __init__(self, map_size: tuple[int, int], size: CouplingSize, context: int) -> None:
        super().__init__()
        self.conv, self.norm = GatedConv(size.width, context, size.drop), ChannelNorm(size.width)
        self.attention = GatedAttention(size.width, size.heads, map_size) if size.heads else None
        self.attention_norm = ChannelNorm(size.width) if size.heads else None

    def forward(self, x: Float[Tensor, "b c h w"], context: Tensor | None) -> Float[Tensor, "b c h w"]:
        """Maps, **(B, C, H, W)** beside a context **(B, D, H, W)**."""
        x = self.norm(x + self.conv(x, context))
        if self.attention is not None and self.attention_norm is not None:
            x = self.attention_norm(x + self.attention(x))
        return x


class Conditioner(nn.Module):
    """Reads one half of a map, says how the other is to change.

    Args:
        channels: of the map.
        map_size: height and width of the map.
        size: of the network.
        context: channels of a context; 0 = none.
        start: what the output begins as at every position, **(D,)**.
    """

    def __init__(
        self, channels: int, map_size: tuple[int, int], size: CouplingSize, context: int, start: Float[Tensor, " d"]
    ) -> None:
        super().__init__()
        self.first = NormedConv(channels, size.width, 3)
        self.blocks = nn.ModuleList(Block(map_size, size, context) for _ in range(size.blocks))
        self.last = NormedConv(size.width, len(start), 3, start)

    def forward(self, x: Float[Tensor, "b c h w"], context: Tensor | None) -> Float[Tensor, "b d h w"]:
        """Parameters, **(B, C, H, W) -> (B, D, H, W)**, in the precision of autocast."""
        x = self.first(x.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            x = block(x, context)
        return self.last(x)
