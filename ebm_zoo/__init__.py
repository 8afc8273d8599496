"""The model zoo of deep energy-based models."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ebm_zoo.zoo import from_pretrained, list_models, save_pretrained

__version__ = "0.1.0"
__all__ = ["__version__", "from_pretrained", "list_models", "save_pretrained"]


def __getattr__(name: str) -> Any:
    # Importing torch takes seconds: `import ebm_zoo` and the listing commands do without it.
    if name in ("from_pretrained", "list_models", "save_pretrained"):
        return getattr(import_module("ebm_zoo.zoo"), name)
    raise AttributeError(f"module 'ebm_zoo' has no attribute '{name}'")
