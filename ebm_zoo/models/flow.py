"""A normalizing flow alone, learned by maximum likelihood, and what models with a flow share."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.metrics import bits_per_dimension
from ebm_zoo.models.base import EnergyModel
from ebm_zoo.models.batches import training_batches
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Hook
from ebm_zoo.space import Space

INITIAL = 512
"""Training images, at most, from which the normalisations of a flow begin."""


class FlowTasks:
    """Mixed into models with a flow: its beginning, its likelihood, and the figure of it.

    Attributes:
        flow_name: constructor argument that is the flow.
    """

    flow_name: str

    @property
    def _flow(self) -> Any:
        return getattr(self, self.flow_name)

    def on_fit_start(self) -> None:
        """Let the flow's normalisations begin as whitenings of training images, unless it has begun before."""
        if self._flow.initialised:
            return
        model: Any = self
        images, count = [], 0
        with training_batches(model.trainer) as batches:
            for batch in batches:
                images.append(model.space.check(model.observed(batch)[0]).to(model.device))
                count += len(images[-1])
                if count >= INITIAL:
                    break
        self._flow.initialise(torch.cat(images)[:INITIAL])
        # Each rank has seen images of its own, but all have to begin at the same weights.
        self._flow.load_state_dict(model.trainer.strategy.broadcast(self._flow.state_dict()))

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor] | None:
        """As `EnergyModel.test_step`; for the first set of data also bits per dimension under the flow."""
        model: Any = super()
        answers = model.test_step(batch, batch_idx, dataloader_idx)
        if not dataloader_idx:
            model, (x, *_) = self, model.observed(batch)
            figure = bits_per_dimension(model.log_prob(x), x[0].numel())
            model.log("bits_per_dimension", figure, batch_size=len(x), sync_dist=True, add_dataloader_idx=False)
        return answers

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """log probability of images under the flow, in nats, **(B, *) -> (B,)**.

        A lower bound that depends on noise drawn to dequantise the images, see `ebm_zoo.networks.FlowPlusPlus`.
        """
        model: Any = self
        return self._flow.log_prob(model.space.check(x))


def require_flow(network: nn.Module, space: Space) -> nn.Module:
    """Return a flow, or refuse what is none or does not fit the data.

    Raises:
        ConfigError: naming class or shapes.
    """
    missing = [name for name in ("log_prob", "latent_of", "initialise") if not hasattr(network, name)]
    if missing:
        raise ConfigError(f"A {type(network).__name__} is no flow: it has no {missing[0]}. Give a FlowPlusPlus.")
    flow: Any = network
    if tuple(flow.shape) != tuple(space.shape) or (space.low, space.high) != (-1, 1):
        raise ConfigError(
            f"The flow draws images of shape {tuple(flow.shape)} in [-1, 1], the space is {tuple(space.shape)} in "
            f"[{space.low:g}, {space.high:g}]: they must agree."
        )
    return network


class NormalizingFlow(FlowTasks, EnergyModel):
    """A flow g and its density, x = g(z), z ~ N(0, I), learned by maximum likelihood.

        minimise −mean log q(x),    log q(x) = log N(g⁻¹(x)) + log |∂g⁻¹(x)/∂x|

    It is where `CoopFlow` may start from (`ebm_zoo.callbacks.InitialWeights`), and what it is measured against.

    Args:
        flow: g, **(B, D) -> (B, C, H, W)**, with ``log_prob``, see `ebm_zoo.networks.FlowPlusPlus`.
        space: shape of the images, range [−1, 1].
        optim: Adam settings for ``flow``.

    Raises:
        ConfigError: if the flow is none, or draws images of another shape.

    References:
        Ho, Chen, Srinivas, Duan, Abbeel. Flow++: Improving Flow-Based Generative Models with Variational
        Dequantization and Architecture Design. 2019. https://arxiv.org/abs/1902.00275
    """

    tasks = ("sample", "energy", "log_prob")
    flow_name = "flow"
    chain_length = 0

    def __init__(self, flow: nn.Module, space: Space, optim: dict[str, Adam]) -> None:
        super().__init__(space, optim)
        self.flow = require_flow(flow, space)

    def losses(self, batch: Tensor) -> dict[str, Tensor]:
        """Negative log-likelihood, in nats per image."""
        return {"flow": -self._flow.log_prob(batch).mean()}

    def energy(self, x: Tensor) -> Tensor:
        """−log q(x), **(B, *) -> (B,)**: normalised, unlike that of other models; see `log_prob`."""
        return -self.log_prob(x)

    def answers(self, n: int, *conditions: Tensor) -> dict[str, Tensor]:
        """Fresh samples."""
        return {"samples": self.sample(n)}

    @torch.no_grad()
    def sample(
        self,
        n: int,
        *,
        steps: int | None = None,
        generator: torch.Generator | None = None,
        on_step: Hook | None = None,
    ) -> Tensor:
        """Draw images in one pass, **(n, *)**.

        Args:
            n: how many.
            steps: a flow takes none: None or 0.
            generator: source of randomness.
            on_step: never called.
        """
        if n < 1:
            raise DataError(f"At least one sample must be asked for, not {n}.")
        if steps:
            raise DataError(f"A flow draws in one pass, it cannot take {steps} steps: leave steps out.")
        size = math.prod(self.space.shape)
        return self.flow(torch.empty(n, size, device=self.device).normal_(generator=generator))
