"""Checkpoints of a run: whole or not written at all, and never in the place of another run's."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from ebm_zoo.errors import DivergenceError, Stopped, WeightsError, ZooError
from ebm_zoo.files import atomic
from ebm_zoo.fitting import require_finite
from ebm_zoo.models.checkpoint import WEIGHTS, read_checkpoint


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it when it is whole; reads tensors and plain data only."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            DivergenceError: if its weights are not finite; what was there before is kept.
            ZooError: if there is no room or no right to write; likewise.
        """
        try:
            for part in WEIGHTS:
                require_finite(checkpoint.get(part, {}), str(path))
        except WeightsError:
            raise DivergenceError(f"The weights are not finite, so {path} was not written. {CURE}") from None
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        content = io.BytesIO()
        torch.save(checkpoint, content)
        try:
            with atomic(path) as temporary:
                temporary.write_bytes(content.getbuffer())
        except OSError as error:
            kept = " The one that was there is kept." if Path(path).exists() else ""
            raise ZooError(f"Cannot write {path}: {error.strerror or error}.{kept}") from None

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a local checkpoint of this zoo, whatever ``weights_only`` asks for; see `read_checkpoint`."""
        return read_checkpoint(path, map_location or "cpu")


CURE = "Lower the learning rate or the step size, or use more Langevin steps."
"""What helps against divergence."""


class Checkpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint; a resumed run knows the best score so far, and a diverged one is not kept."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with score and files, also where the resumed run has a folder of its own.

        Files of the earlier run stay: only those in a run's own folder are ever removed.
        """
        super().load_state_dict({**state_dict, "dirpath": self.dirpath})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save, if asked to, unless the state is no good or has been saved."""
        if not isinstance(exception, (DivergenceError, Stopped)):
            super().on_exception(trainer, pl_module, exception)


class Last(Checkpoint):
    """The newest checkpoint, last.ckpt: ModelCheckpoint's own ``save_last`` writes only when a figure improves.

    Where another run has left a file of this name, last-v1.ckpt and so on.
    """

    def __init__(self, **settings: Any) -> None:
        newest = {"filename": "last", "monitor": None, "save_on_train_epoch_end": True, "save_top_k": 1}
        super().__init__(**{**settings, **newest})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: which file this run may replace is said by `on_train_start`."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Replace the checkpoint that the run goes on from, if it is the newest one of the same folder."""
        super().on_train_start(trainer, pl_module)
        folder, resumed = Path(str(self.dirpath)), Path(trainer.ckpt_path or "")
        if resumed.stem.startswith("last") and resumed.resolve().parent == folder.resolve():
            self.best_model_path = str(folder / resumed.name)
        elif self.file_exists(str(folder / "last.ckpt"), trainer):
            rank_zero_info(f"{folder / 'last.ckpt'} is of another run: this one's has a number behind its name.")

    def keep(self, trainer: Trainer) -> Path:
        """Write the present state, and return where."""
        self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))
        return Path(self.best_model_path)


def kept(trainer: Trainer) -> str:
    """A sentence: which checkpoint there is to go on from."""
    for callback in reversed(trainer.checkpoint_callbacks):
        path = Path(str(getattr(callback, "best_model_path", "")))
        if path.is_file():
            return f"The last good checkpoint is {path}."
    return "No checkpoint had been written."


__all__ = ["CURE", "Checkpoint", "CheckpointFiles", "Last", "kept"]
