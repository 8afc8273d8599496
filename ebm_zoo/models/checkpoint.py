"""Training checkpoints: how they are read, what the zoo adds to them, how a run is taken up from one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor

from ebm_zoo.config import to_config
from ebm_zoo.errors import WeightsError
from ebm_zoo.fitting import require_finite

if TYPE_CHECKING:
    from ebm_zoo.models.base import EnergyModel

WEIGHTS = ("state_dict", "current_model_state")
"""Weights in a checkpoint: where a training averages, the averages come first, and then those that learn."""
# Lightning's counters of a training; those of its evaluations begin anew.
COUNTERS = ("state_dict", "batch_progress", "scheduler_progress", "automatic_optimization.optim_progress")


def read_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a training checkpoint of this zoo; nothing but tensors and plain data is unpickled.

    Args:
        path: a local file.
        map_location: device for the tensors.

    Raises:
        WeightsError: if the file is missing, damaged or was written by something else, if its weights are not
            finite, or if an address is given.
    """
    if "://" in str(path):
        raise WeightsError(f"{path} is an address: no checkpoint is read from one. Download it, and give the file.")
    try:
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except OSError as error:
        raise WeightsError(f"Cannot read the checkpoint {path}: {error.strerror or error}.") from None
    except Exception:  # damaged archives, foreign pickles and objects that are no plain data fail in many ways
        raise WeightsError(
            f"Cannot read the checkpoint {path}: it is truncated, altered, no checkpoint, or holds more than tensors "
            "and plain data."
        ) from None
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("ebm_zoo"), dict):
        raise WeightsError(f"{path} was not written by a model of this zoo.")
    if not isinstance(checkpoint["ebm_zoo"].get("config"), dict):
        raise WeightsError(f"{path} does not say which model it holds: it was altered.")
    for part in WEIGHTS if WEIGHTS[1] in checkpoint else WEIGHTS[:1]:
        weights = checkpoint.get(part)
        if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise WeightsError(f"{path} holds no weights by name in '{part}': it was altered.")
        require_finite(weights, str(path))
    return checkpoint


def describe(model: "EnergyModel", checkpoint: dict[str, Any]) -> None:
    """Add to a checkpoint what Lightning does not: configuration, place in the data, every rank's chains and stream."""
    chains = {name: {k: v.cpu() for k, v in chain.state().items()} for name, chain in model.chains_by_name().items()}
    ranks: list[Any] = [{"chains": chains, "rng": model.stream or random_state()}]
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        mine, ranks = ranks[0], [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(ranks, mine)
    checkpoint["ebm_zoo"] = {"config": to_config(model), "place": _place(model.trainer), "ranks": ranks}


def _place(trainer: Trainer) -> dict[str, int]:
    """Epochs that are over, and batches of the present one."""
    loop = trainer.fit_loop
    done: Any = loop.epoch_loop.batch_progress.current  # declared as a counter that lacks what it counts
    epochs, batches = max(loop.epoch_progress.current.ready - 1, 0), done.processed
    # Of data without a length only the loop knows that they are at an end.
    ended = batches >= trainer.num_training_batches or (
        trainer.num_training_batches == float("inf") and loop.epoch_loop.batch_progress.is_last_batch
    )
    return {"epochs": epochs + 1, "batches": 0} if ended and batches else {"epochs": epochs, "batches": batches}


def take_up(model: "EnergyModel", checkpoint: dict[str, Any]) -> None:
    """Go on where a checkpoint was written: chains, stream and place; the checkpoint's loops are taken out of it.

    Raises:
        WeightsError: if the checkpoint is of another model, or its parts are not those of a run.
    """
    shapes = [{k: tuple(v.shape) for k, v in s.items()} for s in (model.state_dict(), checkpoint["state_dict"])]
    different = sorted({key for key, _ in shapes[0].items() ^ shapes[1].items()})
    if different:
        raise WeightsError(
            f"The checkpoint was written by another model: '{different[0]}' is {shapes[1].get(different[0])} in "
            f"it and {shapes[0].get(different[0])} here. Give the configuration it was trained with, or none."
        )
    if model.trainer.state.fn == "fit" and WEIGHTS[1] in checkpoint and not _averages(model.trainer):
        rank_zero_info("This run does not average: it goes on from the weights that learned, not from their averages.")
        checkpoint[WEIGHTS[0]] = checkpoint[WEIGHTS[1]]
    # Lightning's own way of taking them up differs with the place and with max_steps; see `_count`.
    loops = checkpoint.pop("loops", None)
    if model.trainer.state.fn != "fit":
        return
    try:
        _require_optimiser(model, checkpoint["optimizer_states"])
        _take_up_rank(model, checkpoint["ebm_zoo"].get("ranks", []))
        model.begin_after = _count(model.trainer, checkpoint, loops)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, IndexError) as error:
        raise WeightsError(
            f"The checkpoint cannot be taken up ({type(error).__name__}: {error}): it was altered. Its weights can "
            "still be exported."
        ) from None


def _averages(trainer: Any) -> bool:
    return any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)


