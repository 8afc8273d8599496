"""Pictures of what a model answers, to a file and to every logger that takes images."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torchvision.utils import make_grid, save_image

from ebm_zoo.files import atomic


def picture_grid(images: Tensor, low: float, high: float, columns: int = 8, side: int = 56) -> Tensor:
    """Tile images into one picture.

    Args:
        images: **(B, C, H, W)**, C 1 or 3.
        low: value shown black.
        high: value shown white.
        columns: images per row.
        side: images smaller than this are enlarged by a whole factor, pixels kept square.

    Returns:
        Picture, **(3, H', W')** in [0, 1].
    """
    factor = max(1, round(side / images.shape[-1]))
    pixels = ((images.detach().float().cpu() - low) / (high - low)).clamp(0, 1)
    pixels = pixels.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    return make_grid(pixels, nrow=columns, padding=2, pad_value=1.0)


class Answers(Callback, ABC):
    """Writes what a model answers to the first batch of each validation and test, and to every batch of prediction."""

    @abstractmethod
    def write(self, trainer: Trainer, model: LightningModule, outputs: Any, name: str) -> None:
        """Write answers.

        Args:
            trainer: whose run folder they go to, on its first process.
            model: what answered.
            outputs: what its step returned.
            name: of the file, without suffix.
        """

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write what the first validation batch was answered."""
        if batch_idx == 0 and not trainer.sanity_checking:
            self.write(trainer, pl_module, outputs, f"validation_{trainer.global_step:07d}")

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write what the first test batch was answered."""
        if batch_idx == 0:
            self.write(trainer, pl_module, outputs, "test")

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write every batch of answers."""
        self.write(trainer, pl_module, outputs, f"predict_{batch_idx:05d}")


class Pictures(Answers):
    """Save a grid of the samples that validation, test and prediction return.

    The first batch of each run is drawn; where images are translated, question, draft, solution and truth stand below
    one another, as many as there are columns. Where nothing is validated, each epoch of training ends with fresh
    samples, always from the same noise and without touching the run's random stream; a model that translates answers
    the epoch's first batch. Files go to ``pictures/`` in the run's folder, and to every logger with a ``log_image``
    method (Weights & Biases) or a ``SummaryWriter`` (TensorBoard).

    Args:
        count: images in a picture.
        columns: images per row.
    """

    def __init__(self, count: int = 64, columns: int = 8) -> None:
        self.count, self.columns = count, columns
        self._batch: Any = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw samples of the model in training."""
        model: Any = pl_module
        can_sample = "sample" in getattr(model, "tasks", ())
        if sum(trainer.num_val_batches) or not trainer.is_global_zero or not (can_sample or self._batch):
            return
        if can_sample:
            answers = {"samples": model.sample(self.count, generator=torch.Generator(model.device).manual_seed(0))}
        else:
            batch = tuple(part[: min(self.count, self.columns)] for part in self._batch)
            with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
                torch.manual_seed(0)
                answers = self._asked(model, batch)
        self.write(trainer, model, answers, f"train_{trainer.global_step:07d}")

    def _asked(self, model: Any, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """What a model that translates answers to a batch of training pairs."""
        x, condition = batch
        return {"real": x, **model.answers(len(x), condition)}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep an epoch's first batch of pairs: a model that translates images is asked with it."""
        # A run that is resumed within an epoch begins behind its first batch.
        if batch_idx == 0 or self._batch is None:
            pair = isinstance(batch, (list, tuple)) and batch[1].dim() == batch[0].dim()
            self._batch = batch if pair else None

    def write(self, trainer: Trainer, model: LightningModule, outputs: Any, name: str) -> None:
        """Write a picture of answers; see `Answers`."""
        if not trainer.is_global_zero or not isinstance(outputs, dict):
            return
        images, columns = self._tiles(outputs)
        if not len(images):
            return
        space: Any = model.space
        grid = picture_grid(images, space.low, space.high, columns)
        with atomic(run_folder(trainer) / "pictures" / f"{name}.png") as path:
            save_image(grid, path)
        for logger in trainer.loggers:
            experiment: Any = getattr(logger, "experiment", None)
            if hasattr(logger, "log_image"):
                logger.log_image(key=f"pictures/{name.split('_')[0]}", images=[grid], step=trainer.global_step)
            elif hasattr(experiment, "add_image"):
                experiment.add_image(name.split("_")[0], grid, trainer.global_step)

    def _tiles(self, outputs: dict[str, Tensor]) -> tuple[Tensor, int]:
        """Images of a picture, and how many stand in a row; none where the model drew none."""
        images, columns = outputs.get("samples", torch.empty(0))[: self.count], self.columns
        condition = outputs.get("condition")
        if condition is not None and condition.dim() == images.dim():
            # Question, draft, solution and truth below one another.
            columns = min(columns, len(images))
            rows = [outputs.get(name) for name in ("condition", "drafts", "samples", "real")]
            images = torch.cat([_colour(row[:columns]) for row in rows if row is not None])
        return images, columns


def _colour(images: Tensor) -> Tensor:
    return images.float().expand(-1, 3, -1, -1)


def run_folder(trainer: Trainer) -> Path:
    """Folder of a run, which holds its checkpoints: the logger's own one, or the Trainer's root without a logger."""
    # Trainer.log_dir waits for the other ranks, where only the first one writes, and knows no folder per run for
    # Weights & Biases: a second run would write over the first.
    logger = trainer.logger
    if logger is None:
        return Path(trainer.default_root_dir)
    version = logger.version if isinstance(logger.version, str) else f"version_{logger.version}"
    return Path(logger.save_dir or trainer.default_root_dir, str(logger.name), version)


def gather(parts: list[Tensor]) -> Tensor:
    """Concatenate per-batch tensors on the CPU in float32."""
    return torch.cat([part.detach().float().cpu() for part in parts])
