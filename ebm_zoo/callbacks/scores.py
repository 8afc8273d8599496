"""Figures about what a model answers in the test loop."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_auroc, binary_average_precision

from ebm_zoo.callbacks.pictures import gather
from ebm_zoo.errors import ConfigError
from ebm_zoo.metrics import GenerationMetrics, GreyClassifier, frechet_distance, nearest_distance
from ebm_zoo.samplers import FittedGaussian


class Outputs(Callback):
    """Gathers what the validation or test step returned, by data loader."""

    def __init__(self) -> None:
        self.parts: dict[str, list[Tensor]] = {}

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self.parts = {}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self.parts = {}

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the outputs."""
        for name, value in (outputs or {}).items():
            self.parts.setdefault(f"{name}/{dataloader_idx}", []).append(value.detach().cpu())

    on_test_batch_end = on_validation_batch_end

    def gathered(self, trainer: Trainer, name: str) -> Tensor | None:
        """All values of one output over batches and ranks, or None where the model returns none."""
        if name not in self.parts:
            return None
        mine = gather(self.parts[name])
        if trainer.world_size == 1:
            return mine
        ranks: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(ranks, mine)
        return torch.cat(ranks)


class GenerationScores(Outputs):
    """Compare samples with images held back: distances, precision and recall, classes, copies.

    Logged: frechet_distance, kernel_distance, precision, recall, density, coverage over named features and, where
    these classify, ``rarest_class``, the smallest share of a class among the samples; in validation too, so that a
    checkpoint can monitor them. In the test loop also ``gaussian_frechet_distance`` of a pixel-space Gaussian fitted
    to the training set and clipped to the range, for scale; and ``copy_ratio``, mean distance of samples to their
    nearest training image over that of test images (below 1 samples lie nearer to the training set than test images);
    and, where the model returns ``drafts``, their ``draft_frechet_distance``.

    Args:
        features: extractor, images in [0, 1] **(B, C, H, W) -> (B, D)**.
        samples: figures over at most this many samples and test images.
    """

    def __init__(self, features: nn.Module, samples: int = 5000) -> None:
        super().__init__()
        if samples < 2:
            raise ConfigError(f"GenerationScores needs 2 or more samples, not {samples}.")
        self.features, self.samples = features.eval(), samples

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the distances and log them."""
        if not trainer.sanity_checking:
            self._log(pl_module, self._distances(pl_module, *self._pair(trainer)))

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute everything and log it."""
        real, fake = self._pair(trainer)
        scores = self._distances(pl_module, real, fake)
        drafts = self.gathered(trainer, "drafts/0")
        if drafts is not None:
            features = [self._features(pl_module, x) for x in (real, drafts[: self.samples])]
            scores["draft_frechet_distance"] = frechet_distance(*features)
        training = training_images(trainer)
        scores["copy_ratio"] = nearest_distance(fake, training).mean() / nearest_distance(real, training).mean()
        if training[0].numel() <= 4096:
            scores["gaussian_frechet_distance"] = self._gaussian(pl_module, training, real, len(fake))
        self._log(pl_module, scores)

    def _pair(self, trainer: Trainer) -> tuple[Tensor, Tensor]:
        real, fake = self.gathered(trainer, "real/0"), self.gathered(trainer, "samples/0")
        if real is None or fake is None:
            raise ConfigError("GenerationScores needs a model whose steps return 'real' and 'samples': remove it.")
        return real[: self.samples], fake[: self.samples]

    def _log(self, model: LightningModule, scores: dict[str, Any]) -> None:
        # All ranks have gathered the same images, so each has the figures that a checkpoint may monitor.
        model.log_dict({name: torch.as_tensor(value).float() for name, value in scores.items()}, sync_dist=False)

    def _distances(self, model: LightningModule, real: Tensor, fake: Tensor) -> dict[str, Any]:
        metric = GenerationMetrics(self.features)
        metric.sync_on_compute = False  # the images have been gathered over the ranks already
        for images, is_real in ((real, True), (fake, False)):
            for part in images.split(500):
                metric.update(unit(model, part), real=is_real)
        scores: dict[str, Any] = dict(metric.compute())
        if isinstance(self.features, GreyClassifier):
            with torch.no_grad():
                classes = torch.cat([self.features.logits(unit(model, p)).argmax(1) for p in fake.split(500)])
            scores["rarest_class"] = (classes.bincount(minlength=self.features.classes).min() / len(classes)).item()
        return scores

    def _gaussian(self, model: LightningModule, training: Tensor, real: Tensor, n: int) -> Tensor:
        space: Any = model.space
        noise = FittedGaussian(space.shape, training[0].numel(), space.low, space.high)
        noise.fit(training.split(1000))
        with torch.no_grad():
            drawn = noise(space.template(n, real))
        return frechet_distance(self._features(model, real), self._features(model, drawn))

    @torch.no_grad()
    def _features(self, model: LightningModule, images: Tensor) -> Tensor:
        return torch.cat([self.features(unit(model, part)) for part in images.split(500)])


class AnomalyScore(Outputs):
    """How well the energy tells test images from outliers (the second test set).

    Logged: ``outlier_auroc``, the area under the ROC curve, the probability that an outlier has a higher energy than
    a test image (0.5 is chance); ``outlier_auprc``, the average precision with outliers as what is to be found
    (their part of all images is chance). Where the model returns them, the same by the error of reconstruction alone,
    ``reconstruction_outlier_auroc`` and ``reconstruction_outlier_auprc``, and by the energy of the inferred latent
    vector alone, ``prior_outlier_auroc`` and ``prior_outlier_auprc``.
    """

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute and log."""
        scores = {"energy": "", "reconstruction_error": "reconstruction_", "prior_energy": "prior_"}
        for name, prefix in scores.items():
            inside, outside = self.gathered(trainer, f"{name}/0"), self.gathered(trainer, f"{name}/1")
            if inside is None or outside is None:
                continue
            score = torch.cat([inside, outside])
            target = torch.cat([torch.zeros(len(inside)), torch.ones(len(outside))]).long()
            # Scores outside [0, 1] would be squashed by a sigmoid, which ties large ones: use ranks, equal ones for
            # equal scores.
            ranks = score.unique(return_inverse=True)[1].double() / len(score)
            pl_module.log(f"{prefix}outlier_auroc", binary_auroc(ranks, target).float())
            pl_module.log(f"{prefix}outlier_auprc", binary_average_precision(ranks, target).float())


def unit(model: LightningModule, images: Tensor) -> Tensor:
    """Images of a model brought from its range to [0, 1]."""
    space: Any = model.space
    return ((images - space.low) / (space.high - space.low)).clamp(0, 1)


def training_images(trainer: Trainer) -> Tensor:
    """All images that a run's data module trains on, **(N, C, H, W)**, without what belongs to them."""
    data: Any = trainer.datamodule  # type: ignore[attr-defined]
    data.setup("fit")
    return gather([batch if isinstance(batch, Tensor) else batch[0] for batch in data.train_dataloader()])
