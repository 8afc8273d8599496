"""Compile networks before a run."""

from lightning import Callback, LightningModule, Trainer

from ebm_zoo.errors import ConfigError


class Compile(Callback):
    """Compile networks in place with `torch.compile`; parameter names and checkpoints stay as they are.

    It gains nothing for convolutions on a CPU; `python -m benchmarks.langevin` measures it on your machine. A compiled
    energy computes its weights' gradients along with those of its input, which eager code leaves out. Losses that
    differentiate a gradient of the energy (score matching, `reconstruct`) cannot run compiled.

    Args:
        networks: names of the model's networks.
    """

    def __init__(self, networks: tuple[str, ...] = ("energy",)) -> None:
        self.networks = tuple(networks)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Compile the named networks."""
        for name in self.networks:
            if name not in dict(pl_module.named_children()):
                raise ConfigError(f"Compile: {type(pl_module).__name__} has no network '{name}'.")
            getattr(pl_module, name).compile()
