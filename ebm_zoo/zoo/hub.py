"""Saving models to folders and loading them by name."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from ebm_zoo.config import require_public, to_config
from ebm_zoo.errors import WeightsError
from ebm_zoo.files import atomic, user_path
from ebm_zoo.fitting import build, require_finite, require_fit
from ebm_zoo.models import EnergyModel
from ebm_zoo.zoo.resolve import Access, Source, resolve


def save_pretrained(model: EnergyModel, folder: str | Path) -> Path:
    """Write a model as config.json and model.safetensors.

    Args:
        model: any model of the zoo. Replay memories and optimiser states are not saved.
        folder: made if missing; files of these names in it are replaced.

    Returns:
        The folder.

    Raises:
        ConfigError: if the model holds an object of a class that is not the zoo's.
        WeightsError: if a weight is NaN or infinite.
        ZooError: if the folder cannot be written to.
    """
    folder, described = user_path(folder), to_config(model)
    require_public(described)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    require_finite(tensors, f"a {type(model).__name__}")
    weights = save(tensors)
    config = {
        "model": described,
        "weights": {"sha256": hashlib.sha256(weights).hexdigest(), "size": len(weights)},
    }
    with atomic(folder / "model.safetensors") as path:
        path.write_bytes(weights)
    with atomic(folder / "config.json") as path:
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return folder


def from_pretrained(
    name_or_path: str | Path,
    *,
    source: Source = "auto",
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    map_location: str | torch.device = "cpu",
) -> Any:
    """Load a trained model, ready to answer.

    What is loaded are the very bytes whose hash was checked, against config.json and, where the catalog pins the
    commit, against the catalog.

    Args:
        name_or_path: a name of the catalog, such as ``generative_convnet/fashion_mnist``; a folder that
            `save_pretrained` wrote; or a repository of the Hugging Face Hub, ``user/repo`` or ``user/repo@revision``.
        source: ``auto`` takes the local copy of a catalog name, then the Hub's cache, then the Hub; ``embedded`` the
            local copy only, ``hub`` cache and Hub only.
        revision: branch, tag or commit of the repository; wins over the commit that the catalog pins.
        cache_dir: cache of the Hub's files; that of huggingface_hub (HF_HOME) unless given.
        token: for private repositories; that of huggingface_hub (HF_TOKEN) unless given.
        local_files_only: ask no Hub; what is cached must do.
        map_location: device for the weights.

    Returns:
        The model (an `EnergyModel`), in evaluation mode.

    Raises:
        CatalogError: for an unknown name; the nearest names are suggested.
        WeightsError: if the weights are missing, truncated or altered, or do not fit the configuration; or if the
            Hub refuses or cannot be reached.
        ConfigError: if the configuration names a class that is not the zoo's.
    """
    access = Access(cache_dir, token, local_files_only)
    found = resolve(name_or_path, source=source, revision=revision, access=access)
    with torch.inference_mode(False):  # what it moves to a device would be of that mode for good
        return build_model(found.config, found.weights, found.place).to(map_location).eval()


def build_model(config: Any, weights: bytes, source: str) -> EnergyModel:
    """Build the model of a configuration and load its weights; see `ebm_zoo.fitting.build`.

    Args:
        config: plain data, as `ebm_zoo.config.from_config` takes them.
        weights: safetensors.
        source: where both come from, for messages.

    Raises:
        ConfigError: if the configuration cannot be built.
        WeightsError: if it describes no model, or the weights are not safetensors, not finite, or do not fit it.
    """
    return build(config, _tensors(weights, source), source, EnergyModel)


def load_weights(model: EnergyModel, weights: bytes, source: str) -> None:
    """Load safetensors bytes into a model, strictly.

    Raises:
        WeightsError: if they are not safetensors or not finite, or a key, shape or kind of number does not fit.
    """
    tensors = _tensors(weights, source)
    require_fit(model, tensors, source)
    model.load_state_dict(tensors)


def _tensors(weights: bytes, source: str) -> dict[str, torch.Tensor]:
    # The header cannot claim more than the file holds: that much the format's reader checks.
    try:
        return load(weights)
    except (SafetensorError, KeyError, TypeError, AssertionError) as error:
        raise WeightsError(f"The weights of {source} are not safetensors that torch can hold: {error}.") from None
