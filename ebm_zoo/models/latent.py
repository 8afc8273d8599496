"""Walks through latent space, and tasks of models that draft an image from a latent vector and revise it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import DataError
from ebm_zoo.losses import squared_error
from ebm_zoo.samplers.base import require_steps
from ebm_zoo.space import Space

Path = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Ends a and b, **(B, 1, d)**, and ρ from 0 to 1, **(n, 1)** -> latent vectors, **(B, n, d)**."""


def linear(a: Tensor, b: Tensor, rho: Tensor) -> Tensor:
    """Straight line, (1 − ρ) a + ρ b. Its middle is shorter than a Gaussian vector is."""
    return (1 - rho) * a + rho * b


def spherical(a: Tensor, b: Tensor, rho: Tensor) -> Tensor:
    """Great circle, (sin((1 − ρ) ω) a + sin(ρ ω) b) / sin ω, ω the angle between a and b."""
    cosine = nn.functional.cosine_similarity(a, b, -1).clamp(-1 + 1e-6, 1 - 1e-6)[..., None]
    angle = cosine.arccos()
    return (((1 - rho) * angle).sin() * a + (rho * angle).sin() * b) / angle.sin()


def walk(infer: Callable[[Tensor], Tensor], a: Tensor, b: Tensor, n: int, path: Path) -> Tensor:
    """Latent vectors on the way from data a to data b.

    Args:
        infer: latent vectors of data, **(B, *) -> (B, d)**.
        a: data, **(B, *)**.
        b: data, **(B, *)**.
        n: stops per walk, both ends included, at least 2.
        path: `spherical` or `linear`.

    Returns:
        z, **(B, n, d)**.

    Raises:
        DataError: for fewer stops, or batches of two shapes.
    """
    if n < 2 or a.shape != b.shape:
        raise DataError(f"Interpolation needs n >= 2 and two batches of one shape, not {n}, {a.shape}, {b.shape}.")
    first, last = infer(torch.cat([a, b])).unsqueeze(1).chunk(2)
    return path(first, last, torch.linspace(0, 1, n, device=a.device).unsqueeze(1))


CANDIDATES = 64
"""Latent vectors, the same for all images, among which inference looks for the one to begin with."""


def candidates(latent_dim: int, device: torch.device) -> Tensor:
    """Draws of N(0, I) that do not depend on what else is asked or was drawn before, **(64, d)**."""
    return torch.randn(CANDIDATES, latent_dim, generator=torch.Generator().manual_seed(0)).to(device)


