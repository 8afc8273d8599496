"""Energies and generators, by modality."""

from ebm_zoo.networks.conditional import LabelledEnergy, PairedEnergy
from ebm_zoo.networks.flow import Dequantisation, FlowPlusPlus
from ebm_zoo.networks.flow_conditioner import CouplingSize
from ebm_zoo.networks.generators import ConvGenerator, CoopNetsGenerator, LabelledGenerator
from ebm_zoo.networks.image import (
    ConvEncoder,
    ConvEnergy,
    ObjectEnergy,
    ResidualEnergy,
    ShortRunEnergy,
    TextureEnergy,
)
from ebm_zoo.networks.reference import GaussianReference
from ebm_zoo.networks.translation import UNetGenerator

__all__ = [
    "ConvEncoder",
    "ConvEnergy",
    "ConvGenerator",
    "CoopNetsGenerator",
    "CouplingSize",
    "Dequantisation",
    "FlowPlusPlus",
    "GaussianReference",
    "LabelledEnergy",
    "LabelledGenerator",
    "ObjectEnergy",
    "PairedEnergy",
    "ResidualEnergy",
    "ShortRunEnergy",
    "TextureEnergy",
    "UNetGenerator",
]
