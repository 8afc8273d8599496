"""What goes wrong in a run costs no more than docs/reliability.md says: work is kept, statuses and words are true."""

import os
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import lightning
import pytest
import torch
import yaml
from lightning import Callback
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from tiny import TinyData, clips, convnet, coopnets, cycle_coopnets, domains, images, sequence_cycle, trainer
from zoo_helpers import done, experiment, refused, started, wait_for, zoo

from ebm_zoo.callbacks import CheckpointFiles, DivergenceGuard, Last, OrderlyEnd, run_folder
from ebm_zoo.cli.runs import claim, newest_checkpoint, own_folder
from ebm_zoo.errors import ConfigError, DivergenceError, Stopped, WeightsError, ZooError
from ebm_zoo.models.checkpoint import WEIGHTS, read_checkpoint
from ebm_zoo.samplers import Langevin, Persistent

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def tiny(tmp_path) -> Path:
    """A tiny experiment."""
    return experiment(tmp_path / "tiny.yaml", tmp_path / "data")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """last.ckpt of a run of one epoch."""
    root = tmp_path_factory.mktemp("trained")
    config = experiment(root / "tiny.yaml", root / "data")
    done("fit", "--config", config, "--trainer.logger.init_args.save_dir", root)
    return root / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"


def whole(path: Path) -> int:
    """The step of a checkpoint, which must be readable."""
    return read_checkpoint(path)["global_step"]


# Nothing is replaced


def test_files_of_the_user_stay_where_there_is_no_logger(tiny, here):
    Path("config.yaml").write_text("# by hand\n")
    Path("pictures").mkdir()
    for number in range(2):
        done("fit", "--config", tiny, "--trainer.logger", "false")
        run = here / "runs" / f"version_{number}"
        assert whole(run / "checkpoints" / "last.ckpt") == 2
        assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["logger"] is False
    assert sorted(path.name for path in here.iterdir()) == ["config.yaml", "pictures", "runs"]
    assert Path("config.yaml").read_text() == "# by hand\n" and not list(Path("pictures").iterdir())


def test_two_runs_that_share_a_folder_keep_both_checkpoints(tiny, here):
    shared = ("fit", "--config", tiny, "--checkpoint.dirpath", here / "keep")
    done(*shared)
    first = (here / "keep" / "last.ckpt").read_bytes()
    done(*shared, "--seed_everything", 1, "--trainer.max_epochs", 2)
    assert (here / "keep" / "last.ckpt").read_bytes() == first
    assert whole(here / "keep" / "last-v1.ckpt") == 4
    # A run that goes on from one of them writes over that one alone, and the keyword finds the newest.
    second = (here / "keep" / "last-v1.ckpt").read_bytes()
    done(*shared, "--ckpt_path", here / "keep" / "last.ckpt", "--trainer.max_epochs", 3)
    assert whole(here / "keep" / "last.ckpt") == 6 and (here / "keep" / "last-v1.ckpt").read_bytes() == second
    done(*shared, "--ckpt_path", "last", "--trainer.max_epochs", 4)
    assert whole(here / "keep" / "last.ckpt") == 8
    assert sorted(path.name for path in (here / "keep").iterdir()) == ["last-v1.ckpt", "last.ckpt"]


def test_runs_that_begin_at_one_moment_get_folders_of_their_own(here):
    runs = [trainer(logger=lightning.pytorch.loggers.CSVLogger(here / "runs")) for _ in range(4)]
    assert len({run.logger.version for run in runs}) == 1
    for run in runs:
        claim(run, None)
    assert sorted(run_folder(run).name for run in runs) == [f"version_{k}" for k in range(4)]


def test_a_run_without_logger_finds_its_folder_among_others(here, monkeypatch):
    monkeypatch.delenv("EBM_ZOO_RUN_FOLDER", raising=False)
    (here / "runs" / "version_3").mkdir(parents=True)
    (here / "runs" / "version_old").mkdir()
    assert own_folder(here) == own_folder(here) == here / "runs" / "version_4"


