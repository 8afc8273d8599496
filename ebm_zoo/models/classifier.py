"""A plain classifier, whose features and decisions judge generated images."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ebm_zoo.errors import DataError
from ebm_zoo.models.base import EnergyModel
from ebm_zoo.optim import Adam
from ebm_zoo.space import Space


class Classifier(EnergyModel):
    """p(y | x) = softmax(f(x))_y, learned by cross-entropy.

    It is no generative model: it ships so that grey 28×28 models can be measured with no download.

    Args:
        network: has ``logits``, **(B, C, H, W) -> (B, classes)**, see `ebm_zoo.metrics.GreyClassifier`.
        space: shape and range of the images.
        optim: Adam settings for ``network``.
    """

    tasks = ("classify",)

    def __init__(self, network: nn.Module, space: Space, optim: dict[str, Adam]) -> None:
        super().__init__(space, optim)
        self.network = network

    def observed(self, batch: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Images and labels."""
        if not isinstance(batch, (list, tuple)) or len(batch) != 2:
            raise DataError("This model learns images with labels: give LabelledImageData, or a loader of such pairs.")
        return tuple(batch)

    def losses(self, batch: Sequence[Tensor]) -> dict[str, Tensor]:
        """Cross-entropy of images and labels."""
        images, labels = batch
        return {"network": nn.functional.cross_entropy(self._logits(images).float(), labels)}

    def test_step(self, batch: Sequence[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        """Accuracy."""
        images, labels = batch
        correct = (self.classify(images) == labels).float().mean()
        self.log("accuracy", correct, batch_size=len(labels), sync_dist=True)

    def validation_step(self, batch: Sequence[Tensor], batch_idx: int) -> None:
        """Accuracy."""
        self.test_step(batch, batch_idx)

    def predict_step(self, batch: Sequence[Tensor], batch_idx: int) -> dict[str, Tensor]:
        """Classes of the images."""
        return {"classes": self.classify(batch[0])}

    @torch.no_grad()
    def classify(self, x: Tensor) -> Tensor:
        """Most probable classes, **(B, C, H, W) -> (B,)**."""
        return self._logits(self.space.check(x)).argmax(1)

    def _logits(self, x: Tensor) -> Tensor:
        network: Any = self.network  # nn.Module hides the type of its attributes
        return network.logits(x)
