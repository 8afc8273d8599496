"""Pictures, sentences and figures of what a model answers, and guards of its training."""

from ebm_zoo.callbacks.checkpoints import Checkpoint, CheckpointFiles, Last
from ebm_zoo.callbacks.compile import Compile
from ebm_zoo.callbacks.conditional import LabelScores, PairedScores
from ebm_zoo.callbacks.ends import OrderlyEnd
from ebm_zoo.callbacks.guard import DivergenceGuard
from ebm_zoo.callbacks.pictures import Pictures, picture_grid, run_folder
from ebm_zoo.callbacks.scores import AnomalyScore, GenerationScores
from ebm_zoo.callbacks.sentences import MoleculeScores, Sentences
from ebm_zoo.callbacks.translation import TranslatedClips, TranslationPictures, TranslationScores, write_gif
from ebm_zoo.callbacks.weights import InitialWeights

__all__ = [
    "AnomalyScore",
    "Checkpoint",
    "CheckpointFiles",
    "Compile",
    "DivergenceGuard",
    "GenerationScores",
    "InitialWeights",
    "LabelScores",
    "Last",
    "MoleculeScores",
    "OrderlyEnd",
    "PairedScores",
    "Pictures",
    "Sentences",
    "TranslatedClips",
    "TranslationPictures",
    "TranslationScores",
    "picture_grid",
    "run_folder",
    "write_gif",
]
