"""Generative ConvNet: an energy-based model of images, learned and sampled by Langevin dynamics."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.losses import maximum_likelihood
from ebm_zoo.models.base import EnergyModel, without_batch_norm
from ebm_zoo.models.batches import training_batches
from ebm_zoo.models.latent import start_of_run
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Chains, Hook, Langevin, Noise, Sampler
from ebm_zoo.space import Space


class GenerativeConvNet(EnergyModel):
    """p(x) ∝ exp(−E(x)) with a convolutional E, learned by maximum likelihood with samples from MCMC.

        ∇ log-likelihood = mean ∇E(x⁻) − mean ∇E(x⁺),    x⁻ from Langevin dynamics on E

    The paper writes f = −E and multiplies a Gaussian reference; here the reference is a wrapper of the energy
    (`ebm_zoo.networks.GaussianReference`). Where chains start decides what is learned: `Persistent`, `FromData`
    (contrastive divergence) and `ShortRun` are the three of the tutorial.

    Args:
        energy: E, **(B, C, H, W) -> (B,)**, low = likely.
        noise: p0, where fresh chains start.
        space: shape and range of the images.
        chains: start and memory of the chains in learning.
        sampler: MCMC of one learning iteration.
        optim: Adam settings for ``energy``.
        sample_steps: length of a fresh chain in `sample` and `inpaint`; 0 = the sampler's own.
        data_noise: standard deviation of Gaussian noise added to the data in learning, in the data's units.
        penalty: weight of the squared energies, see `ebm_zoo.losses.maximum_likelihood`.

    References:
        Xie, Lu, Zhu, Wu. A Theory of Generative ConvNet. 2016. https://arxiv.org/abs/1602.03264
        Nijkamp, Hill, Zhu, Wu. On Learning Non-Convergent Non-Persistent Short-Run MCMC Toward Energy-Based
        Model. 2019. https://arxiv.org/abs/1904.09770

    Notes:
        The papers use one learning rate and no penalty, no gradient clipping and no weight averaging; each
        configuration says what it uses.
    """

    tasks = ("sample", "energy", "inpaint", "interpolate", "reconstruct")

    def __init__(
        self,
        energy: nn.Module,
        noise: Noise,
        space: Space,
        chains: Chains,
        sampler: Sampler,
        optim: dict[str, Adam],
        sample_steps: int = 0,
        data_noise: float = 0.0,
        penalty: float = 0.0,
    ) -> None:
        super().__init__(space, optim)
        if sample_steps < 0 or data_noise < 0 or penalty < 0:
            raise ConfigError("sample_steps, data_noise and penalty must be 0 or more.")
        self.energy, self.noise = without_batch_norm(energy), noise
        self.chains, self.sampler = chains, sampler
        self.sample_steps, self.data_noise, self.penalty = sample_steps, data_noise, penalty

    @property
    def chain_length(self) -> int:
        """Steps of a fresh chain."""
        return self.sample_steps or self.sampler.steps

    def on_fit_start(self) -> None:
        """Let the noise estimate its statistics from the training data."""
        with training_batches(self.trainer) as batches:
            self.noise.fit(self.space.check(self.observed(batch)[0]).to(self.device) for batch in batches)

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        """One iteration: sample, then raise the energy of samples and lower that of data."""
        negative = self.sampler(self.energy, self.chains.start(batch, self.noise))
        self.chains.finish(negative)
        self.contrasts = {"energy": (batch, negative)}
        positive = batch + self.data_noise * torch.randn_like(batch)
        return {"energy": maximum_likelihood(self.energy, positive, negative, penalty=self.penalty)}

    def answers(self, n: int, *conditions: Tensor) -> dict[str, Tensor]:
        """Fresh samples."""
        return {"samples": self.sample(n)}

    def sample(
        self,
        n: int,
        *,
        steps: int | None = None,
        shape: tuple[int, ...] | None = None,
        generator: torch.Generator | None = None,
        on_step: Hook | None = None,
    ) -> Tensor:
        """Draw images: MCMC from fresh noise.

        Args:
            n: how many.
            steps: length of the chains; `chain_length` unless given.
            shape: (C, H, W) of the images, for energies that take other sizes than the model's.
            generator: source of randomness.
            on_step: called after every step with its number and the states.

        Returns:
            Images, **(n, C, H, W)**, in the range of ``space``.
        """
        if n < 1:
            raise DataError(f"At least one sample must be asked for, not {n}.")
        space = self.space if shape is None else Space(shape, self.space.low, self.space.high)
        start = self.noise(space.template(n, next(self.energy.parameters())), generator)
        return self._refine(start, steps=steps, generator=generator, on_step=on_step)

    def inpaint(self, x: Tensor, known: Tensor, **settings: Any) -> Tensor:
        """Fill the unknown pixels of images, holding the known ones at every step.

        Args:
            x: images, **(B, C, H, W)**; unknown pixels may hold anything finite in the range.
            known: mask, broadcastable to ``x``; nonzero = known.
            settings: steps, generator and on_step, as for `sample`.

        Returns:
            Images, **(B, C, H, W)**, equal to ``x`` where known.
        """
        known = known.bool().expand_as(self.space.check(x))
        start = torch.where(known, x, self.noise(x, settings.get("generator")))
        return self._refine(start, free=~known, **settings)

    def invert(
        self, x: Tensor, *, iterations: int = 100, lr: float = 0.05, progress: Callable[[int], object] | None = None
    ) -> Tensor:
        """Find the start from which a noise-free short run ends at the images: z = argmin ‖x − M(z)‖².

        Args:
            x: images, **(B, C, H, W)**.
            iterations: Adam steps on z; each differentiates through the whole short run.
            lr: Adam's learning rate, in the data's units.
            progress: called with the number of each iteration, from 1.

        Returns:
            Starts z, **(B, C, H, W)**.

        Notes:
            The papers begin the search at random noise; here it begins at the images. Where a state is clamped no
            gradient passes, and from noise or from p0's mean some searches ended at an image of another class.
        """
        run = partial(self._langevin.unrolled, self.energy, steps=self.chain_length)
        return start_of_run(run, self.space.check(x), iterations=iterations, lr=lr, progress=progress)

    def reconstruct(self, x: Tensor, **settings: Any) -> Tensor:
        """Rebuild images through the short run: M(argmin_z ‖x − M(z)‖²), **(B, C, H, W)** -> the same.

        Args:
            x: images.
            settings: iterations, lr and progress, as for `invert`.
        """
        return self._end(self.invert(x, **settings))

    def interpolate(self, a: Tensor, b: Tensor, n: int, **settings: Any) -> Tensor:
        """Walk from images a to images b through the starts of their short runs.

            M(m + ρ (z_a − m) + sqrt(1 − ρ²) (z_b − m)),    ρ from 1 to 0, m the mean of p0

        Args:
            a: images, **(B, C, H, W)**.
            b: images, **(B, C, H, W)**.
            n: images per walk, both ends included, at least 2.
            settings: iterations, lr and progress, as for `invert`.

        Returns:
            Walks, **(B, n, C, H, W)**.
        """
        if n < 2 or a.shape != b.shape:
            raise DataError(f"Interpolation needs n >= 2 and two batches of one shape, not {n}, {a.shape}, {b.shape}.")
        ends = self.invert(torch.cat([a, b]), **settings)
        mean = self.noise.centre(ends)
        first, last = (ends - mean).chunk(2)
        angles = torch.linspace(0, torch.pi / 2, n, device=a.device).view(1, n, *[1] * (a.dim() - 1))
        starts = mean + (angles.cos() * first[:, None] + angles.sin() * last[:, None]).flatten(0, 1)
        return self._end(starts).unflatten(0, (len(a), n))

    def _refine(self, start: Tensor, *, steps: int | None = None, **settings: Any) -> Tensor:
        steps = self.chain_length if steps is None else steps
        return self.sampler(self.energy, start, steps=steps, **settings)

    def _end(self, start: Tensor) -> Tensor:
        """Where the noise-free short run ends, without the graph of its steps."""
        return replace(self._langevin, noise_scale=0.0)(self.energy, start, steps=self.chain_length)

    @property
    def _langevin(self) -> Langevin:
        if not isinstance(self.sampler, Langevin):
            name = type(self.sampler).__name__
            raise ConfigError(f"Only Langevin dynamics can be differentiated through, not {name}.")
        return self.sampler
