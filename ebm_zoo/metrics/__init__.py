"""How good samples are: distances between feature sets, the extractors of those features, and one metric."""

from ebm_zoo.metrics.distances import (
    frechet_distance,
    kernel_distance,
    nearest_distance,
    precision_recall_density_coverage,
)
from ebm_zoo.metrics.features import GreyClassifier, Inception
from ebm_zoo.metrics.generation import GenerationMetrics
from ebm_zoo.metrics.latent import importance_bound, laplace_proposal, log_normaliser, log_weights
from ebm_zoo.metrics.likelihood import bits_per_dimension
from ebm_zoo.metrics.molecules import canonical, molecule_properties, molecule_scores
from ebm_zoo.metrics.shipped import DigitsClassifier, FashionClassifier, MnistClassifier, Pixels, UspsClassifier
from ebm_zoo.metrics.squeezenet import SqueezeNet

__all__ = [
    "DigitsClassifier",
    "FashionClassifier",
    "GenerationMetrics",
    "GreyClassifier",
    "Inception",
    "MnistClassifier",
    "Pixels",
    "SqueezeNet",
    "UspsClassifier",
    "bits_per_dimension",
    "canonical",
    "frechet_distance",
    "importance_bound",
    "kernel_distance",
    "laplace_proposal",
    "log_normaliser",
    "log_weights",
    "molecule_properties",
    "molecule_scores",
    "nearest_distance",
    "precision_recall_density_coverage",
]
