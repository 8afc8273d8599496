"""A learned prior in two dimensions, drawn: ``python examples/latent_toy.py FOLDER``.

Data are eight Gaussians and a pinwheel. The generator is so small that it cannot bend N(0, I) to them: the prior has to
learn what inference finds. A row of latent_toy.png has the data, the aggregated posterior (z inferred from them), the
learned density exp(−E) by its logarithm, samples of the prior, and the data they become.
"""

import math
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.utils import save_image

from ebm_zoo.callbacks import picture_grid
from ebm_zoo.models import LatentEBM
from ebm_zoo.networks import GaussianOutput, LatentEnergy
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Langevin
from ebm_zoo.space import Space

EXTENT = 3.0
SIDE = 96
NATS = 12.0


class Small(nn.Module):
    """A generator of points: a line and a bend, 2 -> 4 -> 2."""

    latent_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.line, self.bend = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))

    def forward(self, latent: Tensor) -> Tensor:
        return self.line(latent) + 0.1 * self.bend(latent)


def eight_gaussians(n: int) -> Tensor:
    """Points around eight centres on a circle, (n, 2)."""
    angle = torch.randint(8, (n,)) * math.pi / 4
    return 1.8 * torch.stack([angle.cos(), angle.sin()], 1) + 0.12 * torch.randn(n, 2)


def pinwheel(n: int) -> Tensor:
    """Points on five bent arms, (n, 2)."""
    along, across = 1.2 + 0.4 * torch.randn(n), 0.1 * torch.randn(n)
    turn = torch.randint(5, (n,)) * 2 * math.pi / 5 + 0.6 * along
    return 1.2 * torch.stack([along * turn.cos() - across * turn.sin(), along * turn.sin() + across * turn.cos()], 1)


def histogram(points: Tensor) -> Tensor:
    """Density of points as a picture, (1, SIDE, SIDE) in [0, 1], dark = dense."""
    cells = ((points + EXTENT) / (2 * EXTENT) * SIDE).floor().long()
    inside = cells[((cells >= 0) & (cells < SIDE)).all(1)]
    counts = (inside[:, 1] * SIDE + inside[:, 0]).bincount(minlength=SIDE * SIDE).view(1, SIDE, SIDE).float()
    smooth = nn.functional.avg_pool2d(counts[None], 3, 1, 1)[0]
    return 1 - (smooth / smooth.quantile(0.995).clamp(min=1e-6)).clamp(0, 1)


@torch.no_grad()
def density(model: LatentEBM) -> Tensor:
    """exp(−E) of the prior by its logarithm, dark = dense, white = `NATS` below its highest."""
    axis = torch.linspace(-EXTENT, EXTENT, SIDE)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).view(-1, 2)
    energy = model.prior_energy(grid).view(1, SIDE, SIDE)
    return ((energy - energy.min()) / NATS).clamp(0, 1)


def train(data: Tensor, updates: int) -> LatentEBM:
    """A LatentEBM of points."""
    model = LatentEBM(
        LatentEnergy(2, (256, 256)),
        GaussianOutput(Small(), sigma=0.15),
        Space((2,), -4.0, 4.0),
        prior_langevin=Langevin(steps=120, step_size=(0.5, 0.1)),
        posterior_langevin=Langevin(steps=20, step_size=0.1),
        optim={"prior": Adam(), "generator": Adam()},
        infer_steps=100,
        penalty=1e-4,
    )
    with torch.no_grad():
        model.generator.generator.line.weight.copy_(torch.eye(2))
    rates = [{"params": model.prior.parameters(), "lr": 2e-3}, {"params": model.generator.parameters(), "lr": 3e-4}]
    optimizer = torch.optim.Adam(rates, betas=(0.5, 0.999))
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates)
    for _ in range(updates):
        losses = model.losses(data[torch.randint(len(data), (200,))])
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        decay.step()
    return model


def main(folder: Path, updates: int = 1500, n: int = 5000) -> None:
    """Train on both data sets and draw the rows."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    tiles = []
    for make in (eight_gaussians, pinwheel):
        data = make(n)
        model = train(data, updates)
        latent = model.latent(n)
        columns = [data, model.infer(data), None, latent, model.decode(latent)]
        tiles += [density(model) if points is None else histogram(points) for points in columns]
    save_image(picture_grid(torch.stack(tiles), 0.0, 1.0, 5, side=2 * SIDE), folder / "latent_toy.png")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
