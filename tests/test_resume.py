"""A run that goes on from a checkpoint is the run that was not interrupted, to the last bit, wherever it was cut."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from contract import CASES
from lightning import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from tiny import SHAPE, ShuffledTinyData, TinyData, convnet, coopnets, differences, images, trainer
from zoo_helpers import done, experiment

from ebm_zoo.callbacks import Checkpoint
from ebm_zoo.data import ImageData, UnpairedImageData
from ebm_zoo.models import EnergyModel
from ebm_zoo.models.checkpoint import read_checkpoint
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import FittedGaussian, Gaussian, Persistent, WarmStart

pytestmark = pytest.mark.filterwarnings(
    "ignore:The dirpath has changed",
    "ignore:Be aware that when using `ckpt_path`",
    "ignore:You defined a `validation_step` but have no `val_dataloader`",
    "ignore:Experiment logs directory .* exists and is not empty",
)


class Keep(Callback):
    """Writes a checkpoint after each of some steps; draws, as pictures of a run in training do."""

    def __init__(self, folder: Path, steps: tuple[int, ...]) -> None:
        self.folder, self.steps = folder, steps

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step in self.steps:
            trainer.save_checkpoint(self.folder / f"{trainer.global_step}.ckpt")
        torch.rand(trainer.global_step % 3)


# Five batches per epoch, so that 3 and 8 lie inside one and 5 is the last of the first.
STEPS, PER_EPOCH = (3, 5, 8), 5
PLACES = {"max_epochs": ("3", "epoch=0"), "max_steps": ("5", "8", "epoch=0")}
LENGTHS = {"max_epochs": {"max_epochs": 2}, "max_steps": {"max_steps": 10, "max_epochs": -1}}
STATE = ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "current_model_state")


def train(model: EnergyModel, data: Any, folder: Path, *, ckpt_path: Any = None, steps=(), average=False, **settings):
    """Train; the weights at the end and the checkpoint of the last epoch's end."""
    torch.manual_seed(0 if ckpt_path is None else 1)
    ends = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    own = [EMAWeightAveraging(decay=0.9)] if average else []
    run = trainer(enable_checkpointing=True, callbacks=[*own, Keep(folder, steps), ends], **settings)
    run.fit(model, datamodule=data, ckpt_path=ckpt_path)
    last = read_checkpoint(folder / f"epoch={run.current_epoch - 1}.ckpt")
    kept = {name: last.get(name) for name in STATE} | {"ebm_zoo": last["ebm_zoo"]}
    return model.state_dict(), kept


def fitted():
    """Fits its noise when training begins."""
    return convnet(noise=FittedGaussian(SHAPE, rank=5), chains=Persistent(size=16, refresh=0.5))


def scheduled():
    return convnet(optim={"energy": Adam(1e-2, clip=0.1, warmup=6, final=0.1)})


RESUMED = {name: (case.model, case.batch) for name, case in CASES.items()}
# The place is Lightning's doing and the loader's, the same for all models: one is cut at all.
EVERYWHERE = ("generative_convnet-persistent", "coopnets-latent_inference", "cycle_coopnets")
RESUMED |= {"schedule": (scheduled, images), "noise_to_fit": (fitted, images)}


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("name", RESUMED)
def test_resume_is_exact(name, length, tmp_path):
    make, batch = RESUMED[name]
    settings = {**LENGTHS[length], "average": length == "max_steps"}

    def data():
        return ShuffledTinyData(batch(4 * PER_EPOCH))

    torch.manual_seed(7)
    weights, whole = train(make(), data(), tmp_path, steps=STEPS, **settings)
    assert whole["global_step"] == 2 * PER_EPOCH
    for place in PLACES[length] if name in EVERYWHERE else PLACES[length][-2:]:
        torch.manual_seed(8)
        again, resumed = train(make(), data(), tmp_path / place, ckpt_path=tmp_path / f"{place}.ckpt", **settings)
        assert differences(whole, resumed) == [], f"resumed from {place}"
        assert differences(weights, again) == []
        before = read_checkpoint(tmp_path / f"{place}.ckpt")
        assert differences(whole["state_dict"], before["state_dict"]), "nothing was learned: nothing is compared"


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("average", [False, True])
def test_resume_at_the_end_of_an_epoch_is_exact_with_any_loader(average, length, tmp_path):
    settings = {**LENGTHS[length], "average": average}
    weights, whole = train(coopnets(), TinyData(images(20)), tmp_path, **settings)
    again, resumed = train(
        coopnets(), TinyData(images(20)), tmp_path / "again", ckpt_path=tmp_path / "epoch=0.ckpt", **settings
    )
    assert differences(whole, resumed) == [] and differences(weights, again) == []


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_loader_that_knows_no_place_begins_its_epoch_anew_and_says_so(tmp_path):
    train(convnet(), TinyData(images(20)), tmp_path, steps=(3,), max_epochs=1)
    with pytest.warns(UserWarning, match="not resumable"):
        _, resumed = train(
            convnet(), TinyData(images(20)), tmp_path / "again", ckpt_path=tmp_path / "3.ckpt", max_epochs=1
        )
    assert resumed["global_step"] == 5