def test_the_folder_of_another_run_is_refused(tiny, here):
    named = ("fit", "--config", tiny, "--trainer.logger.init_args.version", "mine")
    done(*named)
    rows = (here / "runs" / "lightning_logs" / "mine" / "metrics.csv").read_bytes()
    refused(*named, says=("mine is the folder of another run",))
    assert (here / "runs" / "lightning_logs" / "mine" / "metrics.csv").read_bytes() == rows


def test_a_refused_run_leaves_no_folder(tiny, here):
    for option in (("--ckpt_path", "last"), ("--data.init_args.value_range", "[0,1]")):
        for logger in ((), ("--trainer.logger", "false"), ("--trainer.logger", "[]")):
            zoo("fit", "--config", tiny, *option, *logger)
            assert not list(here.glob("runs/**/version_*"))
    zoo("validate", "--config", tiny, "--data.init_args.validation", 0)
    assert not list(here.glob("runs/**/version_*")) and here.is_dir()


def test_files_of_a_folder_stay_where_loggers_are_an_empty_list(tiny, here):
    Path("pictures").mkdir()
    Path("pictures/test.png").write_text("mine")
    done("test", "--config", tiny, "--trainer.logger", "[]")
    done("fit", "--config", tiny, "--trainer.logger", "[]")
    assert Path("pictures/test.png").read_text() == "mine"
    assert sorted(path.name for path in here.iterdir()) == ["pictures", "runs"]


def test_a_copy_of_a_checkpoint_stays_where_a_run_goes_on_from_it(tiny, here):
    (here / "disk").mkdir()
    (here / "keep").symlink_to(here / "disk")
    shared = ("fit", "--config", tiny, "--checkpoint.dirpath", here / "keep")
    done(*shared)
    copy = here / "keep" / "last_good.ckpt"
    copy.write_bytes((here / "keep" / "last.ckpt").read_bytes())
    for place in (here / "keep", here / "disk" / ".." / "keep"):
        done(*shared, "--ckpt_path", place / "last_good.ckpt", "--trainer.max_epochs", 2)
    assert whole(copy) == 2
    assert sorted(path.name for path in (here / "keep").iterdir()) == [
        *("last-v1.ckpt", "last-v2.ckpt", "last.ckpt", "last_good.ckpt")
    ]


def test_two_runs_that_begin_at_one_moment_in_one_folder_take_two_names(tmp_path):
    runs = [trainer(enable_checkpointing=True, callbacks=[Last(dirpath=tmp_path / "keep")]) for _ in range(3)]
    names = []
    for run in runs:
        run.checkpoint_callback.on_fit_start(run, convnet())
        names.append(run.checkpoint_callback.filename)
    assert names == ["last", "last-v1", "last-v2"] and len(list((tmp_path / "keep").iterdir())) == 3
    for run in runs:
        run.checkpoint_callback.teardown(run, convnet(), "fit")
    assert not list((tmp_path / "keep").iterdir())


def test_a_folder_of_checkpoints_that_cannot_be_written_to_is_found_before_training(tiny, here):
    (here / "file").touch()
    result = zoo("fit", "--config", tiny, "--checkpoint.dirpath", here / "file" / "x")
    assert result.code == 1 and "Cannot write checkpoints to" in result.err and "Traceback" not in result.err


def test_a_folder_that_cannot_be_made_is_one_clear_error(tiny, here):
    (here / "runs").write_text("a file")
    refused("fit", "--config", tiny, says=("Cannot make the run's folder",))


# Checkpoints are whole, or not there


def some_checkpoint(**more):
    return {"state_dict": {"w": torch.zeros(2)}, "ebm_zoo": {"config": {}}, **more}


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    CheckpointFiles().save_checkpoint(some_checkpoint(global_step=1), path)

    def full(self, data):
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ZooError, match=r"last\.ckpt: No space left on device\. The one that was there is kept"):
        CheckpointFiles().save_checkpoint(some_checkpoint(global_step=2), path)
    assert whole(path) == 1 and list(tmp_path.glob("*.ckpt*")) + list(tmp_path.glob(".*")) == [path]


