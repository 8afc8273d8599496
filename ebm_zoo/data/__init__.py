"""Data modules: batches of real data for models that know nothing of where these come from."""

from ebm_zoo.data.images import ImageData
from ebm_zoo.data.indexed import IndexedImageData
from ebm_zoo.data.labelled import LabelledImageData
from ebm_zoo.data.left_out import LeftOutImageData
from ebm_zoo.data.masked import MaskedImageData
from ebm_zoo.data.paired import PairedImageData
from ebm_zoo.data.smiles import SmilesData, smiles_tokens
from ebm_zoo.data.text import TextData
from ebm_zoo.data.texture import TextureData
from ebm_zoo.data.unpaired import UnpairedImageData
from ebm_zoo.data.video import UnpairedVideoData

__all__ = [
    "ImageData",
    "IndexedImageData",
    "LabelledImageData",
    "LeftOutImageData",
    "MaskedImageData",
    "PairedImageData",
    "SmilesData",
    "TextData",
    "TextureData",
    "UnpairedImageData",
    "UnpairedVideoData",
    "smiles_tokens",
]
