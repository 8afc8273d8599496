"""What a catalog entry consists of."""

import math
import re
from dataclasses import dataclass

# No two dashes or dots in a row: the cache joins names with "--", and ".." is a way out of a folder.
REPO = re.compile(r"(?!.*(--|\.\.))\w([\w.-]{0,94}\w)?/\w([\w.-]{0,94}\w)?", re.ASCII)
"""A repository of the Hub: user/name."""
COMMIT = re.compile("[0-9a-f]{40}")
"""The full name of a commit, which stands for the same files for ever."""

SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class Paper:
    """Where the model comes from."""

    title: str
    authors: str
    year: int
    url: str


@dataclass(frozen=True)
class Data:
    """What the model was trained on, under which terms those data are, and their name on the Hub if they have one."""

    name: str
    split: str
    terms: str
    url: str
    hub: str | None = None


@dataclass(frozen=True)
class Weights:
    """The weight file: path below the catalog's weights, bytes, hash, number of values."""

    file: str
    size: int
    sha256: str
    parameters: int

    def __post_init__(self) -> None:
        _require(self.file.isprintable(), "file", "a path of printable characters", self.file)
        _require(self.size > 0, "size", "positive", self.size)
        _require(self.parameters > 0, "parameters", "positive", self.parameters)
        _require(SHA256.fullmatch(self.sha256) is not None, "sha256", "64 hexadecimal digits", self.sha256)


@dataclass(frozen=True)
class Hub:
    """Where on the Hugging Face Hub the model lies: repository and full commit, and the sha256 of its config.json."""

    repo: str
    revision: str
    config: str | None = None

    def __post_init__(self) -> None:
        _require(REPO.fullmatch(self.repo) is not None, "repo", "user/name", self.repo)
        _require(COMMIT.fullmatch(self.revision) is not None, "revision", "40 hexadecimal digits", self.revision)
        known = self.config is None or SHA256.fullmatch(self.config) is not None
        _require(known, "config", "64 hexadecimal digits", self.config)

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}"


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
    """One measured figure and what it takes to measure it again; the paper's own figure stands apart.

    ``samples`` is how many test data or samples it rests on: of two sets whose distance is taken the smaller, of a
    ranking all that is ranked. Where it was measured with several ``seeds``, counted from ``seed`` on, ``value`` is
    their mean and ``spread`` their standard deviation.
    """

    name: str
    value: float
    protocol: str
    command: str
    seed: int
    hardware: str
    date: str
    paper: float | None = None
    samples: int | None = None
    spread: float | None = None
    seeds: int = 1

    def __post_init__(self) -> None:
        _require(math.isfinite(self.value), "value", "finite", self.value)
        _require(self.seed >= 0, "seed", "0 or more", self.seed)
        _require(self.samples is None or self.samples > 0, "samples", "positive", self.samples)
        _require(self.spread is None or 0 <= self.spread < math.inf, "spread", "0 or more", self.spread)
        wanted = "1 without a spread, 2 or more with one"
        _require((self.seeds > 1) if self.spread is not None else (self.seeds == 1), "seeds", wanted, self.seeds)

    def __str__(self) -> str:
        if not self.spread:
            return f"{self.value:g}" + (" ± 0" if self.spread == 0 else "")
        # Two digits of the spread, and as many places of the mean.
        places = max(0, 1 - math.floor(math.log10(self.spread)))
        return f"{self.value:.{places}f} ± {self.spread:.{places}f}"

    @property
    def taken(self) -> str:
        """The seeds it was measured with."""
        return f"{self.seed}" if self.seeds == 1 else f"{self.seed} to {self.seed + self.seeds - 1}"


@dataclass(frozen=True)
class Shape:
    """Shape and range of one datum."""

    shape: tuple[int, ...]
    low: float
    high: float

    def __post_init__(self) -> None:
        _require(min(self.shape, default=0) > 0, "shape", "sizes above 0", self.shape)
        _require(self.low < self.high, "low", f"below high ({self.high:g})", self.low)


def _require(condition: bool, field_name: str, wanted: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{field_name} must be {wanted}, not {value!r}")
