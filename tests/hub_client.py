"""The real client of the Hub, set up to speak to the double alone, and a tiny repository to speak about."""

import contextlib
import json
import os
import random
import struct
from collections.abc import Iterator
from pathlib import Path

from hub_server import ENVIRONMENT, HubServer

os.environ.update(ENVIRONMENT)

import pytest
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError

assert constants.HF_HUB_DISABLE_XET, "huggingface_hub was imported before its environment was set"

NAME = "zoo/tiny"
OWNER, READER, NOBODY = "hf_owner", "hf_reader", False
# The client hands open files to its own HTTP library in a form that this one is about to give up.
UPLOAD_WARNING = r"ignore:Use 'content=<...>' to upload raw bytes/text content:DeprecationWarning"


def weights(seed: int = 0) -> bytes:
    """A safetensors file of 512 numbers."""
    head = json.dumps({"w": {"dtype": "F32", "shape": [512], "data_offsets": [0, 2048]}}).encode()
    return struct.pack("<Q", len(head)) + head + random.Random(seed).randbytes(2048)


FILES = {
    "README.md": b"---\nlicense: apache-2.0\n---\n# A tiny model\n",
    "config.json": b'{"model": "tiny"}\n',
    "model.safetensors": weights(),
}


def client(hub: HubServer, token: str | bool = NOBODY) -> HfApi:
    """The client of a user of the double; it sends no token by default."""
    return HfApi(endpoint=hub.endpoint, token=token)


@contextlib.contextmanager
def refused_with(status: int, kind: type[HfHubHTTPError] = HfHubHTTPError) -> Iterator[None]:
    """The block is refused by an answer with this status, whatever words the client finds for it."""
    with pytest.raises(kind) as error:
        yield
    assert error.value.response.status_code == status


def load(api: HfApi, path: str, cache: Path, revision: str | None = None, etag_timeout: float = 10) -> bytes:
    """A file of the tiny repository, through a cache."""
    found = api.hf_hub_download(NAME, path, revision=revision, cache_dir=cache, etag_timeout=etag_timeout)
    return Path(found).read_bytes()


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def read(folder: str | Path) -> dict[str, bytes]:
    """All files of a folder but the one that the Hub adds."""
    found = {path.relative_to(folder).as_posix(): path for path in Path(folder).rglob("*") if path.is_file()}
    return {path: file.read_bytes() for path, file in found.items() if path != ".gitattributes"}


def asked(hub: HubServer) -> list[str]:
    """Requests since the last call."""
    found = [f"{request.method} {request.path}" for request in hub.requests]
    hub.requests.clear()
    return found