@pytest.mark.parametrize("part", ["state_dict", "current_model_state"])
def test_weights_that_are_not_finite_are_not_written(part, tmp_path):
    path = tmp_path / "last.ckpt"
    CheckpointFiles().save_checkpoint(some_checkpoint(global_step=1), path)
    with pytest.raises(DivergenceError, match=r"last\.ckpt was not written"):
        CheckpointFiles().save_checkpoint(some_checkpoint(**{part: {"w": torch.tensor([1.0, float("nan")])}}), path)
    assert whole(path) == 1


def test_every_door_of_the_command_line_reads_plain_data_only(tiny, here, checkpoint):
    state = read_checkpoint(checkpoint)

    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {here}/ran",)

    state["callbacks"]["x"] = Evil()
    folder = here / "runs" / "lightning_logs" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    for name in ("last", "best"):
        torch.save(state, folder / f"{name}.ckpt")
    torch.save(state, here / "hpc_ckpt_1.ckpt")
    (here / "own.yaml").write_text(f"ckpt_path: {folder / 'last.ckpt'}\n")
    doors = [("--ckpt_path", name) for name in ("last", "best", "hpc", folder / "last.ckpt")]
    doors += [("--config", here / "own.yaml"), ("--ckpt_path", folder / "last.ckpt", "--weights_only", "false")]
    for command in ("fit", "test"):
        for door in doors:
            refused(command, "--config", tiny, *door, says=("holds more than tensors and plain data",))
    assert not (here / "ran").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/a.ckpt", "file:///a.ckpt", "s3://bucket/a.ckpt"])
def test_no_checkpoint_is_read_from_an_address(address, tiny, here):
    refused("fit", "--config", tiny, "--ckpt_path", address, says=("is an address", "Download it"))
    (here / "own.yaml").write_text(f"ckpt_path: {address}\n")
    refused("fit", "--config", tiny, "--config", here / "own.yaml", says=("is an address",))


def moments(state: dict) -> dict:
    return next(iter(state["optimizer_states"][0]["state"].values()))


