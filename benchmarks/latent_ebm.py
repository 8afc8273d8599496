"""Time of LatentEBM beside the published one-page algorithm: ``python -m benchmarks.latent_ebm``.

Training steps and samples of both take turns in one process, in float32, with the networks of latent_ebm/fashion_mnist,
on noise of its data's shape. Printed are medians of wall-clock and processor time. ``--compile`` adds a row whose prior
is compiled.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from ebm_zoo.config import from_config
from ebm_zoo.models import LatentEBM
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Langevin
from ebm_zoo.zoo import config_path

NAME = "latent_ebm/fashion_mnist"


class Published:
    """The algorithm's steps in the order of its authors' page, two optimisers stepped in turn.

    Args:
        energy: f, latent vectors (B, d) -> (B,).
        generate: g, latent vectors -> images.
        sigma: of the images given z.
        prior: steps and step size of the chains on the prior.
        posterior: the same of the chains on the posterior.
        rates: learning rates of energy and generator.
    """

    def __init__(
        self,
        energy: nn.Module,
        generate: nn.Module,
        latent_dim: int,
        sigma: float,
        prior: tuple[int, float],
        posterior: tuple[int, float],
        rates: tuple[float, float],
    ) -> None:
        self.energy, self.generate, self.latent_dim, self.sigma = energy, generate, latent_dim, sigma
        self.prior, self.posterior = prior, posterior
        self.energy_optimizer = torch.optim.Adam(energy.parameters(), lr=rates[0], betas=(0.5, 0.999))
        self.generator_optimizer = torch.optim.Adam(generate.parameters(), lr=rates[1], betas=(0.5, 0.999))

    def iterate(self, x: Tensor) -> tuple[float, float]:
        """One iteration; the losses of generator and energy."""
        inferred = self.infer(torch.randn(len(x), self.latent_dim), x)
        drawn = self.draw(torch.randn(len(x), self.latent_dim))
        self.generator_optimizer.zero_grad()
        generator_loss = ((self.generate(inferred) - x) ** 2).sum() / len(x)
        generator_loss.backward()
        self.generator_optimizer.step()
        self.energy_optimizer.zero_grad()
        energy_loss = self.energy(inferred).mean() - self.energy(drawn).mean()
        energy_loss.backward()
        self.energy_optimizer.step()
        return generator_loss.item(), energy_loss.item()

    def infer(self, z: Tensor, x: Tensor) -> Tensor:
        steps, s = self.posterior
        for _ in range(steps):
            z = z.detach().requires_grad_(True)
            misfit = ((self.generate(z) - x) ** 2).sum() / (2 * self.sigma**2)
            slope = torch.autograd.grad(misfit, z)[0] + torch.autograd.grad(self.energy(z).sum(), z)[0]
            z = z - 0.5 * s * s * (slope + z) + s * torch.randn_like(z)
        return z.detach()

    def draw(self, z: Tensor) -> Tensor:
        steps, s = self.prior
        for _ in range(steps):
            z = z.detach().requires_grad_(True)
            slope = torch.autograd.grad(self.energy(z).sum(), z)[0]
            z = z - 0.5 * s * s * (slope + z) + s * torch.randn_like(z)
        return z.detach()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        with torch.enable_grad():
            z = self.draw(torch.randn(n, self.latent_dim))
        return self.generate(z)


def pair(prior_steps: int, posterior_steps: int) -> tuple[LatentEBM, Published, int]:
    """The model of the configuration and the port, with equal weights, and the batch size."""
    config = yaml.safe_load(config_path(NAME).read_text())
    settings = config["model"]["init_args"]
    prior, generator = from_config(settings["prior"]), from_config(settings["generator"])
    chains = [
        (steps or settings[name]["steps"], settings[name]["step_size"])
        for name, steps in (("prior_langevin", prior_steps), ("posterior_langevin", posterior_steps))
    ]
    rates = [settings["optim"][name]["lr"] for name in ("prior", "generator")]
    optim = dict(zip(("prior", "generator"), map(Adam, rates), strict=True))
    space = from_config({"class_path": "ebm_zoo.space.Space", "init_args": settings["space"]})
    model = LatentEBM(prior, generator, space, Langevin(*chains[0]), Langevin(*chains[1]), optim)
    copies = [copy.deepcopy(network) for network in (prior, generator.generator)]
    port = Published(*copies, generator.latent_dim, generator.sigma, *chains, tuple(rates))
    return model, port, config["data"]["init_args"]["batch_size"]


def step_of(model: LatentEBM) -> Callable[[Tensor], Any]:
    """One update of both networks as training does it: one backward pass, one optimiser."""
    groups = [{"params": getattr(model, name).parameters(), "lr": model.optim[name].lr} for name in model.optim]
    optimizer = torch.optim.Adam(groups, betas=(0.5, 0.999))

    def step(x: Tensor) -> None:
        loss = torch.stack(list(model.losses(x).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    start, busy = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, time.process_time() - busy


def main(argv: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prior-steps", type=int, default=0, help="0 = those of the configuration")
    parser.add_argument("--posterior-steps", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args(argv)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds} is below 1")
    torch.manual_seed(0)
    model, port, n = pair(options.prior_steps, options.posterior_steps)
    x = torch.rand(n, *model.space.shape) * 2 - 1
    contestants: dict[str, tuple[Callable[[Tensor], Any], Callable[[int], Any]]] = {
        "published page": (port.iterate, port.sample),
        "ours": (step_of(model), model.sample),
    }
    if options.compile:
        compiled = copy.deepcopy(model)
        compiled.prior.compile()
        contestants["ours, prior compiled"] = (step_of(compiled), compiled.sample)
    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in contestants}
    for k in range(options.rounds + 1):
        for name, (step, sample) in contestants.items():
            taken = (*timed(lambda step=step: step(x)), *timed(lambda sample=sample: sample(n)))
            if k:
                times[name].append(taken)
    machine = f"{torch.get_num_threads()} thread(s), PyTorch {torch.__version__}"
    print(f"{NAME}, batches of {n}, {options.rounds} rounds, {machine}")
    print(f"{'':22} {'ms/step':>9} {'cpu ms':>8} {'ratio':>6} {'samples/s':>10} {'per cpu s':>10} {'ratio':>6}")
    medians = {name: [statistics.median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()}
    first = next(iter(medians.values()))
    for name, (wall, busy, draw, draw_busy) in medians.items():
        row = f"{name:22} {wall * 1e3:9.1f} {busy * 1e3:8.1f} {wall / first[0]:6.2f}"
        print(f"{row} {n / draw:10.0f} {n / max(draw_busy, 1e-9):10.0f} {first[2] / draw:6.2f}")


if __name__ == "__main__":
    main()
