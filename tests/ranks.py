"""One rank of the distributed trainings that test_distributed.py looks into; a script, given the folder to write to.

The rank, the number of ranks and the address come from the environment, as from any launcher.
"""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from tiny import ShuffledTinyData, TinyData, convnet, coop_flow, fresh_flow, images, trainer

from ebm_zoo.models import CoopFlow, EnergyModel, GenerativeConvNet
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import FromData, Langevin, Persistent


def replayed() -> GenerativeConvNet:
    """Persistent chains with noise: everything that a resumed rank has to remember."""
    return convnet(chains=Persistent(size=12, refresh=0.2), data_noise=0.1)


def noiseless() -> GenerativeConvNet:
    """Nothing is random, so that ranks can be compared with one process."""
    sampler = Langevin(steps=5, step_size=0.5, noise_scale=0.0)
    return convnet(chains=FromData(), sampler=sampler, optim={"energy": Adam(1e-2, clip=0.01)}, penalty=0.1)


def flowing() -> CoopFlow:
    """A flow whose normalisations begin as whitenings of the images that a rank sees."""
    return coop_flow(generator=fresh_flow())


class Keep(Callback):
    """Writes a checkpoint after a step."""

    def __init__(self, path: Path, step: int) -> None:
        self.path, self.step = path, step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


class Record(Callback):
    """Keeps this rank's weights, chains and random stream at the start and the end of every epoch."""

    def __init__(self) -> None:
        self.starts: list[dict[str, Any]] = []
        self.ends: list[dict[str, Any]] = []

    def state(self, model: GenerativeConvNet | CoopFlow) -> dict[str, Any]:
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        chains = {name: value.clone() for name, value in model.chains.state().items()}
        return {"weights": weights, "chains": chains, "rng": torch.get_rng_state(), "rank": model.global_rank}

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        self.starts.append(self.state(pl_module))

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.ends.append(self.state(pl_module))


def fit(model: EnergyModel, data: TinyData, *, ckpt_path: Any = None, callbacks: Any = (), **settings: Any):
    """Train for two epochs; returns what was recorded."""
    record = Record()
    run = trainer(max_epochs=2, callbacks=[record, *callbacks], limit_val_batches=0, **settings)
    run.fit(model, datamodule=data, ckpt_path=ckpt_path)
    return {"starts": record.starts, "ends": record.ends}


def together(model: EnergyModel, data: TinyData, **settings: Any) -> dict[str, Any]:
    """Train on two ranks."""
    return fit(model, data, devices=2, strategy=DDPStrategy(process_group_backend="gloo"), **settings)


def kept(folder: Path) -> dict[str, Any]:
    """Trainer settings that keep a checkpoint of every epoch."""
    return {"enable_checkpointing": True, "callbacks": [ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)]}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    rank, results = int(os.environ["LOCAL_RANK"]), {}
    torch.manual_seed(0)
    results["whole"] = together(replayed(), TinyData(images(16)), **kept(folder / "whole"))
    torch.manual_seed(1)
    first = folder / "whole" / "epoch=0.ckpt"
    results["resumed"] = together(replayed(), TinyData(images(16)), ckpt_path=first, **kept(folder / "resumed"))
    # Four batches per epoch and rank, in the zoo's own order: the checkpoint is of the middle of the second epoch.
    inside = folder / "inside.ckpt"
    torch.manual_seed(0)
    results["uncut"] = together(replayed(), ShuffledTinyData(images(32)), callbacks=[Keep(inside, 6)])
    torch.manual_seed(1)
    results["cut"] = together(replayed(), ShuffledTinyData(images(32)), ckpt_path=inside)
    torch.manual_seed(2)
    # Lightning's sampler for ranks shuffles: here each rank takes every second image itself.
    mine = TinyData(images(16)[rank::2], shuffle=False)
    results["noiseless"] = together(noiseless(), mine, use_distributed_sampler=False)
    torch.manual_seed(3)
    results["flowing"] = together(flowing(), TinyData(images(16)))
    torch.save(results, folder / f"rank{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
