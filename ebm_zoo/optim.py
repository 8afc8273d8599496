"""Adam settings per network, with warm-up and cosine decay."""

import math
from dataclasses import dataclass

from ebm_zoo.errors import ConfigError

__all__ = ["Adam"]


@dataclass(frozen=True)
class Adam:
    """How one network of a model is optimised.

        lr_t = lr · min(1, t/warmup) · (final + (1 − final)(1 + cos(π t/T))/2)

    Args:
        lr: peak learning rate.
        betas: decay of the first and second moment.
        clip: limit on this network's gradient norm; 0 = none.
        warmup: steps of linear warm-up.
        final: learning rate at the last step T as a part of ``lr``; 1 = constant.

    Raises:
        ConfigError: if a number is out of its range.

    References:
        Kingma, Ba. Adam: A Method for Stochastic Optimization. 2014. https://arxiv.org/abs/1412.6980
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    clip: float = 0.0
    warmup: int = 0
    final: float = 1.0

    def __post_init__(self) -> None:
        if not self.lr > 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"Adam needs lr > 0 and betas in [0, 1), not {self}.")
        if self.clip < 0 or self.warmup < 0 or not 0 <= self.final <= 1:
            raise ConfigError(f"Adam needs clip >= 0, warmup >= 0 and final in [0, 1], not {self}.")

    def factor(self, step: int, total: float) -> float:
        """Learning rate at a step, as a part of ``lr``; ``total`` may be infinite (no decay)."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        cosine = (1 + math.cos(math.pi * min(step / total, 1.0))) / 2
        return warm * (self.final + (1 - self.final) * cosine)
