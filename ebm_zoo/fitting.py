"""A network from a stranger's configuration and the weights that go with it, built only as large as these are."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from ebm_zoo.config import from_config
from ebm_zoo.errors import WeightsError

# Networks hold few things that are not among their weights: 1.7 modules per tensor and 3 % more values at most, over
# all models that ship. What the weights do not account for may be this many times as much, and this much in any case.
SPARE = 4
SPARE_PARTS, SPARE_VALUES = 256, 2**22


def build(config: Any, tensors: Any, source: str, kind: type[nn.Module] = nn.Module) -> Any:
    """Build the network of a configuration and load its weights.

    It is built without memory first, and no further than its weights reach: a configuration of a few bytes may ask
    for a billion blocks, or for a layer larger than the memory. The global random stream stays where it is.

    Args:
        config: plain data, as `ebm_zoo.config.from_config` takes them.
        tensors: the weights, tensors by name, of a file of weights or a checkpoint.
        source: where both come from, for messages.
        kind: class that a model must be of.

    Raises:
        ConfigError: if the configuration cannot be built.
        WeightsError: if it describes something else, asks for more than the weights hold, or does not fit them; or if
            a weight is not finite.
    """
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"The weights of {source} are no tensors by name: it was altered, or written by others.")
    refusal = f"The weights of {source} do not fit its configuration:"
    # Weights that inference mode makes never know a gradient, which sampling takes.
    with torch.inference_mode(False), torch.random.fork_rng(_drawing()):
        with torch.device("meta"), _limited(tensors, refusal):
            sketch = from_config(config)
        if not isinstance(sketch, kind):
            raise WeightsError(f"The configuration of {source} describes no model but a {type(sketch).__name__}.")
        require_fit(sketch, tensors, source)
        network: Any = from_config(config)
        network.load_state_dict(tensors)
    return network


def _drawing() -> list[torch.device]:
    """The devices, besides the CPU, that initial weights are drawn on."""
    device = torch.get_default_device()
    return [device] if device.type == "cuda" else []


def require_fit(network: nn.Module, tensors: dict[str, Tensor], source: str) -> None:
    """Refuse weights that are not exactly a network's: other names, shapes or kinds of numbers, or none at all.

    Args:
        network: may be on the device meta.
        tensors: the weights by name.
        source: where they come from, for messages.

    Raises:
        WeightsError: naming the first that does not fit, or is not finite.
    """
    wanted = network.state_dict()
    refusal = f"The weights of {source} do not fit its configuration:"
    if different := sorted(tensors.keys() ^ wanted.keys()):
        place = "file" if different[0] in tensors else "configuration"
        raise WeightsError(f"{refusal} only the {place} has '{different[0]:.100}'.")
    for name, value in wanted.items():
        sizes = tuple(tensors[name].shape), tuple(value.shape)
        if sizes[0] != sizes[1]:
            raise WeightsError(f"{refusal} size mismatch for '{name}', {sizes[0]} in the file and not {sizes[1]}.")
        if tensors[name].is_floating_point() != value.is_floating_point():
            raise WeightsError(f"{refusal} '{name}' is of type {tensors[name].dtype}, not {value.dtype}.")
    require_finite(tensors, source)


def require_finite(tensors: dict[str, Tensor], source: str) -> None:
    """Refuse weights with NaN or infinite values: all that a model answers with them is NaN.

    Raises:
        WeightsError: naming the first such tensor.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not _is_finite(value.detach()):
            raise WeightsError(
                f"The weights of {source} hold NaN or infinite values in '{name:.100}': take a checkpoint from before "
                "its training diverged."
            )


def _is_finite(value: Tensor) -> bool:
    # What is not finite shows in the sum, which takes a third of the time; so may what is large.
    value = value.float() if value.element_size() == 1 else value
    return bool(value.sum().isfinite()) or bool(value.isfinite().all())


@contextmanager
def _limited(tensors: dict[str, Tensor], refusal: str) -> Iterator[None]:
    """Let this thread's networks register no more modules, tensors and values than these weights account for."""
    parts = SPARE * len(tensors) + SPARE_PARTS
    values = SPARE * sum(value.numel() for value in tensors.values()) + SPARE_VALUES
    counted, thread = [0, 0], threading.get_ident()

    def count(module: nn.Module, name: str, added: nn.Module | Tensor | None) -> None:
        if threading.get_ident() != thread or added is None:
            return
        counted[0] += 1
        counted[1] += added.numel() if isinstance(added, Tensor) else 0
        if counted[0] > parts or counted[1] > values:
            raise WeightsError(f"{refusal} it asks for a network far larger than these {len(tensors)} tensors.")

    handles = [
        registration.register_module_parameter_registration_hook(count),
        registration.register_module_buffer_registration_hook(count),
        registration.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
