"""The catalog: checkpoints.yaml as typed entries. Reading it does not import torch."""

import difflib
import fnmatch
import math
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import yaml

from ebm_zoo.errors import CatalogError
from ebm_zoo.files import WEIGHTS, resource
from ebm_zoo.zoo.schema import build


@dataclass(frozen=True)
class Paper:
    """Where the model comes from."""

    title: str
    authors: str
    year: int
    url: str


@dataclass(frozen=True)
class Data:
    """What the model was trained on, and under which terms those data are."""

    name: str
    split: str
    terms: str
    url: str


@dataclass(frozen=True)
class Weights:
    """The weight file: path below the package's weights, bytes, hash, number of values."""

    file: str
    size: int
    sha256: str
    parameters: int

    def __post_init__(self) -> None:
        _require(self.size > 0, "size", "positive", self.size)
        _require(self.parameters > 0, "parameters", "positive", self.parameters)
        _require(re.fullmatch("[0-9a-f]{64}", self.sha256) is not None, "sha256", "64 hexadecimal digits", self.sha256)


@dataclass(frozen=True)
class Training:
    """How the weights came about."""

    command: str
    seed: int
    wall_time: str
    hardware: str
    date: str
    versions: str
    notes: str = ""

    def __post_init__(self) -> None:
        _require(self.seed >= 0, "seed", "0 or more", self.seed)


@dataclass(frozen=True)
class Metric:
    """One measured figure and what it takes to measure it again; the paper's own figure stands apart."""

    name: str
    value: float
    protocol: str
    command: str
    seed: int
    hardware: str
    date: str
    paper: float | None = None

    def __post_init__(self) -> None:
        _require(math.isfinite(self.value), "value", "finite", self.value)
        _require(self.seed >= 0, "seed", "0 or more", self.seed)


@dataclass(frozen=True)
class Shape:
    """Shape and range of one datum."""

    shape: tuple[int, ...]
    low: float
    high: float

    def __post_init__(self) -> None:
        _require(min(self.shape, default=0) > 0, "shape", "sizes above 0", self.shape)
        _require(self.low < self.high, "low", f"below high ({self.high:g})", self.low)


@dataclass(frozen=True)
class Entry:
    """One trained model."""

    name: str
    summary: str
    model: str
    tasks: tuple[str, ...]
    paper: Paper
    data: Data
    space: Shape
    sampler: str
    weights: Weights
    training: Training
    metrics: list[Metric] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Folder of the embedded checkpoint."""
        return (WEIGHTS / self.weights.file).parent

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
        # The safe loader, in C where PyYAML was built with it: `list` and `info` should answer at once.
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CatalogError(f"Cannot read the catalog {path}: {str(error).splitlines()[0]}.") from None
    if not isinstance(raw, dict):
        raise CatalogError(f"The catalog {path} must map names to entries.")
    entries = {}
    for name, item in raw.items():
        where = f"{path}: {name}"
        if not isinstance(item, dict):
            raise CatalogError(f"{where} must be a mapping of fields.")
        entries[str(name)] = entry = build(Entry, {**item, "name": str(name)}, where)
        inside = (WEIGHTS / entry.weights.file).resolve()
        if WEIGHTS.resolve() not in inside.parents:
            raise CatalogError(f"{where}.weights.file leaves the weights folder: {entry.weights.file}.")
    return entries


def _require(condition: bool, field_name: str, wanted: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{field_name} must be {wanted}, not {value!r}")


@lru_cache
def catalog() -> dict[str, Entry]:
    """The zoo's own catalog."""
    return read_catalog(resource("checkpoints.yaml"))


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
