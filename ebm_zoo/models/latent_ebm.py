"""LatentEBM: a prior on latent vectors that is learned as an energy."""

from torch import Tensor, nn

from ebm_zoo.errors import ConfigError
from ebm_zoo.losses import maximum_likelihood
from ebm_zoo.models.base import without_batch_norm
from ebm_zoo.models.latent_variable import LatentVariableModel
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Chains, Gaussian, Langevin, ShortRun
from ebm_zoo.samplers.base import at_step
from ebm_zoo.space import Space, TokenSpace


class LatentEBM(LatentVariableModel):
    """An energy corrects the prior N(0, I) of a generator; both chains are short runs in latent space.

        E(z) = f(z) + ‖z‖²/2;    z⁻ = Langevin on E,    z⁺ = Langevin on E(z) − log p(x | z), both from N(0, I)
        ∇_f = mean ∇f(z⁺) − mean ∇f(z⁻);    ∇_g = mean ∇(−log p(x | z⁺))

    The prior learns to draw what inference finds, the generator is relieved of fitting every z of N(0, I) to the data.
    Latent vectors are small, so chains cost little beside one pass of the generator.

    Args:
        prior: f, **(B, d) -> (B,)**, low = likely; has ``latent_dim``, d, see `ebm_zoo.networks.LatentEnergy`.
        generator: output model p(x | z), see `LatentVariableModel`.
        space: shape and range of the data, or the tokens they are made of.
        prior_langevin: Langevin dynamics on E.
        posterior_langevin: Langevin dynamics of an inference in learning.
        optim: Adam settings for ``prior`` and ``generator``.
        infer_steps: steps of an inference in the tasks; 0 = as in learning.
        penalty: weight of the squared f, see `ebm_zoo.losses.maximum_likelihood`.
        prior_chains: start and memory of the prior's chains in learning; without, all begin at N(0, I), as in the
            paper. Short runs learn to draw, `Persistent` chains a density, which E as a score of z needs.
        sample_steps: length of a chain from N(0, I) in `latent` and `sample`; 0 = as in learning.

    Raises:
        ConfigError: if a number is out of its range, or prior and generator have latent vectors of two sizes.

    References:
        Pang, Han, Nijkamp, Zhu, Wu. Learning Latent Space Energy-Based Prior Model. 2020.
        https://arxiv.org/abs/2006.08205

    Notes:
        With a ``noise_scale`` σ in both chains the temperature is T = σ²: the prior is exp(−E / T), and inference
        counts −log p(x | z) 1/T times.

        The official code leaves 1/2σ² out of the generator's loss, which Adam makes the same up to its epsilon; and it
        has no penalty.
    """

    def __init__(
        self,
        prior: nn.Module,
        generator: nn.Module,
        space: Space | TokenSpace,
        prior_langevin: Langevin,
        posterior_langevin: Langevin,
        optim: dict[str, Adam],
        infer_steps: int = 0,
        penalty: float = 0.0,
        prior_chains: Chains | None = None,
        sample_steps: int = 0,
    ) -> None:
        super().__init__(generator, space, posterior_langevin, optim, infer_steps)
        if penalty < 0 or sample_steps < 0:
            raise ConfigError("penalty and sample_steps must be 0 or more.")
        self.prior, self.prior_langevin, self.penalty = without_batch_norm(prior), prior_langevin, penalty
        self.prior_chains, self.sample_steps = prior_chains or ShortRun(), sample_steps
        sizes = [getattr(network, "latent_dim", None) for network in (prior, generator)]
        if sizes[0] != sizes[1]:
            raise ConfigError(f"The prior's latent_dim is {sizes[0]}, the generator's {sizes[1]}: they must agree.")

    @property
    def chain_length(self) -> int:
        """Steps of a chain on the prior."""
        return self.sample_steps or self.prior_langevin.steps

    @property
    def temperature(self) -> float:
        """T = σ² of the prior's chains, at their end."""
        chains = self.prior_langevin
        return at_step(chains.noise_scale, chains.steps - 1, chains.steps) ** 2

    def prior_energy(self, latent: Tensor) -> Tensor:
        """E(z) = f(z) + ‖z‖²/2, **(B, d) -> (B,)**."""
        return self.prior(latent) + latent.square().sum(1) / 2

    def latent(self, n, *, steps=None, generator=None, **settings):
        """Draw z by Langevin dynamics on E from N(0, I), **(n, d)**; see `LatentVariableModel`."""
        start, length = self._normal(n, generator), self.chain_length if steps is None else steps
        return self.prior_langevin(self.prior_energy, start, steps=length, generator=generator, **settings)

    def learn_prior(self, latent: Tensor) -> dict[str, Tensor]:
        """Raise the energy of what the prior draws, lower that of what was inferred."""
        drawn = self.prior_langevin(self.prior_energy, self.prior_chains.start(latent, Gaussian()))
        self.prior_chains.finish(drawn)
        return {"prior": maximum_likelihood(self.prior, latent, drawn, penalty=self.penalty)}
