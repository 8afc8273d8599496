"""Hamiltonian Monte Carlo with leapfrog steps and Metropolis correction."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_zoo.errors import ConfigError
from ebm_zoo.samplers.base import Energy, Hook, Sampler, energy_gradient, ordinary, require_steps


def hmc(
    energy: Energy,
    x: Float[Tensor, "b ..."],
    *context: Tensor,
    steps: int,
    step_size: float,
    leapfrog: int = 10,
    free: Tensor | None = None,
    generator: torch.Generator | None = None,
    on_step: Hook | None = None,
) -> tuple[Float[Tensor, "b ..."], Float[Tensor, " b"]]:
    """Run Hamiltonian Monte Carlo on a batch of independent chains.

        H(x, p) = E(x) + ‖p‖²/2,   accept (x', p') with probability min(1, exp(H(x, p) − H(x', p')))

    Args:
        energy: E, (B, *) -> (B,).
        x: start, **(B, *)**. It is not changed.
        context: conditions for the energy.
        steps: number of trajectories, each ending in an accept-reject decision.
        step_size: ε of one leapfrog step.
        leapfrog: leapfrog steps per trajectory, L.
        free: mask, broadcastable to ``x``: nonzero entries move, the others are held at their start values.
        generator: source of momenta and decisions.
        on_step: called as ``on_step(k, x)`` after trajectory k = 1 … steps.

    Returns:
        Last states, **(B, *)**, and each chain's rate of accepted trajectories, **(B,)** in [0, 1].

    Raises:
        ConfigError: for a negative number of steps, or an energy that does not return one value per chain.

    References:
        Neal. MCMC using Hamiltonian dynamics. 2011. https://arxiv.org/abs/1206.1901
    """
    require_steps(steps)
    with torch.inference_mode(False), torch.no_grad():
        x, context = ordinary(x).detach().clone(), tuple(ordinary(c) for c in context)
        mask = x.new_ones(()) if free is None else free.bool().to(x.dtype)
        accepted = x.new_zeros(len(x))
        for k in range(steps):
            momentum = torch.empty_like(x).normal_(generator=generator) * mask
            proposal, end = _leapfrog(energy, x, context, momentum, step_size, leapfrog, mask)
            change = energy(proposal, *context) - energy(x, *context) + _kinetic(end) - _kinetic(momentum)
            draw = torch.empty_like(change).uniform_(generator=generator)
            # A NaN change compares False: a diverged trajectory is rejected.
            accept = draw.log() < -change
            x = torch.where(accept.view(-1, *[1] * (x.dim() - 1)), proposal, x)
            accepted += accept
            if on_step is not None:
                on_step(k + 1, x)
    return x, accepted / max(steps, 1)


def _leapfrog(energy, x, context, momentum, step_size, leapfrog, mask):
    gradient = energy_gradient(energy, x, context)
    for _ in range(leapfrog):
        momentum = momentum - step_size / 2 * gradient * mask
        x = x + step_size * momentum
        gradient = energy_gradient(energy, x, context)
        momentum = momentum - step_size / 2 * gradient * mask
    return x, momentum


def _kinetic(momentum: Tensor) -> Tensor:
    return momentum.flatten(1).square().sum(1) / 2


@dataclass(frozen=True)
class HMC(Sampler):
    """Settings of Hamiltonian Monte Carlo; calling it runs `hmc` and returns the states.

    Good for: exact sampling of smooth energies; one step costs ``leapfrog`` gradients. Often confused with:
    Langevin dynamics, which is one leapfrog step without the accept-reject decision.

    Args:
        steps: number of trajectories.
        step_size: ε.
        leapfrog: leapfrog steps per trajectory.

    Raises:
        ConfigError: for a negative number of steps, or a step size or trajectory length that is not positive.
    """

    steps: int
    step_size: float
    leapfrog: int = 10

    def __post_init__(self) -> None:
        if self.steps < 0 or self.leapfrog < 1 or not self.step_size > 0:
            raise ConfigError(f"HMC needs steps >= 0, leapfrog >= 1 and step_size > 0, not {self}.")

    def __call__(self, energy, x, *context, steps=None, free=None, generator=None, on_step=None):
        """Run the chains; ``steps`` overrides the settings. See `hmc`."""
        states, _ = hmc(
            energy,
            x,
            *context,
            steps=self.steps if steps is None else steps,
            step_size=self.step_size,
            leapfrog=self.leapfrog,
            free=free,
            generator=generator,
            on_step=on_step,
        )
        return states
