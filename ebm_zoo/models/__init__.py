"""One file per paper."""

from ebm_zoo.models.base import EnergyModel
from ebm_zoo.models.classifier import Classifier
from ebm_zoo.models.generative_convnet import GenerativeConvNet

__all__ = ["Classifier", "EnergyModel", "GenerativeConvNet"]
