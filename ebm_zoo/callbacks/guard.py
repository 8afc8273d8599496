"""Stop a training that diverges, before anything of it is written, and say what to lower."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from ebm_zoo.callbacks.checkpoints import CURE, kept
from ebm_zoo.errors import ConfigError, DivergenceError
from ebm_zoo.models import EnergyModel

CLAMPED = 0.5
"""Chains are healthy while at least this part of the data's share of entries lies inside the range."""


class DivergenceGuard(Callback):
    """Stop when losses, weights or chains leave the stable region; nothing is masked or replaced.

    It looks after each update, before any checkpoint of that step is written, so the last good checkpoint stays:

    - a loss that is not finite, or whose size passes a limit;
    - weights that are not finite, as after a gradient that is not;
    - chains that sit at the ends of the range for many updates on end, though the data do not.

    Args:
        limit: largest absolute value of a loss. A healthy energy loss swings around zero.
        patience: updates on end after which chains at the ends of the range are a divergence.

    Raises:
        ConfigError: unless limit and patience are positive.
    """

    def __init__(self, limit: float = 1e4, patience: int = 25) -> None:
        if not limit > 0 or patience < 1:
            raise ConfigError(f"DivergenceGuard needs limit > 0 and patience >= 1, not {limit} and {patience}.")
        self.limit, self.patience = limit, patience
        self._clamped: dict[str, int] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget an earlier run."""
        self._clamped = {}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at losses, weights and chains; all ranks stop where one has to.

        Raises:
            DivergenceError: says what, at which step, and which checkpoint there is.
        """
        step = f"at step {trainer.global_step}"
        found = self._losses(outputs, batch, step) or _weights(pl_module, step) or self._chains(pl_module, step)
        if found := _agreed(trainer, found):
            raise DivergenceError(f"Training diverged: {found}. {kept(trainer)} {CURE}")

    def _losses(self, outputs: dict[str, Tensor], batch: Any, step: str) -> str:
        # The parts before their sum, which Lightning calls 'loss': the message shall name the part.
        for name, loss in sorted(outputs.items(), key=lambda item: item[0] == "loss"):
            if not torch.isfinite(loss) or loss.abs() > self.limit:
                cause = "" if _finite(batch) else ", and the batch itself holds values that are not finite"
                return f"loss '{name}' is {loss.item():g} {step} (limit {self.limit:g}){cause}"
        return ""

    def _chains(self, model: LightningModule, step: str) -> str:
        if not isinstance(model, EnergyModel):
            return ""
        for name, (data, samples) in model.contrasts.items():
            inside = model.space.inside(data), model.space.inside(samples)
            self._clamped[name] = self._clamped.get(name, 0) + 1 if inside[1] < CLAMPED * inside[0] else 0
            if self._clamped[name] >= self.patience:
                return (
                    f"the chains on '{name}' sit at the ends of the range {step}, for {self.patience} updates on end: "
                    f"{1 - inside[1]:.0%} of their entries do, {1 - inside[0]:.0%} of the data's"
                )
        return ""


def _weights(model: LightningModule, step: str) -> str:
    trained = [p.detach() for p in model.parameters() if p.requires_grad]
    if not trained or torch.isfinite(nn.utils.get_total_norm(trained)):
        return ""
    bad = next((name for name, p in model.named_parameters() if not torch.isfinite(p).all()), "all together")
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    finite = not gradients or torch.isfinite(nn.utils.get_total_norm(gradients))
    return f"the weights '{bad}' are not finite {step}" + ("" if finite else ", as their gradient was not")


def _finite(batch: Any) -> bool:
    parts = batch if isinstance(batch, (tuple, list)) else [batch]
    return all(torch.isfinite(part).all() for part in parts if isinstance(part, Tensor))


def _agreed(trainer: Trainer, found: str) -> str:
    """What the first rank that found something says, on all ranks."""
    if trainer.world_size == 1 or not trainer.strategy.reduce_boolean_decision(bool(found), all=False):
        return found
    said: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(said, found)
    return next(filter(None, said))