def test_a_run_cut_by_max_steps_goes_on_inside_its_epoch(tmp_path):
    def run(folder, steps, ckpt_path=None):
        torch.manual_seed(7)
        data = ShuffledTinyData(images(20))
        return train(convnet(), data, tmp_path / folder, ckpt_path=ckpt_path, max_steps=steps, max_epochs=-1)[1]

    whole = run("whole", 10)
    run("cut", 7)
    assert differences(whole, run("resumed", 10, tmp_path / "cut" / "epoch=1.ckpt")) == []


@pytest.mark.parametrize(
    "data",
    [
        lambda workers: ImageData("digits", batch_size=300, flip=0.5, workers=workers),
        lambda workers: UnpairedImageData("digits", batch_size=150, flip=0.5),
    ],
    ids=["images", "domains"],
)
@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact_with_real_data_and_workers(data, workers, tmp_path):
    class Seen(Callback):
        """Batches that were trained on."""

        def __init__(self):
            self.batches = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.batches.append(batch if isinstance(batch, torch.Tensor) else torch.cat([x[:150] for x in batch]))

    def fit(folder, ckpt_path=None):
        seen = Seen()
        model = CASES["cycle_coopnets"].model() if isinstance(data(workers), UnpairedImageData) else convnet()
        keep = Keep(tmp_path / folder, (2,))
        torch.manual_seed(0 if ckpt_path is None else 1)
        run = trainer(max_epochs=2, limit_val_batches=0, callbacks=[seen, keep])
        run.fit(model, datamodule=data(workers), ckpt_path=ckpt_path)
        return seen.batches

    whole = fit("whole")
    resumed = fit("resumed", ckpt_path=tmp_path / "whole" / "2.ckpt")
    assert len(whole) >= 8 and differences(whole[2:], resumed) == []
    assert differences(whole[: len(whole) // 2], whole[len(whole) // 2 :]), "both epochs have one order"


def test_order_does_not_depend_on_workers_and_leaves_the_stream_alone():
    def batches(workers):
        torch.manual_seed(3)
        data = ImageData("digits", batch_size=500, flip=0.5, workers=workers)
        data.setup("fit")
        loader, before = data.train_dataloader(), torch.get_rng_state()
        seen = list(loader)
        assert torch.equal(before, torch.get_rng_state())
        return seen

    assert differences(batches(0), batches(2)) == []


def test_validation_does_not_move_the_stream(tmp_path):
    settings = {"max_epochs": 2}
    _, with_validation = train(coopnets(), ShuffledTinyData(images(20)), tmp_path / "a", **settings)
    _, without = train(coopnets(), ShuffledTinyData(images(20)), tmp_path / "b", limit_val_batches=0, **settings)
    torch.manual_seed(5)
    model = coopnets()
    states = [with_validation, without]
    assert differences(*[state["ebm_zoo"]["ranks"][0]["rng"] for state in states]) == []
    assert model.stream is None


# What the user asks for wins; what cannot be taken up is said


def test_the_optimiser_of_a_resumed_run_is_the_one_asked_for(tmp_path):
    train(scheduled(), ShuffledTinyData(images(20)), tmp_path, max_epochs=1)
    asked = convnet(optim={"energy": Adam(1e-4, betas=(0.5, 0.9), final=0.5)})
    _, state = train(
        asked, ShuffledTinyData(images(20)), tmp_path / "b", ckpt_path=tmp_path / "epoch=0.ckpt", max_epochs=2
    )
    (group,) = state["optimizer_states"][0]["param_groups"]
    assert (group["initial_lr"], tuple(group["betas"])) == (1e-4, (0.5, 0.9))
    assert group["lr"] == pytest.approx(0.5e-4)
    assert state["ebm_zoo"]["config"]["init_args"]["optim"]["energy"]["init_args"]["lr"] == 1e-4


@pytest.mark.parametrize(("before", "after", "said"), [(16, 24, "8 begin anew"), (24, 16, "the others are dropped")])
def test_a_memory_of_another_size_is_taken_up_as_far_as_it_goes(before, after, said, tmp_path, caplog):
    train(convnet(chains=Persistent(before)), ShuffledTinyData(images(20)), tmp_path, max_epochs=1)
    saved = read_checkpoint(tmp_path / "epoch=0.ckpt")["ebm_zoo"]["ranks"][0]["chains"]["chains"]["memory"]
    chains = Persistent(after)
    common = min(before, after)
    assert chains.restore({"memory": saved}) and torch.equal(chains.memory, saved[:common])
    with caplog.at_level("INFO"):
        train(
            convnet(chains=Persistent(after)),
            ShuffledTinyData(images(20)),
            tmp_path / "b",
            ckpt_path=tmp_path / "epoch=0.ckpt",
            max_epochs=2,
        )
    memory = read_checkpoint(tmp_path / "b" / "epoch=1.ckpt")["ebm_zoo"]["ranks"][0]["chains"]["chains"]["memory"]
    assert said in caplog.text and len(memory) == after


def test_warm_starts_grow_with_the_data():
    chains = WarmStart(4)
    assert "2 begin anew" in chains.restore({"memory": torch.ones(2, 3)})
    start = chains.start(torch.empty(2, 3), Gaussian(0.0), torch.tensor([1, 3]))
    assert start.tolist() == [[1, 1, 1], [0, 0, 0]]


def test_the_best_score_is_remembered_in_a_folder_of_its_own(tmp_path):
    def fit(folder, epochs, ckpt_path=None):
        best = Checkpoint(dirpath=tmp_path / folder, filename="best", monitor="energy/data", mode="max")
        run = trainer(max_epochs=epochs, enable_checkpointing=True, callbacks=[best])
        run.fit(convnet(), datamodule=TinyData(images(8)), ckpt_path=ckpt_path)
        return best

    first = fit("a", 1)
    state = read_checkpoint(tmp_path / "a" / "best.ckpt")
    (name,) = [key for key in state["callbacks"] if key.startswith("Checkpoint")]
    state["callbacks"][name]["best_model_score"] = torch.tensor(1e9)
    state["callbacks"][name]["best_k_models"] = dict.fromkeys(
        state["callbacks"][name]["best_k_models"], torch.tensor(1e9)
    )
    torch.save(state, tmp_path / "a" / "best.ckpt")
    second = fit("b", 2, tmp_path / "a" / "best.ckpt")
    assert second.best_model_score == 1e9 and second.best_model_path == first.best_model_path
    assert not (tmp_path / "b").exists() or not list((tmp_path / "b").iterdir())
    assert Path(first.best_model_path).is_file()


def rows(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "metrics.csv").read_text().splitlines()))


def test_rows_of_figures_stay_where_a_run_goes_on_in_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = experiment(tmp_path / "tiny.yaml", tmp_path / "data")
    version = ("--trainer.logger.init_args.version", 4)
    done("fit", "--config", config, *version)
    folder = tmp_path / "runs" / "lightning_logs" / "version_4"
    before = rows(folder)
    done(
        "fit",
        "--config",
        config,
        *version,
        "--ckpt_path",
        folder / "checkpoints" / "last.ckpt",
        "--trainer.max_epochs",
        2,
    )
    after = rows(folder)
    assert len(after) > len(before) > 0
    assert [row["step"] for row in after[: len(before)]] == [row["step"] for row in before]
    assert sorted(path.name for path in folder.glob("config*.yaml")) == ["config-v1.yaml", "config.yaml"]
