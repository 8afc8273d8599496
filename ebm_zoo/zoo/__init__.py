"""Trained models by name: the catalog, loading and saving."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ebm_zoo.zoo.catalog import Entry, catalog, config_path, find, list_models, read_catalog

if TYPE_CHECKING:
    from ebm_zoo.zoo.hub import from_pretrained, save_pretrained

__all__ = [
    "Entry",
    "catalog",
    "config_path",
    "find",
    "from_pretrained",
    "list_models",
    "read_catalog",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    # The catalog is read without torch; loading a model is not.
    if name in ("from_pretrained", "save_pretrained"):
        return getattr(import_module("ebm_zoo.zoo.hub"), name)
    raise AttributeError(f"module 'ebm_zoo.zoo' has no attribute '{name}'")
