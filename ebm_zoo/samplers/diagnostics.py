"""Have the chains converged, and how much are their draws worth?"""

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_zoo.errors import ConfigError


def split_r_hat(chains: Float[Tensor, "c t"]) -> Float[Tensor, ""]:
    """Split R-hat of a scalar quantity: spread between half-chains against spread within.

        R̂ = sqrt(((n−1)/n W + B/n) / W)

    over 2C half-chains of n draws, W the mean of their variances and B n times the variance of their means.
    Near 1 when the chains have forgotten their starts; above 1.01 they have not.

    Args:
        chains: draws of C chains over T >= 4 steps, **(C, T)**, for instance energies.

    Returns:
        R̂, a scalar.

    Raises:
        ConfigError: with fewer than four draws per chain.

    References:
        Vehtari, Gelman, Simpson, Carpenter, Bürkner. Rank-normalization, folding, and localization: An improved
        R-hat. 2021. https://arxiv.org/abs/1903.08008 (equations 1 to 4).
    """
    within, pooled, _ = _variances(_halves(chains))
    return (pooled / within).sqrt()


def effective_sample_size(chains: Float[Tensor, "c t"]) -> Float[Tensor, ""]:
    """Number of independent draws that C correlated chains are worth for the mean of a scalar quantity.

        ESS = C T / (1 + 2 Σ ρ_t),    ρ_t = 1 − (W − mean autocovariance at lag t) / pooled variance

    summed by Geyer's rule: over pairs of lags, made non-increasing, until a pair turns negative.

    Args:
        chains: draws of C chains over T >= 4 steps, **(C, T)**.

    Returns:
        ESS, a scalar.

    Raises:
        ConfigError: with fewer than four draws per chain.

    References:
        Vehtari et al. 2021 (equations 10 and 11). Geyer. Practical Markov Chain Monte Carlo. 1992.
    """
    chains = _halves(chains)
    within, pooled, centred = _variances(chains)
    count, length = chains.shape
    spectrum = torch.fft.rfft(centred, n=2 * length)
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * length)[:, :length] / length
    rho = 1 - (within - covariance.mean(0) * length / (length - 1)) / pooled
    rho[0] = 1.0
    pairs = rho[: length // 2 * 2].view(-1, 2).sum(1)
    negative = (pairs < 0).nonzero()
    stop = int(negative[0]) if len(negative) else len(pairs)
    time = -1 + 2 * pairs[:stop].cummin(0).values.sum()
    return count * length / time


def _halves(chains: Tensor) -> Tensor:
    if chains.shape[1] < 4:
        raise ConfigError(f"Diagnostics need 4 or more draws per chain, not {chains.shape[1]}.")
    half = chains.shape[1] // 2
    return torch.cat([chains[:, :half], chains[:, -half:]]).double()


def _variances(chains: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    length = chains.shape[1]
    means = chains.mean(1)
    within = chains.var(1).mean()
    pooled = (length - 1) / length * within + means.var()
    return within, pooled, chains - means[:, None]
