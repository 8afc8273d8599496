"""Batches in an order that a training can take up at any place."""

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from ebm_zoo.errors import DataError


class Order(DistributedSampler):
    """The order of one rank's training data: a function of seed and epoch, whoever asks and whenever.

    Each index i comes as key · N + i, where the key stands for seed, epoch and turn; `Drawn` takes it apart.

    Args:
        dataset: N data.
        seed: of the run; the same on all ranks.
        ranks: how many processes share the data.
        rank: which of them this is.

    Notes:
        A DistributedSampler also in a single process: Lightning leaves one alone, and tells it the epoch.
    """

    def __init__(self, dataset: Any, seed: int, *, ranks: int = 1, rank: int = 0) -> None:
        super().__init__(dataset, num_replicas=ranks, rank=rank, shuffle=True)
        self.run, self.turn, self.skipped = seed, 0, 0

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch: the first turn through the data."""
        super().set_epoch(epoch)
        self.turn = 0

    def __iter__(self) -> Iterator[int]:
        # A small set beside a large one is gone through several times in an epoch, each time in another order.
        key = digest(self.run, self.epoch, self.turn)
        # The sampler seeds its generator with seed + epoch.
        self.seed, skipped = key - self.epoch, self.skipped
        self.turn, self.skipped = self.turn + 1, 0
        indices = list(super().__iter__())
        return iter([key * len(self.dataset) + index for index in indices[skipped:]])  # type: ignore[arg-type]


class Drawn(Dataset):
    """A set whose random flips and crops depend on the batch alone, not on who fetches it or what was drawn before.

    Args:
        dataset: one that fetches whole batches, and draws with torch's own generator.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, place: int) -> Any:
        return self.dataset[place % len(self.dataset)]

    def __getitems__(self, places: list[int]) -> Any:
        keys, indices = zip(*(divmod(place, len(self.dataset)) for place in places), strict=True)
        with torch.random.fork_rng(devices=[]):
            # That of the CPU alone: torch.manual_seed would seed those of devices too, which are not forked.
            torch.default_generator.manual_seed(digest(keys[0], indices[0]))
            return self.dataset.__getitems__(list(indices))


def digest(*numbers: int) -> int:
    """A number below 2^31 that looks random and is the same for the same numbers."""
    text = " ".join(map(str, numbers)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big") >> 1


class TrainingLoader(DataLoader):
    """Shuffled batches that can begin inside an epoch.

    Args:
        dataset: one that fetches whole batches, see `Drawn`.
        order: of this rank's data.
        batch_size: B, data per batch and rank.
        drop_last: leave the last, smaller batch out.
        workers: processes that read.
    """

    def __init__(self, dataset: Any, order: Order, batch_size: int, *, drop_last: bool, workers: int) -> None:
        # Nothing is drawn from the run's own stream, which belongs to the chains: workers have a generator beside it.
        super().__init__(
            dataset,
            batch_size=batch_size,
            sampler=order,
            drop_last=drop_last,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=as_fetched,
            generator=torch.Generator().manual_seed(order.run),
        )
        self.order, self.workers, self.taken = order, workers, 0

    def __iter__(self) -> Iterator[Any]:
        # Nothing is done before the first batch is asked for: only then is it known which epoch, and after how many.
        for batch in super().__iter__():
            self.taken += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Batches taken so far; the run itself counts those of the epoch."""
        return {"batches": self.taken}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin after as many batches as `state_dict` counted."""
        self.begin_after(state["batches"])

    def begin_after(self, batches: int) -> None:
        """Begin the present epoch after some of its batches."""
        self.order.turn, inside = divmod(batches, len(self))
        self.order.skipped = inside * (self.batch_size or 1)


def as_fetched(batch: Any) -> Any:
    """Collate function of sets that fetch whole batches (a named function, since workers must pickle it)."""
    return batch


def fixed_loader(dataset: Dataset, batch_size: int, *, workers: int = 0) -> DataLoader:
    """All batches in order, the last one possibly smaller."""
    # batch_size by keyword: Lightning's predict loop cannot rebuild a loader that got it by position
    return DataLoader(dataset, batch_size=batch_size, num_workers=workers, collate_fn=as_fetched)


class ShuffledData(LightningDataModule):
    """What the zoo's data modules share: training batches whose order belongs to the run and travels with it."""

    _seed: int | None = None

    def shuffled(self, dataset: Any, batch_size: int, *, workers: int = 0, stream: int = 0) -> TrainingLoader:
        """Training batches; the last, smaller one is left out unless a rank would then have none.

        Args:
            dataset: one that fetches whole batches.
            batch_size: B, data per batch and rank.
            workers: processes that read.
            stream: tells the orders of several sets of one run apart.
        """
        ranks, rank, seed = 1, 0, self._seed
        if self.trainer is None:
            # Used by hand: each loader has an order of its own, as any loader has.
            seed = int(torch.randint(2**31, ()))
        else:
            ranks, rank = self.trainer.world_size, self.trainer.global_rank
            if seed is None:
                # Each rank has a stream of its own, of which the first one's is the run's.
                seed = self._seed = self.trainer.strategy.broadcast(torch.initial_seed())
        order = Order(dataset, digest(seed, stream), ranks=ranks, rank=rank)
        whole = len(dataset) > batch_size * ranks
        return TrainingLoader(Drawn(dataset), order, batch_size, drop_last=whole, workers=workers)

    def state_dict(self) -> dict[str, Any]:
        """The seed of the order."""
        return {} if self._seed is None else {"order": self._seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the order of a run.

        Raises:
            DataError: if its seed is no number.
        """
        seed = state_dict.get("order")
        if seed is not None and type(seed) is not int:
            raise DataError(f"The order of the data in the checkpoint is {seed!r:.60} and no number: it was altered.")
        self._seed = seed


__all__ = ["ShuffledData", "TrainingLoader", "fixed_loader"]
