"""Energies of latent vectors, and output models: what is drawn given a latent vector."""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError


class LatentEnergy(nn.Module):
    """Energy of latent vectors, the learned part of a prior.

        f(z) = W_L act(… act(W_1 z + b_1) …) + b_L

    Args:
        latent_dim: d, entries of z.
        widths: entries of the hidden layers.
        activation: between layers; GELU unless given.

    Raises:
        ConfigError: if a size is below 1.

    References:
        Pang, Han, Nijkamp, Zhu, Wu. Learning Latent Space Energy-Based Prior Model. 2020.
        https://arxiv.org/abs/2006.08205

    Notes:
        It stays in float32 under mixed precision: a network so small gains nothing, and what is learned is the
        difference of two means that lie close together.
    """

    def __init__(
        self, latent_dim: int, widths: tuple[int, ...] = (200, 200), activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        if min(latent_dim, *widths, 1) < 1:
            raise ConfigError(f"latent_dim and widths must be 1 or more, not {latent_dim} and {list(widths)}.")
        self.latent_dim, self.widths = latent_dim, tuple(widths)
        self.activation = activation if activation is not None else nn.GELU()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((latent_dim, *widths, 1)))

    def forward(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
        """Energies, **(B, d) -> (B,)**."""
        with torch.autocast(latent.device.type, enabled=False):
            x = latent.float()
            for layer in self.layers[:-1]:
                x = self.activation(layer(x))
            return self.layers[-1](x).squeeze(1)


class GaussianOutput(nn.Module):
    """Images with independent Gaussian noise, p(x | z) = N(g(z), σ² I).

    Args:
        generator: g, **(B, d) -> (B, *)**; has ``latent_dim``, d.
        sigma: σ, in the units of the data.

    Raises:
        ConfigError: if the generator has no latent_dim, or sigma is not above 0.
    """

    def __init__(self, generator: nn.Module, sigma: float = 0.3) -> None:
        super().__init__()
        if not sigma > 0:
            raise ConfigError(f"sigma must be above 0, not {sigma}.")
        if not hasattr(generator, "latent_dim"):
            raise ConfigError(f"The generator, a {type(generator).__name__}, must have latent_dim, the size of z.")
        known: Any = generator.latent_dim
        self.generator, self.sigma, self.latent_dim = generator, sigma, int(known)

    def forward(self, latent: Float[Tensor, "b d"]) -> Float[Tensor, "b ..."]:
        """Means g(z), **(B, d) -> (B, *)**."""
        return self.generator(latent).float()

    def misfit(
        self, latent: Float[Tensor, "b d"], x: Float[Tensor, "b ..."], known: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, " b"]:
        """−log p(x | z) of the known entries, up to a constant: ‖m (x − g(z))‖² / 2σ².

        Args:
            latent: z, **(B, d)**.
            x: data, **(B, *)**.
            known: mask m, broadcastable to ``x``; all are known unless given.

        Returns:
            One value per datum, **(B,)**.
        """
        residual = x.float() - self(latent)
        if known is not None:
            residual = residual * known
        return residual.square().flatten(1).sum(1) / (2 * self.sigma**2)

    def draw(self, latent: Float[Tensor, "b d"], generator: torch.Generator | None = None) -> Float[Tensor, "b ..."]:
        """Images of z: the means, as papers show, without the noise of p(x | z).

        Args:
            latent: z, **(B, d)**.
            generator: not needed here; output models that draw at random take their randomness from it.
        """
        return self(latent)
