"""Langevin dynamics: noisy gradient descent on an energy."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_zoo.errors import ConfigError
from ebm_zoo.samplers.base import (
    Energy,
    Hook,
    Sampler,
    Schedule,
    at_step,
    energy_gradient,
    ordinary,
    require_schedule,
    require_steps,
)


def langevin(
    energy: Energy,
    x: Float[Tensor, "b ..."],
    *context: Tensor,
    steps: int,
    step_size: Schedule,
    noise_scale: Schedule = 1.0,
    clamp: tuple[float, float] | None = None,
    max_gradient: float | None = None,
    max_move: float | None = None,
    free: Tensor | None = None,
    generator: torch.Generator | None = None,
    on_step: Hook | None = None,
) -> Float[Tensor, "b ..."]:
    """Run Langevin dynamics on a batch of independent chains.

        x ← x − δ²/2 ∇E(x) + σ δ ε,    ε ~ N(0, I)

    Args:
        energy: E, maps ``x`` of shape (B, *) and the context to (B,); low = likely.
        x: start of the chains, **(B, *)**, floating point. It is not changed.
        context: conditions (an image, a label, an observation), passed on to the energy unchanged.
        steps: number of steps; 0 returns a copy of ``x``.
        step_size: δ; a pair (first, last) is interpolated linearly over the steps.
        noise_scale: σ, 1 = Langevin at temperature one, 0 = gradient descent; a pair as above.
        clamp: (low, high) that every state is kept in.
        max_gradient: limit on the absolute value of each entry of ∇E.
        max_move: limit on the absolute value of each entry of the drift δ²/2 ∇E.
        free: mask, broadcastable to ``x``: nonzero entries move, the others are held at their start values.
        generator: source of ε; None uses torch's global stream.
        on_step: called as ``on_step(k, x)`` after step k = 1 … steps, with a state that it must not change.

    Returns:
        The last states, **(B, *)**, detached; no parameter's ``.grad`` is touched.

    Raises:
        ConfigError: for a negative number of steps, or an energy that does not return one value per chain.

    References:
        Xie, Lu, Zhu, Wu. A Theory of Generative ConvNet. 2016. https://arxiv.org/abs/1602.03264
    """
    require_steps(steps)
    with torch.inference_mode(False):
        start, context = ordinary(x).detach(), tuple(ordinary(c) for c in context)
        x = start.clone()
        for k in range(steps):
            delta = at_step(step_size, k, steps)
            gradient = energy_gradient(energy, x, context)
            x = _move(x, gradient, delta, max_gradient, max_move)
            noise = at_step(noise_scale, k, steps) * delta
            if noise:
                x.add_(torch.empty_like(x).normal_(generator=generator), alpha=noise)
            if clamp is not None:
                x.clamp_(*clamp)
            if free is not None:
                x = torch.where(free.bool(), x, start)
            if on_step is not None:
                on_step(k + 1, x)
    return x


def unrolled_langevin(
    energy: Energy,
    x: Float[Tensor, "b ..."],
    *context: Tensor,
    steps: int,
    step_size: Schedule,
    clamp: tuple[float, float] | None = None,
    max_gradient: float | None = None,
    max_move: float | None = None,
) -> Float[Tensor, "b ..."]:
    """Run noise-free Langevin dynamics as a differentiable map of its start.

        M(x) = x_K,    x_{k+1} = x_k − δ²/2 ∇E(x_k)

    Read as a generator with latent x, a short run can be inverted: min_z ‖x − M(z)‖².
    Memory grows with ``steps``: the graph of every step is kept.

    Args:
        energy: E, (B, *) -> (B,).
        x: start, **(B, *)**; gradients of the result flow back to it.
        context: conditions for the energy.
        steps: number of steps K.
        step_size: δ, a number or a pair (first, last).
        clamp: (low, high) that every state is kept in.
        max_gradient: limit on each entry of ∇E.
        max_move: limit on each entry of the drift.

    Returns:
        M(x), **(B, *)**, with its graph.

    References:
        Nijkamp, Hill, Zhu, Wu. On Learning Non-Convergent Non-Persistent Short-Run MCMC Toward Energy-Based
        Model. 2019. https://arxiv.org/abs/1904.09770
    """
    require_steps(steps)
    with torch.inference_mode(False), torch.enable_grad():
        x, context = ordinary(x), tuple(ordinary(c) for c in context)
        for k in range(steps):
            gradient = energy_gradient(energy, x, context, differentiable=True)
            x = _move(x, gradient, at_step(step_size, k, steps), max_gradient, max_move)
            if clamp is not None:
                x = x.clamp(*clamp)
    return x


def _move(x, gradient, delta, max_gradient, max_move):
    if max_gradient is not None:
        gradient = gradient.clamp(-max_gradient, max_gradient)
    drift = gradient * (delta**2 / 2)
    if max_move is not None:
        drift = drift.clamp(-max_move, max_move)
    return x - drift


@dataclass(frozen=True)
class Langevin(Sampler):
    """Settings of Langevin dynamics; calling it runs `langevin`.

    Good for: everything differentiable. Often confused with: MALA, which adds an accept-reject step, and with
    "stochastic gradient Langevin dynamics", where the gradient is estimated on a part of the data.

    Args:
        steps: number of steps.
        step_size: δ, or (first, last).
        noise_scale: σ, or (first, last).
        clamp: (low, high) of every state.
        max_gradient: limit on each entry of ∇E.
        max_move: limit on each entry of the drift.

    Raises:
        ConfigError: for a negative number of steps, step size, noise scale or limit, or an empty clamp.
    """

    steps: int
    step_size: Schedule
    noise_scale: Schedule = 1.0
    clamp: tuple[float, float] | None = None
    max_gradient: float | None = None
    max_move: float | None = None

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ConfigError(f"Langevin steps must be 0 or more, not {self.steps}.")
        require_schedule("step_size", self.step_size)
        require_schedule("noise_scale", self.noise_scale)
        if self.clamp is not None and not self.clamp[0] < self.clamp[1]:
            raise ConfigError(f"Langevin clamp must be (low, high) with low < high, not {self.clamp}.")
        for name in ("max_gradient", "max_move"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ConfigError(f"Langevin {name} must be above 0, not {limit}; leave it out for no limit.")

    def __call__(self, energy, x, *context, steps=None, free=None, generator=None, on_step=None):
        """Run the chains; ``steps`` overrides the settings. See `langevin`."""
        return langevin(
            energy,
            x,
            *context,
            steps=self.steps if steps is None else steps,
            step_size=self.step_size,
            noise_scale=self.noise_scale,
            clamp=self.clamp,
            max_gradient=self.max_gradient,
            max_move=self.max_move,
            free=free,
            generator=generator,
            on_step=on_step,
        )

    def unrolled(self, energy, x, *context, steps=None):
        """Run the chains without noise as a differentiable map. See `unrolled_langevin`."""
        return unrolled_langevin(
            energy,
            x,
            *context,
            steps=self.steps if steps is None else steps,
            step_size=self.step_size,
            clamp=self.clamp,
            max_gradient=self.max_gradient,
            max_move=self.max_move,
        )