MALFORMED = {
    "no loops": lambda state: state.pop("loops"),
    "loops of a string": lambda state: state.update(loops="x"),
    "no counters": lambda state: state["loops"]["fit_loop"].pop("epoch_loop.batch_progress"),
    "no optimiser": lambda state: state.pop("optimizer_states"),
    "another optimiser": lambda state: state["optimizer_states"][0]["param_groups"][0].update(params=[0]),
    "no schedule": lambda state: state.pop("lr_schedulers"),
    "a schedule of nothing": lambda state: state.update(lr_schedulers=[{}]),
    "callbacks of a list": lambda state: state.update(callbacks=[1]),
    "no step": lambda state: state.pop("global_step"),
    "ranks of nothing": lambda state: state["ebm_zoo"].update(ranks=[{}]),
    "a stream of noise that is none": lambda state: state["ebm_zoo"]["ranks"][0].update(rng={"cpu": torch.zeros(3)}),
    "weights of a list": lambda state: state.update(state_dict=[1, 2]),
    "weights that are words": lambda state: state["state_dict"].update({next(iter(state["state_dict"])): "x"}),
    "configuration of a list": lambda state: state["ebm_zoo"].update(config=[1]),
    "no configuration": lambda state: state.pop("ebm_zoo"),
    "place of words": lambda state: state["ebm_zoo"].update(place={"epochs": "x", "batches": None}),
    "no weights": lambda state: state.pop("state_dict"),
    "moments of another shape": lambda state: moments(state).update(exp_avg=torch.zeros(3, 3)),
    "moments that are not finite": lambda state: moments(state)["exp_avg"].fill_(float("inf")),
    "no state of an optimiser": lambda state: state.update(optimizer_states=[]),
    "a place before the beginning": lambda state: state["ebm_zoo"].update(place={"epochs": 0, "batches": -3}),
    "an order of words": lambda state: state["ImageData"].update(order="zz"),
    "weights that are not finite": lambda state: next(iter(state["state_dict"].values())).fill_(float("nan")),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_checkpoint_is_one_clear_error(name, tiny, here, checkpoint):
    state = read_checkpoint(checkpoint)
    MALFORMED[name](state)
    torch.save(state, here / "bad.ckpt")
    result = zoo("fit", "--config", tiny, "--ckpt_path", here / "bad.ckpt", "--trainer.max_epochs", 2)
    assert result.code == 1 and result.err.splitlines()[-1].startswith("ebm-zoo: "), result.err
    assert "Traceback" not in result.err and not list(here.glob("runs/*/*/checkpoints/*"))
    result = zoo("test", "--ckpt_path", here / "bad.ckpt", "--data", "ImageData", "--data.source", "digits")
    assert "Traceback" not in result.err


def test_keywords_that_stand_for_nothing_are_errors(tiny, here):
    for keyword in ("last", "best", "hpc"):
        refused("fit", "--config", tiny, "--ckpt_path", keyword, says=(f"--ckpt_path {keyword}: there is no",))
    assert not list(here.glob("runs/**/*.ckpt"))


def test_keywords_stand_for_the_newest_checkpoint_of_earlier_runs(here):
    run = trainer(logger=lightning.pytorch.loggers.CSVLogger(here, name="a"), default_root_dir=here)
    for k, name in enumerate(("version_1/checkpoints/last-v1", "version_0/checkpoints/last", "version_2/x/last")):
        path = here / "a" / f"{name}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (k, k))
    (here / "a" / "version_1" / "checkpoints" / "lastly.ckpt").touch()
    assert newest_checkpoint("last", run, None) == here / "a" / "version_0" / "checkpoints" / "last.ckpt"
    with pytest.raises(WeightsError, match="best"):
        newest_checkpoint("best", run, None)


def test_a_run_resumed_by_keyword_goes_on(tiny, here):
    done("fit", "--config", tiny)
    done("fit", "--config", tiny, "--ckpt_path", "last", "--trainer.max_epochs", 3)
    assert whole(here / "runs" / "lightning_logs" / "version_1" / "checkpoints" / "last.ckpt") == 6


def test_a_checkpoint_that_names_foreign_classes_needs_the_users_configuration(here, checkpoint):
    state = read_checkpoint(checkpoint)
    state["ebm_zoo"]["config"]["init_args"]["energy"]["class_path"] = "os.system"
    torch.save(state, here / "foreign.ckpt")
    data = ("--data", "ImageData", "--data.source", "digits")
    refused("test", "--ckpt_path", here / "foreign.ckpt", *data, says=("os.system", "--config"))


def test_data_in_another_range_than_the_models_are_refused(tiny, checkpoint):
    other = ("--data.init_args.value_range", "[0,1]")
    for command in (("fit",), ("test", "--ckpt_path", checkpoint), ("fit", "--ckpt_path", checkpoint)):
        refused(*command, "--config", tiny, *other, says=("in [0, 1]", "[-1, 1]", "value_range"))


# Divergence


class Spoil(Callback):
    """Makes something infinite or NaN before or in one step."""

    def __init__(self, step: int, what: str) -> None:
        self.step, self.what = step, what

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step and self.what == "batch":
            batch[0] = float("nan")

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_step == self.step and self.what == "gradient":
            next(pl_module.energy.parameters()).grad.fill_(float("inf"))


def guarded(folder, what, step, **settings):
    callbacks = [
        DivergenceGuard(),
        Spoil(step, what),
        EMAWeightAveraging(decay=0.9),
        OrderlyEnd(),
        Last(dirpath=folder, **settings),
    ]
    run = trainer(max_epochs=3, enable_checkpointing=True, callbacks=callbacks, plugins=[CheckpointFiles()])
    with pytest.raises(DivergenceError) as caught:
        run.fit(convnet(), datamodule=TinyData(images(16)))
    return str(caught.value)


@pytest.mark.parametrize("on_exception", [False, True])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("gradient", "weights 'energy.*' are not finite at step 8, as their gradient was not"),
        ("batch", "loss 'energy' is nan at step 8 .*the batch itself holds values that are not finite"),
    ],
)
def test_what_is_spoiled_in_the_last_step_of_an_epoch_is_not_written(what, said, on_exception, tmp_path):
    message = guarded(tmp_path, what, 7, save_on_exception=on_exception)
    assert re.search(said, message), message
    assert f"The last good checkpoint is {tmp_path / 'last.ckpt'}" in message
    assert whole(tmp_path / "last.ckpt") == 4 and len(list(tmp_path.glob("*.ckpt"))) == 1


