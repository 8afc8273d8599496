"""What all samplers share: the contract, gradients of an energy, schedules."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from ebm_zoo.errors import ConfigError

Energy: TypeAlias = Callable[..., Tensor]
"""(B, *) and context -> (B,); low = likely."""
Hook: TypeAlias = Callable[[int, Tensor], object]
"""Called after every step with its number, from 1, and the states."""
Schedule: TypeAlias = float | tuple[float, float]
"""A constant, or (first, last) interpolated linearly over the steps."""


class Sampler(ABC):
    """A Markov chain Monte Carlo method with its settings."""

    steps: int

    @abstractmethod
    def __call__(
        self,
        energy: Energy,
        x: Tensor,
        *context: Tensor,
        steps: int | None = None,
        free: Tensor | None = None,
        generator: torch.Generator | None = None,
        on_step: Hook | None = None,
    ) -> Tensor:
        """Move the chains.

        Args:
            energy: (B, *) and context -> (B,).
            x: start, **(B, *)**.
            context: conditions for the energy.
            steps: overrides the number of steps.
            free: mask, broadcastable to ``x``, of the entries that may move; the others keep their start values.
            generator: source of randomness.
            on_step: called after every step.

        Returns:
            Last states, **(B, *)**, detached.
        """


def at_step(schedule: Schedule, k: int, steps: int) -> float:
    """Value of a schedule at step k = 0 … steps − 1."""
    if isinstance(schedule, (int, float)):
        return schedule
    first, last = schedule
    return first + (last - first) * k / max(steps - 1, 1)


def require_schedule(name: str, schedule: Schedule) -> None:
    """Refuse a negative value."""
    values = (schedule,) if isinstance(schedule, (int, float)) else tuple(schedule)
    if not all(value >= 0 for value in values):
        raise ConfigError(f"{name} must be 0 or more, not {schedule}.")


def require_steps(steps: int, name: str = "steps") -> None:
    """Refuse a negative number."""
    if steps < 0:
        raise ConfigError(f"{name} must be 0 or more, not {steps}.")


def ordinary(x: Tensor) -> Tensor:
    """A tensor that autograd may record: inference tensors are copied, others passed on."""
    return x.clone() if x.is_inference() else x


def energy_gradient(
    energy: Energy, x: Tensor, context: tuple[Tensor, ...] = (), *, differentiable: bool = False
) -> Tensor:
    """∇E with respect to ``x`` alone, chain by chain.

    The energies are summed before differentiating; chains do not see each other, so each gets its own gradient.
    `torch.autograd.grad` leaves parameters alone, which ``.backward()`` would not.

    Args:
        energy: (B, *) -> (B,).
        x: states, **(B, *)**.
        context: conditions for the energy.
        differentiable: keep the graph, to differentiate through the gradient.

    Returns:
        Gradient, **(B, *)**.

    Raises:
        ConfigError: if the energy does not return one value per chain.
    """
    with torch.enable_grad():
        x = x if differentiable and x.requires_grad else x.detach().requires_grad_()
        values = energy(x, *context)
        if values.shape != x.shape[:1]:
            raise ConfigError(
                f"An energy must return one value per chain, shape {tuple(x.shape[:1])}; "
                f"this one returned {tuple(values.shape)}. Sum over the other axes in the network."
            )
        (gradient,) = torch.autograd.grad(values.sum(), x, create_graph=differentiable)
    return gradient
