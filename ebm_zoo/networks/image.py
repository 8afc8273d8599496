"""Convolutional energies and encoders of images."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError


class ConvMaps(nn.Module):
    """A stack of convolutions.

        h_l = pool(act(W_l * h_{l−1} + b_l)), no activation after the last

    Args:
        channels: colour channels C of the images.
        layers: one row per convolution: filters, kernel, stride, padding, and optionally a max-pooling factor.
        activation: between convolutions; SiLU unless given.

    Raises:
        ConfigError: if a row has another length than four or five.

    Notes:
        Weights are kept channels-last: measured 10 to 20 % faster on a CPU in bfloat16, and no slower elsewhere.
        There is no normalisation: batch statistics would move with every Langevin step.
    """

    def __init__(self, channels: int, layers: tuple[tuple[int, ...], ...], activation: nn.Module | None = None) -> None:
        super().__init__()
        for row in layers:
            if len(row) not in (4, 5):
                raise ConfigError(f"A layer is [filters, kernel, stride, padding] and maybe [pool], not {list(row)}.")
        self.channels, self.layers = channels, tuple(tuple(row) for row in layers)
        self.activation = activation if activation is not None else nn.SiLU()
        widths = [channels, *(row[0] for row in layers)]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, row[0], row[1], stride=row[2], padding=row[3])
            for before, row in zip(widths, layers, strict=False)
        )
        self.to(memory_format=torch.channels_last)

    def maps(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        """Last maps h_L of images."""
        last = len(self.layers) - 1
        for k, (convolution, row) in enumerate(zip(self.convolutions, self.layers, strict=True)):
            x = convolution(x)
            if k < last:
                x = self.activation(x)
            if len(row) == 5:
                x = nn.functional.max_pool2d(x, row[4])
        return x


class ConvEnergy(ConvMaps):
    """Convolutional energy, summed over the positions and channels of its last map.

        E(x) = −f(x) = Σ h_L(x)

    Where the last map is larger than 1×1 the energy is that of a stationary random field and takes larger images
    than it was trained on. Arguments as for `ConvMaps`.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Energies of images, **(B, C, H, W)** -> **(B,)**."""
        # Summed in float32: in bfloat16 a sum of many positions keeps two digits.
        return self.maps(x).float().sum((1, 2, 3))


class ConvEncoder(ConvMaps):
    """Convolutional encoder: μ and log σ of a latent vector, the mean of the last map over its positions.

    The last row's filters are 2d, for latent vectors of d entries. Arguments as for `ConvMaps`.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e"]:
        """μ and log σ, **(B, C, H, W)** -> **(B, 2d)**."""
        return self.maps(x).float().mean((2, 3))


class TextureEnergy(ConvEnergy):
    """Energy of the texture experiments: 15×15, 5×5 and 5×5 filters, 275,965 parameters for colour at 224×224.

    Args:
        channels: colour channels.

    References:
        Xie, Lu, Zhu, Wu. A Theory of Generative ConvNet. 2016. https://arxiv.org/abs/1602.03264

    Notes:
        Layers as in the co-authors' Paddle port; its asymmetric "same" padding is symmetric here.
    """

    def __init__(self, channels: int = 3) -> None:
        layers = ((100, 15, 3, 7, 3), (64, 5, 2, 2, 2), (30, 5, 2, 2), (1, 3, 1, 0))
        super().__init__(channels, layers, nn.ReLU())


class ObjectEnergy(ConvEnergy):
    """Energy of the object experiments: 7×7, 5×5 and 3×3 filters, then 10×10 over the map; 110×110 images.

    Args:
        channels: colour channels.

    References:
        Xie, Lu, Zhu, Wu. A Theory of Generative ConvNet. 2016. https://arxiv.org/abs/1602.03264

    Notes:
        Layers as in the co-authors' Paddle port. The map of scores is summed in sampling and in learning alike;
        the port averages it in learning, which Adam makes the same up to its epsilon.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__(channels, ((100, 7, 2, 3), (64, 5, 2, 2), (20, 3, 2, 1), (1, 10, 1, 0)), nn.LeakyReLU(0.01))


class ShortRunEnergy(ConvEnergy):
    """Energy of the short-run experiments at 32×32, 2,763,393 parameters at width 64 in colour.

    Args:
        channels: colour channels.
        width: filters of the first layer, doubled three times.

    References:
        Nijkamp, Hill, Zhu, Wu. On Learning Non-Convergent Non-Persistent Short-Run MCMC Toward Energy-Based
        Model. 2019. https://arxiv.org/abs/1904.09770
    """

    def __init__(self, channels: int = 3, width: int = 64) -> None:
        n = width
        layers = ((n, 3, 1, 1), (2 * n, 4, 2, 1), (4 * n, 4, 2, 1), (8 * n, 4, 2, 1), (1, 4, 1, 0))
        super().__init__(channels, layers, nn.LeakyReLU(0.2))
        self.width = width


class ResidualEnergy(nn.Module):
    """Residual energy of CoopFlow's experiments at 32×32, 17,129,444 parameters at width 128 in colour.

        h ← AvgPool₂(φ(V₂ φ(V₁ h)) + φ(W h)), φ = SiLU, three times;    E(x) = −f(x) = sum of 100 outputs

    Args:
        channels: colour channels.
        width: channels of the first maps, doubled by each block.

    References:
        Xie, Zhu, Li, Li. A Tale of Two Flows: Cooperative Learning of Langevin Flow and Normalizing Flow Toward
        Energy-Based Model. 2022. https://arxiv.org/abs/2205.06924
    """

    def __init__(self, channels: int = 3, width: int = 128) -> None:
        super().__init__()
        self.channels, self.width = channels, width
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        widths = [width, 2 * width, 4 * width]
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(n, n, 3, padding=1), nn.SiLU(), nn.Conv2d(n, 2 * n, 3, padding=1), nn.SiLU())
            for n in widths
        )
        self.shortcuts = nn.ModuleList(nn.Sequential(nn.Conv2d(n, 2 * n, 3, padding=1), nn.SiLU()) for n in widths)
        self.last = nn.Conv2d(8 * width, 100, 4)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, " b"]:
        """Energies of images, **(B, C, 32, 32)** -> **(B,)**."""
        x = nn.functional.silu(self.first(x))
        for branch, shortcut in zip(self.branches, self.shortcuts, strict=True):
            x = nn.functional.avg_pool2d(branch(x) + shortcut(x), 2)
        return self.last(x).float().sum((1, 2, 3))