def test_the_message_does_not_promise_a_checkpoint_that_is_not_there(tmp_path):
    assert "No checkpoint had been written" in guarded(tmp_path, "gradient", 1)


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (lambda sampler: convnet(sampler=sampler, chains=Persistent(8)), images(16)),
        (lambda sampler: coopnets(sampler=sampler), images(16)),
        (lambda sampler: cycle_coopnets(sampler=sampler), domains(16)),
        (lambda sampler: sequence_cycle(sampler=sampler), clips(16)),
    ],
    ids=["convnet", "coopnets", "cycle", "sequence"],
)
def test_chains_at_the_ends_of_the_range_are_a_divergence(model, batch):
    wild = Langevin(steps=2, step_size=3.0, noise_scale=1.0, clamp=(-1.0, 1.0))
    run = trainer(max_epochs=5, limit_val_batches=0, callbacks=[DivergenceGuard(patience=3)])
    with pytest.raises(DivergenceError, match=r"chains on 'energy\w*' sit at the ends of the range at step 3"):
        run.fit(model(wild), datamodule=TinyData(batch))


def test_chains_are_compared_with_the_data():
    # Of bars that are black or white all entries lie at the ends, as they do of good samples.
    wild = Langevin(steps=2, step_size=3.0, noise_scale=1.0, clamp=(-1.0, 1.0))
    run = trainer(max_epochs=2, limit_val_batches=0, callbacks=[DivergenceGuard(patience=1)])
    run.fit(convnet(sampler=wild), datamodule=TinyData(images(16).sign()))
    assert run.global_step == 8


# Ends


class At(Callback):
    """Sends SIGTERM to this process when a hook of this name is called."""

    def __init__(self, hook: str) -> None:
        setattr(self, hook, lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))


@pytest.mark.parametrize("hook", ["on_train_epoch_end", "on_train_end"])
def test_a_signal_after_the_last_step_is_not_forgotten(hook, tmp_path):
    own = [EMAWeightAveraging(decay=0.5), At(hook), OrderlyEnd(), Last(dirpath=tmp_path)]
    run = trainer(max_epochs=1, enable_checkpointing=True, limit_val_batches=0, callbacks=own)
    with pytest.raises(Stopped) as caught:
        run.fit(convnet(), datamodule=TinyData(images(8)))
    assert caught.value.number == signal.SIGTERM
    state = read_checkpoint(tmp_path / "last.ckpt")
    assert state["global_step"] == 2 and not torch.equal(*[next(iter(state[part].values())) for part in WEIGHTS])


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_a_signal_ends_other_loops_after_their_batch(command):
    hook = {"validate": "on_validation_batch_start", "test": "on_test_batch_start", "predict": "on_predict_batch_start"}
    run = trainer(callbacks=[At(hook[command]), OrderlyEnd()], inference_mode=False)
    with pytest.raises(Stopped, match="nothing unfinished"):
        getattr(run, command)(convnet(), datamodule=TinyData(images(8)))


def test_ranks_that_predict_do_not_wait_for_each_other(monkeypatch):
    run, end = trainer(), OrderlyEnd()
    monkeypatch.setattr(type(run), "world_size", 2)
    asked = []
    monkeypatch.setattr(run.strategy, "reduce", lambda told, **_: asked.append(told) or told)
    for predicting in (True, False):
        run.predicting, run.training = predicting, not predicting
        end._on_signal(signal.SIGTERM, None)
        assert end._told_to_any(run) == signal.SIGTERM and end._told_to_any(run) == 0
        assert len(asked) == (0 if predicting else 2)


