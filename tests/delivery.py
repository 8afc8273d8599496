"""A tiny model on the Hub's double, for the real client in this process."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hub_client import asked
from hub_server import ENVIRONMENT, HubServer
from hub_store import Repo
from huggingface_hub import constants
from zoo_helpers import NAME, ROOT, entry, rewrite, saved_model

from ebm_zoo import save_pretrained
from ebm_zoo.models import EnergyModel
from ebm_zoo.zoo.catalog import merged

REPO = "zoo/tiny"
TOKEN = "hf_owner"


@contextlib.contextmanager
def naps() -> Iterator[list[float]]:
    """Nobody waits for the next try in this thread; how long he would have."""
    taken: list[float] = []
    sleep, thread = time.sleep, threading.current_thread()

    def nap(seconds: float) -> None:
        # The Hub's double has threads of its own.
        taken.append(seconds) if threading.current_thread() is thread else sleep(seconds)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", nap)
        yield taken


@contextlib.contextmanager
def asked_by_default(cache: Path) -> Iterator[HubServer]:
    """A Hub that the client asks unless it is told otherwise, as if HF_ENDPOINT and HF_HUB_CACHE named them."""
    with HubServer() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        yield hub


def files(folder: Path) -> dict[str, bytes]:
    """What a repository with this saved model holds."""
    return {name: (folder / name).read_bytes() for name in ("config.json", "model.safetensors")}


def other(folder: Path) -> dict[str, bytes]:
    """Another model of the same architecture, saved and as files; its weights differ from `saved_model`'s."""
    model = saved_model(folder)
    for parameter in model.parameters():
        parameter.data.neg_()
    return files(save_pretrained(model, folder))


def pinned(root: Path, repo: Repo, **hub: str) -> str:
    """Let the catalog of a `tiny_zoo` pin its model to the head of a repository; the commit."""
    commit = repo.resolve("main").oid
    path = root / "checkpoints.yaml"
    content = yaml.safe_load(path.read_text())
    content[NAME]["hub"] = {"repo": repo.name, "revision": commit, **hub}
    path.write_text(yaml.safe_dump(content))
    merged.cache_clear()
    return commit


def own_catalog(folder: Path, name: str, **more: Any) -> Path:
    """A catalog of the user's own with one model, whose weights lie beside it."""
    saved = folder / "weights" / name
    item = entry(saved, saved_model(saved, penalty=0.25))
    item = {key: value for key, value in item.items() if key not in ("paper", "data", "training", "metrics")}
    item["weights"]["file"] = f"{name}/model.safetensors"
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({name: {**item, **more}}))
    return path


def same(one: EnergyModel, two: EnergyModel) -> bool:
    """Whether two models have equal weights."""
    pairs = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def claim(folder: Path, **weights: Any) -> dict[str, bytes]:
    """Files whose config.json says something else of the weights."""
    rewrite(folder, lambda config: config["weights"].update(weights))
    return files(folder)


def flip(path: Path) -> None:
    """Alter the last byte of a file."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def blob(cache: Path, file: str) -> Path:
    """Where the cache keeps the bytes of a file."""
    (found,) = cache.glob(f"models--zoo--tiny/snapshots/*/{file}")
    return found.resolve()


def bodies(hub: HubServer) -> list[str]:
    """Files whose content was asked for since the last call."""
    return [line.rpartition("/")[2] for line in asked(hub) if line.startswith("GET ")]


def child(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Run Python code as a process of its own, which sees the test modules."""
    known = {**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    known |= {"EBM_ZOO_CATALOG": "", **environment}
    return subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True, timeout=120)


def report(code: str, **environment: str) -> Any:
    """What Python code prints as JSON."""
    done = child(code, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
