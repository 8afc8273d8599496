"""What a model answers for images on the command line, batch by batch, with a bar of progress."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from ebm_zoo.cli.images import read_images
from ebm_zoo.errors import DataError
from ebm_zoo.space import Space

BATCH = 100
UNROLLED = 8
"""Images at a time where runs of chains are differentiated, which keeps the graphs of all their steps."""


@torch.no_grad()
def values(model: Any, task: str, images: Tensor, condition: str | None, of: str | None) -> Tensor:
    """One number, or one vector, for each image."""
    given, method = _given(model, condition, len(images)), getattr(model, task)
    domains = "of" in inspect.signature(method).parameters
    if of is not None and not domains:
        raise DataError(f"'{task}' of this model knows no domains: leave --of out.")
    settings = {"of": domain_of("of", of)} if domains else {}
    batches = zip(images.split(BATCH), *(each.split(BATCH) for each in given), strict=True)
    return torch.cat([method(*batch, **settings) for batch in batches])


def domain_of(option: str, domain: str | None) -> str:
    """The domain an option names, a or b."""
    if domain is None:
        raise DataError(f"This model knows two domains: give --{option} a or --{option} b.")
    return domain


def translated(model: Any, images: Tensor, to: str | None, steps: int | None) -> Tensor:
    """The images in the other domain."""
    target, parts = domain_of("to", to), images.split(BATCH)
    with progress("translating", (model.chain_length if steps is None else steps) * len(parts)) as advance:
        return torch.cat([model.translate(x, target, steps=steps, on_step=lambda *_: advance()) for x in parts])


def solutions(model: Any, questions: Tensor, n: int, steps: int | None) -> Tensor:
    """n solutions to each question, question after question."""
    total = (model.chain_length if steps is None else steps) * len(questions.split(BATCH))
    with progress("answering", total) as advance:
        settings = {"steps": steps, "on_step": lambda *_: advance()}
        return torch.cat([model.predict(x, n, **settings)[1] for x in questions.split(BATCH)]).flatten(0, 1)


def _given(model: Any, condition: str | None, n: int) -> tuple[Tensor, ...]:
    """Conditions of n images whose energy is asked for, if the model knows any."""
    if not hasattr(model, "condition"):
        if condition is not None:
            raise DataError("This model knows no conditions: leave --condition out.")
        return ()
    if condition is None:
        raise DataError("The energy depends on a condition: give --condition, a class or images.")
    if isinstance(model.condition, Space):
        given = read_images(condition, model.condition)[0]
    elif condition.isdecimal():
        given = model.condition.check(torch.tensor([int(condition)]))
    else:
        raise DataError(f"This model knows classes 0 to {model.condition.count - 1}: '{condition}' is none.")
    if len(given) not in (1, n):
        raise DataError(f"{condition} holds {len(given)} conditions for {n} images: give one, or one for each.")
    return (given.expand(n, *given.shape[1:]),)


def inpainted(model: Any, images: Tensor, known: Tensor, steps: int | None) -> Tensor:
    """The images with their unknown pixels filled."""
    parts = list(zip(images.split(BATCH), known.expand(len(images), *known.shape[1:]).split(BATCH), strict=True))
    with progress("inpainting", (_length(model) if steps is None else steps) * len(parts)) as advance:
        return torch.cat([model.inpaint(*part, steps=steps, on_step=lambda *_: advance()) for part in parts])


def _length(model: Any) -> int:
    """Steps of the chains that answer for given images."""
    return model.infer_length if hasattr(model, "infer_length") else model.chain_length


def rebuilt(model: Any, task: str, images: Tensor, n: int, iterations: int, steps: int | None) -> tuple[Tensor, int]:
    """Reconstructions, or the walks between pairs, and how many stand in a row."""
    if task not in ("reconstruct", "interpolate"):
        raise DataError(f"'{task}' takes no input: use `ebm-zoo {task}`.")
    if task == "interpolate" and len(images) % 2:
        raise DataError(f"Interpolation walks between pairs of images: give an even number, not {len(images)}.")
    chains = hasattr(model, "infer_length")
    total = iterations if not chains else _length(model) if steps is None else steps
    size = UNROLLED if hasattr(model, "invert") else BATCH
    parts = images.split(size)  # an even number, so that pairs stay together
    with progress("inferring", total * len(parts)) as advance:
        # Models that infer by chains take steps of these, the others iterations of an optimiser.
        way: dict[str, Any] = {"iterations": iterations, "progress": lambda _: advance()}
        settings = {"steps": steps, "on_step": lambda *_: advance()} if chains else way
        if task == "reconstruct":
            return torch.cat([model.reconstruct(x, **settings) for x in parts]), 8
        walks = torch.cat([model.interpolate(x[::2], x[1::2], n, **settings) for x in parts])
        return walks.flatten(0, 1), n


@contextmanager
def progress(text: str, total: int) -> Iterator[Any]:
    """A bar that the function it hands out moves on by one."""
    console = Console(stderr=True)
    # Off a terminal a bar is noise in a log, and before rich 14.3 one that is disabled writes an empty line.
    if not console.is_terminal:
        yield lambda: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda: bar.advance(task)
