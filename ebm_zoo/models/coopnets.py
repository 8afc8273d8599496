"""CoopNets: an energy-based model and a generator that train each other by MCMC teaching."""

from torch import Tensor, nn

from ebm_zoo.errors import ConfigError
from ebm_zoo.losses import squared_error, teaching
from ebm_zoo.models.cooperative import Cooperative
from ebm_zoo.models.latent import LatentTasks, candidates, posterior_mode
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Chains, Langevin, Sampler
from ebm_zoo.space import Space


class CoopNets(LatentTasks, Cooperative):
    """A generator drafts, Langevin dynamics revises, and each learns from the other's work.

        x̂ = g(z), z ~ N(0, I);    x̃ = Langevin on E from x̂
        ∇_E = mean ∇E(x) − mean ∇E(x̃);    ∇_g = mean ∇‖x̃ − g(z)‖² / 2σ²

    The generator jump-starts the chains, and accumulates in its weights the transitions they made. With
    ``latent_langevin`` of more than 0 steps the z of a revised image is inferred, starting at the one it was
    drafted from: the rigorous variant. With 0 steps z is kept: the jump-start variant.

    Args:
        energy: E, **(B, C, H, W) -> (B,)**, low = likely.
        generator: g, **(B, d) -> (B, C, H, W)**; has ``latent_dim``, d.
        space: shape and range of the images.
        sampler: Langevin dynamics that revise.
        optim: Adam settings for ``energy`` and ``generator``.
        chains: what is revised, see `Cooperative`: fresh drafts in the paper, `ShortRun`.
        latent_langevin: Langevin dynamics on z given x̃, on ‖z‖²/2 + ‖x̃ − g(z)‖²/2σ².
        sigma: σ, standard deviation of the generator's residual.
        sample_steps: steps that revise a draft in the tasks; 0 = the sampler's own.
        data_noise: standard deviation of Gaussian noise added to the data in learning.
        penalty: weight of the squared energies, see `ebm_zoo.losses.maximum_likelihood`.

    References:
        Xie, Lu, Gao, Zhu, Wu. Cooperative Training of Descriptor and Generator Networks. 2018.
        https://arxiv.org/abs/1609.09408

    Notes:
        The official code runs 144 chains beside batches of 100: ``ShortRun(count=144)``. Chains that live on
        (`Persistent`) are not in the paper.
    """

    tasks = ("sample", "energy", "inpaint", "interpolate", "reconstruct")

    def __init__(
        self,
        energy: nn.Module,
        generator: nn.Module,
        space: Space,
        sampler: Sampler,
        optim: dict[str, Adam],
        chains: Chains,
        latent_langevin: Langevin = Langevin(steps=0, step_size=0.1),  # noqa: B008 - frozen
        sigma: float = 0.3,
        sample_steps: int = 0,
        data_noise: float = 0.0,
        penalty: float = 0.0,
    ) -> None:
        super().__init__(energy, generator, space, sampler, optim, chains, sample_steps, data_noise, penalty)
        if not sigma > 0:
            raise ConfigError(f"sigma must be above 0, not {sigma}.")
        self.latent_langevin, self.sigma = latent_langevin, sigma

    def teach(self, latent: Tensor, revised: Tensor, x: Tensor, *conditions: Tensor) -> dict[str, Tensor]:
        """MCMC teaching: regress g(z) on the revised image."""
        inferred = self.latent_langevin(self.posterior, latent, revised)
        return {"generator": teaching(self.generator(inferred), revised, self.sigma)}

    def posterior(self, latent: Tensor, x: Tensor) -> Tensor:
        """−log p(z | x) up to a constant, ‖z‖²/2 + ‖x − g(z)‖²/2σ², **(B, d), (B, *) -> (B,)**."""
        misfit = squared_error(self.generator(latent), x) / (2 * self.sigma**2)
        return latent.square().sum(1) / 2 + misfit

    def infer(self, x: Tensor, known: Tensor, **settings) -> Tensor:
        """Most probable z of images; see `LatentTasks`."""
        start = candidates(self._latent_dim, x.device)
        return posterior_mode(self.generator, x, known, start, self.sigma, **settings)
