"""What every paper's model shares: one backward, one optimiser, exact resume, seeds per rank."""

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from lightning import LightningModule
from torch import Tensor, nn

from ebm_zoo.config import to_config
from ebm_zoo.errors import ConfigError, DataError, WeightsError
from ebm_zoo.fitting import build
from ebm_zoo.models.batches import alone
from ebm_zoo.models.checkpoint import (
    describe,
    go_on,
    optimise_as_told,
    random_state,
    read_checkpoint,
    set_random_state,
    take_up,
)
from ebm_zoo.optim import Adam
from ebm_zoo.samplers.chains import Chains, held_chains
from ebm_zoo.space import Space, TokenSpace


class EnergyModel(LightningModule):
    """Base of the zoo's models. A paper writes `losses` and its tasks; the rest is here.

    The losses of a paper share no parameter once their samples are detached, so their sum gives each network the
    gradient of its own loss, and one optimiser with a parameter group per network does what several would.

    Args:
        space: shape and range of one datum, or the tokens of a sequence.
        optim: Adam settings by network, named as the constructor names it.

    Raises:
        ConfigError: inside `torch.inference_mode`, whose tensors never know a gradient.
    """

    tasks: tuple[str, ...] = ()
    """Methods that answer a user's question, besides training."""

    def __init__(self, space: Space | TokenSpace, optim: dict[str, Adam]) -> None:
        super().__init__()
        if torch.is_inference_mode_enabled():
            raise ConfigError(
                "A model built inside torch.inference_mode() has no gradients to sample by: build it outside."
            )
        # Any: a model of images asks other things of its space than one of sequences.
        self.space: Any = space
        self.optim = optim
        # Data and samples that the last update learned from, by energy: what guards look at.
        self.contrasts: dict[str, tuple[Tensor, Tensor]] = {}
        # Of the present run: random numbers after the last update, batches of the epoch done before, data looked at.
        self.stream: dict[str, Tensor] | None = None
        self.begin_after, self.checked = 0, False

    @abstractmethod
    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Run this iteration's sampling and return the named scalar losses; each parameter belongs to one."""

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        """Sum the losses."""
        batch = alone(batch)
        if not self.checked:
            self.space.check(self.observed(batch)[0])
            self.checked = True
        losses = self.losses(batch)
        self.stream = random_state()
        for name, loss in losses.items():
            self.log(f"loss/{name}", loss.detach(), prog_bar=True)
        return {"loss": torch.stack(list(losses.values())).sum(), **{k: v.detach() for k, v in losses.items()}}

    def observed(self, batch: Any) -> tuple[Tensor, ...]:
        """Data of a batch, followed by the conditions they belong to, if the model knows any.

        Raises:
            DataError: for batches of another kind than the model learns from.
        """
        batch = alone(batch)
        if not isinstance(batch, Tensor):
            kind = type(batch).__name__
            raise DataError(f"This model learns from data alone: a batch must be one tensor, (B, ...), not a {kind}.")
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
        self.stream, self.begin_after, self.checked = None, 0, False
        self.save_hyperparameters(to_config(self))

    def on_train_start(self) -> None:
        """Optimise as this run is told to, where the checkpoint it goes on from was optimised otherwise."""
        if self.stream is not None:
            optimise_as_told(self)

    def on_train_epoch_start(self) -> None:
        """Go on with the stream of the last update, and inside an epoch where a checkpoint was written there."""
        go_on(self)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Go on with the stream of this update: what callbacks drew is not of the chains."""
        set_random_state(self.stream)

    def on_validation_end(self) -> None:
        """Go on with the stream of the last update: neither validation nor pictures move it."""
        set_random_state(self.stream)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the configuration, the place in the data, and every rank's chains and random streams."""
        describe(self, checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another model; take up place, this rank's chains and its random stream."""
        take_up(self, checkpoint)

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
        model = build(checkpoint["ebm_zoo"]["config"], checkpoint["state_dict"], str(checkpoint_path), EnergyModel)
        if not isinstance(model, cls):
            raise WeightsError(f"{checkpoint_path} holds a {type(model).__name__}, not a {cls.__name__}.")
        return model

    def chains_by_name(self) -> dict[str, Chains]:
        """Chains of the model and its networks, by the way to them: ``chains``, ``replay.0``, ``prior.chains``."""
        return dict(held_chains(self))


def without_batch_norm(network: nn.Module) -> nn.Module:
    """Return an energy network, or refuse it: batch statistics would move with every step of a sampler."""
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ConfigError(f"The energy has batch norm at '{name}': use another normalisation, or none.")
    return network
