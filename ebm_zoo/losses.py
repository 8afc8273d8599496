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
