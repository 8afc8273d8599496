"""Checkpoints of a run: whole or not written at all, and never in the place of another run's."""

import io
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from ebm_zoo.errors import DivergenceError, Stopped, WeightsError, ZooError
from ebm_zoo.files import atomic, free_name
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

    def _should_remove_checkpoint(self, trainer: Trainer, previous: str, current: str) -> bool:
        # Lightning compares paths as they are written; links and ".." lead to the same file by other paths.
        resumed = trainer.ckpt_path is not None and Path(trainer.ckpt_path).resolve() == Path(previous).resolve()
        return not resumed and super()._should_remove_checkpoint(trainer, previous, current)


class Last(Checkpoint):
    """The newest checkpoint, last.ckpt: ModelCheckpoint's own ``save_last`` writes only when a figure improves.

    Where another run has a file of this name, or is about to write one, last-v1.ckpt and so on.
    """

    def __init__(self, **settings: Any) -> None:
        newest = {"filename": "last", "monitor": None, "save_on_train_epoch_end": True, "save_top_k": 1}
        super().__init__(**{**settings, **newest, "save_last": None, "save_weights_only": False})
        self._claim: Path | None = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: which file this run may replace is found by `on_fit_start`."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take a name that no other run has; that of the checkpoint that the run goes on from is its own.

        Raises:
            ZooError: if the folder cannot be written to.
        """
        folder, resumed = Path(str(self.dirpath)), Path(trainer.ckpt_path or "")
        self.best_model_path, name = "", None
        if "://" in str(self.dirpath) or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if re.fullmatch(r"last(-v\d+)?", resumed.stem) and resumed.resolve().parent == folder.resolve():
            self.best_model_path, name = self.format_checkpoint_name({}, filename=resumed.stem), resumed.stem
        elif trainer.is_global_zero:
            name = self._taken(folder)
        self.filename = trainer.strategy.broadcast(name)

    def _taken(self, folder: Path) -> str:
        """The first free name, which a file beside it keeps for this run until it has written its checkpoint."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in free_name(folder / "last.ckpt"):
                claim = path.with_name(f".{path.name}.claim")
                with suppress(FileExistsError):
                    claim.touch(exist_ok=False)
                    if not path.exists():
                        self._claim = claim
                        break
                    claim.unlink()
        except OSError as error:
            raise ZooError(f"Cannot write checkpoints to {folder}: {error.strerror}. Choose another place.") from None
        if path.stem != "last":
            rank_zero_info(f"{folder / 'last.ckpt'} is of another run: this one writes {path.name}.")
        return path.stem

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        self._leave()

    def _should_remove_checkpoint(self, trainer: Trainer, previous: str, current: str) -> bool:
        return False  # one name for the whole run: nothing is left over

    def _leave(self) -> None:
        if self._claim is not None:
            self._claim.unlink(missing_ok=True)
        self._claim = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """As any checkpoint; the name is free again if nothing was written."""
        super().on_exception(trainer, pl_module, exception)
        self._leave()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The name is free again if nothing was written."""
        self._leave()

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
