"""The figures of generated images against real ones, gathered over batches and ranks."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from ebm_zoo.metrics.distances import (
    frechet_distance,
    kernel_distance,
    precision_recall_density_coverage,
)


class GenerationMetrics(Metric):
    """Fréchet and kernel distance, precision, recall, density and coverage of generated images.

    Write `metric.features.name` beside every figure: the figures of two extractors cannot be compared. Every
    rank has to add images of both kinds and to call `compute`, or the others wait for it.

    Args:
        features: Extractor, images (B, C, H, W) in [0, 1] -> features (B, D). Kept in eval mode and moved to
            the device of the images.
        k: Neighbour that gives the balls of precision, recall, density and coverage their radius.
    """

    is_differentiable = False
    full_state_update = False
    features: nn.Module
    real_features: list[Tensor]
    generated_features: list[Tensor]

    def __init__(self, features: nn.Module, k: int = 5) -> None:
        super().__init__()
        # Not as a submodule: its weights would land in the state dict of whatever holds this metric.
        object.__setattr__(self, "features", features)
        self.k = k
        self.add_state("real_features", default=[], dist_reduce_fx="cat")
        self.add_state("generated_features", default=[], dist_reduce_fx="cat")

    def update(self, images: Float[Tensor, "b c h w"], real: bool) -> None:
        """Add a batch.

        Args:
            images: Images in [0, 1], shape (B, C, H, W).
            real: Whether they are real or generated.

        Raises:
            DataError: The extractor refuses the images.
        """
        features = self.features.to(images.device).eval()(images)
        (self.real_features if real else self.generated_features).append(features)

    def compute(self) -> dict[str, float]:
        """All figures over all batches since the last `reset`.

        Returns:
            The figures by name: frechet_distance, kernel_distance, precision, recall, density, coverage. The
            subsets of the kernel distance have a fixed seed: equal features give equal figures.

        Raises:
            DataError: There are at most k real or generated images, or a feature is not finite.
        """
        real, generated = _gathered(self.real_features), _gathered(self.generated_features)
        subsets = torch.Generator().manual_seed(0)
        return {
            "frechet_distance": frechet_distance(real, generated).item(),
            "kernel_distance": kernel_distance(real, generated, generator=subsets).item(),
            **precision_recall_density_coverage(real, generated, self.k),
        }


def _gathered(features: list[Tensor] | Tensor) -> Tensor:
    # Nothing to concatenate is left to the distances, which say what is missing.
    return dim_zero_cat(features) if len(features) else torch.zeros(0, 0)
