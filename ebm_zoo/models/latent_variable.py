"""What models of a latent vector share: inference by Langevin dynamics, learning from what it finds, tasks."""

from abc import abstractmethod
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.models.base import EnergyModel, without_batch_norm
from ebm_zoo.models.batches import alone
from ebm_zoo.models.latent import Path, spherical, walk
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Gaussian, Hook, Langevin, WarmStart
from ebm_zoo.space import Space, TokenSpace


class LatentVariableModel(EnergyModel):
    """Data drawn given a latent vector, p(x, z) ∝ exp(−E(z) / T) p(x | z); z is inferred by Langevin dynamics.

        z⁺ = Langevin on E(z) − log p(x | z);    ∇ = mean ∇(−log p(x | z⁺))

    A batch is data, **(B, *)**, or data, a mask of what is known of them (bool, broadcastable) and the index of
    each, **(B,)**. What is not known enters neither inference nor learning.

    Args:
        generator: output model p(x | z): ``latent_dim``, ``forward(z)``, ``misfit(z, x, known)`` and ``draw(z)``, see
            `ebm_zoo.networks.GaussianOutput`.
        space: shape and range of the data, or the tokens they are made of.
        posterior_langevin: Langevin dynamics of an inference in learning.
        optim: Adam settings by network.
        infer_steps: steps of an inference in the tasks; 0 = as in learning.
        chains: memory of inferences, each of which goes on where the last one of its datum ended; without, all
            begin at N(0, I): short-run inference.
    """

    tasks = ("sample", "energy", "log_joint", "latent_energy", "infer", "inpaint", "interpolate", "reconstruct")

    def __init__(
        self,
        generator: nn.Module,
        space: Space | TokenSpace,
        posterior_langevin: Langevin,
        optim: dict[str, Adam],
        infer_steps: int,
        chains: WarmStart | None = None,
    ) -> None:
        super().__init__(space, optim)
        if infer_steps < 0:
            raise ConfigError(f"infer_steps must be 0 or more, not {infer_steps}.")
        self.generator: Any = without_batch_norm(generator)  # nn.Module hides what an output model has
        missing = [name for name in ("latent_dim", "misfit", "draw") if not hasattr(generator, name)]
        if missing:
            raise ConfigError(f"A {type(generator).__name__} is no output model: it has no {missing[0]}.")
        self.posterior_langevin, self.infer_steps, self.chains = posterior_langevin, infer_steps, chains

    @property
    def infer_length(self) -> int:
        """Steps of an inference in the tasks."""
        return self.infer_steps or self.posterior_langevin.steps

    @property
    def temperature(self) -> float:
        """T of the prior, p(z) ∝ exp(−E(z) / T); at 1 `log_joint` is log p(x, z) up to a constant."""
        return 1.0

    @abstractmethod
    def prior_energy(self, latent: Tensor) -> Tensor:
        """E(z) = −T log p(z) up to a constant, **(B, d) -> (B,)**."""

    @abstractmethod
    def latent(self, n: int, *, steps: int | None = None, **settings: Any) -> Tensor:
        """Draw z from the prior, **(n, d)**.

        Args:
            n: how many.
            steps: length of the chains, if the prior needs any; `chain_length` unless given.
            settings: generator and on_step, as for a `Sampler`.
        """

    def learn_prior(self, latent: Tensor) -> dict[str, Tensor]:
        """Losses of the prior, given the inferred z, **(B, d)**; none where it is fixed."""
        return {}

    def posterior(self, latent: Tensor, x: Tensor, *known: Tensor) -> Tensor:
        """E(z) − log p(x | z), at `temperature` one −log p(z | x) up to a constant, **(B, d), (B, *) -> (B,)**."""
        return self.prior_energy(latent) + self.generator.misfit(latent, x, *known)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """One iteration: infer z, let the output model learn the data from it, and the prior from z itself."""
        x, *known = self.observed(batch)
        latent = self.posterior_langevin(self.posterior, self._start(batch), x, *known)
        if self.chains is not None:
            self.chains.finish(latent)
        return {"generator": self.generator.misfit(latent, x, *known).mean(), **self.learn_prior(latent)}

    def _start(self, batch: Any) -> Tensor:
        x, index = (batch, None) if isinstance(batch, Tensor) else (batch[0], batch[2])
        if self.chains is None:
            return self._normal(len(x))
        like = torch.empty(len(x), self.generator.latent_dim, device=self.device)
        return self.chains.start(like, Gaussian(), index)

    def _normal(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        return torch.empty(n, self.generator.latent_dim, device=self.device).normal_(generator=generator)

    def observed(self, batch: Any) -> tuple[Tensor, ...]:
        """Data, and a mask of what is known of them if the batch has one."""
        batch = alone(batch)
        if isinstance(batch, Tensor):
            return (batch,)
        if not isinstance(batch, (list, tuple)) or len(batch) != 3 or batch[1].dtype != torch.bool:
            raise DataError(
                "This model takes data, or data, a mask and their index: use ImageData or IndexedImageData."
            )
        return batch[0], batch[1]

    def answers(self, n: int, *conditions: Tensor) -> dict[str, Tensor]:
        """Fresh samples."""
        return {"samples": self.sample(n)}

    @torch.no_grad()
    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Energies and errors of reconstruction; for the first set of data also as many fresh samples.

        Logged: ``reconstruction_error``, mean squared error per known entry (of tokens, the part that is wrong, zeros
        behind the end included), and where some are unknown ``recovery_error``, the same of these.
        """
        x, *known = self.observed(batch)
        latent, mask = self.infer(x, *known), self._mask(x, *known)
        error = self.space.error(self.decode(latent), x)
        answers = {
            "energy": self.posterior(latent, x, *known),
            "prior_energy": self.prior_energy(latent),
            "reconstruction_error": (error * mask).flatten(1).sum(1) / mask.flatten(1).sum(1),
        }
        if dataloader_idx:
            return {"outliers": x, **answers}
        figures = {"reconstruction_error": answers["reconstruction_error"].mean()}
        if not mask.all():
            figures["recovery_error"] = error[~mask].mean()
        self.log_dict(figures, batch_size=len(x), sync_dist=True, add_dataloader_idx=False)
        return {"real": x, **self.answers(len(x)), **answers}

    def energy(self, x: Tensor, known: Tensor | None = None, **settings: Any) -> Tensor:
        """−`log_joint`, **(B, *) -> (B,)**: low = likely."""
        return -self.log_joint(x, known, **settings)

    @torch.no_grad()
    def log_joint(self, x: Tensor, known: Tensor | None = None, **settings: Any) -> Tensor:
        """log p(x | z) − E(z), z inferred, **(B, *) -> (B,)**; low = an anomaly. Arguments as for `infer`."""
        latent = self.infer(x, known, **settings)
        return -self.posterior(latent, x, *([] if known is None else [self._mask(x, known)]))

    @torch.no_grad()
    def latent_energy(self, x: Tensor, known: Tensor | None = None, **settings: Any) -> Tensor:
        """E(z), z inferred, **(B, *) -> (B,)**: how unusual data are, however simple they look. As for `infer`."""
        return self.prior_energy(self.infer(x, known, **settings))

    def infer(
        self,
        x: Tensor,
        known: Tensor | None = None,
        *,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        on_step: Hook | None = None,
    ) -> Tensor:
        """Draw latent vectors of data by Langevin dynamics from N(0, I).

        Args:
            x: data, **(B, *)**; unknown entries may hold anything of the space.
            known: mask, broadcastable to ``x``, nonzero = known; all are known unless given.
            steps: length of the chains; `infer_length` unless given.
            generator: source of randomness.
            on_step: called after every step with its number and the latent vectors.

        Returns:
            z, **(B, d)**.

        Raises:
            DataError: if the data do not belong to the space, or of one nothing is known.
        """
        x = self.space.check(x)
        mask = [] if known is None else [self._mask(x, known)]
        return self.posterior_langevin(
            self.posterior,
            self._normal(len(x), generator),
            x,
            *mask,
            steps=self.infer_length if steps is None else steps,
            generator=generator,
            on_step=on_step,
        )

    @torch.no_grad()
    def decode(self, latent: Tensor) -> Tensor:
        """Most probable data of latent vectors, **(B, d) -> (B, *)**.

        Raises:
            DataError: for vectors of another size.
        """
        size = self.generator.latent_dim
        if latent.dim() != 2 or latent.shape[1] != size:
            raise DataError(f"This model takes latent vectors of shape (B, {size}), not {tuple(latent.shape)}.")
        return self.space.clamp(self.generator(latent))

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None, **settings: Any) -> Tensor:
        """Draw data, **(n, *)**: z from the prior, and a draw given z; arguments as for `latent`."""
        if n < 1:
            raise DataError(f"At least one sample must be asked for, not {n}.")
        latent = self.latent(n, generator=generator, **settings)
        return self.space.clamp(self.generator.draw(latent, generator))

    def inpaint(self, x: Tensor, known: Tensor, **settings: Any) -> Tensor:
        """Fill what is unknown with the most probable given z, which the known entries alone tell, **(B, *)**.

        Arguments as for `infer`.
        """
        mask = self._mask(self.space.check(x), known)
        return torch.where(mask, x, self.decode(self.infer(x, mask, **settings)))

    def reconstruct(self, x: Tensor, **settings: Any) -> Tensor:
        """Rebuild data through their z, **(B, *) -> (B, *)**; settings: as for `infer`."""
        return self.decode(self.infer(x, **settings))

    def interpolate(self, a: Tensor, b: Tensor, n: int, *, path: Path = spherical, **settings: Any) -> Tensor:
        """Walk from data a to data b through latent space.

        Args:
            a: data, **(B, *)**.
            b: data, **(B, *)**.
            n: data per walk, both ends included, at least 2.
            path: `spherical` or `linear`.
            settings: steps, generator and on_step, as for `infer`.

        Returns:
            Walks, **(B, n, *)**.
        """
        latent = walk(partial(self.infer, **settings), a, b, n, path)
        return self.decode(latent.flatten(0, 1)).unflatten(0, (len(a), n))

    def _mask(self, x: Tensor, known: Tensor | None = None) -> Tensor:
        mask = torch.ones_like(x, dtype=torch.bool) if known is None else known.bool().expand_as(x)
        if not mask.flatten(1).any(1).all():
            raise DataError("The mask leaves nothing known of a datum: there is nothing to infer from.")
        return mask
