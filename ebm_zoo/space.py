"""The space a model lives in: shape and range of one datum, or the tokens or classes it is made of."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ebm_zoo.errors import ConfigError, DataError

__all__ = ["Classes", "Space", "TokenSpace"]


@dataclass(frozen=True)
class Space:
    """Shape and value range of one datum; part of every model's configuration.

    Args:
        shape: shape of one datum, for images (C, H, W).
        low: smallest value.
        high: largest value.

    Raises:
        ConfigError: unless low < high and every size is positive.
    """

    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high or min(self.shape, default=0) < 1:
            raise ConfigError(f"A space needs positive sizes and low < high, not {self}.")

    def template(self, n: int, like: Tensor) -> Tensor:
        """An uninitialised batch, **(n, *shape)**, on the device of ``like``, float32."""
        return torch.empty((n, *self.shape), device=like.device)

    def check(self, x: Tensor, slack: float = 0.0) -> Tensor:
        """Return ``x``, **(B, *shape)**, or say why it does not belong here.

        Args:
            x: a batch.
            slack: how far outside the range a value may lie, as a part of the range.

        Raises:
            DataError: for another shape, values that are not finite, or values outside the range.
        """
        if tuple(x.shape[1:]) != tuple(self.shape):
            raise DataError(
                f"This model takes data of shape (B, {', '.join(map(str, self.shape))}), not {tuple(x.shape)}: "
                "resize, or convert the channels, first."
            )
        if not x.is_floating_point():
            raise DataError(f"This model takes floating-point data in [{self.low:g}, {self.high:g}], not {x.dtype}.")
        if not torch.isfinite(x).all():
            raise DataError("The data hold NaN or infinite values: mend or drop these items first.")
        low, high = (x.min().item(), x.max().item()) if x.numel() else (self.low, self.high)
        margin = (slack + 1e-4) * (self.high - self.low)
        if low < self.low - margin or high > self.high + margin:
            raise DataError(
                f"This model takes values in [{self.low:g}, {self.high:g}]; these reach from {low:.4g} to {high:.4g}: "
                "rescale them first."
            )
        return x

    def clamp(self, x: Tensor) -> Tensor:
        """The nearest data, **(B, *)**, of what a network drew, float32."""
        return x.float().clamp(self.low, self.high)

    def error(self, x: Tensor, y: Tensor) -> Tensor:
        """Squared differences of two batches entry by entry, **(B, *), (B, *) -> (B, *)**."""
        return (x.float() - y.float()).square()


@dataclass(frozen=True)
class TokenSpace:
    """Sequences of one length of tokens 0 … vocabulary − 1; stands where `Space` stands for data of real numbers.

    Args:
        length: L, tokens of a sequence.
        vocabulary: how many tokens there are.

    Raises:
        ConfigError: unless there are 1 or more tokens of 2 or more kinds.
    """

    length: int
    vocabulary: int

    def __post_init__(self) -> None:
        if self.length < 1 or self.vocabulary < 2:
            raise ConfigError(f"A token space needs length >= 1 and a vocabulary of 2 or more, not {self}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """(L,)."""
        return (self.length,)

    @property
    def low(self) -> float:
        """The first token, 0."""
        return 0.0

    @property
    def high(self) -> float:
        """The last token."""
        return self.vocabulary - 1.0

    def check(self, x: Tensor) -> Tensor:
        """Return token ids ``x``, **(B, L)**, or say why they do not belong here.

        Raises:
            DataError: for another shape or type, or a token out of range.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise DataError(
                f"This model takes sequences of shape (B, {self.length}), not {tuple(x.shape)}: pad or cut them first."
            )
        if x.dtype != torch.long:
            raise DataError(f"This model takes token ids, whole numbers of type torch.int64, not {x.dtype}.")
        wrong = x[(x < 0) | (x >= self.vocabulary)]
        if len(wrong):
            raise DataError(
                f"This model knows tokens 0 to {self.vocabulary - 1}, not {wrong[0].item()}: use its own vocabulary."
            )
        return x

    def clamp(self, x: Tensor) -> Tensor:
        """Token ids as they are: a network draws no others."""
        return x

    def error(self, x: Tensor, y: Tensor) -> Tensor:
        """1 where two batches have other tokens, else 0, **(B, L), (B, L) -> (B, L)**."""
        return (x != y).float()


@dataclass(frozen=True)
class Classes:
    """Classes 0 … count − 1; part of a model's configuration that answers to labels.

    Args:
        count: how many.

    Raises:
        ConfigError: unless there are 2 or more.
    """

    count: int

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ConfigError(f"Classes are 2 or more, not {self.count}.")

    def check(self, labels: Tensor) -> Tensor:
        """Return labels, **(B,)**, or say why they do not belong here.

        Raises:
            DataError: for another shape or type, or a label out of range.
        """
        if labels.dim() != 1 or labels.is_floating_point():
            kind = f"{tuple(labels.shape)} of {labels.dtype}"
            raise DataError(f"This model takes class labels, whole numbers of shape (B,), not {kind}.")
        wrong = labels[(labels < 0) | (labels >= self.count)]
        if len(wrong):
            raise DataError(
                f"This model knows classes 0 to {self.count - 1}, not {wrong[0].item()}: relabel or drop these items."
            )
        return labels.long()
