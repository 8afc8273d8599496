"""The card of a trained model, written from its catalog entry: a header for the Hub, then text."""

import re
from collections.abc import Iterable
from pathlib import Path

import yaml
from huggingface_hub import EvalResult, ModelCardData

from ebm_zoo.files import atomic, resource
from ebm_zoo.zoo.catalog import Entry, catalog
from ebm_zoo.zoo.parts import Metric, Paper

LICENSE = "apache-2.0"
# Beside the weights, where they are there: what the model answers, still, moving or in words.
SAMPLES = ("samples.png", "samples.gif", "samples.txt")
# The Hub's words for what a model of images does; it has none for most of the zoo's tasks.
PIPELINES = {
    "classify": "image-classification",
    "sample": "unconditional-image-generation",
    "predict": "image-to-image",
    "translate": "image-to-image",
}


def card(entry: Entry, repo: str | None = None, folder: Path | None = None) -> str:
    """Markdown that lies beside the weights as README.md, here or on the Hub.

    Args:
        entry: the model's catalog entry.
        repo: repository that the card is written for; none for the card of the local copy. A repository's card
            names no commit, so that the same model makes the same card and no new commit.
        folder: where the files lie, unless at the entry's own place.

    Returns:
        The text: what it is, how to load it, its training, figures measured and reported, limits, terms, citation.
    """
    samples = [path for path in ((folder or entry.folder) / name for name in SAMPLES) if path.is_file()]
    parts = [
        f"---\n{_header(entry)}\n---",
        f"# {entry.name}",
        entry.summary,
        *(_shown(path) for path in samples),
        _loading(entry, repo),
        _description(entry),
        _training(entry),
        _figures(entry.metrics),
        f"## Limits\n\n{entry.limits}" if entry.limits else "",
        _terms(entry),
        _citation(entry.paper),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _shown(samples: Path) -> str:
    if samples.suffix != ".txt":
        return f"![samples]({samples.name})"
    return f"Samples:\n\n```text\n{samples.read_text(encoding='utf-8').rstrip()}\n```"


def _header(entry: Entry) -> str:
    data, is_image = entry.data, len(entry.space.shape) == 3
    pipeline = next((PIPELINES[task] for task in PIPELINES if is_image and task in entry.tasks), None)
    results = []
    # A figure is worth nothing there without the data it was measured on.
    if data:
        results = [
            EvalResult(
                task_type=pipeline or "other",
                dataset_type=data.hub or data.name,
                dataset_name=data.name,
                metric_type=metric.name,
                metric_name=metric.name,
                metric_value=metric.value,
            )
            for metric in entry.metrics
        ]
    about = ModelCardData(
        license=LICENSE if _is_ours(entry) else None,
        library_name="ebm_zoo",
        tags=[*(["energy-based-model"] if "energy" in entry.tasks else []), entry.name.split("/")[0]],
        pipeline_tag=pipeline,
        datasets=[data.hub] if data and data.hub else None,
        model_name=entry.name if results else None,
        eval_results=results or None,
    )
    # Sorted, since each release of the client has an order of its own.
    return yaml.safe_dump(about.to_dict(), allow_unicode=True).strip()


def _loading(entry: Entry, repo: str | None) -> str:
    lines = ["```python", "from ebm_zoo import from_pretrained", ""]
    if repo:
        lines.append(f'model = from_pretrained("{repo}")  # "{repo}@COMMIT" stays with one commit')
    else:
        lines.append(f'model = from_pretrained("{entry.name}")')
    if entry.hub and not repo:
        lines.append(f'model = from_pretrained("{entry.hub}")  # the same from the Hub')
    return "\n".join(["## Load", "", *lines, "```"])


def _description(entry: Entry) -> str:
    paper, shape = entry.paper, "×".join(map(str, entry.space.shape))
    if len(entry.space.shape) == 1:
        shape = f"rows of {shape}"
    lines = [
        f"- **Model**: `{entry.model}`, {entry.weights.parameters:,} parameters; takes {shape} in "
        f"[{entry.space.low:g}, {entry.space.high:g}].",
        f"- **Tasks**: {', '.join(entry.tasks)}.",
        f"- **Sampler**: {entry.sampler}.",
        f"- **Weights**: model.safetensors, {entry.weights.size:,} bytes, sha256 `{entry.weights.sha256}`.",
    ]
    if paper and _published(paper):
        lines.append(f"- **Paper**: {paper.authors}. *{paper.title}*. {paper.year}. <{paper.url}>")
    return "\n".join(lines)


def _training(entry: Entry) -> str:
    data, training = entry.data, entry.training
    lines = []
    if data:
        lines.append(f"- **Data**: {data.name}, {data.split}. <{data.url}>")
    if training:
        lines += [
            f"- **Command**: `{training.command}`, seed {training.seed}",
            f"- **Time**: {training.wall_time} on {training.hardware}, {training.date}, {training.versions}.",
        ]
    if training and training.notes:
        lines.append(f"- **Notes**: {training.notes}")
    return "\n".join(["## Training", "", *lines]) if lines else ""


def _figures(metrics: list[Metric]) -> str:
    if not metrics:
        return ""
    lines = [
        "## Figures",
        "",
        "| figure | measured | paper | protocol | command | seed | hardware | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for m in metrics:
        cells = (m.name, m, _reported(m), m.protocol, f"`{m.command}`", m.taken, m.hardware, m.date)
        lines.append(_row(*cells))
    return "\n".join(lines)


def _terms(entry: Entry) -> str:
    lines = ["Weights: Apache-2.0, for what the terms of the training data allow."] if _is_ours(entry) else []
    if entry.data:
        lines.append(f"Training data: {entry.data.name}: {entry.data.terms}. <{entry.data.url}>")
    return "\n".join(["## Terms", "", *lines]) if lines else ""


def _is_ours(entry: Entry) -> bool:
    # The licence of other people's weights is theirs to choose.
    return entry.source.resolve() == resource("checkpoints.yaml").resolve()


def _citation(paper: Paper | None) -> str:
    if paper is None or not _published(paper):
        return ""
    authors = paper.authors.split(", ")
    key = re.sub(r"\W", "", authors[0].split()[-1]).lower() + str(paper.year)
    return "\n".join(
        [
            "## Citation",
            "",
            "```bibtex",
            f"@misc{{{key},",
            f"  title = {{{paper.title}}},",
            f"  author = {{{' and '.join(authors)}}},",
            f"  year = {{{paper.year}}},",
            f"  url = {{{paper.url}}},",
            "}",
            "```",
        ]
    )


def _published(paper: Paper) -> bool:
    # What judges samples comes from no paper: its entry says so in words, without an address.
    return "://" in paper.url


def table(entries: Iterable[Entry]) -> str:
    """The models as a Markdown table, measured and reported figures in columns of their own."""
    lines = ["| name | parameters | figure | measured | paper | what it is |", "|---|---|---|---|---|---|"]
    for entry in entries:
        first = entry.metrics[0] if entry.metrics else None
        figure = (first.name, first, _reported(first)) if first else ("judged by eye", "–", "–")
        lines.append(_row(f"`{entry.name}`", f"{entry.weights.parameters:,}", *figure, entry.summary))
    return "\n".join(lines) + "\n"


def _reported(metric: Metric) -> str:
    return "–" if metric.paper is None else f"{metric.paper:g}"


def _row(*cells: object) -> str:
    return "| " + " | ".join(re.sub(r"\s+", " ", str(cell)).replace("|", r"\|") for cell in cells) + " |"


def write_card(entry: Entry) -> Path:
    """Write the card of a model beside its weights."""
    with atomic(entry.folder / "README.md") as path:
        path.write_text(card(entry), encoding="utf-8")
    return entry.folder / "README.md"


def write_cards() -> None:
    """Write the card of every model of the catalog."""
    for entry in catalog().values():
        write_card(entry)


if __name__ == "__main__":
    write_cards()
