"""Time of a Langevin step: this zoo, a plain loop and torchebm, on the same energies in one run.

    x ← x − δ²/2 ∇E(x) + σ δ ε

The contestants take turns, round after round, so that a machine that slows down slows down all of them.
Before that each runs a few steps without noise, and where it ends is compared with the plain loop: a faster
sampler that computes something else is no contestant.

A compiled energy computes the gradients of its weights along with that of the state, asked for or not. The
rows "frozen" show it without: the same weights with ``requires_grad`` off.
"""

import argparse
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed

from ebm_zoo.networks import ConvEnergy
from ebm_zoo.samplers import Energy, langevin

# Those of zoo_configs/generative_convnet/fashion_mnist.yaml; at 32x32 the last kernel covers the 4x4 map.
LAYERS = ((32, 4, 2, 1), (64, 3, 1, 1), (128, 4, 2, 1), (128, 3, 1, 1), (256, 3, 2, 1), (1, 4, 1, 0))
BATCH = 64
STEP_SIZE = 1.0
CHECK_STEPS = 5
# Largest |difference| to the plain loop after CHECK_STEPS that is rounding; states are of order one.
FP32, BF16 = 1e-5, 5e-3

Run = Callable[[Tensor, int, float], Tensor]  # start, number of steps, noise scale -> last states
States = Float[Tensor, "b ..."]


@dataclass(frozen=True)
class Contestant:
    """One way to run the chains.

    Args:
        name: its row in the table.
        run: runs the chains; or a string, why it cannot.
        tolerance: largest |difference| to the plain loop's states that is rounding.
    """

    name: str
    run: Run | str
    tolerance: float = FP32


def plain(energy: Energy, x: States, steps: int, noise_scale: float) -> States:
    """Run the textbook loop, **(B, *)** -> **(B, *)**."""
    for _ in range(steps):
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(x).sum(), x)
        x = x.detach() - 0.5 * STEP_SIZE**2 * gradient + noise_scale * STEP_SIZE * torch.randn_like(x)
    return x.detach()


def ours(energy: Energy, x: States, steps: int, noise_scale: float) -> States:
    """Run this zoo's sampler, **(B, *)** -> **(B, *)**."""
    return langevin(energy, x, steps=steps, step_size=STEP_SIZE, noise_scale=noise_scale)


def ours_bf16(energy: Energy, x: States, steps: int, noise_scale: float) -> States:
    """Run this zoo's sampler as a trainer with ``precision: bf16-mixed`` does; the states stay float32."""
    with torch.autocast("cpu", torch.bfloat16):
        return ours(energy, x, steps, noise_scale)


def torchebm(energy: nn.Module) -> Contestant:
    """Prepare torchebm's Langevin dynamics for an energy.

        x ← x − η ∇E(x) + √(2η) σ ε,    so η = δ²/2 makes both terms equal to ours

    Args:
        energy: (B, *) -> (B,).

    Returns:
        The contestant, which names the pip command where torchebm is not installed.

    References:
        Ghaderi. TorchEBM. 2025. https://github.com/soran-ghaderi/torchebm
    """
    try:
        from torchebm.core import BaseModel, ConstantScheduler
        from torchebm.samplers import LangevinDynamics
    except ModuleNotFoundError:
        return Contestant("torchebm", "not installed: pip install torchebm")

    class Model(BaseModel):
        def __init__(self) -> None:
            super().__init__()
            self.energy = energy

        def forward(self, x: Tensor) -> Tensor:
            return self.energy(x)

    sampler = LangevinDynamics(Model(), step_size=STEP_SIZE**2 / 2)

    def run(x: Tensor, steps: int, noise_scale: float) -> Tensor:
        # As a number the noise scale must be above 0; as a schedule it may be 0.
        sampler.register_scheduler("noise_scale", ConstantScheduler(noise_scale))
        return sampler.sample(x=x, n_steps=steps)

    return Contestant(f"torchebm {version('torchebm')}", run)


def image_contestants() -> list[Contestant]:
    """Everyone, on a convolutional energy of 1x32x32 images; the plain loop first."""
    energy = with_gradients(ConvEnergy(1, LAYERS))
    compiled, still = torch.compile(energy), deepcopy(energy).requires_grad_(False)
    return [
        Contestant("plain loop, fp32", partial(plain, energy)),
        Contestant("ours, eager fp32", partial(ours, energy)),
        Contestant("ours, eager bf16", partial(ours_bf16, energy), BF16),
        Contestant("ours, compiled fp32", partial(ours, compiled)),
        Contestant("ours, compiled bf16", partial(ours_bf16, compiled), BF16),
        Contestant("ours, compiled fp32, frozen", partial(ours, torch.compile(still))),
        torchebm(energy),
    ]


