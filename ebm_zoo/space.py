"""The space a model lives in: shape and range of one datum, or the tokens or classes it is made of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Int64
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

    def inside(self, x: Tensor) -> float:
        """Part of the entries that lie inside the range and not at its ends, where chains are held."""
        return ((x > self.low) & (x < self.high)).float().mean().item()

    def error(self, x: Tensor, y: Tensor) -> Tensor:
        """Squared differences of two batches entry by entry, **(B, *), (B, *) -> (B, *)**."""
        return (x.float() - y.float()).square()


@dataclass(frozen=True)
class TokenSpace:
    """Sentences over a vocabulary as rows of whole numbers; stands where `Space` stands for real numbers.

    k is the k-th token of the vocabulary, counted from 1; 0 ends a sentence and fills its row.

    Args:
        length: L, entries of a row: one more than the longest sentence has tokens.
        vocabulary: the tokens, of one or more characters each.

    Raises:
        ConfigError: for a token that is empty or there twice, no token, or a length below 2.
    """

    length: int
    vocabulary: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.vocabulary or "" in self.vocabulary or len(self._index) < len(self.vocabulary):
            raise ConfigError(f"A vocabulary is a list of different tokens, not {self.vocabulary!r:.200}.")
        if self.length < 2:
            raise ConfigError(f"The length of sequences, with the end, is 2 or more, not {self.length}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one datum, (L,)."""
        return (self.length,)

    @property
    def low(self) -> float:
        """The smallest entry, 0."""
        return 0.0

    @property
    def high(self) -> float:
        """The largest entry, that of the last token."""
        return float(len(self.vocabulary))

    @property
    def size(self) -> int:
        """Different entries that a row may have: the tokens, and the end."""
        return len(self.vocabulary) + 1

    def split(self, sentence: str) -> list[str]:
        """Tokens of a sentence: always the longest that fits; what is in no token stands alone, as a character."""
        return self._pattern.findall(sentence)

    def row(self, tokens: Sequence[str]) -> list[int]:
        """Numbers of the tokens of one sentence, filled up to L.

        Raises:
            DataError: for a token that the vocabulary lacks, or more than L − 1 of them.
        """
        lacking = [token for token in tokens if token not in self._index]
        if lacking:
            raise DataError(f"{lacking[0]!r} is not in the vocabulary: add it there, or leave the sentence out.")
        free = self.length - len(tokens)
        if free < 1:
            raise DataError(
                f"{len(tokens)} tokens are too many for rows of {self.length}, the end included: raise the length of "
                "data and model, or shorten the sentence."
            )
        return [*(self._index[token] for token in tokens), *[0] * free]

    def ids(self, sentences: Sequence[str]) -> Int64[Tensor, "b length"]:
        """Sentences as rows, **(B, L)**.

        Raises:
            DataError: naming the sentence that does not fit, see `row`.
        """
        rows = []
        for sentence in sentences:
            try:
                rows.append(self.row(self.split(sentence)))
            except DataError as error:
                raise DataError(f"{sentence!r:.100}: {error}") from None
        return torch.tensor(rows, dtype=torch.long).view(-1, self.length)

    def text(self, ids: Int64[Tensor, "b length"]) -> list[str]:
        """Rows **(B, L)** as sentences, each up to its first 0."""
        words = ("", *self.vocabulary)
        ends = [[*row, 0].index(0) for row in ids.tolist()]
        return ["".join(words[k] for k in row[:end]) for row, end in zip(ids.tolist(), ends, strict=True)]

    def counted(self, ids: Int64[Tensor, "b length"]) -> Bool[Tensor, "b tokens"]:
        """Which entries of rows are tokens, **(B, L) -> (B, L − 1)**: those up to the first 0, the end, included.

        The last entry of a row is none: every sentence has ended there.
        """
        ended = (ids[:, :-2] == 0).cumsum(1) > 0
        return torch.nn.functional.pad(~ended, (1, 0), value=True)

    def check(self, x: Tensor) -> Tensor:
        """Return rows, **(B, L)**, or say why they do not belong here.

        Raises:
            DataError: for another shape or type, or an entry out of range.
        """
        if x.dtype != torch.long or tuple(x.shape[1:]) != self.shape:
            raise DataError(
                f"This model takes rows of {self.length} whole numbers, (B, {self.length}) of int64, not "
                f"{tuple(x.shape)} of {x.dtype}: make them by `space.ids`."
            )
        wrong = x[(x < 0) | (x >= self.size)]
        if len(wrong):
            raise DataError(f"This model knows tokens 0 to {self.size - 1}, not {wrong[0].item()}: see its vocabulary.")
        return x

    def clamp(self, x: Tensor) -> Tensor:
        """Rows as they are: a network draws no others."""
        return x

    def error(self, x: Tensor, y: Tensor) -> Tensor:
        """1 where two batches have other tokens, else 0, **(B, L), (B, L) -> (B, L)**."""
        return (x != y).float()

    @cached_property
    def _index(self) -> dict[str, int]:
        return {token: k for k, token in enumerate(self.vocabulary, 1)}

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.vocabulary, key=len, reverse=True)
        return re.compile("|".join([*map(re.escape, longest_first), "."]), re.DOTALL)


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
