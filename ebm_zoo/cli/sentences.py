"""What models of sentences do on the command line: text in, text out, one sentence per line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebm_zoo.cli.images import require_suffix, write_values
from ebm_zoo.data.files import user_path
from ebm_zoo.data.sequences import read_text
from ebm_zoo.errors import DataError
from ebm_zoo.files import atomic
from ebm_zoo.space import TokenSpace

BATCH = 100
TEXT = (".txt", ".smi")
TABLES = (".csv", ".npy", ".npz")
# Tasks that answer with numbers, and those that answer with sentences.
VALUES = ("energy", "log_joint", "latent_energy", "infer")
TASKS = (*VALUES, "reconstruct", "interpolate", "inpaint")


def sample_sentences(model: Any, n: int, out: str | None, seed: int, steps: int | None) -> int:
    """Draw sentences, and write or print them."""
    path = _place(out)
    generator = torch.Generator().manual_seed(seed)
    batches = [min(BATCH, n - done) for done in range(0, n, BATCH)]
    ids = torch.cat([model.sample(k, steps=steps, generator=generator) for k in batches])
    return _write(model.space.text(ids), path)


def apply_sentences(model: Any, task: str, input: str, out: str | None, n: int, steps: int | None, seed: int) -> int:
    """Let a model of sentences answer for those of a file."""
    if task not in TASKS:
        raise DataError(f"'{task}' takes no input: use `ebm-zoo {task}`.")
    path = require_suffix(out, TABLES) if task in VALUES else _place(out)
    sentences = read_sentences(input)
    x = _rows(sentences, model.space, input)
    torch.manual_seed(seed)
    if path is not None and task in VALUES:
        values = torch.cat([getattr(model, task)(part, steps=steps) for part in x.split(BATCH)])
        with atomic(path) as target:
            write_values(values, task, sentences, path, target)
        print(f"{path}: {task} of {len(sentences)} sentences")
        return 0
    return _write(model.space.text(_answers(model, task, x, n, steps)), path)


def read_sentences(path: str | Path) -> list[str]:
    """Lines of a text file that are not blank.

    Raises:
        DataError: there is no such file, or no such line.
    """
    place = user_path(str(path))
    if not place.is_file():
        raise DataError(f"{path} is no file: this model takes text, one sentence per line.")
    sentences = [line for line in read_text(place).splitlines() if line.strip()]
    if not sentences:
        raise DataError(f"{path} has no sentence: write one per line.")
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


def _write(sentences: Sequence[str], path: Path | None) -> int:
    text = "".join(f"{sentence}\n" for sentence in sentences)
    if path is None:
        print(text, end="")
        return 0
    with atomic(path) as target:
        target.write_text(text, encoding="utf-8")
    print(f"{path}: {len(sentences)} sentences")
    return 0
