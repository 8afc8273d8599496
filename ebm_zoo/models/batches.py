"""Batches of a run's training: looked at before it begins, and what they may be."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from lightning import Trainer
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torch.utils.data import DataLoader


@contextmanager
def training_batches(trainer: Trainer) -> Iterator[Iterator[Any]]:
    """One turn through the data of a training that is about to begin, whose order and random numbers stay as they are.

    Args:
        trainer: one that fits; its loaders come from a data module, the model or the user.

    Yields:
        The batches, as the loaders give them. None is made that is not asked for.
    """
    with ExitStack() as kept:
        yield _turn(trainer, kept)


def _turn(trainer: Trainer, kept: ExitStack) -> Iterator[Any]:
    trainer.fit_loop.setup_data()  # does nothing where it was done
    loaders = CombinedLoader(trainer.train_dataloader, "max_size_cycle")
    # The loaders of others draw their order, from the global stream or from a generator of their own.
    kept.enter_context(isolate_rng(include_cuda=False))
    for owner in (part for loader in loaders.flattened for part in (loader, getattr(loader, "sampler", None))):
        if isinstance(generator := getattr(owner, "generator", None), torch.Generator):
            kept.callback(generator.set_state, generator.get_state())
    loaders.flattened = [_twin(loader) for loader in loaders.flattened]
    for batch, *_ in loaders:
        yield batch


def _twin(loader: Any) -> Any:
    """A loader of the same data with workers of its own: those that persist are the iterator's that trains."""
    if not isinstance(loader, DataLoader):
        return loader
    twin = copy.copy(loader)
    twin._iterator = None
    return twin


def alone(batch: Any) -> Any:
    """A batch without the list that a set of tensors puts around a single one."""
    single = isinstance(batch, (list, tuple)) and len(batch) == 1 and isinstance(batch[0], Tensor)
    return batch[0] if single else batch
