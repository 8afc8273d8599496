"""Start a network from one that was trained before."""

from pathlib import Path

from lightning import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from ebm_zoo.errors import ConfigError, WeightsError
from ebm_zoo.models import EnergyModel


class InitialWeights(Callback):
    """Load the weights of a network from a trained model when a training starts, and maybe hold them at first.

    A run that goes on from a checkpoint keeps the checkpoint's weights.

    Args:
        network: name of the network in the model to be trained.
        source: the trained model: a name of the catalog, a folder with a saved model, user/repo of the Hub, or a
            training checkpoint, a file that ends in ``.ckpt``.
        part: name of the network in the trained model.
        frozen: updates during which the network does not learn.

    Raises:
        ConfigError: if frozen is negative, or a model has no network of the name.
        WeightsError: if the networks are not of one shape.
    """

    def __init__(self, network: str, source: str, part: str, frozen: int = 0) -> None:
        if frozen < 0:
            raise ConfigError(f"InitialWeights needs frozen >= 0, not {frozen}.")
        self.network, self.source, self.part, self.frozen = network, source, part, frozen

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Load, unless a checkpoint was."""
        network = _network(pl_module, self.network)
        if trainer.ckpt_path is not None:
            return
        is_file = Path(self.source).suffix == ".ckpt"
        load = EnergyModel.load_from_checkpoint if is_file else EnergyModel.from_pretrained
        found, wanted = _network(load(self.source), self.part).state_dict(), network.state_dict()
        shapes = [{name: tuple(value.shape) for name, value in state.items()} for state in (found, wanted)]
        if different := sorted({name for name, _ in shapes[0].items() ^ shapes[1].items()}):
            name = different[0]
            raise WeightsError(
                f"'{self.part}' of {self.source} does not fit '{self.network}': '{name}' is {shapes[0].get(name)} "
                f"there and {shapes[1].get(name)} here. Give both the same configuration."
            )
        network.load_state_dict(found)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Drop the network's gradients while it is held: the optimiser passes over what has none."""
        if trainer.global_step < self.frozen:
            for parameter in _network(pl_module, self.network).parameters():
                parameter.grad = None


def _network(model: LightningModule, name: str) -> nn.Module:
    networks = dict(model.named_children())
    if name not in networks:
        raise ConfigError(f"InitialWeights: {type(model).__name__} has no network '{name}'; it has {list(networks)}.")
    return networks[name]
