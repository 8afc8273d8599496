"""Likelihoods of models with a latent vector, by importance sampling."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Potential = Callable[[Tensor], Tensor]
"""U, **(B, d) -> (B,)**, one value per row: minus the logarithm of what is integrated over z."""
LEAST_PRECISION = 0.5


def laplace_proposal(
    potential: Potential, start: Float[Tensor, "b d"], *, iterations: int = 100, lr: float = 0.05
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d d"]]:
    """A Gaussian around the lowest point of each row's potential: N(ẑ, A Aᵀ), A Aᵀ = (∇²U(ẑ))⁻¹.

    ẑ is searched by Adam. Curvatures below `LEAST_PRECISION` are raised to it.

    Args:
        potential: U; a row's value must depend on that row alone.
        start: where the search begins, **(B, d)**.
        iterations: steps of the search.
        lr: Adam's learning rate.

    Returns:
        Means ẑ, **(B, d)**, and factors A, **(B, d, d)**.
    """
    with torch.inference_mode(False), torch.enable_grad():
        z = start.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=lr)
        for _ in range(iterations):
            (z.grad,) = torch.autograd.grad(potential(z).sum(), z)
            optimizer.step()
        (slope,) = torch.autograd.grad(potential(z).sum(), z, create_graph=True)
        rows = [torch.autograd.grad(column.sum(), z, retain_graph=True)[0] for column in slope.unbind(1)]
    hessian = torch.stack(rows, 1).double()
    curvature, directions = torch.linalg.eigh((hessian + hessian.mT) / 2)
    scale = curvature.clamp(min=LEAST_PRECISION).rsqrt()
    return z.detach(), (directions * scale[:, None]).to(z.dtype)


@torch.no_grad()
def log_weights(
    potential: Potential,
    mean: Float[Tensor, "b d"],
    factor: Float[Tensor, "b d d"],
    draws: int,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "k b"]:
    """Logarithms of importance weights, whose mean estimates ∫ exp(−U(z)) dz / (2π)^{d/2} without bias.

        z_k = μ + A ε_k, ε_k ~ N(0, I);    log w_k = ‖ε_k‖²/2 + log |det A| − U(z_k)

    Args:
        potential: U.
        mean: μ of the proposal, **(B, d)**.
        factor: A of the proposal, **(B, d, d)**.
        draws: K.
        generator: source of randomness.

    Returns:
        log w, **(K, B)**.
    """
    volume, found = torch.linalg.slogdet(factor)[1], []
    for _ in range(draws):
        noise = torch.empty_like(mean).normal_(generator=generator)
        z = mean + (factor @ noise[:, :, None])[:, :, 0]
        found.append(noise.square().sum(1) / 2 + volume - potential(z))
    return torch.stack(found)


def importance_bound(log_weights: Float[Tensor, "k *b"]) -> Float[Tensor, "*b"]:
    """log (1/K) Σ_k w_k: in expectation at most the logarithm of the integral, and closer to it the larger K is.

    Args:
        log_weights: log w, **(K, *)**.

    References:
        Burda, Grosse, Salakhutdinov. Importance Weighted Autoencoders. 2015. https://arxiv.org/abs/1509.00519
    """
    return log_weights.logsumexp(0) - math.log(len(log_weights))


def log_normaliser(log_weights: Float[Tensor, " k"]) -> tuple[float, float]:
    """A normalising constant that is not too small: log of the mean weight, raised by three standard errors.

    What divides a likelihood must not be underestimated, or the likelihood's bound is none.

    Args:
        log_weights: log w of independent draws, **(K,)**.

    Returns:
        log Z, and the effective number of draws, (Σ w)² / Σ w²; of a few hundreds or less, log Z is not to be trusted.
    """
    log_weights = log_weights.double()
    effective = (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp().item()
    error = math.sqrt(max(1 / effective - 1 / len(log_weights), 0.0))
    return importance_bound(log_weights).item() + math.log1p(3 * error), effective
