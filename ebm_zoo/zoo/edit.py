"""Changing a catalog file by as little text as possible: comments, order and breaks stay as somebody wrote them."""

import os
import shutil
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from ebm_zoo.errors import CatalogError
from ebm_zoo.files import atomic
from ebm_zoo.zoo.catalog import Entry, merged, read_catalog
from ebm_zoo.zoo.parts import Hub

HEAD = "# A catalog of trained models: ebm-zoo --catalog FILE, or EBM_ZOO_CATALOG=FILE.\n"
UNSAFE = (
    "is written in a way that cannot be edited safely, and was left as it is: write it as plain YAML, one field per "
    "line, without anchors."
)


def pin(entry: Entry, hub: Hub) -> None:
    """Record in the catalog that an entry came from where on the Hub its files lie.

    Args:
        entry: what was read from ``entry.source``.
        hub: repository, commit and hash of the configuration.

    Raises:
        CatalogError: if the file cannot be written, or is written in a way that no small edit fits.
    """
    expected = read_catalog(entry.source)
    expected[entry.name] = replace(expected[entry.name], hub=hub)
    text = _read(entry.source)
    _write(entry.source, _pinned(text, entry.name, hub), expected)


def add(entry: Entry) -> None:
    """Append an entry to the catalog ``entry.source``, made if missing.

    Raises:
        CatalogError: as for `pin`.
    """
    old = read_catalog(entry.source) if entry.source.exists() else {}
    # A catalog without entries is `{}`, to which nothing can be appended.
    text = _ended(_read(entry.source)) if old else HEAD
    item = {name: value for name, value in asdict(entry).items() if name not in ("name", "source") and value}
    item["tasks"], item["space"]["shape"] = list(entry.tasks), list(entry.space.shape)
    more = yaml.safe_dump({entry.name: item}, sort_keys=False, allow_unicode=True, width=118)
    _write(entry.source, text + more, {**old, entry.name: entry})


def require_editable(entry: Entry) -> None:
    """Refuse an entry whose catalog could not be changed afterwards, by doing so in a copy beside it.

    Raises:
        CatalogError: naming the file.
    """
    source = entry.source.resolve()
    try:
        with tempfile.TemporaryDirectory(dir=source.parent, prefix=".catalog-") as folder:
            copy = shutil.copy(source, folder)
            if not os.access(source, os.W_OK):
                raise PermissionError(f"{source} is read-only")
            pin(replace(entry, source=Path(copy)), Hub("user/name", "0" * 40, "0" * 64))
    except CatalogError:
        raise CatalogError(f"{source} {UNSAFE}") from None
    except OSError as error:
        raise CatalogError(
            f"The catalog {source} cannot be written to: {error.strerror or error}. Mend its permissions, or use a "
            "catalog of your own."
        ) from None


def _pinned(text: str, name: str, hub: Hub) -> str:
    # In C where PyYAML was built with it, as files.plain_yaml does.
    root: Any = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    entry: Any = _items(root)[name][1]
    fields = _items(entry)
    # In quotes: forty digits would be a number.
    values = {
        "repo": hub.repo,
        "revision": f"'{hub.revision}'",
        **({"config": f"'{hub.config}'"} if hub.config else {}),
    }
    flow = f"{{{', '.join(f'{key}: {value}' for key, value in values.items())}}}"
    if "hub" not in fields:
        key, weights = fields["weights"]
        if entry.flow_style:
            start = key.start_mark.index
            return _spliced(text, [(start, start, f"hub: {flow}, ")])
        last = weights if weights.flow_style else weights.value[-1][1]
        return _spliced(text, [_line(text, last, key, f"hub: {flow}")])
    key, old = fields["hub"]
    if isinstance(old, ScalarNode):
        return _spliced(text, [(key.end_mark.index, old.end_mark.index, f": {flow}")])
    parts = _items(old)
    changes = [(*_span(parts[key][1]), values.get(key, "null")) for key in parts]
    if "config" in values and "config" not in parts:
        key, revision = parts["revision"]
        end, more = revision.end_mark.index, f"config: {values['config']}"
        changes.append((end, end, f", {more}") if old.flow_style else _line(text, revision, key, more))
    return _spliced(text, changes)


def _line(text: str, last: Node, key: Node, more: str) -> tuple[int, int, str]:
    """The change that adds a line after that of a value, as far to the right as a key, in the file's kind of lines."""
    newline = "\r\n" if "\r\n" in text else "\n"
    end = _ended(text, newline).index(newline, last.end_mark.index)
    return end, end, f"{newline}{' ' * key.start_mark.column}{more}"


def _items(node: Node) -> dict[str, tuple[Any, Any]]:
    pairs = node.value if isinstance(node, MappingNode) else []
    return {key.value: (key, value) for key, value in pairs}


def _span(node: Node) -> tuple[int, int]:
    return node.start_mark.index, node.end_mark.index


def _spliced(text: str, changes: list[tuple[int, int, str]]) -> str:
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _read(source: Path) -> str:
    # In bytes, since reading as text would change the ends of lines.
    return source.read_bytes().decode("utf-8")


def _ended(text: str, newline: str = "\n") -> str:
    return text if text.endswith(newline) else text + newline


def _write(source: Path, text: str, expected: dict[str, Entry]) -> None:
    # Beside the file that a link leads to, lest the link be replaced.
    with atomic(source.resolve()) as path:
        path.write_bytes(text.encode("utf-8"))
        try:
            found = {name: replace(entry, source=expected[name].source) for name, entry in read_catalog(path).items()}
        except (CatalogError, KeyError):
            found = {}
        if found != expected:
            raise CatalogError(f"{source} {UNSAFE}")
    merged.cache_clear()
