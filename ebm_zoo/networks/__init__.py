"""Energies and generators, by modality."""

from ebm_zoo.networks.conditional import LabelledEnergy, PairedEnergy
from ebm_zoo.networks.flow import Dequantisation, FlowPlusPlus
from ebm_zoo.networks.flow_conditioner import CouplingSize
from ebm_zoo.networks.generators import (
    ConvGenerator,
    CoopNetsGenerator,
    DenseGenerator,
    DoublingGenerator,
    LabelledGenerator,
)
from ebm_zoo.networks.image import ConvEncoder, ConvEnergy, ObjectEnergy, ShortRunEnergy, TextureEnergy
from ebm_zoo.networks.latent import GaussianOutput, LatentEnergy
from ebm_zoo.networks.recurrent import ConvGRUPredictor
from ebm_zoo.networks.reference import GaussianReference
from ebm_zoo.networks.residual import ResidualEnergy
from ebm_zoo.networks.sequence import RecurrentOutput
from ebm_zoo.networks.translation import DoublingTranslator, ResNetTranslator, UNetGenerator, WarpedTranslator

__all__ = [
    "ConvEncoder",
    "ConvEnergy",
    "ConvGRUPredictor",
    "ConvGenerator",
    "CoopNetsGenerator",
    "CouplingSize",
    "DenseGenerator",
    "Dequantisation",
    "DoublingGenerator",
    "DoublingTranslator",
    "FlowPlusPlus",
    "GaussianOutput",
    "GaussianReference",
    "LabelledEnergy",
    "LabelledGenerator",
    "LatentEnergy",
    "ObjectEnergy",
    "PairedEnergy",
    "RecurrentOutput",
    "ResNetTranslator",
    "ResidualEnergy",
    "ShortRunEnergy",
    "TextureEnergy",
    "UNetGenerator",
    "WarpedTranslator",
]
