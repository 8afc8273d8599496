"""Reading and writing files so that nothing is half-written and nothing altered is believed."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from ebm_zoo.errors import WeightsError, ZooError

PACKAGE = Path(__file__).parent
WEIGHTS = PACKAGE / "weights"
"""Folder of the checkpoints that ship with the package."""
MAX_CONFIG = 2**20
"""Bytes of a config.json, at most."""
MAX_DEPTH = 32
"""Levels of nesting in YAML, at most."""


def resource(name: str) -> Path:
    """Path of a file or folder that lies beside the package in a checkout and inside it once installed."""
    inside = PACKAGE / name
    return inside if inside.exists() else PACKAGE.parent / name


def user_path(text: str | Path) -> Path:
    """Path with ``~`` and environment variables replaced.

    Raises:
        ZooError: if it begins with the home of nobody.
    """
    path = Path(os.path.expandvars(text))
    try:
        return path.expanduser()
    except RuntimeError:
        # A file may be named ~x; a folder of that name is nothing that anybody means.
        if path.parent.is_dir():
            return path
        raise ZooError(f"{text}: no user has the home {path.parts[0]}. Write the path out.") from None


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, renamed onto it if the block succeeds and removed if not.

    Whoever looks finds the old file or the whole new one, also after a loss of power: the new one lies on the disk
    before it has the name.

    Raises:
        ZooError: if the folder cannot be made or written to.
    """
    path = Path(path)
    try:
        if path.parent.is_file():
            raise NotADirectoryError(f"{path.parent} is a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
    except OSError as error:
        raise ZooError(f"Cannot write {path}: {error.strerror or error}. Choose another place.") from None
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes the file private; give it what any new file gets.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        _settle(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    # The name, too; some systems do not let folders be opened, and what is written is whole in any case.
    with suppress(OSError):
        _settle(path.parent)


def _settle(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _PlainLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """The safe loader, in C where PyYAML was built with it: `list` and `info` should answer at once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            # What is written as a number names the same entry as its text.
            names = {key, str(key)} if isinstance(key, Hashable) else {str(key)}
            if seen & names:
                raise ValueError(f"line {key_node.start_mark.line + 1} has the key '{key!s:.60}' again: remove one")
            seen |= names
        return super().construct_mapping(node, deep)


def free_name(path: Path) -> Iterator[Path]:
    """A path, and the same with -v1, -v2 and so on behind its stem."""
    yield path
    number = 1
    while True:
        yield path.with_name(f"{path.stem}-v{number}{path.suffix}")
        number += 1


def plain_yaml(text: str) -> Any:
    """Read YAML that is plain data: no tags of Python's, no aliases, no deep nesting, no key twice.

    Args:
        text: the content of a file.

    Returns:
        Mappings, lists, strings, numbers, dates and None.

    Raises:
        ValueError: for what is no plain YAML; for aliases, with which a few lines stand for more than the memory
            holds; for nesting deeper than `MAX_DEPTH`, at which the loader in C would end the process; and for a key
            that a mapping has twice, whose last value would win.
    """
    depth = 0
    try:
        for event in yaml.parse(text, Loader=_PlainLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError(f"it has the alias *{event.anchor:.60}: write out what that stands for")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        # Safe: the loader is PyYAML's safe one, in C or in Python, which makes no objects but plain data.
        return yaml.load(text, Loader=_PlainLoader)
    except Exception as error:  # values that are not of their tag's form make the loader fail in many ways
        raise ValueError(f"{(str(error).splitlines() or [type(error).__name__])[0]:.200}") from None


def read_checked(path: Path, sha256: str, size: int) -> bytes:
    """Read a file whole and compare its size and hash with what was recorded.

    Args:
        path: the file.
        sha256: expected hash, hexadecimal.
        size: expected bytes.

    Returns:
        The bytes that were hashed.

    Raises:
        WeightsError: if the file is missing, truncated or altered; names the file, what is expected and found.
    """
    try:
        with path.open("rb") as file:
            # Before the content is read: a file may be larger than the memory.
            length = os.fstat(file.fileno()).st_size
            data = file.read() if length == size else b""
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror}. Reinstall the package or fetch it again.") from None
    if length != size:
        raise WeightsError(f"{path} has {length} bytes, not {size}: it is truncated or altered. Fetch it again.")
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise WeightsError(f"{path} has sha256 {found}, not {sha256}: it was altered. Fetch it again.")
    return data


def read_folder(folder: str | Path) -> tuple[Any, bytes, str]:
    """Read a saved model: its configuration, its weights as safetensors bytes, and their hash.

    Args:
        folder: holds config.json and model.safetensors.

    Returns:
        The model's configuration (plain data), the checked bytes, their sha256.

    Raises:
        WeightsError: if a file is missing, unreadable or does not fit the other.
    """
    path = Path(folder) / "config.json"
    model, sha256, size = read_config(path)
    return model, read_checked(path.with_name("model.safetensors"), sha256, size), sha256


def read_config(path: Path) -> tuple[Any, str, int]:
    """Read the config.json of a saved model.

    Returns:
        The model's configuration (plain data), sha256 and bytes of its weights.

    Raises:
        WeightsError: if it is missing, unreadable, too large, or does not say these.
    """
    return parse_config(config_bytes(path), path)


def config_bytes(path: Path) -> bytes:
    """Content of a config.json; what is too large is cut, and refused by `parse_config`."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_CONFIG + 1)
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror}. A saved model is a folder with this file.") from None


def parse_config(data: bytes, path: Path) -> tuple[Any, str, int]:
    """Take apart the bytes of a config.json; see `read_config`."""
    if len(data) > MAX_CONFIG:
        raise WeightsError(f"{path} is larger than {MAX_CONFIG} bytes: no saved model's configuration is.")
    try:
        config = json.loads(data.decode("utf-8"), object_pairs_hook=_once)
        model, weights = config["model"], config["weights"]
        sha256, size = weights["sha256"], weights["size"]
        if not re.fullmatch("[0-9a-f]{64}", sha256) or type(size) is not int:
            raise TypeError
    except _TwiceError as error:
        raise WeightsError(f"{path} has the key '{error!s:.60}' twice in one object: remove one.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise WeightsError(f"{path} is no model configuration: keys model and weights (sha256, size) wanted.") from None
    return model, sha256, size


class _TwiceError(ValueError):
    """A key that an object of JSON has twice, where the last would win."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _TwiceError(key)
        found[key] = value
    return found
