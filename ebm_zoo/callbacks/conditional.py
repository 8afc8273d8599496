"""Figures about answers to conditions, in the test loop."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from ebm_zoo.callbacks.scores import Outputs, training_images, unit
from ebm_zoo.errors import ConfigError
from ebm_zoo.metrics import GreyClassifier, precision_recall_density_coverage

NEIGHBOURS = 5


class LabelScores(Outputs):
    """Do samples belong to the class that was asked for, and are they as varied as the class is?

    Logged: ``label_accuracy`` of a classifier on the samples with respect to the asked classes, the same of the
    drafts (``draft_label_accuracy``) and of the test images (``real_label_accuracy``, for scale); and the mean over
    classes of ``class_density`` and ``class_coverage``, computed among images of one class; classes with too few
    images for their neighbourhoods, five or fewer, are left out.

    Args:
        classifier: judges the images; its features measure density and coverage.
        samples: figures over at most this many samples and test images.

    Raises:
        ConfigError: if there are no samples, or, when tested, for a model that does not answer to classes.
    """

    def __init__(self, classifier: GreyClassifier, samples: int = 5000) -> None:
        super().__init__()
        if samples < 1:
            raise ConfigError(f"LabelScores needs 1 or more samples, not {samples}.")
        self.classifier, self.samples = classifier.eval(), samples

    @torch.no_grad()
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and log."""
        parts = {name: self.gathered(trainer, f"{name}/0") for name in ("real", "samples", "drafts", "condition")}
        images = {name: part[: self.samples] for name, part in parts.items() if part is not None}
        if len(images) < len(parts) or images["condition"].dim() != 1:
            raise ConfigError("LabelScores needs a model that answers to classes: remove it.")
        labels = images.pop("condition").long()
        features = {name: self._features(pl_module, x) for name, x in images.items()}
        scores: dict[str, Any] = {}
        for name, prefix in (("samples", ""), ("drafts", "draft_"), ("real", "real_")):
            right = self.classifier.head(features[name]).argmax(1) == labels
            scores[f"{prefix}label_accuracy"] = right.float().mean()
        within = [
            precision_recall_density_coverage(
                features["real"][labels == c], features["samples"][labels == c], NEIGHBOURS
            )
            for c in labels.unique()
            if (labels == c).sum() > NEIGHBOURS
        ]
        for name in ("density", "coverage") if within else ():
            scores[f"class_{name}"] = torch.tensor([each[name] for each in within]).mean()
        pl_module.log_dict(scores, sync_dist=False)

    def _features(self, model: LightningModule, images: Tensor) -> Tensor:
        return torch.cat([self.classifier(unit(model, part)) for part in images.split(500)])


class PairedScores(Outputs):
    """How far are answers from the one right answer, pixel by pixel?

    Logged: ``mean_absolute_error`` of the samples, the same of the drafts (``draft_mean_absolute_error``) and of the
    mean training image (``mean_image_absolute_error``, for scale), in units of the range of values, 0 to 1.

    Raises:
        ConfigError: when tested, for a model that does not translate images.
    """

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and log."""
        names = ("real", "samples", "drafts", "condition")
        real, samples, drafts, condition = (self.gathered(trainer, f"{name}/0") for name in names)
        if real is None or samples is None or drafts is None or condition is None or condition.dim() != real.dim():
            raise ConfigError("PairedScores needs a model that translates images: remove it.")
        mean = training_images(trainer).mean(0, keepdim=True)
        answers = {"": samples, "draft_": drafts}
        scores = {
            f"{prefix}mean_absolute_error": (unit(pl_module, x) - unit(pl_module, real)).abs().mean()
            for prefix, x in answers.items()
        }
        scores["mean_image_absolute_error"] = (unit(pl_module, mean) - unit(pl_module, real)).abs().mean()
        pl_module.log_dict(scores, sync_dist=False)
