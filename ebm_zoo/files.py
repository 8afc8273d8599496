"""Reading and writing files so that nothing is half-written and nothing altered is believed."""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ebm_zoo.errors import WeightsError, ZooError

PACKAGE = Path(__file__).parent
WEIGHTS = PACKAGE / "weights"
"""Folder of the checkpoints that ship with the package."""


def resource(name: str) -> Path:
    """Path of a file or folder that lies beside the package in a checkout and inside it once installed."""
    inside = PACKAGE / name
    return inside if inside.exists() else PACKAGE.parent / name


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``, renamed onto it if the block succeeds and removed if not.

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
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror}. Reinstall the package or fetch it again.") from None
    if len(data) != size:
        raise WeightsError(f"{path} has {len(data)} bytes, not {size}: it is truncated or altered. Fetch it again.")
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
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        model, weights = config["model"], config["weights"]
        sha256, size = str(weights["sha256"]), int(weights["size"])
    except OSError as error:
        raise WeightsError(f"Cannot read {path}: {error.strerror}. A saved model is a folder with this file.") from None
    except (ValueError, KeyError, TypeError):
        raise WeightsError(f"{path} is no model configuration: keys model and weights (sha256, size) wanted.") from None
    return model, read_checked(path.with_name("model.safetensors"), sha256, size), sha256
