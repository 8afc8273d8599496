"""Generators of images: a latent vector to an image, in one pass."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError


class ConvGenerator(nn.Module):
    """Transposed convolutions from a latent vector to an image.

        g(z) = tanh(h_L),    h_l = act(norm(W_l *ᵀ h_{l−1} + b_l)),    h_0 = z as a 1×1 map; no norm and no
        activation after the last layer

    Args:
        latent_dim: d, entries of z.
        layers: one row per transposed convolution: filters, kernel, stride, padding, and optionally the padding
            added at one side of the output. The last row's filters are the image's channels.
        groups: channels are normalised in this many groups per image between layers; 0 = no normalisation.
        activation: between layers; SiLU unless given.

    Raises:
        ConfigError: if there are no layers or no latent entries, a row has another length than four or five, or a
            width is no multiple of the groups.

    Notes:
        Group normalisation stands where the papers' generators have batch normalisation, so that an image does not
        depend on the others drawn with it; see `CoopNetsGenerator` for the papers' way.
    """

    def __init__(
        self,
        latent_dim: int,
        layers: tuple[tuple[int, ...], ...],
        groups: int = 0,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not layers or latent_dim < 1:
            raise ConfigError(f"A generator needs layers and latent entries, not {list(layers)} and {latent_dim}.")
        for row in layers:
            if len(row) not in (4, 5):
                raise ConfigError(
                    f"A layer is [filters, kernel, stride, padding] and maybe [output padding], not {list(row)}."
                )
        self.latent_dim, self.layers, self.groups = latent_dim, tuple(tuple(row) for row in layers), groups
        self.activation = activation if activation is not None else nn.SiLU()
        widths = [latent_dim, *(row[0] for row in self.layers)]
        if groups < 0 or (groups and any(width % groups for width in widths[1:-1])):
            raise ConfigError(f"Widths {widths[1:-1]} must be multiples of groups, {groups}; 0 = no normalisation.")
        self.convolutions = nn.ModuleList(
            nn.ConvTranspose2d(before, row[0], row[1], stride=row[2], padding=row[3], output_padding=(*row, 0)[4])
            for before, row in zip(widths, self.layers, strict=False)
        )
        self.norms = nn.ModuleList(self._norm(width) for width in widths[1:-1])
        self.to(memory_format=torch.channels_last)

    def _norm(self, width: int) -> nn.Module:
        return nn.GroupNorm(self.groups, width) if self.groups else nn.Identity()

    def forward(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """Images from latent vectors, **(B, d) -> (B, C, H, W)** in [−1, 1]."""
        x = latent[:, :, None, None]
        for convolution, norm in zip(self.convolutions, self.norms, strict=False):
            x = self.activation(norm(convolution(x)))
        return self.convolutions[-1](x).float().tanh()


class CoopNetsGenerator(ConvGenerator):
    """The generator of the CoopNets experiments on 64×64 photographs, 5,127,683 parameters for 100 latent entries.

    Args:
        latent_dim: entries of z.
        channels: colour channels.

    References:
        Xie, Lu, Gao, Zhu, Wu. Cooperative Training of Descriptor and Generator Networks. 2018.
        https://arxiv.org/abs/1609.09408

    Notes:
        The official code normalises with the statistics of the batch at hand, in training and afterwards. So does
        this: images depend on those drawn with them, and a single one cannot be drawn well.
    """

    def __init__(self, latent_dim: int = 100, channels: int = 3) -> None:
        up = (5, 2, 2, 1)
        layers = ((512, 4, 1, 0), (256, *up), (128, *up), (64, *up), (channels, *up))
        super().__init__(latent_dim, layers, activation=nn.LeakyReLU(0.2))
        self.channels = channels

    def _norm(self, width: int) -> nn.Module:
        return nn.BatchNorm2d(width, track_running_stats=False)


class LabelledGenerator(nn.Module):
    """A generator of images of a class: the class is appended to the latent vector.

        g(z, y) = network([z, onehot(y)])

    Args:
        network: generator of ``latent_dim + classes`` latent entries.
        classes: number of classes.

    Raises:
        ConfigError: if the network has no entries left for z.
    """

    def __init__(self, network: ConvGenerator, classes: int) -> None:
        super().__init__()
        if not 0 < classes < network.latent_dim:
            raise ConfigError(f"A network of {network.latent_dim} latent entries leaves none beside {classes} classes.")
        self.network, self.classes = network, classes
        self.latent_dim = network.latent_dim - classes

    def forward(self, latent: Float[Tensor, "b d"], labels: Int[Tensor, " b"]) -> Float[Tensor, "b c h w"]:
        """Images of classes, **(B, d), (B,) -> (B, C, H, W)**."""
        return self.network(torch.cat([latent, nn.functional.one_hot(labels.long(), self.classes).to(latent.dtype)], 1))


class DenseGenerator(nn.Module):
    """Fully connected layers from a latent vector to an image.

        g(z) = tanh(h_L),    h_l = act(W_l h_{l−1} + b_l),    h_0 = z; no activation after the last layer

    For small images, whose latent vectors are inferred by many passes: each is a few matrix products.

    Args:
        latent_dim: d, entries of z.
        widths: entries of the hidden layers.
        shape: C, H, W of the images.
        activation: between layers; SiLU unless given.

    Raises:
        ConfigError: if a size is below 1.
    """

    def __init__(
        self,
        latent_dim: int,
        widths: tuple[int, ...],
        shape: tuple[int, int, int],
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if min(latent_dim, *widths, *shape) < 1:
            raise ConfigError(f"A generator needs sizes of 1 or more, not {latent_dim}, {list(widths)}, {list(shape)}.")
        self.latent_dim, self.widths, self.shape = latent_dim, tuple(widths), tuple(shape)
        self.activation = activation if activation is not None else nn.SiLU()
        sizes = (latent_dim, *self.widths, math.prod(self.shape))
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """Images from latent vectors, **(B, d) -> (B, C, H, W)** in [−1, 1]."""
        x = latent
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x).float().tanh().unflatten(1, self.shape)


class DoublingGenerator(nn.Module):
    """A latent vector becomes a map of 4×4; pixels are repeated and convolved until it is an image.

        h_0 = act(norm(W_0 z)), 4×4;    h_l = act(norm(W_l * twice(h_{l−1})));    g(z) = tanh(V * h_L)

    Transposed convolutions with a stride draw a grid of its period into smooth pictures; repeated pixels do not.

    Args:
        latent_dim: d, entries of z.
        widths: filters of 4×4, 8×8, and so on; the last are those of the image's size.
        channels: colour channels C of the images.
        groups: channels are normalised in this many groups per image.

    Raises:
        ConfigError: if there is no width, one is no multiple of the groups, or a size is below 1.

    References:
        Odena, Dumoulin, Olah. Deconvolution and Checkerboard Artifacts. 2016. https://doi.org/10.23915/distill.00003
    """

    def __init__(self, latent_dim: int, widths: tuple[int, ...], channels: int = 3, groups: int = 8) -> None:
        super().__init__()
        if not widths or min(latent_dim, channels, groups, *widths) < 1 or any(width % groups for width in widths):
            raise ConfigError(
                f"A generator needs latent entries, channels, and widths that are multiples of groups ({groups}), not "
                f"{latent_dim}, {channels} and {list(widths)}."
            )
        self.latent_dim, self.widths, self.channels, self.groups = latent_dim, tuple(widths), channels, groups
        self.first = nn.Sequential(
            nn.ConvTranspose2d(latent_dim, widths[0], 4), nn.GroupNorm(groups, widths[0]), nn.SiLU()
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(*doubled(a, b), nn.GroupNorm(groups, b), nn.SiLU()) for a, b in pairwise(widths)
        )
        self.last = nn.Conv2d(widths[-1], channels, 3, 1, 1)
        self.to(memory_format=torch.channels_last)

    def forward(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        """Images from latent vectors, **(B, d) -> (B, C, H, W)** in [−1, 1]."""
        x = self.first(latent[:, :, None, None])
        for block in self.blocks:
            x = block(x)
        return self.last(x).float().tanh()


def doubled(before: int, after: int) -> tuple[nn.Upsample, nn.Conv2d]:
    """Layers that repeat every pixel 2×2 and convolve, **(B, before, H, W) -> (B, after, 2H, 2W)**."""
    return nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, 1, 1)
