"""The card of a trained model, written from its catalog entry."""

from collections.abc import Iterable

from ebm_zoo.files import atomic
from ebm_zoo.zoo.catalog import Entry, catalog


def card(entry: Entry) -> str:
    """Markdown that lies beside the weights as README.md.

    Args:
        entry: the model's catalog entry.

    Returns:
        The text: what it is, how to load it, how it was trained, figures measured and reported, terms of the data.
    """
    paper, data, training = entry.paper, entry.data, entry.training
    shape = "×".join(map(str, entry.space.shape))
    lines = [
        f"# {entry.name}",
        "",
        f"{entry.summary}",
        "",
        "![samples](samples.png)" if (entry.folder / "samples.png").is_file() else "",
        "",
        "```python",
        "from ebm_zoo import from_pretrained",
        "",
        f'model = from_pretrained("{entry.name}")  # tasks: {", ".join(entry.tasks)}',
        "```",
        "",
        f"- **Model**: `{entry.model}`, {entry.weights.parameters:,} parameters; takes {shape} in "
        f"[{entry.space.low:g}, {entry.space.high:g}].",
        f"- **Sampler**: {entry.sampler}.",
        f"- **Paper**: {paper.authors}. *{paper.title}*. {paper.year}. <{paper.url}>",
        f"- **Data**: {data.name}, {data.split}. <{data.url}> Terms: {data.terms}.",
        f"- **Training**: `{training.command}`, seed {training.seed}, {training.wall_time} on {training.hardware}, "
        f"{training.date}, {training.versions}. {training.notes}".rstrip(),
        "",
        "| figure | measured | paper | protocol | command | seed | hardware | date |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for m in entry.metrics:
        reported = "–" if m.paper is None else f"{m.paper:g}"
        lines.append(
            f"| {m.name} | {m.value:g} | {reported} | {m.protocol} | `{m.command}` | {m.seed} | {m.hardware} "
            f"| {m.date} |"
        )
    text = "\n".join(lines) + "\n"
    return text.replace("\n\n\n\n", "\n\n")


def table(entries: Iterable[Entry]) -> str:
    """The models as a Markdown table, measured and reported figures in columns of their own."""
    lines = ["| name | parameters | figure | measured | paper | what it is |", "|---|---|---|---|---|---|"]
    for entry in entries:
        first = entry.metrics[0] if entry.metrics else None
        figure = "judged by eye | – | –"
        if first is not None:
            reported = "–" if first.paper is None else f"{first.paper:g}"
            figure = f"{first.name} | {first.value:g} | {reported}"
        lines.append(f"| `{entry.name}` | {entry.weights.parameters:,} | {figure} | {entry.summary} |")
    return "\n".join(lines) + "\n"


def write_cards() -> None:
    """Write the card of every embedded model."""
    for entry in catalog().values():
        with atomic(entry.folder / "README.md") as path:
            path.write_text(card(entry), encoding="utf-8")


if __name__ == "__main__":
    write_cards()
