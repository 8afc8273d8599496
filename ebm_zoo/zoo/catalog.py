"""The catalog: checkpoints.yaml as typed entries. Reading it does not import torch."""

import difflib
import fnmatch
import os
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from ebm_zoo.errors import CatalogError
from ebm_zoo.files import WEIGHTS, plain_yaml, resource
from ebm_zoo.zoo.parts import Data, Hub, Metric, Paper, Shape, Training, Weights
from ebm_zoo.zoo.schema import NOT_IN_YAML, build

VARIABLE = "EBM_ZOO_CATALOG"
"""Environment variable that names a catalog of the user's own."""


@dataclass(frozen=True)
class Entry:
    """One trained model.

    A model of the user's own need not have a paper, public data or a recorded training. ``source`` is the catalog
    file that the entry was read from.
    """

    name: str
    summary: str
    model: str
    tasks: tuple[str, ...]
    space: Shape
    sampler: str
    weights: Weights
    paper: Paper | None = None
    data: Data | None = None
    training: Training | None = None
    limits: str = ""
    hub: Hub | None = None
    metrics: list[Metric] = field(default_factory=list)
    source: Path = field(default=Path(), metadata=NOT_IN_YAML)

    @property
    def root(self) -> Path:
        """Folder below which the catalog's weights lie."""
        return weights_root(self.source)

    @property
    def folder(self) -> Path:
        """Folder of the local copy."""
        return (self.root / self.weights.file).parent

    @property
    def config(self) -> Path:
        """The experiment's configuration."""
        return config_path(self.name)


def read_catalog(path: str | Path) -> dict[str, Entry]:
    """Read a catalog file.

    Args:
        path: YAML, a mapping from name to entry.

    Returns:
        Entries by name, in the file's order.

    Raises:
        CatalogError: for the first thing wrong in it, naming file, entry and field.
    """
    try:
        raw = plain_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CatalogError(f"Cannot read the catalog {path}: {error}.") from None
    if not isinstance(raw, dict):
        raise CatalogError(f"The catalog {path} must map names to entries.")
    entries = {}
    for name, item in raw.items():
        where = f"{path}: {name}"
        if not isinstance(item, dict):
            raise CatalogError(f"{where} must be a mapping of fields.")
        entry = build(Entry, {**item, "name": str(name)}, where)
        entries[str(name)] = entry = replace(entry, source=Path(path).absolute())
        root = entry.root.resolve()
        if root not in (root / entry.weights.file).resolve().parents:
            raise CatalogError(f"{where}.weights.file leaves the weights folder: {entry.weights.file}.")
    return entries


def weights_root(source: Path) -> Path:
    """Folder of a catalog's weights: the package's own for its own catalog, else ``weights`` beside the file."""
    own = resource("checkpoints.yaml").resolve() == source.resolve()
    return WEIGHTS if own else source.parent / "weights"


def catalog() -> dict[str, Entry]:
    """The zoo's own models, then those of the catalog that the environment variable EBM_ZOO_CATALOG names.

    Raises:
        CatalogError: if a file is missing or bad, or both name the same model.
    """
    own = os.environ.get(VARIABLE)
    return merged(Path(own).expanduser().absolute() if own else None)


@lru_cache
def merged(own: Path | None) -> dict[str, Entry]:
    """Entries of the zoo's catalog and of a user's; `merged.cache_clear` lets changed files be read again."""
    zoo = resource("checkpoints.yaml")
    entries = read_catalog(zoo)
    if own is None or own.resolve() == zoo.resolve():
        return entries
    more = read_catalog(own)
    twice = sorted(entries.keys() & more.keys())
    if twice:
        raise CatalogError(f"Both {zoo} and {own} have a model named '{twice[0]}': rename it in one of them.")
    return {**entries, **more}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the trained models that match a shell pattern, for instance ``"*mnist*"``."""
    return [name for name in catalog() if fnmatch.fnmatch(name, pattern)]


def find(name: str) -> Entry:
    """Entry of a name.

    Raises:
        CatalogError: if there is none; the nearest names are suggested.
    """
    if name in catalog():
        return catalog()[name]
    near = difflib.get_close_matches(name, catalog(), n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`ebm-zoo list` shows all names."
    raise CatalogError(f"The zoo has no model named '{name}'. {hint}")


def config_path(name: str) -> Path:
    """Path of a configuration in zoo_configs, for instance of ``generative_convnet/digits``.

    Raises:
        CatalogError: if there is none; the nearest names are suggested.
    """
    root = resource("zoo_configs")
    path = (root / f"{name}.yaml").resolve()
    if path.is_file() and root.resolve() in path.parents:
        return path
    known = sorted(str(p.relative_to(root).with_suffix("")) for p in root.rglob("*.yaml"))
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
    raise CatalogError(f"No configuration file and no zoo configuration is named '{name}'. Near: {', '.join(near)}.")
