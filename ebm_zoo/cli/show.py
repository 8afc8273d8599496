"""What `ebm-zoo list`, `info` and `test` print of trained models, without torch."""

import json as json_module
from dataclasses import asdict
from typing import Any

from ebm_zoo.errors import printable
from ebm_zoo.zoo.catalog import Entry, catalog, list_models
from ebm_zoo.zoo.client import Access
from ebm_zoo.zoo.resolve import Found, interpret, peek

NOT_THERE = "not on the Hub yet"


def list_command(pattern: str, json: bool) -> int:
    """Print names, sizes, first figures and places on the Hub."""
    entries = [catalog()[name] for name in list_models(pattern)]
    if json:
        _print_json([_plain(entry) for entry in entries])
    else:
        width = max((len(entry.name) for entry in entries), default=4)
        for entry in entries:
            metric = entry.metrics[0] if entry.metrics else None
            figure = f"{metric.name} {metric}" if metric else ""
            place = f"{entry.hub or NOT_THERE}"
            count = f"{entry.weights.parameters:>9,}"
            print(printable(f"{entry.name:{width}}  {count}  {figure:42}  {entry.summary}  [{place}]"))
    return 0


def info_command(name: str, json: bool) -> int:
    """Print all that is recorded of one model, or what a repository or folder says of itself."""
    target = interpret(name)
    if target.entry is None:
        return _peek(name, json)
    entry = target.entry
    if json:
        _print_json(_plain(entry))
        return 0
    print(printable(entry.name))
    for key, text in _rows(entry).items():
        print(printable(f"  {key:9} {text}"))
    for metric in entry.metrics:
        reported = "" if metric.paper is None else f" (paper: {metric.paper:g})"
        print(printable(f"  measured  {metric.name} {metric}{reported}"))
        seeds = f"seed {metric.taken}" if metric.seeds == 1 else f"mean and spread of seeds {metric.taken}"
        how = f"{metric.protocol}; {metric.command}; {seeds}; {metric.hardware}, {metric.date}"
        print(printable(f"            {how}"))
    return 0


def _peek(name: str, json: bool) -> int:
    place, config, sha256, size = peek(name, Access())
    found = {"place": place, "model": config, "weights": {"size": size, "sha256": sha256}}
    if json:
        _print_json(found)
        return 0
    kind = config.get("class_path") if isinstance(config, dict) else None
    print(f"{printable(place)}\n  model     {kind!r:.100}\n  weights   {size:,} bytes, sha256 {sha256}")
    return 0


def _rows(entry: Entry) -> dict[str, str]:
    paper, data, training, weights = entry.paper, entry.data, entry.training, entry.weights
    shape = " x ".join(map(str, entry.space.shape))
    rows = {"model": f"{entry.model}: {entry.summary}", "tasks": ", ".join(entry.tasks)}
    if paper:
        rows["paper"] = f"{paper.authors}. {paper.title}. {paper.year}. {paper.url}"
    if data:
        rows["data"] = f"{data.name}, {data.split}. Terms: {data.terms}. {data.url}"
    rows["takes"] = f"{shape} in [{entry.space.low:g}, {entry.space.high:g}]"
    rows["sampler"] = entry.sampler
    rows["weights"] = f"{weights.parameters:,} values, {weights.size:,} bytes, sha256 {weights.sha256}"
    rows["hub"] = f"{entry.hub or NOT_THERE}"
    if training:
        how = f"{training.command}; seed {training.seed}; {training.wall_time} on {training.hardware}"
        rows["training"] = f"{how}, {training.date}, {training.versions}. {training.notes}".rstrip()
    if entry.limits:
        rows["limits"] = entry.limits
    return rows


def _plain(entry: Entry) -> dict[str, Any]:
    # Which file of this machine an entry was read from is nobody else's concern.
    return {name: value for name, value in asdict(entry).items() if name != "source"}


def _print_json(value: object) -> None:
    print(json_module.dumps(value, indent=2))


def print_figures(trained: Found, measured: dict[str, float]) -> None:
    """Print measured beside recorded figures."""
    entry = trained.entry
    recorded = {} if entry is None else {metric.name: metric for metric in entry.metrics}
    print()
    print(printable(trained.place if entry is None else entry.name))
    print(f"{'figure':28} {'measured':>12} {'recorded':>22} {'paper':>10}")
    for name in sorted({*measured, *recorded}):
        metric = recorded.get(name)
        cells = (
            f"{measured[name]:.5g}" if name in measured else "-",
            str(metric or "-"),
            f"{metric.paper:g}" if metric and metric.paper is not None else "-",
        )
        print(printable(f"{name:28} {cells[0]:>12} {cells[1]:>22} {cells[2]:>10}"))
