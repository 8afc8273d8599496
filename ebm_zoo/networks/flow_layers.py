"""What a flow of images is made of between its couplings, and its steps."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_zoo.networks.flow_conditioner import CouplingSize
from ebm_zoo.networks.flow_coupling import Coupling


class ActNorm(nn.Module):
    """A scale and a shift per channel, y = (x − μ) exp(s), that begin as the whitening of a first batch.

    log |det| = H W Σ s

    Args:
        channels: channels C.

    References:
        Kingma, Dhariwal. Glow: Generative Flow with Invertible 1x1 Convolutions. 2018.
        https://arxiv.org/abs/1807.03039
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.fitting = False

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, ""]]:
        """y and log |det|, which is the same for all data."""
        if self.fitting:
            with torch.no_grad():
                self.mean.copy_(x.mean((0, 2, 3), keepdim=True))
                # One datum with one position per channel has no deviation.
                deviation = x.std((0, 2, 3), keepdim=True, correction=0).clamp(min=1e-4)
                self.log_scale.copy_(-deviation.log())
        return (x - self.mean) * self.log_scale.exp(), x.shape[2] * x.shape[3] * self.log_scale.sum()

    def inverse(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x of y."""
        return y * (-self.log_scale).exp() + self.mean


class InvertibleConv(nn.Module):
    """A matrix that mixes the channels at each position, y = W x; it begins near the identity.

    log |det| = H W log |det W|

    Args:
        channels: channels C.

    References:
        Kingma, Dhariwal. Glow: Generative Flow with Invertible 1x1 Convolutions. 2018.
        https://arxiv.org/abs/1807.03039
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(channels) + 1e-3 * torch.randn(channels, channels))

    def forward(self, x: Float[Tensor, "b c h w"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, ""]]:
        """y and log |det|, which is the same for all data."""
        return _mixed(x, self.weight), x.shape[2] * x.shape[3] * torch.linalg.slogdet(self.weight)[1]

    def inverse(self, y: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """x of y."""
        return _mixed(y, torch.linalg.inv(self.weight))


def _mixed(x: Tensor, weight: Tensor) -> Tensor:
    # Autocast would mix in bfloat16, whose three digits the inverse could not take back.
    with torch.autocast(x.device.type, enabled=False):
        return nn.functional.conv2d(x, weight[:, :, None, None])


def to_checkerboard(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d h v"]:
    """White fields, then black fields of a checkerboard as channels, **(B, C, H, W) -> (B, 2C, H, W/2)**, W even."""
    pairs = x.unflatten(3, (-1, 2))
    pairs = torch.where(_odd_rows(x), pairs.flip(4), pairs)
    return torch.cat(pairs.unbind(4), 1)


def from_checkerboard(y: Float[Tensor, "b d h v"]) -> Float[Tensor, "b c h w"]:
    """Inverse of `to_checkerboard`, **(B, 2C, H, W/2) -> (B, C, H, W)**."""
    pairs = torch.stack(y.chunk(2, 1), 4)
    return torch.where(_odd_rows(y), pairs.flip(4), pairs).flatten(3)


def _odd_rows(x: Tensor) -> Tensor:
    return (torch.arange(x.shape[2], device=x.device) % 2 == 1).view(1, 1, -1, 1, 1)


class Steps(nn.Module):
    """Steps of a flow on maps of one size: each is a normalisation, a mixing of channels, and a coupling.

    Args:
        channels: channels of the maps, even.
        map_size: their height and width.
        count: how many steps.
        size: of the couplings.
        context: channels of a context for them; 0 = none.
    """

    def __init__(
        self, channels: int, map_size: tuple[int, int], count: int, size: CouplingSize, context: int = 0
    ) -> None:
        super().__init__()
        self.norms = nn.ModuleList(ActNorm(channels) for _ in range(count))
        self.mixers = nn.ModuleList(InvertibleConv(channels) for _ in range(count))
        self.couplings = nn.ModuleList(Coupling(channels, map_size, size, context) for _ in range(count))

    def forward(
        self, x: Float[Tensor, "b c h w"], context: Tensor | None = None
    ) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, " b"]]:
        """y and log |det|, **(B, C, H, W) -> (B, C, H, W), (B,)**."""
        total = x.new_zeros(len(x))
        for norm, mixer, coupling in self._each():
            x, first = norm(x)
            x, second = mixer(x)
            x, third = coupling(x, context)
            total = total + first + second + third
        return x, total

    def inverse(self, y: Float[Tensor, "b c h w"], context: Tensor | None = None) -> Float[Tensor, "b c h w"]:
        """x of y, **(B, C, H, W)**."""
        for norm, mixer, coupling in reversed(self._each()):
            y = norm.inverse(mixer.inverse(coupling.inverse(y, context)))
        return y

    def _each(self) -> list[Any]:
        return list(zip(self.norms, self.mixers, self.couplings, strict=True))
