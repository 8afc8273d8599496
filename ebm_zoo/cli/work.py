"""`ebm-zoo sample` and `apply`."""

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ebm_zoo.cli.answers import BATCH, domain_of, inpainted, progress, rebuilt, solutions, translated, values
from ebm_zoo.cli.clips import read_clips, write_clips
from ebm_zoo.cli.images import read_images, read_mask, require_suffix, write_images, write_values
from ebm_zoo.cli.sentences import apply_sentences, sample_sentences
from ebm_zoo.data.tensors import Fit
from ebm_zoo.errors import DataError, printable
from ebm_zoo.files import atomic
from ebm_zoo.space import Space, TokenSpace
from ebm_zoo.zoo import from_pretrained

IMAGES = (".png", ".npy", ".npz")
# Tasks that answer with numbers.
VALUES = ("energy", "log_prob", "log_joint", "latent_energy", "classify", "encode", "infer")
KINDS = {"translate": (*IMAGES, ".gif")}


def sample_command(
    name: str, n: int, out: str | None, seed: int, steps: int | None, size: int | None, label: int | None
) -> int:
    """Draw samples and write them."""
    if n < 1:
        raise DataError(f"--n must be 1 or more, not {n}.")
    model = _model_for(name, "sample", steps)
    settings = _sample_settings(model, name, size, label)
    if isinstance(model.space, TokenSpace):
        return sample_sentences(model, n, out, seed, steps)
    path = require_suffix(out, IMAGES)
    generator = torch.Generator().manual_seed(seed)
    batches = [min(BATCH, n - done) for done in range(0, n, BATCH)]
    total = len(batches) * (model.chain_length if steps is None else steps)
    with atomic(path) as target:
        with progress(f"sampling {n}", total) as advance:
            parts = [
                model.sample(k, steps=steps, generator=generator, on_step=lambda *_: advance(), **settings)
                for k in batches
            ]
        write_images(torch.cat(parts), path, target, model.space)
    print(printable(f"{path}: {n} samples of {name}"))
    return 0


def apply_command(
    name: str,
    task: str,
    input: str,
    out: str | None,
    mask: str | None,
    condition: str | None,
    to: str | None,
    of: str | None,
    size: int | None,
    n: int,
    iterations: int,
    steps: int | None,
    seed: int,
) -> int:
    """Let a model answer for the user's images or sentences."""
    if iterations < 0:
        raise DataError(f"--iterations must be 0 or more, not {iterations}.")
    model = _model_for(name, task, steps)
    if isinstance(model.space, TokenSpace):
        return apply_sentences(model, task, input, out, n, steps, seed)
    path = require_suffix(out, (".csv", ".npy", ".npz") if task in VALUES else KINDS.get(task, IMAGES))
    images, opaque, names = _read(model, task, input, size)
    torch.manual_seed(seed)
    with atomic(path) as target:
        if task in VALUES:
            write_values(values(model, task, images, condition, of), task, names, path, target)
        elif task == "translate":
            _write(translated(model, images, to, steps), path, target, model.space)
        elif task == "predict_next":
            following = [model.predict_next(x, domain_of("of", of)) for x in images.split(BATCH)]
            write_images(torch.cat(following), path, target, model.space)
        elif task == "inpaint":
            known = _known(opaque, mask, images, input)
            write_images(inpainted(model, images, known, steps), path, target, model.space)
        elif task == "predict":
            write_images(solutions(model, images, n, steps), path, target, model.space, n)
        else:
            answer, columns = rebuilt(model, task, images, n, iterations, steps)
            write_images(answer, path, target, model.space, columns)
    print(printable(f"{path}: {task} of {len(images)} image(s) by {name}"))
    return 0


def _model_for(name: str, task: str, steps: int | None) -> Any:
    if steps is not None and steps < 0:
        raise DataError(f"--steps must be 0 or more, not {steps}.")
    model = from_pretrained(name)
    if task not in model.tasks:
        raise DataError(f"{name} has no task '{task}'; it has {', '.join(model.tasks)}.")
    return model


def _sample_settings(model: Any, name: str, size: int | None, label: int | None) -> dict[str, Any]:
    known = inspect.signature(model.sample).parameters
    if size is not None and "shape" not in known:
        raise DataError(f"{name} draws images of {' x '.join(map(str, model.space.shape))} only: leave --size out.")
    if label is not None and "label" not in known:
        raise DataError(f"{name} knows no classes: leave --label out.")
    shape = {} if size is None else {"shape": _shape_for(model, name, size)}
    return shape if label is None else {**shape, "label": label}


def _read(model: Any, task: str, input: str, size: int | None) -> tuple[Tensor, Tensor | None, list[str]]:
    """Images or clips of a task, of those the opaque pixels, and their names."""
    if size is not None and (task != "translate" or size < 1):
        raise DataError(
            f"--size is the side that images to translate are fitted to, 1 or more, not {size} of '{task}'."
        )
    space, side = model.space, size or model.space.shape[-1]
    if len(space.shape) == 4:
        clips, names = read_clips(input, space, side)
        return clips, None, names
    if task == "translate":
        shape = (space.shape[0], side, side)
        return read_images(input, Space(shape, space.low, space.high), Fit(side, space.shape[0]))
    return read_images(input, _asked(model, task))


def _asked(model: Any, task: str) -> Space:
    """What the images of a task are: those of the model, or the questions that it answers."""
    if task != "predict":
        return model.space
    if not isinstance(model.condition, Space):
        raise DataError("This model answers to classes, not to images: use `ebm-zoo sample --label`.")
    return model.condition


def _write(answer: Tensor, path: Path, target: Path, space: Space) -> None:
    if answer.dim() == 5:
        write_clips(answer, path, target, space)
    elif path.suffix.lower() == ".gif":
        raise DataError(f"Cannot write {path}: this model answers with images, which do not move.")
    else:
        write_images(answer, path, target, space)


def _shape_for(model: Any, name: str, size: int) -> tuple[int, int, int]:
    shape = (model.space.shape[0], size, size)
    try:
        with torch.no_grad():
            model.energy(model.sample(1, steps=0, shape=shape))
    except RuntimeError as error:
        raise DataError(f"{name} cannot draw images of {size} x {size}: {str(error).splitlines()[0]}") from None
    return shape


def _known(opaque: Tensor | None, mask: str | None, images: Tensor, source: str) -> Tensor:
    known = opaque if mask is None else read_mask(mask)
    if known is None:
        raise DataError(f"{source} has no transparent pixels to fill: mark them, or give --mask (white = known).")
    if known.shape[-2:] != images.shape[-2:] or len(known) not in (1, len(images)):
        raise DataError(f"The mask is {tuple(known.shape)}, the images are {tuple(images.shape)}: sizes must agree.")
    if known.all():
        raise DataError("The mask leaves no pixel unknown: there is nothing to fill.")
    if not known.flatten(1).any(1).all():
        where = f" of image {int(known.flatten(1).any(1).int().argmin())}" if len(known) > 1 else ""
        raise DataError(
            f"The mask leaves no pixel{where} known, and all would be replaced: mark as known what is to stay (white, "
            "or opaque), or draw anew with `ebm-zoo sample`."
        )
    return known
