"""`ebm-zoo list` and `ebm-zoo info`, without torch."""

import json as json_module
from dataclasses import asdict

from ebm_zoo.zoo.catalog import catalog, find, list_models


def list_command(pattern: str, json: bool) -> int:
    """Print names, sizes and first figures."""
    entries = [catalog()[name] for name in list_models(pattern)]
    if json:
        _print_json([asdict(entry) for entry in entries])
    else:
        width = max((len(entry.name) for entry in entries), default=4)
        for entry in entries:
            metric = entry.metrics[0] if entry.metrics else None
            figure = f"{metric.name} {metric.value:g}" if metric else ""
            print(f"{entry.name:{width}}  {entry.weights.parameters:>9,}  {figure:30}  {entry.summary}")
    return 0


def info_command(name: str, json: bool) -> int:
    """Print all that is recorded of one model."""
    entry = find(name)
    if json:
        _print_json(asdict(entry))
        return 0
    paper, data, training = entry.paper, entry.data, entry.training
    shape = " x ".join(map(str, entry.space.shape))
    rows = {
        "model": f"{entry.model}: {entry.summary}",
        "tasks": ", ".join(entry.tasks),
        "paper": f"{paper.authors}. {paper.title}. {paper.year}. {paper.url}",
        "data": f"{data.name}, {data.split}. Terms: {data.terms}. {data.url}",
        "takes": f"{shape} in [{entry.space.low:g}, {entry.space.high:g}]",
        "sampler": entry.sampler,
        "weights": f"{entry.weights.parameters:,} values, {entry.weights.size:,} bytes, sha256 {entry.weights.sha256}",
        "training": f"{training.command}; seed {training.seed}; {training.wall_time} on {training.hardware}, "
        f"{training.date}, {training.versions}. {training.notes}".rstrip(),
    }
    print(entry.name)
    for key, text in rows.items():
        print(f"  {key:9} {text}")
    for metric in entry.metrics:
        reported = "" if metric.paper is None else f" (paper: {metric.paper:g})"
        print(f"  measured  {metric.name} {metric.value:g}{reported}")
        print(f"            {metric.protocol}; {metric.command}; seed {metric.seed}; {metric.hardware}, {metric.date}")
    return 0


def _print_json(value: object) -> None:
    print(json_module.dumps(value, indent=2))