def test_a_signal_waits_for_the_update(tmp_path):
    twice = {"accumulate_grad_batches": 2, "limit_val_batches": 0, "enable_checkpointing": True}
    run = trainer(max_epochs=9, callbacks=[Told("training"), OrderlyEnd(), Last(dirpath=tmp_path)], **twice)
    with pytest.raises(Stopped, match="step 6"):
        run.fit(convnet(), datamodule=TinyData(images(24)))
    assert read_checkpoint(tmp_path / "last.ckpt")["ebm_zoo"]["place"] == {"epochs": 2, "batches": 0}


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_without_averaging_a_run_goes_on_from_the_weights_that_learned(tmp_path, caplog):
    kept = Keep4(tmp_path)
    run = trainer(max_epochs=1, callbacks=[EMAWeightAveraging(decay=0.99), kept])
    run.fit(convnet(), datamodule=TinyData(images(16)))
    state, model = read_checkpoint(tmp_path / "4.ckpt"), convnet()
    with caplog.at_level("INFO"):
        trainer(max_epochs=1).fit(model, datamodule=TinyData(images(16)), ckpt_path=tmp_path / "4.ckpt")
    assert "This run does not average" in caplog.text
    for name, value in model.state_dict().items():
        assert torch.equal(value, state["current_model_state"][name])


class Told(Callback):
    """Sends a signal to this process at some place of a training."""

    def __init__(self, place: str, number: int = signal.SIGTERM) -> None:
        self.place, self.number, self.weights = place, number, None

    def send(self, place, trainer, model, step=None):
        if place == self.place and not trainer.sanity_checking and (step is None or trainer.global_step == step):
            self.weights = {name: value.clone() for name, value in model.state_dict().items()}
            os.kill(os.getpid(), self.number)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.send("training", trainer, pl_module, step=5)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.send("validation", trainer, pl_module)


