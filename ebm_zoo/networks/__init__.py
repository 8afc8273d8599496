"""Energies and generators, by modality."""

from ebm_zoo.networks.image import ConvEnergy, ObjectEnergy, ShortRunEnergy, TextureEnergy
from ebm_zoo.networks.reference import GaussianReference

__all__ = ["ConvEnergy", "GaussianReference", "ObjectEnergy", "ShortRunEnergy", "TextureEnergy"]
