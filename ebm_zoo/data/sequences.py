"""Sentences of a file as rows of tokens: what text and molecules share."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ebm_zoo.data.files import TEST_EVERY, user_path
from ebm_zoo.data.loading import ShuffledData, fixed_loader
from ebm_zoo.data.tensors import require
from ebm_zoo.errors import DataError
from ebm_zoo.space import TokenSpace

EXAMPLES = "examples"
Lines = list[tuple[int, str]]
"""Sentences, each with the number of its line."""


class Rows(Dataset):
    """Rows of tokens, **(N, L)**, fetched a batch at a time.

    Args:
        ids: the rows.
    """

    def __init__(self, ids: Int64[Tensor, "n length"]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Int64[Tensor, " length"]:
        return self.ids[index]

    def __getitems__(self, indices: list[int]) -> Int64[Tensor, "b length"]:
        return self.ids[indices]


class SequenceData(ShuffledData, ABC):
    """Batches of sentences as rows of tokens, **(B, L)** of int64; all are kept in memory.

    Args:
        space: vocabulary and length, those of the model.
        source: the file to train on, or ``examples``, a few that come with the package.
        test: the file to test on. None takes every 10th sentence of ``source`` instead, which is not trained on.
        batch_size: B, sentences per batch and rank.
        validation: how many sentences at the end of those to train on are held back for validation.

    Raises:
        ConfigError: an argument is out of its range.
        DataError: a file is missing, unreadable or without sentences, a token is not in the vocabulary, or a sentence
            is too long.
    """

    def __init__(
        self,
        space: TokenSpace,
        source: str = EXAMPLES,
        *,
        test: str | None = None,
        batch_size: int = 64,
        validation: int = 0,
    ) -> None:
        super().__init__()
        require(batch_size >= 1, f"batch_size is {batch_size}: give at least 1.")
        require(validation >= 0, f"validation is {validation}: give a number of sentences, 0 or more.")
        self.space, self.source, self.test = space, source, test
        self.batch_size, self.validation = batch_size, validation
        for each in (source, test):
            if each not in (None, EXAMPLES) and not user_path(str(each)).is_file():
                raise DataError(f"{each!r} is no file: name one with a sentence per line, or '{EXAMPLES}'.")
        # Any: rows, once they are read.
        self._train: Any = None
        self._validation: Any = None
        self._test: Any = None

    @abstractmethod
    def examples(self) -> Lines:
        """The sentences that come with the package."""

    @abstractmethod
    def read(self, path: Path) -> Lines:
        """The sentences of a file."""

    def tokens(self, sentence: str) -> list[str]:
        """Tokens of a sentence, whether in the vocabulary or not."""
        return self.space.split(sentence)

    def sentences(self, split: str) -> list[str]:
        """Sentences of a split, ``train`` (with those held back) or ``test``, as the file has them."""
        return [sentence for _, sentence in self._lines(split)]

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs: ``fit``, ``validate``, ``test`` or ``predict``; None reads all."""
        if stage == "validate" and not self.validation:
            raise DataError("There are no sentences to validate on: set validation to how many to hold back.")
        if stage in (None, "fit", "validate") and self._train is None:
            ids = self._ids("train")
            kept = len(ids) - self.validation
            if kept < 1:
                raise DataError(
                    f"{self.source} has {len(ids)} sentences to train on, of which validation holds back "
                    f"{self.validation}: lower validation."
                )
            self._train = Rows(ids[:kept])
            self._validation = Rows(ids[kept:]) if self.validation else None
        if stage in (None, "test", "predict") and self._test is None:
            self._test = Rows(self._ids("test"))

    def _place(self, split: str) -> str:
        return self.test if split == "test" and self.test is not None else self.source

    def _lines(self, split: str) -> Lines:
        place = self._place(split)
        lines = self.examples() if place == EXAMPLES else self.read(user_path(place))
        if self.test is None:
            tests = slice(TEST_EVERY - 1, None, TEST_EVERY)
            held = lines[tests]
            del lines[tests]
            lines = held if split == "test" else lines
        if not lines:
            raise DataError(
                f"{place} has no sentence for the {split} split: put some into it, one per line"
                + (f" ({TEST_EVERY} or more, of which every {TEST_EVERY}th is a test)." if self.test is None else ".")
            )
        return lines

    def _ids(self, split: str) -> Int64[Tensor, "n length"]:
        place, lines = self._place(split), [(number, self.tokens(text)) for number, text in self._lines(split)]
        first: dict[str, int] = {}
        for number, tokens in lines:
            for token in tokens:
                first.setdefault(token, number)
        lacking = [token for token in first if token not in self.space.vocabulary]
        if lacking:
            raise DataError(
                f"{place}, line {first[lacking[0]]}: {lacking[0]!r} is not in the vocabulary. All that it lacks of "
                f"this file: {lacking!r:.1000}. Add them to the vocabulary of data and model, or drop their lines."
            )
        rows = []
        for number, tokens in lines:
            try:
                rows.append(self.space.row(tokens))
            except DataError as error:
                raise DataError(f"{place}, line {number}: {error}") from None
        return torch.tensor(rows)

    def train_dataloader(self) -> DataLoader:
        """Shuffled batches; the last, smaller one is left out unless it is the only one."""
        return self.shuffled(self._train, self.batch_size)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        """The sentences held back, or no loader at all."""
        return [] if self._validation is None else fixed_loader(self._validation, self.batch_size)

    def test_dataloader(self) -> DataLoader:
        """The test sentences, in their order."""
        return fixed_loader(self._test, self.batch_size)

    predict_dataloader = test_dataloader


def read_text(path: Path) -> str:
    """All of a text file in UTF-8, without the mark that some editors put before it.

    Raises:
        DataError: it is none.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no text in UTF-8 ({error}): convert or unpack it first.") from None