def latent_contestants() -> list[Contestant]:
    """The plain loop and ours, on an energy of latent vectors of length 100."""
    hidden = (nn.Linear(100, 200), nn.GELU(), nn.Linear(200, 200), nn.GELU())
    energy = with_gradients(nn.Sequential(*hidden, nn.Linear(200, 1), nn.Flatten(0)))
    still = deepcopy(energy).requires_grad_(False)
    return [
        Contestant("plain loop, fp32", partial(plain, energy)),
        Contestant("ours, eager fp32", partial(ours, energy)),
        Contestant("ours, compiled fp32", partial(ours, torch.compile(energy))),
        Contestant("ours, compiled fp32, frozen", partial(ours, torch.compile(still))),
    ]


def with_gradients(energy: nn.Module) -> nn.Module:
    """Draw larger weights: with PyTorch's own the states hardly move, and any two samplers agree."""
    for module in energy.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
    return energy


def race(contestants: Sequence[Contestant], start: States, steps: int, rounds: int) -> list[list[str]]:
    """Compare where the contestants end, then time them in turns.

    Args:
        contestants: who takes part; the first is what the others are compared with.
        start: start of the chains, **(B, *)**.
        steps: steps of one turn.
        rounds: turns of each.

    Returns:
        One row per contestant: name, ms/step, steps/s, chains/s, speed over the first's, difference.
    """
    ends = [_end(contestant, start) for contestant in contestants]
    times: list[list[float]] = [[] for _ in contestants]
    for _ in range(rounds):
        for contestant, end, mine in zip(contestants, ends, times, strict=True):
            if isinstance(end, Tensor):
                begin = time.perf_counter()
                contestant.run(start, steps, 1.0)
                mine.append((time.perf_counter() - begin) / steps)
    rows = []
    for contestant, end, mine in zip(contestants, ends, times, strict=True):
        if isinstance(end, Tensor):
            difference, limit = (end - ends[0]).abs().max().item(), contestant.tolerance
            agreement = f"{difference:.1e}, {'within' if difference <= limit else 'BEYOND'} {limit:.0e}"
            rows.append([contestant.name, *_speed(mine, times[0], len(start)), agreement])
        else:
            rows.append([contestant.name, "-", "-", "-", "-", end])
    return rows


def render(rows: Sequence[Sequence[str]], markdown: bool) -> str:
    """Align the cells of a table, as text or as markdown."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(line)} |" if markdown else "  ".join(line).rstrip() for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both comparisons and print them."""
    parser = argparse.ArgumentParser("python -m benchmarks.langevin", description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=_positive, default=10, help="steps of a turn, tenfold for latents")
    parser.add_argument("--rounds", type=_positive, default=9, help="turns of each contestant")
    parser.add_argument("--threads", type=_positive, help="threads of PyTorch; its own choice unless given")
    parser.add_argument("--markdown", action="store_true", help="print the tables in markdown")
    options = parser.parse_args(arguments)
    threads = options.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    print(f"{_processor()}, threads: {threads}, PyTorch {torch.__version__}, {date.today()}")
    images, latents = torch.rand(BATCH, 1, 32, 32) * 2 - 1, torch.randn(BATCH, 100)
    for unit, contestants, start, steps in (
        ("images", image_contestants(), images, options.steps),
        ("latents", latent_contestants(), latents, 10 * options.steps),
    ):
        header = ["", "ms/step", "steps/s", f"{unit}/s", "speed / plain", "largest difference to plain"]
        rows = race(contestants, start, steps, options.rounds)
        print(f"\n{unit} {tuple(start.shape)}, medians of {options.rounds} rounds of {steps} steps\n")
        print(render([header, *rows], options.markdown))


def _end(contestant: Contestant, start: Tensor) -> Tensor | str:
    """Where a contestant ends without noise, or why it cannot run; compiles before the clock runs."""
    if isinstance(contestant.run, str):
        return contestant.run
    try:
        return contestant.run(start, CHECK_STEPS, 0.0)
    except BackendCompilerFailed as error:
        return f"torch.compile failed: {str(error).splitlines()[0]}"


def _speed(mine: list[float], reference: list[float], chains: int) -> list[str]:
    seconds = statistics.median(mine)
    # Round by round: a machine that slows down between rounds changes no ratio.
    ratio = statistics.median(a / b for a, b in zip(reference, mine, strict=True))
    return [f"{seconds * 1000:.2f}", f"{1 / seconds:.1f}", f"{chains / seconds:.0f}", f"{ratio:.2f}"]


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is below 1")
    return number


def _processor() -> str:
    # Linux alone keeps the name there; what Python itself knows on Linux is the architecture.
    listing = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.+)", listing.read_text()) if listing.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
