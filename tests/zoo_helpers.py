"""The command line run in this process, and a zoo of one tiny trained model."""

import contextlib
import hashlib
import importlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny import SHAPE, convnet

from ebm_zoo import save_pretrained
from ebm_zoo.cli import main
from ebm_zoo.files import resource
from ebm_zoo.models import EnergyModel
from ebm_zoo.samplers import Langevin
from ebm_zoo.zoo import Entry, catalog
from ebm_zoo.zoo.catalog import merged

NAME = "generative_convnet/tiny"
ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Result:
    """Exit status and what was printed."""

    code: int
    out: str
    err: str


def zoo(*arguments: object) -> Result:
    """Run `ebm-zoo` with these arguments in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
    return Result(code, out.getvalue(), err.getvalue())


def done(*arguments: object) -> str:
    """Run `ebm-zoo`, which must succeed; what it printed."""
    result = zoo(*arguments)
    assert result.code == 0, result
    return result.out


def everything(folder: Path) -> dict[Path, bytes | None]:
    """All files below a folder with their content, and all folders."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(*arguments: object, says: tuple[str, ...], code: int = 1) -> str:
    """Run `ebm-zoo`, which must refuse with one line on stderr and leave the working folder as it is."""
    before = everything(Path.cwd())
    result = zoo(*arguments)
    assert result.code == code, result
    assert everything(Path.cwd()) == before
    assert "Traceback" not in result.out + result.err
    assert result.err.startswith("ebm-zoo: ") and result.err.count("\n") == 1, result.err
    for part in says:
        assert part in result.err
    return result.err


@contextlib.contextmanager
def started(*arguments: object, cwd: Path) -> Iterator[subprocess.Popen]:
    """`ebm-zoo` as a process of its own, which does not outlive the block."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ebm_zoo", *map(str, arguments)]
    pipe = subprocess.PIPE
    # A test run in the background ignores interrupts, and its children would too.
    listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True, preexec_fn=listen
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(condition: Callable[[], object], process: subprocess.Popen) -> None:
    """Wait until something is there, at most two minutes."""
    end = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "nothing happened in two minutes"
        time.sleep(0.05)


def saved_model(folder: Path, **arguments: Any) -> EnergyModel:
    """A tiny model saved to a folder; its weights are drawn from a seed of their own."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        sampler = Langevin(steps=3, step_size=0.5, noise_scale=0.1, clamp=(-1.0, 1.0))
        model = convnet(**{"sampler": sampler, "sample_steps": 4, **arguments})
        # Weights as drawn give energies too much alike to tell two models apart.
        for parameter in model.parameters():
            parameter.data.mul_(3)
    save_pretrained(model, folder)
    return model.eval()


