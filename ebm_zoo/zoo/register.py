"""A saved model as an entry of a catalog of yours."""

import re
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ebm_zoo.errors import CatalogError
from ebm_zoo.files import atomic, read_folder, user_path
from ebm_zoo.zoo.card import SAMPLES, write_card
from ebm_zoo.zoo.catalog import Entry, merged, weights_root
from ebm_zoo.zoo.edit import add
from ebm_zoo.zoo.hub import from_pretrained
from ebm_zoo.zoo.parts import Shape, Weights

NAME = re.compile("[a-z0-9_]+/[a-z0-9_]+")
FILES = ("config.json", "model.safetensors", *SAMPLES)


def register(folder: str | Path, name: str, source: str | Path, summary: str = "") -> Entry:
    """Add a saved model to a catalog, so that it loads by name.

    Args:
        folder: a folder that `save_pretrained` wrote. Its files are copied below the catalog's weights, unless they
            lie there already. A card is written beside them.
        name: model and data, as in ``my_model/my_data``.
        source: the catalog file, made if missing.
        summary: what the model is, in one sentence.

    Returns:
        The entry.

    Raises:
        CatalogError: if the name is bad or taken, or the catalog cannot be edited.
        ZooError: if the folder holds no model that loads, or the copies cannot be written.
    """
    folder, source = user_path(folder), user_path(source).absolute()
    if NAME.fullmatch(name) is None:
        raise CatalogError(f"A name is model/data, of small letters, digits and _ only, not '{name}'.")
    if name in merged(source if source.exists() else None):
        raise CatalogError(f"There is a model named '{name}' already: choose another name.")
    target = weights_root(source) / name
    # Before anything is copied: what does not load is refused.
    described(folder, name)
    if target.resolve() == folder.resolve():
        return _entered(target, name, source, summary)
    if target.exists():
        raise CatalogError(f"{target} is there already, though no entry has its name: remove it, or choose another.")
    made = [each for each in (target.parent, target.parent.parent) if not each.exists()]
    try:
        for file in filter(Path.is_file, (folder / each for each in FILES)):
            with atomic(target / file.name) as path:
                shutil.copyfile(file, path)
        return _entered(target, name, source, summary)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        for each in made:
            with suppress(OSError):  # somebody else may have put something there
                each.rmdir()
        raise


def described(folder: str | Path, name: str, summary: str = "") -> Entry:
    """What a saved model says of itself: an entry without paper, data, training and figures.

    Args:
        folder: a folder that `save_pretrained` wrote; the model is loaded from it.
        name: name of the entry.
        summary: what the model is, in one sentence.

    Returns:
        The entry, of no catalog yet.

    Raises:
        ZooError: if the folder holds no model that loads.
    """
    model = from_pretrained(Path(folder))
    config, data, sha256 = read_folder(folder)
    kind, space = type(model).__name__, model.space
    return Entry(
        name=name,
        summary=summary or f"A {kind}.",
        model=kind,
        tasks=tuple(model.tasks),
        space=Shape(tuple(space.shape), float(space.low), float(space.high)),
        sampler=_sampling(config["init_args"]),
        weights=Weights(f"{name}/model.safetensors", len(data), sha256, sum(p.numel() for p in model.parameters())),
    )


def _entered(folder: Path, name: str, source: Path, summary: str) -> Entry:
    entry = replace(described(folder, name, summary), source=source)
    add(entry)
    write_card(entry)
    return entry


def _sampling(arguments: dict[str, Any]) -> str:
    found = []
    for name, value in arguments.items():
        path = value.get("class_path", "") if isinstance(value, dict) else ""
        if path.startswith("ebm_zoo.samplers."):
            settings = {k: v for k, v in (value.get("init_args") or {}).items() if v is not None}
            text = ", ".join(f"{k}={v}" for k, v in settings.items())
            found.append(f"{name} {path.rpartition('.')[2]}({text})")
    return ", ".join(found) or "none"
