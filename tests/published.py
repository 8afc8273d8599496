"""CoopNets as published, two optimisers stepped in turn, without the package that is held against it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Published:
    """The algorithm's steps in the order of its authors' program.

    G0 draws z and images of them; D1 runs Langevin dynamics from these; G1 infers z by Langevin dynamics, starting
    from the same z; D2 steps the descriptor; G2 steps the generator towards the revised images.

    Args:
        score: f = −E, images (B, C, H, W) -> (B,); its learning rate.
        generate: g, latent vectors (B, d) -> images; its learning rate.
        steps: Langevin steps on images, δ and the limits of the pixels.
        latent_steps: Langevin steps on z, their δ, and σ of the generator.
    """

    score: Callable[[Tensor], Tensor]
    generate: Callable[[Tensor], Tensor]
    score_optimizer: torch.optim.Optimizer
    generator_optimizer: torch.optim.Optimizer
    latent_dim: int
    steps: int
    step_size: float
    low: float
    high: float
    latent_steps: int
    latent_step_size: float
    sigma: float

    def iterate(self, observed: Tensor) -> tuple[float, float]:
        """One iteration; the losses of descriptor and generator."""
        z = torch.randn(len(observed), self.latent_dim)
        synthesised = self.generate(z).detach()
        for _ in range(self.steps):
            synthesised.requires_grad_(True)
            slope = torch.autograd.grad(self.score(synthesised).sum(), synthesised)[0]
            synthesised = synthesised.detach() + 0.5 * self.step_size**2 * slope
            synthesised = (synthesised + self.step_size * torch.randn_like(synthesised)).clamp(self.low, self.high)
        for _ in range(self.latent_steps):
            z.requires_grad_(True)
            misfit = ((synthesised - self.generate(z)) ** 2).sum() / (2 * self.sigma**2)
            slope = torch.autograd.grad(misfit, z)[0]
            z = z.detach() - 0.5 * self.latent_step_size**2 * (slope + z.detach())
            z = z + self.latent_step_size * torch.randn_like(z)
        self.score_optimizer.zero_grad()
        descriptor_loss = self.score(synthesised).mean() - self.score(observed).mean()
        descriptor_loss.backward()
        self.score_optimizer.step()
        self.generator_optimizer.zero_grad()
        error = ((self.generate(z) - synthesised) ** 2) / (2 * self.sigma**2)
        generator_loss = error.mean(0).sum()
        generator_loss.backward()
        self.generator_optimizer.step()
        return descriptor_loss.item(), generator_loss.item()


def sign_flipped(energy: nn.Module) -> Callable[[Tensor], Tensor]:
    """The papers' f = −E."""
    return lambda x: -energy(x)
