"""Saving models to folders and loading them by name."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ebm_zoo.config import from_config, require_public, to_config
from ebm_zoo.errors import WeightsError
from ebm_zoo.files import atomic, read_folder
from ebm_zoo.models import EnergyModel
from ebm_zoo.zoo.catalog import find


def save_pretrained(model: EnergyModel, folder: str | Path) -> Path:
    """Write a model as config.json and model.safetensors.

    Args:
        model: any model of the zoo. Replay memories and optimiser states are not saved.
        folder: made if missing; files of these names in it are replaced.

    Returns:
        The folder.

    Raises:
        ConfigError: if the model holds an object of a class that is not the zoo's.
        ZooError: if the folder cannot be written to.
    """
    folder, described = Path(folder), to_config(model)
    require_public(described)
    weights = save({name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()})
    config = {
        "model": described,
        "weights": {"sha256": hashlib.sha256(weights).hexdigest(), "size": len(weights)},
    }
    with atomic(folder / "model.safetensors") as path:
        path.write_bytes(weights)
    with atomic(folder / "config.json") as path:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def from_pretrained(name_or_path: str | Path, *, map_location: str | torch.device = "cpu") -> Any:
    """Load a trained model, ready to answer.

    Args:
        name_or_path: a name of the catalog, such as ``generative_convnet/fashion_mnist``, or a folder that
            `save_pretrained` wrote.
        map_location: device for the weights.

    Returns:
        The model (an `EnergyModel`), in evaluation mode.

    Raises:
        CatalogError: for an unknown name; the nearest names are suggested.
        WeightsError: if the weights are missing, truncated or altered, or do not fit the configuration.
        ConfigError: if the configuration names a class that is not the zoo's.
    """
    if Path(name_or_path, "config.json").is_file():
        folder, expected = Path(name_or_path), None
    else:
        entry = find(str(name_or_path))
        folder, expected = entry.folder, entry.weights.sha256
    config, weights, found = read_folder(folder)
    if expected not in (None, found):
        raise WeightsError(f"{folder} holds weights with sha256 {found}, the catalog names {expected}. Reinstall it.")
    model = from_config(config)
    if not isinstance(model, EnergyModel):
        raise WeightsError(f"{folder}/config.json describes no model but a {type(model).__name__}.")
    load_weights(model, weights, str(folder))
    return model.to(map_location).eval()


def load_weights(model: EnergyModel, weights: bytes, source: str) -> None:
    """Load safetensors bytes into a model, strictly.

    Raises:
        WeightsError: if they are not safetensors, or a key or shape does not fit.
    """
    try:
        model.load_state_dict(load(weights), strict=True)
    except SafetensorError as error:
        raise WeightsError(f"The weights of {source} are not safetensors: {error}.") from None
    except RuntimeError as error:
        detail = "; ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise WeightsError(f"The weights of {source} do not fit its configuration: {detail}") from None
