"""What is minimised: pure functions of energies and samples."""

from jaxtyping import Float
from torch import Tensor

from ebm_zoo.samplers import Energy


def maximum_likelihood(
    energy: Energy,
    positive: Float[Tensor, "b ..."],
    negative: Float[Tensor, "c ..."],
    *context: Tensor,
    penalty: float = 0.0,
) -> Float[Tensor, ""]:
    """Loss whose gradient is that of the negative log-likelihood of an energy-based model.

        ∇_θ −log p_θ = ∇_θ (mean E(x⁺) − mean E(x⁻)),    x⁻ ~ p_θ

    Low energy is pulled to the data and pushed off the samples. The papers write f = −E, so f is raised on data.

    Args:
        energy: E, (B, *) -> (B,), low = likely.
        positive: observed data x⁺, **(B, *)**.
        negative: samples x⁻ of the model, **(C, *)**, without graph.
        context: conditions for the energy.
        penalty: weight α of mean E(x⁺)² + mean E(x⁻)², which keeps the free constant of the energy near zero.

    Returns:
        The loss, a scalar.

    References:
        Xie, Lu, Zhu, Wu. A Theory of Generative ConvNet. 2016. https://arxiv.org/abs/1602.03264
        Du, Mordatch. Implicit Generation and Generalization in Energy-Based Models. 2019 (the penalty).
    """
    high, low = energy(negative.detach(), *context), energy(positive, *context)
    return low.mean() - high.mean() + penalty * (low.square().mean() + high.square().mean())


def teaching(
    generated: Float[Tensor, "b ..."], revised: Float[Tensor, "b ..."], sigma: float = 1.0
) -> Float[Tensor, ""]:
    """Loss of a generator that learns from what MCMC made of its own proposals.

        mean ‖x̃ − g(z)‖² / 2σ²

    Args:
        generated: g(z), **(B, *)**.
        revised: x̃, **(B, *)**, the same proposals after MCMC on the energy; no gradient flows into them.
        sigma: σ, standard deviation of the generator's residual, in the units of the data.

    Returns:
        The loss, a scalar: summed over the entries of a datum, averaged over the batch.

    References:
        Xie, Lu, Gao, Zhu, Wu. Cooperative Training of Descriptor and Generator Networks. 2018.
        https://arxiv.org/abs/1609.09408
    """
    return squared_error(generated, revised.detach()).mean() / (2 * sigma**2)


def squared_error(a: Float[Tensor, "b ..."], b: Float[Tensor, "b ..."]) -> Float[Tensor, " b"]:
    """‖a − b‖² per datum, **(B, *), (B, *) -> (B,)**, in float32."""
    return (a.float() - b.float()).square().flatten(1).sum(1)


def gaussian_divergence(mean: Float[Tensor, "b d"], log_sigma: Float[Tensor, "b d"]) -> Float[Tensor, " b"]:
    """KL(N(μ, diag σ²) ‖ N(0, I)) = Σ (μ² + σ² − 1)/2 − log σ, per datum.

    Args:
        mean: μ, **(B, d)**.
        log_sigma: log σ, **(B, d)**.
    """
    return ((mean.square() + (2 * log_sigma).exp() - 1) / 2 - log_sigma).sum(1)
