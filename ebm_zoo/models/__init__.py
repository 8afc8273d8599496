"""One file per paper."""

from ebm_zoo.models.abp import AlternatingBackProp
from ebm_zoo.models.base import EnergyModel
from ebm_zoo.models.classifier import Classifier
from ebm_zoo.models.conditional_coopnets import ConditionalCoopNets
from ebm_zoo.models.coop_flow import CoopFlow
from ebm_zoo.models.coop_vaebm import CoopVAEBM
from ebm_zoo.models.coopnets import CoopNets
from ebm_zoo.models.cycle_coopnets import CycleCoopNets
from ebm_zoo.models.flow import NormalizingFlow
from ebm_zoo.models.generative_convnet import GenerativeConvNet
from ebm_zoo.models.latent_ebm import LatentEBM
from ebm_zoo.models.sequence_cycle import SequenceCycleCoopNets

__all__ = [
    "AlternatingBackProp",
    "Classifier",
    "ConditionalCoopNets",
    "CoopFlow",
    "CoopNets",
    "CoopVAEBM",
    "CycleCoopNets",
    "EnergyModel",
    "GenerativeConvNet",
    "LatentEBM",
    "NormalizingFlow",
    "SequenceCycleCoopNets",
]
