"""Molecules that a model wrote: are they any, are they different, are they new; by RDKit, an optional extra."""

from collections.abc import Collection, Sequence
from importlib import import_module
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ebm_zoo.errors import ConfigError

PROPERTIES = ("QED", "logP")


def canonical(smiles: Sequence[str]) -> list[str | None]:
    """The one SMILES by which RDKit writes each molecule; None for what is none, or has no atom.

    Args:
        smiles: molecules, as anybody may write them.

    Raises:
        ConfigError: RDKit is not installed.
    """
    chem = _rdkit("Chem")
    return [None if molecule is None else chem.MolToSmiles(molecule) for molecule in _parsed(smiles)]


def molecule_scores(smiles: Sequence[str], training: Collection[str]) -> dict[str, float]:
    """Validity, uniqueness and novelty of molecules.

        validity = valid / all;    uniqueness = different / valid;    novelty = different and not known / different

    Valid is what RDKit reads and sanitises; different are molecules with different canonical SMILES.

    Args:
        smiles: what a model wrote.
        training: what it learned from, as SMILES of any form.

    Returns:
        Three numbers from 0 to 1; 0 where nothing is valid.

    Raises:
        ConfigError: RDKit is not installed.
    """
    valid = [each for each in canonical(smiles) if each is not None]
    different = set(valid)
    new = different - set(canonical(list(training)))
    return {
        "validity": len(valid) / max(len(smiles), 1),
        "uniqueness": len(different) / max(len(valid), 1),
        "novelty": len(new) / max(len(different), 1),
    }


def molecule_properties(smiles: Sequence[str]) -> Float[Tensor, "n 2"]:
    """Drug-likeness and solubility of the valid among molecules, **(n, 2)**, as `PROPERTIES` names them.

    Args:
        smiles: molecules; those that are none are left out.

    Raises:
        ConfigError: RDKit is not installed.

    References:
        Bickerton, Paolini, Besnard, Muresan, Hopkins. Quantifying the Chemical Beauty of Drugs. 2012 (QED, 0 to 1).
        Wildman, Crippen. Prediction of Physicochemical Parameters by Atomic Contributions. 1999 (logP, the logarithm
        of how much more of it octanol takes up than water).
    """
    drug_likeness, crippen = _rdkit("Chem.QED").qed, _rdkit("Chem.Crippen").MolLogP
    molecules = [molecule for molecule in _parsed(smiles) if molecule is not None]
    return torch.tensor([(drug_likeness(each), crippen(each)) for each in molecules]).view(-1, 2)


def _parsed(smiles: Sequence[str]) -> list[Any]:
    chem = _rdkit("Chem")
    # RDKit prints a line for each molecule that is none.
    with _rdkit("rdBase").BlockLogs():
        molecules = [chem.MolFromSmiles(each) for each in smiles]
    return [molecule if molecule is not None and molecule.GetNumAtoms() else None for molecule in molecules]


def _rdkit(module: str) -> Any:
    try:
        return import_module(f"rdkit.{module}")
    except ImportError:
        raise ConfigError("RDKit, which reads molecules, is missing: `pip install ebm-zoo[molecules]`.") from None
