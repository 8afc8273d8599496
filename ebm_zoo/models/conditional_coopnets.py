"""Conditional CoopNets: a fast thinking initializer and a slow thinking solver of the same problem."""

from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.losses import teaching
from ebm_zoo.models.cooperative import Cooperative
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Hook, Sampler, ShortRun
from ebm_zoo.space import Classes, Space


class ConditionalCoopNets(Cooperative):
    """p(x | c) ∝ exp(−E(x, c)) and a generator g(z, c) of drafts; c is a class, or an image to be translated.

        x̂ = g(z, c);    x̃ = Langevin on E(·, c) from x̂
        the energy learns from (x, c) against (x̃, c);
        the generator minimises (1 − γ) ‖x̃ − g(z, c)‖² / 2σ² + γ ‖x − g(z, c)‖₁

    Args:
        energy: E, **(B, C, H, W), c -> (B,)**, low = likely.
        generator: g, **(B, d), c -> (B, C, H, W)**; has ``latent_dim``, d.
        space: shape and range of the images.
        condition: what c is: `Classes`, or the `Space` of the images to be translated.
        sampler: Langevin dynamics that revise.
        optim: Adam settings for ``energy`` and ``generator``.
        sigma: σ, standard deviation of the generator's residual.
        supervision: γ, 0 to 1: how much the generator learns from the data themselves.
        sample_steps: steps that revise a draft in the tasks; 0 = the sampler's own.
        latent_scale: standard deviation of z in the tasks; below 1 answers are more typical and less varied. In
            learning it is 1.
        data_noise: standard deviation of Gaussian noise added to the data in learning.
        penalty: weight of the squared energies, see `ebm_zoo.losses.maximum_likelihood`.

    References:
        Xie, Zheng, Fang, Zhu, Wu. Cooperative Training of Fast Thinking Initializer and Slow Thinking Solver for
        Conditional Learning. 2021. https://arxiv.org/abs/1902.02812

    Notes:
        γ = 0 is the paper's algorithm; the official code for image translation has γ = 0.2.
    """

    tasks: tuple[str, ...] = ("sample", "predict", "energy")

    def __init__(
        self,
        energy: nn.Module,
        generator: nn.Module,
        space: Space,
        condition: Space | Classes,
        sampler: Sampler,
        optim: dict[str, Adam],
        sigma: float = 0.3,
        supervision: float = 0.0,
        sample_steps: int = 0,
        latent_scale: float = 1.0,
        data_noise: float = 0.0,
        penalty: float = 0.0,
    ) -> None:
        super().__init__(energy, generator, space, sampler, optim, ShortRun(), sample_steps, data_noise, penalty)
        if not sigma > 0 or not 0 <= supervision <= 1 or latent_scale < 0:
            raise ConfigError("sigma must be above 0, supervision from 0 to 1, latent_scale 0 or more.")
        if isinstance(condition, Classes):
            _require_classes(condition.count, energy, generator)
        else:
            self.tasks = ("predict", "energy")
        self.condition, self.sigma, self.supervision = condition, sigma, supervision
        self.latent_scale = latent_scale

    def observed(self, batch: Any) -> tuple[Tensor, ...]:
        """Images and their conditions."""
        if not isinstance(batch, (list, tuple)) or len(batch) != 2:
            raise DataError("This model learns images with conditions: give LabelledImageData or PairedImageData.")
        return batch[0], self.condition.check(batch[1])

    def teach(self, latent: Tensor, revised: Tensor, x: Tensor, *conditions: Tensor) -> dict[str, Tensor]:
        """MCMC teaching, and what the data teach."""
        drafts = self.generator(latent, *conditions)
        taught = (1 - self.supervision) * teaching(drafts, revised, self.sigma)
        supervised = (x - drafts).abs().flatten(1).sum(1).mean()
        return {"generator": taught + self.supervision * supervised}

    def answers(self, n: int, *conditions: Tensor) -> dict[str, Tensor]:
        """Drafts, what revision makes of them, and what they were drawn for."""
        drafts, solutions = self.predict(conditions[0])
        return {"drafts": drafts[:, 0], "samples": solutions[:, 0], "condition": conditions[0]}

    def predict(self, condition: Tensor, n: int = 1, **settings: Any) -> tuple[Tensor, Tensor]:
        """Answer each condition n times: quickly, and after slow thinking.

        Args:
            condition: classes **(B,)**, or images **(B, D, H, W)**.
            n: answers to each.
            settings: steps, generator and on_step, as for `revise`.

        Returns:
            Drafts and solutions, **(B, n, C, H, W)** each.
        """
        if n < 1:
            raise DataError(f"At least one answer must be asked for, not {n}.")
        repeated = self.condition.check(condition).repeat_interleave(n, 0)
        latent = self.latent_scale * self.latent(len(repeated), settings.get("generator"))
        drafts = self.propose(latent, repeated)
        solutions = self.revise(drafts, repeated, **settings)
        return drafts.unflatten(0, (-1, n)), solutions.unflatten(0, (-1, n))

    def sample(
        self,
        n: int,
        *,
        label: int | None = None,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        on_step: Hook | None = None,
    ) -> Tensor:
        """Draw images of a class, or of all classes in turn.

        Args:
            n: how many.
            label: the class; all of them in turn unless given.
            steps: length of the chains, 0 = the drafts; the sampler's own unless given.
            generator: source of randomness.
            on_step: called after every step with its number and the states.

        Returns:
            Images, **(n, C, H, W)**.

        Raises:
            ConfigError: for a model that translates images.
        """
        if not isinstance(self.condition, Classes):
            raise ConfigError("This model translates images: give them to `predict`.")
        if n < 1:
            raise DataError(f"At least one sample must be asked for, not {n}.")
        labels = torch.arange(n, device=self.device) % self.condition.count
        if label is not None:
            labels = torch.full_like(labels, label)
        return self.predict(labels, steps=steps, generator=generator, on_step=on_step)[1][:, 0]


def _require_classes(count: int, *networks: nn.Module) -> None:
    for network in networks:
        known = getattr(network, "classes", count)
        if known != count:
            raise ConfigError(f"{type(network).__name__} knows {known} classes, condition {count}: make them equal.")
