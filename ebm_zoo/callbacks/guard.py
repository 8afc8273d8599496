"""Stop a training that diverges, and say what to lower."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from ebm_zoo.errors import ConfigError, DivergenceError


class DivergenceGuard(Callback):
    """Stop when a loss is not finite or its size passes a limit; nothing is masked or replaced.

    It runs before any checkpoint of that step is written, so the last good checkpoint stays.

    Args:
        limit: largest absolute value of a loss. A healthy energy loss swings around zero.

    Raises:
        ConfigError: unless the limit is positive.
    """

    def __init__(self, limit: float = 1e4) -> None:
        if not limit > 0:
            raise ConfigError(f"DivergenceGuard needs limit > 0, not {limit}.")
        self.limit = limit

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at every loss of the step."""
        # The parts before their sum, which Lightning calls 'loss': the message shall name the part.
        for name, loss in sorted(outputs.items(), key=lambda item: item[0] == "loss"):
            if not torch.isfinite(loss) or loss.abs() > self.limit:
                raise DivergenceError(
                    f"Training diverged: loss '{name}' is {loss.item():g} at step {trainer.global_step} (limit "
                    f"{self.limit:g}). The last checkpoint is kept. Lower the learning rate or the step size, or use "
                    "more Langevin steps."
                )
