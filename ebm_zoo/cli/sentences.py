"""What models of sentences do on the command line: text in, text out, one sentence per line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebm_zoo.cli.images import require_suffix, write_values
from ebm_zoo.data.smiles import read_smiles
from ebm_zoo.data.text import read_lines
from ebm_zoo.errors import DataError, printable
from ebm_zoo.files import atomic, user_path
from ebm_zoo.space import TokenSpace

BATCH = 100
TEXT = (".txt", ".smi")
MOLECULES = (".smi", ".smiles", ".csv")
TABLES = (".csv", ".npy", ".npz")
# Tasks that answer with numbers, and those that answer with sentences.
VALUES = ("energy", "log_joint", "latent_energy", "infer")
TASKS = (*VALUES, "reconstruct", "interpolate", "inpaint")


def sample_sentences(model: Any, n: int, out: str | None, seed: int, steps: int | None) -> int:
    """Draw sentences, and write or print them."""
    path = _place(out)
    generator = torch.Generator().manual_seed(seed)
    batches = [min(BATCH, n - done) for done in range(0, n, BATCH)]

    def drawn() -> list[str]:
        return model.space.text(torch.cat([model.sample(k, steps=steps, generator=generator) for k in batches]))

    return _write(drawn, path)


def apply_sentences(model: Any, task: str, input: str, out: str | None, n: int, steps: int | None, seed: int) -> int:
    """Let a model of sentences answer for those of a file."""
    if task not in TASKS:
        raise DataError(f"'{task}' takes no input: use `ebm-zoo {task}`.")
    path = require_suffix(out, TABLES) if task in VALUES else _place(out)
    sentences = read_sentences(input)
    x = _rows(sentences, model.space, input)
    torch.manual_seed(seed)
    if path is not None and task in VALUES:
        with atomic(path) as target:
            values = torch.cat([getattr(model, task)(part, steps=steps) for part in x.split(BATCH)])
            write_values(values, task, sentences, path, target)
        print(printable(f"{path}: {task} of {len(sentences)} sentences"))
        return 0
    return _write(lambda: model.space.text(_answers(model, task, x, n, steps)), path)


def read_sentences(place: str | Path) -> list[str]:
    """Sentences of a file as the data modules read them: molecules of .smi and .csv, lines of any other text.

    Raises:
        DataError: there is no such file, or no sentence in it.
    """
    path = user_path(place)
    if not path.is_file():
        raise DataError(f"{place} is no file: this model takes text, one sentence per line.")
    read = read_smiles if path.suffix.lower() in MOLECULES else read_lines
    sentences = [sentence for _, sentence in read(path)]
    if not sentences:
        raise DataError(f"{place} has no sentence: write one per line.")
    return sentences


def _rows(sentences: Sequence[str], space: TokenSpace, source: str) -> Tensor:
    try:
        return space.ids(sentences)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


def _answers(model: Any, task: str, x: Tensor, n: int, steps: int | None) -> Tensor:
    if task == "reconstruct":
        return torch.cat([model.reconstruct(part, steps=steps) for part in x.split(BATCH)])
    if task == "inpaint":
        # A sentence without its end is the beginning of one.
        return torch.cat([model.inpaint(part, part > 0, steps=steps) for part in x.split(BATCH)])
    if len(x) % 2:
        raise DataError(f"Interpolation walks between pairs of sentences: give an even number, not {len(x)}.")
    walks = [model.interpolate(part[::2], part[1::2], n, steps=steps) for part in x.split(BATCH)]
    return torch.cat(walks).flatten(0, 1)


def _place(out: str | None) -> Path | None:
    return None if out is None else require_suffix(out, TEXT)


def _write(sentences: Callable[[], list[str]], path: Path | None) -> int:
    if path is None:
        print("".join(f"{sentence}\n" for sentence in sentences()), end="")
        return 0
    # What cannot be written to is refused before anything is computed.
    with atomic(path) as target:
        found = sentences()
        target.write_text("".join(f"{sentence}\n" for sentence in found), encoding="utf-8")
    print(printable(f"{path}: {len(found)} sentences"))
    return 0
