"""What cooperative models share: a generator proposes, Langevin dynamics on an energy revises."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError
from ebm_zoo.losses import maximum_likelihood
from ebm_zoo.models.base import EnergyModel, without_batch_norm
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Chains, Noise, Sampler
from ebm_zoo.space import Space


class Cooperative(EnergyModel):
    """An energy as slow teacher of a fast generator, and the generator as the start of the teacher's chains.

        proposed x̂ = g(z, c), z ~ N(0, I);    revised x̃ = MCMC on E(·, c) from x̂
        E learns from data against x̃;    g learns from x̃, in `teach`

    Args:
        energy: E, **(B, *), conditions -> (B,)**, low = likely.
        generator: g, **(B, d), conditions -> (B, *)**; has ``latent_dim``, d.
        space: shape and range of one datum.
        sampler: MCMC that revises.
        optim: Adam settings by network.
        chains: what is revised: fresh drafts (`ShortRun`), or drafts that keep being revised together with the latent
            vectors they came from until they are drawn anew (`Persistent`).
        sample_steps: steps that revise a draft in the tasks; 0 = the sampler's own.
        data_noise: standard deviation of Gaussian noise added to the data in learning, in the data's units.
        penalty: weight of the squared energies, see `ebm_zoo.losses.maximum_likelihood`.
    """

    def __init__(
        self,
        energy: nn.Module,
        generator: nn.Module,
        space: Space,
        sampler: Sampler,
        optim: dict[str, Adam],
        chains: Chains,
        sample_steps: int,
        data_noise: float,
        penalty: float,
    ) -> None:
        super().__init__(space, optim)
        if sample_steps < 0 or data_noise < 0 or penalty < 0:
            raise ConfigError("sample_steps, data_noise and penalty must be 0 or more.")
        if not hasattr(generator, "latent_dim"):
            raise ConfigError(f"The generator, a {type(generator).__name__}, must have latent_dim, the size of z.")
        self.energy, self.generator = without_batch_norm(energy), generator
        self.sampler, self.chains, self.sample_steps = sampler, chains, sample_steps
        self.data_noise, self.penalty = data_noise, penalty

    @property
    def chain_length(self) -> int:
        """Steps that revise a fresh draft."""
        return self.sample_steps or self.sampler.steps

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """One iteration: propose, revise, shift the energy to the data, let the generator learn the revision."""
        x, *conditions = self.observed(batch)
        size = self._latent_dim
        states = self.chains.start(x.new_empty(len(x), size + x[0].numel()), Drafts(self, conditions))
        latent, proposed = states[:, :size], states[:, size:].unflatten(1, x.shape[1:])
        revised = self.sampler(self.energy, proposed, *conditions)
        self.chains.finish(torch.cat([latent, revised.flatten(1)], 1))
        self.contrasts = {"energy": (x, revised)}
        taught = self.teach(latent, revised, x, *conditions)
        positive = x + self.data_noise * torch.randn_like(x)
        shift = maximum_likelihood(self.energy, positive, revised, *conditions, penalty=self.penalty)
        return {"energy": shift, **taught}

    @abstractmethod
    def teach(self, latent: Tensor, revised: Tensor, x: Tensor, *conditions: Tensor) -> dict[str, Tensor]:
        """Losses of the networks that learn from the revised proposals.

        Args:
            latent: z of the proposals, **(B, d)**.
            revised: x̃, **(B, *)**.
            x: the data, **(B, *)**.
            conditions: what they belong to.
        """

    def latent(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw z ~ N(0, I), **(n, d)**."""
        return torch.empty(n, self._latent_dim, device=self.device).normal_(generator=generator)

    @property
    def _latent_dim(self) -> int:
        network: Any = self.generator  # nn.Module hides the type of its attributes
        return network.latent_dim

    @torch.no_grad()
    def propose(self, latent: Tensor, *conditions: Tensor) -> Tensor:
        """Drafts g(z, c), **(B, d), conditions -> (B, *)**, inside the range of ``space``."""
        drafts = self.generator(latent, *conditions).float().clamp(self.space.low, self.space.high)
        # Before torch 2.11, autocast takes weights that it cast here, without a gradient, for the generator's learning.
        torch.clear_autocast_cache()
        return drafts

    def revise(self, x: Tensor, *conditions: Tensor, steps: int | None = None, **settings: Any) -> Tensor:
        """Move images along MCMC on the energy, **(B, *) -> (B, *)**.

        Args:
            x: images.
            conditions: what they belong to.
            steps: length of the chains; `chain_length` unless given.
            settings: free, generator and on_step, as for a `Sampler`.
        """
        steps = self.chain_length if steps is None else steps
        return self.sampler(self.energy, x, *conditions, steps=steps, **settings)

    def answers(self, n: int, *conditions: Tensor) -> dict[str, Tensor]:
        """Drafts and what revision makes of them."""
        drafts = self.propose(self.latent(n), *conditions)
        return {"drafts": drafts, "samples": self.revise(drafts, *conditions)}


class Drafts(Noise):
    """Fresh latent vectors beside their drafts, one row (z, g(z, c)) per chain, **(B, d + …)**.

    Args:
        model: draws and drafts.
        conditions: what the drafts belong to.
    """

    def __init__(self, model: Cooperative, conditions: Sequence[Tensor]) -> None:
        self.model, self.conditions = model, conditions

    def __call__(self, like, generator=None):
        """Draw; see `Noise`."""
        latent = self.model.latent(len(like), generator)
        return torch.cat([latent, self.model.propose(latent, *self.conditions).flatten(1)], 1)

    def centre(self, like):
        """The draft of the mean latent vector; see `Noise`."""
        latent = torch.zeros_like(self.model.latent(1))
        return torch.cat([latent, self.model.propose(latent).flatten(1)], 1)
