"""What models of sentences write, and whether it is a molecule."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from ebm_zoo.callbacks.pictures import Answers, run_folder
from ebm_zoo.callbacks.scores import Outputs
from ebm_zoo.errors import ConfigError
from ebm_zoo.files import atomic
from ebm_zoo.metrics import molecule_scores


class Sentences(Answers):
    """Write the first samples that validation, test and prediction return to ``sentences/`` in the run's folder.

    Where nothing is validated, each epoch of training ends with fresh samples, always from the same noise.

    Args:
        count: sentences in a file, one per line.
    """

    def __init__(self, count: int = 64) -> None:
        self.count = count

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw samples of the model in training."""
        model: Any = pl_module
        if trainer.is_global_zero and not sum(trainer.num_val_batches):
            drawn = model.sample(self.count, generator=torch.Generator(model.device).manual_seed(0))
            self.write(trainer, model, {"samples": drawn}, f"train_{trainer.global_step:07d}")

    def write(self, trainer: Trainer, model: LightningModule, outputs: Any, name: str) -> None:
        """Write the samples; see `Answers`."""
        if not trainer.is_global_zero:
            return
        lines = sentences(model, outputs["samples"][: self.count])
        with atomic(run_folder(trainer) / "sentences" / f"{name}.txt") as path:
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class MoleculeScores(Outputs):
    """Validity, uniqueness and novelty of all samples of the test loop, see `ebm_zoo.metrics.molecule_scores`."""

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and log."""
        drawn = self.gathered(trainer, "samples/0")
        if drawn is None:
            raise ConfigError("MoleculeScores needs a model whose test step returns 'samples': remove it.")
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        pl_module.log_dict(molecule_scores(sentences(pl_module, drawn.long()), data.sentences("train")))


def sentences(model: LightningModule, ids: Tensor) -> list[str]:
    """Rows of tokens as a model's vocabulary reads them.

    Raises:
        ConfigError: the model has none.
    """
    space: Any = model.space
    if not hasattr(space, "text"):
        raise ConfigError(f"A {type(model).__name__} of images writes no sentences: remove the callback.")
    return space.text(ids.cpu())
