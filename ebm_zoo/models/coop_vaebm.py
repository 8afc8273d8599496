"""CoopVAEBM: variational MCMC teaching, a variational auto-encoder as the fast student of an energy."""

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError
from ebm_zoo.losses import gaussian_divergence, squared_error
from ebm_zoo.models.cooperative import Cooperative
from ebm_zoo.models.latent import LatentTasks, candidates, posterior_mode
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Chains, Sampler
from ebm_zoo.space import Space


class CoopVAEBM(LatentTasks, Cooperative):
    """CoopNets whose generator learns the revised images as a variational auto-encoder.

        x̃ = MCMC on E from g(z), z ~ N(0, I);    ẑ = μ(x̃) + σ(x̃) ε
        minimise ‖x̃ − g(ẑ)‖² / 2s² + β KL(q(z | x̃) ‖ N(0, I)) over generator and encoder

    The encoder infers z in one pass where CoopNets would run Langevin dynamics on z.

    Args:
        energy: E, **(B, C, H, W) -> (B,)**, low = likely.
        generator: g, **(B, d) -> (B, C, H, W)**; has ``latent_dim``, d.
        encoder: q(z | x) = N(μ, diag σ²), **(B, C, H, W) -> (B, 2d)**: μ, log σ.
        space: shape and range of the images.
        sampler: Langevin dynamics that revise.
        optim: Adam settings for ``energy``, ``generator`` and ``encoder``.
        chains: what is revised, see `Cooperative`: fresh drafts in the paper, `ShortRun`.
        sigma: s, standard deviation of the generator's residual.
        divergence_weight: β, weight of the divergence.
        sample_steps: steps that revise a draft in the tasks; 0 = the sampler's own.
        data_noise: standard deviation of Gaussian noise added to the data in learning.
        penalty: weight of the squared energies, see `ebm_zoo.losses.maximum_likelihood`.

    References:
        Xie, Zheng, Li. Learning Energy-Based Model with Variational Auto-Encoder as Amortized Sampler. 2021.
        https://arxiv.org/abs/2012.14936

    Notes:
        The official code weighs the divergence by 2 or 3 beside a plain sum of squared errors, that is s² = 1/2.
    """

    tasks = ("sample", "energy", "inpaint", "interpolate", "reconstruct", "encode")

    def __init__(
        self,
        energy: nn.Module,
        generator: nn.Module,
        encoder: nn.Module,
        space: Space,
        sampler: Sampler,
        optim: dict[str, Adam],
        chains: Chains,
        sigma: float = 0.3,
        divergence_weight: float = 1.0,
        sample_steps: int = 0,
        data_noise: float = 0.0,
        penalty: float = 0.0,
    ) -> None:
        super().__init__(energy, generator, space, sampler, optim, chains, sample_steps, data_noise, penalty)
        if not sigma > 0 or divergence_weight < 0:
            raise ConfigError("sigma must be above 0 and divergence_weight 0 or more.")
        self.encoder, self.sigma, self.divergence_weight = encoder, sigma, divergence_weight

    def teach(self, latent: Tensor, revised: Tensor, x: Tensor, *conditions: Tensor) -> dict[str, Tensor]:
        """Negative evidence bound of the revised images."""
        mean, log_sigma = self.encoder(revised).float().chunk(2, 1)
        inferred = mean + log_sigma.exp() * torch.randn_like(mean)
        misfit = squared_error(self.generator(inferred), revised) / (2 * self.sigma**2)
        return {"vae": (misfit + self.divergence_weight * gaussian_divergence(mean, log_sigma)).mean()}

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Mean of q(z | x), **(B, C, H, W) -> (B, d)**."""
        return self.encoder(self.space.check(x)).float().chunk(2, 1)[0]

    def infer(self, x: Tensor, known: Tensor, **settings) -> Tensor:
        """Most probable z of images, sought from the encoder's; see `LatentTasks`."""
        start = candidates(self._latent_dim, x.device)
        return posterior_mode(self.generator, x, known, start, self.sigma, guess=self.encode(x), **settings)
