"""Tiny images, networks, data and trainers: what the tests of models and training are made of."""

from typing import Any

import torch
from lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, Subset, TensorDataset, default_collate

from ebm_zoo.models import GenerativeConvNet
from ebm_zoo.networks import ConvEnergy
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Langevin, ShortRun, Uniform
from ebm_zoo.space import Space

SHAPE = (1, 8, 8)


def images(n: int, seed: int = 0) -> Tensor:
    """Random bars in [-1, 1], **(n, 1, 8, 8)**."""
    draw = torch.Generator().manual_seed(seed)
    rows = torch.rand(n, 1, 8, 1, generator=draw) * 1.6 - 0.8
    return rows + 0.1 * (torch.rand(n, *SHAPE, generator=draw) * 2 - 1)


def labelled(n: int) -> tuple[Tensor, Tensor]:
    """Random grey images in [0, 1], **(n, 1, 28, 28)**, and labels of three classes, **(n,)**."""
    draw = torch.Generator().manual_seed(0)
    return torch.rand(n, 1, 28, 28, generator=draw), torch.arange(n) % 3


def energy() -> ConvEnergy:
    return ConvEnergy(1, ((6, 3, 1, 1), (8, 4, 2, 1), (1, 4, 1, 0)))


def convnet(**arguments: Any) -> GenerativeConvNet:
    """A GenerativeConvNet of a thousand parameters; arguments replace its defaults."""
    defaults: dict[str, Any] = {
        "energy": energy(),
        "noise": Uniform(),
        "space": Space(SHAPE),
        "chains": ShortRun(),
        "sampler": Langevin(steps=5, step_size=0.5, noise_scale=0.2, clamp=(-1.0, 1.0)),
        "optim": {"energy": Adam(lr=1e-2)},
    }
    return GenerativeConvNet(**{**defaults, **arguments})


def collate(items: list[Any]) -> Any:
    """A batch as the zoo's data modules give it: data, or a tuple of data and labels."""
    batch = default_collate(items)
    return tuple(batch) if isinstance(batch, list) else batch


class TinyData(LightningDataModule):
    """A few data, or data and labels, for every loop; training is shuffled."""

    def __init__(self, data: Tensor | tuple[Tensor, ...], batch_size: int = 4, shuffle: bool = True) -> None:
        super().__init__()
        self.data = TensorDataset(*data) if isinstance(data, tuple) else data
        self.batch_size, self.shuffle = batch_size, shuffle

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.data, batch_size=self.batch_size, shuffle=self.shuffle, collate_fn=collate)

    def val_dataloader(self) -> DataLoader:
        first = Subset(self.data, range(self.batch_size))
        return DataLoader(first, batch_size=self.batch_size, collate_fn=collate)

    test_dataloader = predict_dataloader = val_dataloader


def trainer(**settings: Any) -> Trainer:
    """A quiet Trainer that writes nothing; settings replace its defaults."""
    quiet: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
    }
    return Trainer(**{**quiet, **settings})