def posterior_mode(
    generator: Callable[[Tensor], Tensor],
    x: Tensor,
    known: Tensor,
    candidates: Tensor,
    sigma: float,
    *,
    guess: Tensor | None = None,
    iterations: int = 100,
    lr: float = 0.05,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Most probable latent vectors of images, argmin ‖z‖²/2 + ‖m (x − g(z))‖²/2σ², by Adam.

    Args:
        generator: g, **(B, d) -> (B, *)**.
        x: images, **(B, *)**.
        known: mask m, broadcastable to ``x``, nonzero = known.
        candidates: draws of z, **(K, d)**; the search for each image begins at the one whose draft is nearest.
        sigma: σ, standard deviation of the generator's residual.
        guess: a further candidate for each image alone, **(B, d)**.
        iterations: Adam steps.
        lr: Adam's learning rate.
        progress: called with the number of each iteration, from 1.

    Returns:
        z, **(B, d)**.

    Raises:
        ConfigError: for a negative number of iterations.
    """
    require_steps(iterations, "iterations")
    with torch.inference_mode(False), torch.enable_grad():
        target, mask, candidates = (each.clone().float() for each in (x, known, candidates))
        mask = mask.expand_as(target)
        pairs = zip(mask, target, strict=True)
        with torch.no_grad():
            drafts = generator(candidates)
            distance = torch.stack([squared_error(m * drafts, m * t.expand_as(drafts)) for m, t in pairs])
            z = candidates[distance.argmin(1)]
            if guess is not None:
                guess = guess.clone().float()
                nearer = squared_error(mask * generator(guess), mask * target) < distance.amin(1)
                z = torch.where(nearer[:, None], guess, z)
        z.requires_grad_()
        optimizer = torch.optim.Adam([z], lr=lr)
        for k in range(iterations):
            misfit = squared_error(mask * generator(z), mask * target).sum() / (2 * sigma**2)
            (z.grad,) = torch.autograd.grad(misfit + z.square().sum() / 2, z)
            optimizer.step()
            if progress is not None:
                progress(k + 1)
    return z.detach()


def start_of_run(
    run: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    iterations: int = 100,
    lr: float = 0.05,
    bounds: tuple[float, float] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Start from which a differentiable run ends at images, argmin ‖x − M(z)‖², by Adam from z = x.

    Args:
        run: M, **(B, *) -> (B, *)**.
        x: images, **(B, *)**.
        iterations: Adam steps; each differentiates through the whole run.
        lr: Adam's learning rate, in the units of the data.
        bounds: limits that the start is kept in.
        progress: called with the number of each iteration, from 1.

    Returns:
        z, **(B, *)**.

    Raises:
        ConfigError: for a negative number of iterations.
    """
    require_steps(iterations, "iterations")
    with torch.inference_mode(False), torch.enable_grad():
        x, z = x.clone(), x.clone().requires_grad_()
        optimizer = torch.optim.Adam([z], lr=lr)
        for k in range(iterations):
            (z.grad,) = torch.autograd.grad((x - run(z)).square().sum(), z)
            optimizer.step()
            if bounds is not None:
                z.data.clamp_(*bounds)
            if progress is not None:
                progress(k + 1)
    return z.detach()


class LatentTasks(ABC):
    """Sampling, inpainting, reconstruction and interpolation by latent vectors, drafts and revision."""

    space: Space
    latent: Callable[..., Tensor]
    propose: Callable[..., Tensor]
    revise: Callable[..., Tensor]

    @abstractmethod
    def infer(self, x: Tensor, known: Tensor, **settings: Any) -> Tensor:
        """Latent vectors of images.

        Args:
            x: images, **(B, *)**; unknown pixels may hold anything finite in the range.
            known: mask, broadcastable to ``x``, nonzero = known.
            settings: iterations, lr and progress, as for `posterior_mode`.

        Returns:
            z, **(B, d)**.
        """

    def sample(self, n: int, *, generator: torch.Generator | None = None, **settings: Any) -> Tensor:
        """Draw images: drafts of fresh latent vectors, revised.

        Args:
            n: how many.
            generator: source of randomness.
            settings: steps (0 = the drafts) and on_step, as for `revise`.

        Returns:
            Images, **(n, *)**, in the range of ``space``.
        """
        if n < 1:
            raise DataError(f"At least one sample must be asked for, not {n}.")
        return self.revise(self.propose(self.latent(n, generator)), generator=generator, **settings)

    def inpaint(self, x: Tensor, known: Tensor, *, iterations: int = 100, **settings: Any) -> Tensor:
        """Fill the unknown pixels of images: infer z from the known ones, draft, revise while holding these.

        Args:
            x: images, **(B, *)**; unknown pixels may hold anything finite in the range.
            known: mask, broadcastable to ``x``; nonzero = known.
            iterations: steps of inference, see `infer`.
            settings: steps, generator and on_step, as for `revise`.

        Returns:
            Images, **(B, *)**, equal to ``x`` where known.
        """
        known = known.bool().expand_as(self.space.check(x))
        start = torch.where(known, x, self.propose(self.infer(x, known, iterations=iterations)))
        return self.revise(start, free=~known, **settings)

    def reconstruct(self, x: Tensor, **settings: Any) -> Tensor:
        """Rebuild images: infer z, draft, revise, **(B, *) -> (B, *)**.

        Args:
            x: images.
            settings: iterations, lr and progress, as for `infer`.
        """
        return self.revise(self.propose(self._infer_all(x, **settings)))

    def interpolate(self, a: Tensor, b: Tensor, n: int, *, path: Path = spherical, **settings: Any) -> Tensor:
        """Walk from images a to images b through latent space, each stop revised.

        Args:
            a: images, **(B, *)**.
            b: images, **(B, *)**.
            n: images per walk, both ends included, at least 2.
            path: `spherical` or `linear`.
            settings: iterations, lr and progress, as for `infer`.

        Returns:
            Walks, **(B, n, *)**.
        """
        latent = walk(partial(self._infer_all, **settings), a, b, n, path)
        return self.revise(self.propose(latent.flatten(0, 1))).unflatten(0, (len(a), n))

    def _infer_all(self, x: Tensor, **settings: Any) -> Tensor:
        return self.infer(self.space.check(x), torch.ones_like(x), **settings)
