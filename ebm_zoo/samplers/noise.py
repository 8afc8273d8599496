"""Where a fresh chain begins: distributions of noise images."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError


class Noise(ABC):
    """A distribution p0 that is easy to draw from."""

    @abstractmethod
    def __call__(self, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw.

        Args:
            like: template, **(B, *)**; only its shape, type and device count.
            generator: source of randomness.

        Returns:
            One draw per row, **(B, *)**.
        """

    @abstractmethod
    def centre(self, like: Tensor) -> Tensor:
        """Mean of p0, broadcastable to ``like``, **(B, *)**."""

    def fit(self, batches: Iterable[Tensor]) -> None:  # most noise has nothing to learn
        """Estimate p0 from batches of data, **(B, *)** each, before learning starts."""


@dataclass(frozen=True)
class Uniform(Noise):
    """Independent uniform entries, U(low, high).

    Args:
        low: lower end.
        high: upper end.

    Raises:
        ConfigError: unless low < high.
    """

    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ConfigError(f"Uniform noise needs low < high, not {self.low}, {self.high}.")

    def __call__(self, like, generator=None):
        """Draw; see `Noise`."""
        return torch.empty_like(like).uniform_(self.low, self.high, generator=generator)

    def centre(self, like):
        """Midpoint; see `Noise`."""
        return torch.full_like(like[:1], (self.low + self.high) / 2)


@dataclass(frozen=True)
class Gaussian(Noise):
    """Independent normal entries, N(mean, sigma²).

    Args:
        sigma: standard deviation; 0 starts every chain at the mean.
        mean: mean of every entry.

    Raises:
        ConfigError: if sigma is negative.
    """

    sigma: float = 1.0
    mean: float = 0.0

    def __post_init__(self) -> None:
        if not self.sigma >= 0:
            raise ConfigError(f"Gaussian noise needs sigma >= 0, not {self.sigma}.")

    def __call__(self, like, generator=None):
        """Draw; see `Noise`."""
        return torch.empty_like(like).normal_(self.mean, self.sigma, generator=generator)

    def centre(self, like):
        """The mean; see `Noise`."""
        return torch.full_like(like[:1], self.mean)


class FittedGaussian(Noise, nn.Module):
    """A Gaussian fitted to the data, clipped to their range: chains begin with the right pixel statistics.

        x0 = clip(μ + F ε₁ + s ε₂),    F Fᵀ the leading covariance, s² the variance it leaves out

    It saves the steps that chains spend on finding the mean image, and holds no image of the data set. Its mean
    and factors belong to the weights: a model samples from the start it learned with.

    Args:
        shape: shape of one datum, at most 4,096 entries in all.
        rank: number of covariance directions kept.
        low: lower clip.
        high: upper clip.

    Raises:
        ConfigError: if the shape is too large or the rank is larger than it.

    References:
        Yang, Su, Ji. JEM++: Improved Techniques for Training JEM. 2021. https://arxiv.org/abs/2109.09032
        (informative start, there a mixture over labels; here no label is used).
    """

    mean: Tensor
    factor: Tensor
    rest: Tensor

    def __init__(self, shape: tuple[int, ...], rank: int, low: float = -1.0, high: float = 1.0) -> None:
        nn.Module.__init__(self)
        size = math.prod(shape)
        if not 0 < rank <= size <= 4096:
            raise ConfigError(f"FittedGaussian needs 0 < rank <= entries <= 4096, not rank {rank}, {size} entries.")
        self.shape, self.rank, self.low, self.high = tuple(shape), rank, low, high
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("factor", torch.zeros(size, rank))
        self.register_buffer("rest", torch.zeros(size))

    def __call__(self, like, generator=None):
        """Draw; see `Noise`."""
        if tuple(like.shape[1:]) != self.shape:
            raise ConfigError(
                f"Noise fitted to data of shape {self.shape} has no other, such as {tuple(like.shape[1:])}."
            )
        common = torch.empty(len(like), self.rank, device=like.device).normal_(generator=generator)
        own = torch.empty(len(like), len(self.mean), device=like.device).normal_(generator=generator)
        x = self.mean + common @ self.factor.float().T + self.rest * own
        return x.clamp(self.low, self.high).view(len(like), *self.shape).to(like.dtype)

    def centre(self, like):
        """μ; see `Noise`."""
        return self.mean.view(1, *self.shape).to(like.dtype)

    @torch.no_grad()
    def fit(self, batches):
        """Estimate μ, F and s from batches **(B, *)**, unless they are known already."""
        if self.rest.any() or self.factor.any():
            return
        size, device = len(self.mean), self.mean.device
        count = 0
        first, second = (torch.zeros(n, dtype=torch.float64, device=device) for n in ((size,), (size, size)))
        for batch in batches:
            rows = batch.flatten(1).double()
            if rows.shape[1] != size:
                raise ConfigError(f"FittedGaussian of shape {self.shape} cannot be fitted to {tuple(batch.shape)}.")
            count, first, second = count + len(rows), first + rows.sum(0), second + rows.T @ rows
        if count < 2:
            raise ConfigError(f"FittedGaussian needs 2 or more data to be fitted, not {count}.")
        mean = first / count
        values, vectors = torch.linalg.eigh(second / count - torch.outer(mean, mean))
        factor = vectors[:, -self.rank :] * values[-self.rank :].clamp(min=0).sqrt()
        rest = (second.diagonal() / count - mean.square() - factor.square().sum(1)).clamp(min=0).sqrt()
        for buffer, value in ((self.mean, mean), (self.factor, factor), (self.rest, rest)):
            buffer.copy_(value.to(device))
