"""CoopFlow: a normalizing flow drafts, a Langevin flow revises, and each learns from the other."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError
from ebm_zoo.models.cooperative import Cooperative
from ebm_zoo.models.flow import FlowTasks, require_flow
from ebm_zoo.models.latent import LatentTasks, candidates, posterior_mode, start_of_run
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Chains, Langevin, Sampler
from ebm_zoo.space import Space

SIGMA = 0.3
"""Standard deviation that `infer` allows between known pixels and those of a draft."""


class CoopFlow(FlowTasks, LatentTasks, Cooperative):
    """Two flows toward one energy: a normalizing flow drafts in one pass, a Langevin flow takes the last steps.

        x̂ = g(z), z ~ N(0, I);    x̃ = x̂ after K steps x ← x − δ²/2 ∇E(x), each entry's move limited, no noise
        ∇_E = mean ∇E(x) − mean ∇E(x̃);    ∇_g = −mean ∇ log q(x̃)

    The flow learns the revised images by maximum likelihood, so it needs no latent vector of theirs. Both flows
    together are one deterministic map of z, which `reconstruct` and `interpolate` invert. The paper's variants are
    numbers: "Pre" starts from a flow trained alone (`NormalizingFlow`, `ebm_zoo.callbacks.InitialWeights`), "Long"
    has more steps.

    Args:
        energy: E, **(B, C, H, W) -> (B,)**, low = likely.
        generator: g, a flow, see `ebm_zoo.networks.FlowPlusPlus`.
        space: shape of the images, range [−1, 1].
        sampler: the Langevin flow: Langevin dynamics without noise.
        optim: Adam settings for ``energy`` and ``generator``.
        chains: what is revised, see `Cooperative`: fresh drafts in the paper, `ShortRun`.
        sample_steps: steps that revise a draft in the tasks; 0 = the sampler's own.
        data_noise: standard deviation of Gaussian noise added to the data in learning.
        penalty: weight of the squared energies, see `ebm_zoo.losses.maximum_likelihood`.

    Raises:
        ConfigError: if the generator is no flow, does not fit the space, or the sampler adds noise.

    References:
        Xie, Zhu, Li, Li. A Tale of Two Flows: Cooperative Learning of Langevin Flow and Normalizing Flow Toward
        Energy-Based Model. 2022. https://arxiv.org/abs/2205.06924

    Notes:
        The official code initialises the flow's normalisations with running means over 200 batches, here one pass
        over 512 training images does it. It begins `invert` at a draft; here it begins at the image, which is the
        draft of a known z because the flow is invertible.
    """

    tasks = ("sample", "energy", "log_prob", "inpaint", "interpolate", "reconstruct")
    flow_name = "generator"

    def __init__(
        self,
        energy: nn.Module,
        generator: nn.Module,
        space: Space,
        sampler: Sampler,
        optim: dict[str, Adam],
        chains: Chains,
        sample_steps: int = 0,
        data_noise: float = 0.0,
        penalty: float = 0.0,
    ) -> None:
        require_flow(generator, space)
        super().__init__(energy, generator, space, sampler, optim, chains, sample_steps, data_noise, penalty)
        if not isinstance(sampler, Langevin) or sampler.noise_scale not in (0, (0, 0)):
            raise ConfigError(f"CoopFlow needs Langevin dynamics with noise_scale 0, a Langevin flow, not {sampler}.")

    def teach(self, latent: Tensor, revised: Tensor, x: Tensor, *conditions: Tensor) -> dict[str, Tensor]:
        """Negative log-likelihood of the revised images under the flow, in nats per image."""
        return {"generator": -self._flow.log_prob(revised.detach()).mean()}

    def infer(self, x: Tensor, known: Tensor, **settings: Any) -> Tensor:
        """Most probable z of images of which a part is known, sought from the nearest draft; see `LatentTasks`."""
        start = candidates(self._latent_dim, x.device)
        return posterior_mode(self.generator, x, known, start, SIGMA, **settings)

    def invert(self, x: Tensor, **settings: Any) -> Tensor:
        """Find the drafts that the Langevin flow M turns into images, argmin ‖x − M(x0)‖², **(B, *) -> (B, *)**.

        Args:
            x: images.
            settings: iterations, lr and progress, as for `infer`.
        """
        flow: Any = self.sampler
        run = partial(flow.unrolled, self.energy, steps=self.chain_length)
        return start_of_run(run, self.space.check(x), bounds=(self.space.low, self.space.high), **settings)

    @torch.no_grad()
    def _infer_all(self, x: Tensor, **settings: Any) -> Tensor:
        return self._flow.latent_of(self.invert(x, **settings))
