"""Weights & Biases in offline mode, from a configuration, for real."""

import time
from pathlib import Path

import pytest
import torch
import wandb
import yaml
from PIL import Image
from zoo_helpers import done, experiment

LOGGER = """
  logger:
    class_path: lightning.pytorch.loggers.WandbLogger
    init_args: {project: tiny, save_dir: FOLDER, offline: true}
"""


@pytest.fixture
def config(tmp_path, monkeypatch) -> Path:
    """An experiment that logs to Weights & Biases, and an empty working folder."""
    path = experiment(tmp_path / "tiny.yaml", tmp_path / "data")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    # Its service outlives a test and would write to the folder where it was started.
    path.write_text(path.read_text() + LOGGER.replace("FOLDER", str(tmp_path / "here" / "runs")))
    monkeypatch.setenv("WANDB_SILENT", "true")
    return path


def logged(*arguments: object) -> Path:
    """Run a command; the folder that Weights & Biases wrote."""
    before = set(Path("runs/wandb").glob("offline-run-*"))
    try:
        done(*arguments)
    finally:
        # What the end of the process would do.
        wandb.finish()
    (folder,) = set(Path("runs/wandb").glob("offline-run-*")) - before
    return folder


def holds(folder: Path, *names: str) -> None:
    """The log of a run has these names; its service may still be writing when the run has ended."""
    (log,) = folder.glob("run-*.wandb")
    end = time.monotonic() + 60
    while missing := [name for name in names if name.encode() not in log.read_bytes()]:
        assert time.monotonic() < end, f"{log} has no {missing}"
        time.sleep(0.05)


def run_folder(path: Path) -> Path:
    """Our folder of the run that Weights & Biases wrote to ``path``."""
    return Path("runs/tiny", path.name.rpartition("-")[2])


def test_two_runs_record_figures_pictures_and_configuration(config):
    first = logged("fit", "--config", config, "--trainer.max_epochs", 2)
    second = logged("fit", "--config", config, "--model.init_args.penalty", 0.125)
    for folder, steps, penalty in ((first, (2, 4), 0.0), (second, (2,), 0.125)):
        holds(folder, "loss/energy", "energy/samples", "gradient_norm/energy", "pictures/validation")
        # The whole configuration is recorded, not that of the model alone.
        holds(folder, "GenerativeConvNet", "ImageData", "max_epochs", str(penalty))
        images = list((folder / "files" / "media" / "images" / "pictures").glob("validation_*.png"))
        assert len(images) == len(steps)
        ours = run_folder(folder)
        drawn = {f"validation_{step:07d}.png" for step in steps}
        assert {path.name for path in (ours / "pictures").iterdir()} == drawn
        for path in (*images, *(ours / "pictures").iterdir()):
            with Image.open(path) as image:
                assert image.size == (6 * 58 + 2, 60)
        kept = yaml.safe_load((ours / "config.yaml").read_text())
        assert kept["model"]["init_args"]["penalty"] == penalty
        checkpoint = torch.load(ours / "checkpoints" / "last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == steps[-1]
    assert {path.name for path in Path("runs").iterdir()} == {"tiny", "wandb"}


def test_a_test_run_records_its_figures(config):
    trained = run_folder(logged("fit", "--config", config))
    folder = logged("test", "--config", config, "--ckpt_path", trained / "checkpoints" / "last.ckpt")
    holds(folder, "frechet_distance", "copy_ratio", "outlier_auroc", "pictures/test")
