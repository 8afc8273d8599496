"""Reference distributions as wrappers around an energy."""

from jaxtyping import Float
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError


class GaussianReference(nn.Module):
    """Tilt a Gaussian by an energy: p(x) ∝ exp(−E_net(x)) N(x; 0, σ²I).

        E(x) = E_net(x) + ‖x‖² / 2σ²

    Args:
        network: E_net = −f, (B, *) -> (B,).
        sigma: σ, in the units of the data: the ratio of the data range to σ sets how strongly the reference pulls
            to zero.

    Raises:
        ConfigError: unless sigma is positive.

    References:
        Xie, Lu, Zhu, Wu. A Theory of Generative ConvNet. 2016. https://arxiv.org/abs/1602.03264
    """

    def __init__(self, network: nn.Module, sigma: float = 1.0) -> None:
        super().__init__()
        if not sigma > 0:
            raise ConfigError(f"The reference needs sigma > 0, not {sigma}.")
        self.network, self.sigma = network, sigma

    def forward(self, x: Float[Tensor, "b ..."], *context: Tensor) -> Float[Tensor, " b"]:
        """Energies, **(B, *)** -> **(B,)**."""
        return self.network(x, *context) + x.flatten(1).square().sum(1) / (2 * self.sigma**2)