@pytest.mark.parametrize(("place", "step"), [("training", 6), ("validation", 4)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_training_with_a_checkpoint_of_its_step(place, step, number, tmp_path):
    def fit(folder, *told, ckpt_path=None):
        own = [EMAWeightAveraging(decay=0.5), *told, OrderlyEnd(), Last(dirpath=tmp_path / folder)]
        torch.manual_seed(0)
        run = trainer(max_epochs=2, enable_checkpointing=True, callbacks=own, plugins=[CheckpointFiles()])
        run.fit(coopnets(), datamodule=TinyData(images(16)), ckpt_path=ckpt_path)

    before = signal.getsignal(number)
    with pytest.raises(Stopped, match=f"step {step} is .*last.ckpt") as caught:
        fit("told", Told(place, number))
    assert caught.value.number == number and signal.getsignal(number) is before
    state = read_checkpoint(tmp_path / "told" / "last.ckpt")
    assert state["global_step"] == step and state["ebm_zoo"]["place"] == {"epochs": 1, "batches": step - 4}
    # The weights that learn, and not the averages that stand in their place while a model is validated.
    fit("whole", Keep4(tmp_path))
    wanted = read_checkpoint(tmp_path / "4.ckpt")
    if step == 4:
        for part in ("state_dict", "current_model_state"):
            assert all(torch.equal(state[part][name], value) for name, value in wanted[part].items())


class Keep4(Callback):
    """Writes a checkpoint after the fourth step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.global_step == 4:
            trainer.save_checkpoint(self.folder / "4.ckpt")


def test_a_second_interrupt_does_not_wait():
    end = OrderlyEnd()
    end.setup(trainer(), convnet(), "fit")
    for first in (signal.SIGINT, signal.SIGTERM):
        end.setup(trainer(), convnet(), "fit")
        end._on_signal(first, None)
        end._on_signal(signal.SIGINT, None)  # launchers repeat a signal at once
        end._when -= 1
        end._on_signal(signal.SIGTERM, None)
        with pytest.raises(Stopped, match="told twice"):
            end._on_signal(signal.SIGINT, None)


def test_signals_that_are_ignored_stay_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        end = OrderlyEnd()
        end._listen()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == end._on_signal
        end.teardown(trainer(), convnet(), "fit")
        assert signal.getsignal(signal.SIGTERM) != end._on_signal
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(threading, "current_thread", lambda: None)
            end._listen()
        assert signal.getsignal(signal.SIGTERM) != end._on_signal
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGINT, "interrupted")])
def test_fit_says_how_it_ended(number, word, tiny, here):
    run = here / "runs" / "lightning_logs" / "version_0"
    last = run / "checkpoints" / "last.ckpt"
    with started("fit", "--config", tiny, "--trainer.max_epochs", 10**6, cwd=here) as process:
        wait_for(last.is_file, process)
        process.send_signal(number)
        begun = time.monotonic()
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number and time.monotonic() - begun < 30
    assert err.splitlines()[-1].startswith(f"ebm-zoo: {word}; the checkpoint of step {whole(last)} is ")


def test_sigterm_ends_other_commands_with_its_status(here):
    out = here / "out"
    out.mkdir()
    with started("sample", "generative_convnet/digits", "--steps", 10**6, "--out", out / "s.npy", cwd=here) as process:
        time.sleep(8)  # its chains run for hours
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 143 and err == "ebm-zoo: terminated; nothing unfinished was written.\n"
    assert not list(out.iterdir())


def children(process: subprocess.Popen) -> list[int]:
    listed = subprocess.run(["ps", "--ppid", str(process.pid), "-o", "pid="], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


TWO = ("--trainer.devices", 2, "--trainer.strategy", "ddp", "--data.init_args.batch_size", 4)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGKILL, 1)])
def test_a_signal_to_one_of_two_processes_ends_both(number, status, tiny, here, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    last = here / "runs" / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"
    with started("fit", "--config", tiny, "--trainer.max_epochs", 10**6, *TWO, cwd=here) as process:
        wait_for(last.is_file, process)
        (child,) = children(process)
        os.kill(child, number)
        _, err = process.communicate(timeout=90)
    assert process.returncode == status, err
    word = "terminated; the checkpoint of step" if status == 143 else "Another process of this run has ended"
    assert f"ebm-zoo: {word}" in err.splitlines()[-1]
    assert err.count("ebm-zoo:") == 1 and "Traceback" not in err
    assert whole(last) > 0


def test_one_process_of_several_tells_of_a_divergence(tiny, here, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1]))
    wild = ("--model.init_args.optim.energy.lr", 1e12)
    with started("fit", "--config", tiny, "--trainer.max_epochs", 50, *TWO, *wild, cwd=here) as process:
        _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and err.count("Training diverged") == 1 and "Traceback" not in err
    assert len(err.splitlines()) < 40


def test_only_the_first_process_makes_a_folder(here, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    claim(trainer(logger=lightning.pytorch.loggers.CSVLogger(here / "runs")), None)
    assert not (here / "runs").exists()


def test_a_users_own_checkpoints_go_on_beside_the_zoos(tiny, here):
    done("fit", "--config", tiny, "--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.every_n_train_steps", 1)
    assert len(list(here.glob("runs/*/*/checkpoints/*.ckpt"))) == 2


@pytest.mark.parametrize(
    "option",
    [("--checkpoint.every_n_train_steps", 1), ("--trainer.enable_checkpointing", "false")],
)
def test_settings_of_checkpoints_are_obeyed(option, tiny, here):
    done("fit", "--config", tiny, *option)
    wanted = 0 if "enable" in option[0] else 1
    assert len(list(here.glob("runs/*/*/checkpoints/*.ckpt"))) == wanted


def test_settings_that_exclude_each_other_are_one_clear_error(tiny):
    both = ("--checkpoint.every_n_train_steps", 1, "--checkpoint.every_n_epochs", 1)
    refused("fit", "--config", tiny, *both, says=("every_n_train_steps",))


def test_guard_and_settings_are_checked():
    for settings in ({"limit": 0.0}, {"limit": float("nan")}, {"patience": 0}):
        with pytest.raises(ConfigError, match="DivergenceGuard"):
            DivergenceGuard(**settings)


def test_lightnings_own_checkpoints_are_refused_what_is_not_finite(tmp_path):
    class Nan(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            torch.nn.init.constant_(next(pl_module.energy.parameters()), float("nan"))

    keep = ModelCheckpoint(tmp_path, save_on_train_epoch_end=True)
    run = trainer(max_epochs=1, enable_checkpointing=True, callbacks=[Nan(), keep], plugins=[CheckpointFiles()])
    with pytest.raises(DivergenceError, match="was not written"):
        run.fit(convnet(), datamodule=TinyData(images(8)))
    assert not list(tmp_path.glob("*.ckpt"))
