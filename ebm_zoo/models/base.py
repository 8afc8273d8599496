"""What every paper's model shares: one backward, one optimiser, exact resume, seeds per rank."""

import pickle
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn

from ebm_zoo.config import from_config, to_config
from ebm_zoo.errors import ConfigError, WeightsError
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Chains
from ebm_zoo.space import Space, TokenSpace


class EnergyModel(LightningModule):
    """Base of the zoo's models. A paper writes `losses` and its tasks; the rest is here.

    The losses of a paper share no parameter once their samples are detached, so their sum gives each network the
    gradient of its own loss, and one optimiser with a parameter group per network does what several would.

    Args:
        space: shape and range of one datum, or the tokens of a sequence.
        optim: Adam settings by network, named as the constructor names it.
    """

    tasks: tuple[str, ...] = ()
    """Methods that answer a user's question, besides training."""

    def __init__(self, space: Space | TokenSpace, optim: dict[str, Adam]) -> None:
        super().__init__()
        # Any: a model of images asks other things of its space than one of sequences.
        self.space: Any = space
        self.optim = optim

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Run this iteration's sampling and return the named scalar losses; each parameter belongs to one."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Sum the losses."""
        if self.global_step == 0:
            self.space.check(self.observed(batch)[0])
        losses = self.losses(batch)
        for name, loss in losses.items():
            self.log(f"loss/{name}", loss.detach(), prog_bar=True)
        return {"loss": torch.stack(list(losses.values())).sum(), **{k: v.detach() for k, v in losses.items()}}

    def observed(self, batch: Any) -> tuple[Tensor, ...]:
        """Data of a batch, followed by the conditions they belong to, if the model knows any."""
        return (batch,)

    def answers(self, n: int, *conditions: Tensor) -> dict[str, Tensor]:
        """What the model draws for n data or their conditions: ``samples``, and whatever came before them."""
        raise NotImplementedError(f"{type(self).__name__} draws nothing.")

    @torch.no_grad()
    def validation_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor] | None:
        """Energies of data and of fresh samples, which stay together while learning is healthy."""
        x, *conditions = self.observed(batch)
        answers = self.answers(len(x), *conditions)
        energy: Any = self.energy
        for name, y in (("data", x), ("samples", answers["samples"])):
            self.log(f"energy/{name}", energy(y, *conditions).mean(), sync_dist=True)
        return {"real": x, **answers}

    @torch.no_grad()
    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor] | None:
        """Energies; for the first set of data also as many fresh samples as the batch has."""
        x, *conditions = self.observed(batch)
        model: Any = self
        energy = model.energy(self.space.check(x), *conditions)
        if dataloader_idx:
            return {"outliers": x, "energy": energy}
        return {"real": x, **self.answers(len(x), *conditions), "energy": energy}

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """As many samples as the batch has data, and the data's energies."""
        x, *conditions = self.observed(batch)
        model: Any = self
        with torch.no_grad():
            answers = self.answers(len(x), *conditions)
            return {**answers, "energy": model.energy(self.space.check(x), *conditions)}

    def networks(self) -> dict[str, nn.Module]:
        """Networks that are trained, by name."""
        trained = {n: m for n, m in self.named_children() if any(p.requires_grad for p in m.parameters())}
        if set(trained) != set(self.optim):
            raise ConfigError(
                f"optim needs settings for exactly the trained networks {sorted(trained)}, not {sorted(self.optim)}."
            )
        return trained

    def configure_optimizers(self) -> Any:
        """One Adam with a parameter group per network."""
        groups: list[dict[str, Any]] = []
        factors: list[Callable[[int], float]] = []
        total = float(self.trainer.estimated_stepping_batches)
        for name, network in self.networks().items():
            settings = self.optim[name]
            betas = tuple(float(beta) for beta in settings.betas)
            parameters = [p for p in network.parameters() if p.requires_grad]
            groups.append({"params": parameters, "lr": settings.lr, "betas": betas, "name": name})
            factors.append(partial(settings.factor, total=total))
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factors)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        """Clip each network's gradient norm to its own limit, then to the Trainer's if it has one."""
        for group in optimizer.param_groups:
            limit = self.optim[group["name"]].clip or float("inf")
            norm = nn.utils.clip_grad_norm_(group["params"], limit)
            self.log(f"gradient_norm/{group['name']}", norm)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def setup(self, stage: str) -> None:
        """Give each rank its own stream of noise; describe the model to the loggers."""
        # seed_everything leaves all ranks on the same stream: their chains would be copies of each other.
        if self.trainer.world_size > 1:
            torch.manual_seed(torch.initial_seed() + self.trainer.global_rank)
        self.save_hyperparameters(to_config(self))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, and every rank's chains and random streams."""
        chains = {name: {k: v.cpu() for k, v in chain.state().items()} for name, chain in self._chains().items()}
        ranks: list[Any] = [{"chains": chains, "rng": _random_state()}]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            mine, ranks = ranks[0], [None] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(ranks, mine)
        checkpoint["ebm_zoo"] = {"config": to_config(self), "ranks": ranks}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another model; take up this rank's chains and random stream."""
        shapes = [{k: tuple(v.shape) for k, v in s.items()} for s in (self.state_dict(), checkpoint["state_dict"])]
        different = sorted({key for key, _ in shapes[0].items() ^ shapes[1].items()})
        if different:
            raise WeightsError(
                f"The checkpoint was written by another model: '{different[0]}' is {shapes[1].get(different[0])} in "
                f"it and {shapes[0].get(different[0])} here. Give the configuration it was trained with, or none."
            )
        ranks = checkpoint.get("ebm_zoo", {}).get("ranks", [])
        world = self.trainer.world_size if self._trainer is not None else 1
        if len(ranks) == world and self._trainer is not None:
            mine = ranks[self.trainer.global_rank]
            for name, chain in self._chains().items():
                chain.restore(mine["chains"][name])
            # No later: the iterator over the training data is made, and draws, when the optimisers are.
            if self.trainer.state.fn == "fit":
                _set_random_state(mine["rng"])

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        source: Literal["auto", "embedded", "hub"] = "auto",
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        map_location: str | torch.device = "cpu",
    ) -> Any:
        """Load a trained model of this class; arguments and errors are those of `ebm_zoo.from_pretrained`.

        Raises:
            WeightsError: also if the model is of another class.
        """
        # Models do not know the zoo: they go through the package's front door, as anybody does.
        from ebm_zoo import from_pretrained

        model = from_pretrained(
            name_or_path,
            source=source,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            map_location=map_location,
        )
        if not isinstance(model, cls):
            raise WeightsError(f"{name_or_path} is a {type(model).__name__}, not a {cls.__name__}: load it as such.")
        return model

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, map_location: Any = "cpu", **_: Any) -> "EnergyModel":
        """Rebuild a model from a training checkpoint, whatever its class.

        Args:
            checkpoint_path: file that training wrote.
            map_location: device for the weights.

        Raises:
            WeightsError: if the file is no checkpoint of this zoo, or holds a model of another class.
        """
        checkpoint = read_checkpoint(checkpoint_path, map_location)
        model = from_config(checkpoint["ebm_zoo"]["config"])
        if not isinstance(model, cls):
            raise WeightsError(f"{checkpoint_path} holds a {type(model).__name__}, not a {cls.__name__}.")
        model.load_state_dict(checkpoint["state_dict"], strict=True)
        return model

    def _chains(self) -> dict[str, Chains]:
        return {name: value for name, value in vars(self).items() if isinstance(value, Chains)}


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a training checkpoint; nothing but tensors and plain data is unpickled.

    Raises:
        WeightsError: if the file is missing, damaged, or was written by something else.
    """
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or "it is truncated, altered or no checkpoint"
        raise WeightsError(f"Cannot read the checkpoint {path}: {reason}.") from None
    if not isinstance(checkpoint, dict) or "ebm_zoo" not in checkpoint:
        raise WeightsError(f"{path} was not written by a model of this zoo.")
    return checkpoint


def without_batch_norm(network: nn.Module) -> nn.Module:
    """Return an energy network, or refuse it: batch statistics would move with every step of a sampler."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(f"The energy has batch norm at '{name}': use another normalisation, or none.")
    return network


def _random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