def _require_optimiser(model: "EnergyModel", states: Any) -> None:
    """Refuse states of an optimiser that are not those of the model's parameters."""
    (state,) = states
    networks = model.networks().values()
    wanted = [[p for p in network.parameters() if p.requires_grad] for network in networks]
    for group, parameters in zip(state["param_groups"], wanted, strict=True):
        for index, parameter in zip(group["params"], parameters, strict=True):
            for name, value in state["state"].get(index, {}).items():
                if value.dim() and value.shape != parameter.shape:
                    raise ValueError(
                        f"'{name}' of a parameter of shape {tuple(parameter.shape)} is {tuple(value.shape)}"
                    )
                require_finite({name: value}, "the checkpoint's optimiser")


def _take_up_rank(model: "EnergyModel", ranks: list[Any]) -> None:
    world = model.trainer.world_size
    if len(ranks) != world:
        rank_zero_info(
            f"The checkpoint is of {len(ranks)} processes, this run has {world}: chains and noise begin anew."
        )
        return
    mine = ranks[model.trainer.global_rank]
    for state in mine["chains"].values():
        require_finite(state, "the checkpoint's chains")
    for name, chain in model.chains_by_name().items():
        if name in mine["chains"] and (note := chain.restore(mine["chains"][name])):
            rank_zero_info(f"'{name}': {note}.")
    model.stream = mine["rng"]
    # No later: an iterator over data that are not the zoo's is made, and draws, before the first batch.
    set_random_state(mine["rng"])


def _count(trainer: Trainer, checkpoint: dict[str, Any], loops: Any) -> int:
    """Set Lightning's counters to the beginning of an epoch, and return how many of its batches are done already.

    Lightning re-enters a finished epoch where max_steps is set, and counts it twice; and it skips no batches.
    """
    state, steps = loops["fit_loop"], checkpoint["global_step"]
    done = state["epoch_loop.batch_progress"]
    place = checkpoint["ebm_zoo"].get("place")
    if place is None:
        rank_zero_info("The checkpoint was written by version 0.1: the order of the data begins anew.")
        over, inside = done["is_last_batch"], done["current"]["processed"]
        epochs = max(state["epoch_progress"]["current"]["ready"] - 1, 0)
        place = {"epochs": epochs + over, "batches": 0 if over else inside}
    if min(place["epochs"], place["batches"]) < 0:
        raise ValueError(f"its place in the data is {place}")
    batches, accumulated = place["batches"], place["batches"] % trainer.accumulate_grad_batches
    if accumulated:
        rank_zero_info(f"The checkpoint was written between updates: gradients of {accumulated} batches are lost.")
    counters = {f"epoch_loop.{name}": state[f"epoch_loop.{name}"] for name in COUNTERS}
    counters["epoch_progress"] = _counted(state["epoch_progress"], place["epochs"], place["epochs"])
    total = done["total"]["processed"]
    counters["epoch_loop.batch_progress"] = {**_counted(done, total, batches), "is_last_batch": False}
    # Steps for the loggers; the loop adds one where it begins inside an epoch.
    counters["epoch_loop.state_dict"] = {"_batches_that_stepped": steps - bool(batches and not accumulated)}
    trainer.fit_loop.load_state_dict(counters)
    trainer.fit_loop.restarting = False
    return batches


def _counted(progress: dict[str, Any], total: int, current: int) -> dict[str, Any]:
    numbers = {"total": total, "current": current}
    return {part: dict.fromkeys(progress[part], number) for part, number in numbers.items()}


def optimise_as_told(model: "EnergyModel") -> None:
    """Give the optimiser the settings of the model in the place of those that came with its state."""
    optimizer: Any = model.optimizers(use_pl_optimizer=False)
    schedule: Any = model.lr_schedulers()
    for group, factor in zip(optimizer.param_groups, schedule.lr_lambdas, strict=True):
        wanted = model.optim[group["name"]]
        asked = {"initial_lr": wanted.lr, "betas": tuple(float(beta) for beta in wanted.betas)}
        kept = {name: group[name] for name in asked}
        if kept != asked:
            rank_zero_info(f"'{group['name']}' goes on with {asked}; up to the checkpoint it was {kept}.")
        group.update(asked, lr=wanted.lr * factor(schedule.last_epoch))
    schedule.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]


def go_on(model: "EnergyModel") -> None:
    """Begin an epoch with the stream of the last update, and after the batches that a checkpoint counts."""
    trainer, batches, model.begin_after = model.trainer, model.begin_after, 0
    loaders = CombinedLoader(trainer.train_dataloader).flattened
    ours = all(hasattr(loader, "begin_after") for loader in loaders)
    # Of other data a resumed run has made its iterator already, which drew what the uninterrupted one draws next.
    if ours or not trainer.fit_loop.is_resuming:
        set_random_state(model.stream)
    if batches and batches >= trainer.num_training_batches:
        rank_zero_info(f"{batches} batches were done, an epoch has {trainer.num_training_batches} now: it begins anew.")
    elif batches:
        trainer.fit_loop.epoch_loop.restarting = True
        for loader in loaders if ours else ():  # of other loaders Lightning says that they begin anew
            loader.begin_after(batches)


def random_state() -> dict[str, Tensor]:
    """The state of torch's streams of random numbers."""
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Tensor] | None) -> None:
    """Take up what `random_state` returned, if anything."""
    if state is not None:
        torch.set_rng_state(state["cpu"])
    if state is not None and "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