def rewrite(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the configuration of a saved model in place."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def draw(n: int, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> np.ndarray:
    """Random 8-bit images (N, C, H, W), every second one dark on the left."""
    pixels = np.random.default_rng(seed).integers(0, 256, (n, *shape), dtype=np.uint8)
    pixels[::2, ..., : shape[-1] // 2] //= 4
    return pixels


def picture(path: Path, pixels: np.ndarray) -> Path:
    """Save 8-bit pixels (C, H, W), C = 1, 3 or 4, as an image file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(path)
    return path


def image_folder(folder: Path, n: int = 40, shape: tuple[int, ...] = SHAPE, seed: int = 0) -> Path:
    """A folder of random image files."""
    for k, pixels in enumerate(draw(n, shape, seed)):
        picture(folder / f"{k:03}.png", pixels)
    return folder


def idx_files(root: Path, name: str, n: int = 12) -> None:
    """A public set of n 28x28 images per split, as its maintainers distribute it."""
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    for k, split in enumerate(("train", "t10k")):
        head = struct.pack(">IIII", 0x803, n, 28, 28)
        (folder / f"{split}-images-idx3-ubyte").write_bytes(head + draw(n, (1, 28, 28), k).tobytes())
        labels = bytes(label % 10 for label in range(n))
        (folder / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + labels)


def entry(folder: Path, model: EnergyModel) -> dict[str, Any]:
    """A full catalog entry of a saved model, as plain data."""
    weights = (folder / "model.safetensors").read_bytes()
    return {
        "summary": "bars of noise",
        "model": "ebm_zoo.models.GenerativeConvNet",
        "tasks": list(model.tasks),
        "paper": {"title": "A Title", "authors": "Some, Body", "year": 2016, "url": "https://example.org/paper"},
        "data": {"name": "noise", "split": "all of it", "terms": "none", "url": "https://example.org/data"},
        "space": {"shape": list(SHAPE), "low": -1, "high": 1},
        "sampler": "Langevin, 4 steps from uniform noise",
        "weights": {
            "file": f"{NAME}/model.safetensors",
            "size": len(weights),
            "sha256": hashlib.sha256(weights).hexdigest(),
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "training": {
            "command": f"ebm-zoo fit --config {NAME}",
            "seed": 0,
            "wall_time": "1 s",
            "hardware": "a core",
            "date": "2026-01-31",
            "versions": "torch 2",
        },
        "metrics": [
            figure("frechet_distance", 1.5, paper=2.25),
            figure("made_up_figure", 3.0, samples=40, spread=0.12, seeds=5),
        ],
    }


def figure(name: str, value: float, **more: float | None) -> dict[str, Any]:
    command = f"ebm-zoo test --pretrained {NAME}"
    protocol = "40 test images"
    return {"name": name, "value": value, "protocol": protocol, "command": command, "seed": 0,
            "hardware": "a core", "date": "2026-01-31", **more}  # fmt: skip


EXPERIMENT = """
seed_everything: 0
model:
  class_path: ebm_zoo.models.GenerativeConvNet
  init_args:
    energy:
      class_path: ebm_zoo.networks.ConvEnergy
      init_args: {channels: 1, layers: [[6, 3, 1, 1], [8, 4, 2, 1], [1, 4, 1, 0]]}
    noise: {class_path: ebm_zoo.samplers.Uniform}
    space: {shape: [1, 8, 8]}
    chains: {class_path: ebm_zoo.samplers.ShortRun}
    sampler:
      class_path: ebm_zoo.samplers.Langevin
      init_args: {steps: 3, step_size: 0.5, noise_scale: 0.1, clamp: [-1.0, 1.0]}
    optim: {energy: {lr: 1.0e-3}}
    sample_steps: 4
data:
  class_path: ebm_zoo.data.ImageData
  init_args: {source: SOURCE, outliers: OUTLIERS, validation: 6, batch_size: 10}
trainer:
  accelerator: cpu
  max_epochs: 1
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: ebm_zoo.callbacks.Pictures
    - class_path: ebm_zoo.callbacks.GenerationScores
      init_args: {features: {class_path: ebm_zoo.metrics.Pixels}}
    - class_path: ebm_zoo.callbacks.AnomalyScore
"""


def experiment(path: Path, data: Path) -> Path:
    """An experiment on image folders below ``data``, with a test split of its own and bright outliers."""
    if not data.exists():
        image_folder(data / "images" / "train", 26, seed=1)
        image_folder(data / "images" / "test", 20, seed=2)
        for k, pixels in enumerate(draw(20, seed=3)):
            picture(data / "outliers" / "test" / f"{k:03}.png", 128 + pixels // 2)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = EXPERIMENT.replace("SOURCE", str(data / "images")).replace("OUTLIERS", str(data / "outliers"))
    path.write_text(text)
    return path


@contextlib.contextmanager
def tiny_zoo(root: Path) -> Iterator[EnergyModel]:
    """Let the package find one tiny trained model, its catalog and its experiment below ``root`` for a while."""
    # By this name the package itself holds the function that reads the catalog.
    module = importlib.import_module("ebm_zoo.zoo.catalog")
    folder = root / "weights" / NAME
    model = saved_model(folder)
    experiment(root / "zoo_configs" / f"{NAME}.yaml", root / "data")
    (root / "checkpoints.yaml").write_text(yaml.safe_dump({NAME: entry(folder, model)}, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WEIGHTS", root / "weights")
        patch.setattr(module, "resource", lambda name: root / name)
        merged.cache_clear()
        yield model
    merged.cache_clear()


def shipped() -> list[Entry]:
    """Entries of the zoo's own catalog."""
    return list(catalog().values()) if resource("checkpoints.yaml").is_file() else []
