"""Folders and checkpoints of runs: each run has its own, none replaces another's."""

import csv
import os
import re
import traceback
from pathlib import Path
from typing import Any

import torch
from lightning import LightningDataModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from ebm_zoo.callbacks import run_folder
from ebm_zoo.errors import ConfigError, DataError, WeightsError, ZooError
from ebm_zoo.files import atomic
from ebm_zoo.models import EnergyModel

KEYWORDS = ("best", "last", "hpc")
"""Names for the newest checkpoint of a kind that runs of one folder have left."""
FOLDER = "EBM_ZOO_RUN_FOLDER"
"""Environment variable that tells the other processes of a run its folder."""


def newest_checkpoint(keyword: str, trainer: Trainer, dirpath: str | None) -> Path:
    """Find what a keyword stands for.

    Args:
        keyword: ``best`` or ``last``, of earlier runs with the same logger settings (or in the same ``dirpath``), or
            ``hpc``, what SLURM's requeueing left in the Trainer's root.
        trainer: of the new run.
        dirpath: folder of checkpoints that is set in the configuration.

    Raises:
        WeightsError: if there is none; names where it was looked for.
    """
    if keyword == "hpc":
        place, pattern = Path(trainer.default_root_dir), "hpc_ckpt_*.ckpt"
    elif dirpath is not None:
        place, pattern = Path(dirpath).expanduser(), f"{keyword}*.ckpt"
    else:
        place, pattern = run_folder(trainer).parent, f"*/checkpoints/{keyword}*.ckpt"
    found = [path for path in place.glob(pattern) if re.fullmatch(rf"{keyword}(-v\d+|_ckpt_\d+)?", path.stem)]
    if not found:
        raise WeightsError(f"--ckpt_path {keyword}: there is no {place / pattern}. Name a file, or leave it out.")
    return max(found, key=lambda path: path.stat().st_mtime)


def own_folder(base: Path) -> Path:
    """A new folder runs/version_N below another one, for a run without a logger; the same for all its processes."""
    if FOLDER in os.environ:
        return Path(os.environ[FOLDER])
    taken = (int(path.name.split("_")[1]) for path in (base / "runs").glob("version_*") if path.name[8:].isdigit())
    number = max(taken, default=-1) + 1
    while not _made(base / "runs" / f"version_{number}"):
        number += 1
    os.environ[FOLDER] = str(base / "runs" / f"version_{number}")
    return Path(os.environ[FOLDER])


def leave(folder: Path) -> None:
    """Remove the folder of a run that was refused before it put anything there."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


@rank_zero_only
def claim(trainer: Any, resumed: Path | None, named: bool = False) -> Path | None:
    """Make the folder of a run that logs to files, or go on in the one that its checkpoint lies in.

    Two runs that begin at the same moment get two folders.

    Args:
        trainer: of the run.
        resumed: checkpoint that it goes on from.
        named: the configuration names the folder, which may then be there.

    Returns:
        The folder, if it was made.

    Raises:
        ConfigError: if the folder that the configuration names is another run's.
    """
    logger = trainer.logger
    if not isinstance(logger, CSVLogger) or trainer.fast_dev_run:
        return None
    while not _made(folder := run_folder(trainer)):
        if named:
            break
        logger._version = None  # another run has taken it since it was looked for: look again
    else:
        return folder
    if not any(folder.iterdir()):
        return None
    if resumed is None or folder.resolve() not in resumed.resolve().parents:
        raise ConfigError(
            f"{folder} is the folder of another run. Leave the logger's version out, or go on from a checkpoint in it."
        )
    _keep_rows(logger, folder / "metrics.csv")
    return None


def _made(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return False
    except OSError as error:
        raise ZooError(f"Cannot make the run's folder {folder}: {error.strerror}. Choose another place.") from None
    return True


def _keep_rows(logger: CSVLogger, path: Path) -> None:
    # Lightning's writer begins by removing the file.
    content = path.read_bytes() if path.exists() else b""
    kept = path.with_name("metrics_before.csv")
    if content:
        with atomic(kept) as temporary:
            temporary.write_bytes(content)
    writer = logger.experiment
    if content:
        kept.replace(path)
        writer.metrics_keys = next(csv.reader(content.decode().splitlines()))


def require_same_range(model: EnergyModel, data: LightningDataModule) -> None:
    """Refuse data in another range than the model's: pixels in [0, 1] pass for grey ones in [-1, 1].

    Raises:
        DataError: names both.
    """
    given = getattr(data, "value_range", None)
    if given is not None and tuple(given) != (model.space.low, model.space.high):
        (low, high), space = given, model.space
        raise DataError(
            f"The data come in [{low:g}, {high:g}], the model takes [{space.low:g}, {space.high:g}]: set the data's "
            "value_range to the model's."
        )


def explained(error: Exception) -> ZooError | None:
    """A clear error for one that Lightning or torch raised of a file or of another process; None for all others."""
    reason = (str(error).splitlines() or [""])[0]
    frames = traceback.extract_tb(error.__traceback__)
    if any("checkpoint_connector" in frame.filename and re.match("_?re(store|sume)", frame.name) for frame in frames):
        return WeightsError(f"The checkpoint cannot be taken up ({type(error).__name__}: {reason:.200}).")
    lost = isinstance(error, torch.distributed.DistError) or re.search(r"\bgloo\b|\bNCCL\b", reason)
    if lost:
        return ZooError(
            "Another process of this run has ended or cannot be reached. A training goes on from the newest checkpoint "
            "in its folder (--ckpt_path)."
        )
    return None


def later_rank() -> bool:
    """Whether this process is not the first one of a run on several."""
    return int(os.environ.get("LOCAL_RANK", 0)) + int(os.environ.get("NODE_RANK", 0)) > 0
