"""Classes of folders: numbered once, by the training files, and kept in a training's checkpoint."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import TinyData, classed, labelled_coopnets, trainer
from zoo_helpers import done, picture, zoo

from ebm_zoo.config import to_config
from ebm_zoo.data import LabelledImageData, LeftOutImageData, UnpairedImageData
from ebm_zoo.errors import DataError

SHADES = {"ant": 0, "bee": 60, "cow": 120, "dog": 180, "eel": 240}


def folders(root: Path, **names: str) -> Path:
    """Folders of one-coloured images, a few of each named class."""
    for split, kinds in names.items():
        for kind in kinds.split():
            shaded(root / split / kind, kind, 3)
    return root


def shaded(folder: Path, kind: str, n: int) -> None:
    for k in range(n):
        picture(folder / f"{k:02}.png", np.full((1, 8, 8), SHADES[kind], np.uint8))


def ready(root: Path, kind: Any = LabelledImageData, stage: str | None = None, **settings: Any) -> Any:
    data = kind(str(root), value_range=(0.0, 255.0), batch_size=100, **settings)
    data.setup(stage)
    return data


def seen(loader: Any) -> dict[int, str]:
    """Which class a number stands for."""
    kinds = {shade: kind for kind, shade in SHADES.items()}
    found: dict[int, set[str]] = {}
    for x, labels in loader:
        for image, label in zip(x, labels.tolist(), strict=True):
            found.setdefault(label, set()).add(kinds[round(image.mean().item())])
    assert all(len(each) == 1 for each in found.values()), found
    return {label: min(each) for label, each in found.items()}


# Numbers


@pytest.mark.parametrize("stage", ["test", "predict", None])
@pytest.mark.parametrize("test", ["ant bee cow", "bee cow", "ant cow", "cow"])
def test_a_number_stands_for_one_class_whatever_the_test_split_lacks(tmp_path, test, stage):
    data = ready(folders(tmp_path, train="ant bee cow", test=test), stage=stage)
    numbers = {0: "ant", 1: "bee", 2: "cow"}
    expected = {label: kind for label, kind in numbers.items() if kind in test.split()}
    assert seen(data.test_dataloader()) == seen(data.predict_dataloader()) == expected
    assert data.classes == ("ant", "bee", "cow")
    if stage is None:
        assert seen([data.train_dataloader().dataset.__getitems__(list(range(9)))]) == numbers


def test_pictures_held_back_keep_their_numbers(tmp_path):
    data = ready(folders(tmp_path, train="ant bee cow", test="bee"), stage="fit", validation=4)
    assert seen([data.train_dataloader().dataset.__getitems__(list(range(5)))]) == {0: "ant", 1: "bee"}
    assert seen(data.val_dataloader()) == {1: "bee", 2: "cow"}


def test_a_class_that_one_split_of_every_tenth_file_lacks_shifts_no_other(tmp_path):
    # The only ant is the tenth file of all, so it is a test image; of cows there is no test image.
    shaded(tmp_path / "ant", "bee", 9)
    (tmp_path / "ant").rename(tmp_path / "aaa")
    for kind, n in (("ant", 1), ("bee", 20), ("cow", 5)):
        shaded(tmp_path / kind, kind, n)
    for path in (tmp_path / "aaa").iterdir():
        picture(path, np.full((1, 8, 8), SHADES["eel"], np.uint8))
    data = ready(tmp_path)
    assert data.classes == ("aaa", "ant", "bee", "cow")
    assert seen(data.test_dataloader()) == {1: "ant", 2: "bee"}
    assert seen([data.train_dataloader().dataset.__getitems__(list(range(32)))]) == {0: "eel", 2: "bee", 3: "cow"}


def test_test_folders_without_training_files_tell_the_classes_themselves(tmp_path):
    data = ready(folders(tmp_path, test="bee cow"), stage="test")
    assert seen(data.test_dataloader()) == {0: "bee", 1: "cow"} and data.classes == ("bee", "cow")


@pytest.mark.parametrize(("kind", "settings"), [(LabelledImageData, {}), (LeftOutImageData, {"left_out": 0})])
def test_a_class_of_test_pictures_alone_is_named(tmp_path, kind, settings):
    folders(tmp_path, train="ant cow", test="ant bee cow")
    ready(tmp_path, kind, stage="fit", **settings)
    with pytest.raises(DataError) as caught:
        ready(tmp_path, kind, stage="test", **settings)
    assert str(tmp_path / "test" / "bee" / "00.png") in str(caught.value)
    assert "is of class bee" in str(caught.value) and "but of ant, cow" in str(caught.value)


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_the_class_left_out_is_one_and_the_same_in_both_splits(tmp_path, left_out):
    folders(tmp_path, train="ant bee cow", test=f"{list(SHADES)[left_out]} {'cow' if left_out < 2 else 'bee'}")
    data = ready(tmp_path, LeftOutImageData, left_out=left_out)
    shade = SHADES[data.classes[left_out]]
    inside, outside = (torch.cat(list(loader)) for loader in data.test_dataloader())
    assert (outside == shade).all() and not (inside == shade).any()
    learned = data.train_dataloader().dataset.__getitems__(list(range(6)))
    assert sorted(set(learned.flatten().tolist())) == sorted({0.0, 60.0, 120.0} - {float(shade)})


def test_public_sets_have_numbers_alone():
    data = LabelledImageData("digits")
    data.setup("test")
    assert data.classes == ()


def test_two_domains_number_their_classes_alike(tmp_path):
    first = folders(tmp_path / "first", train="ant bee cow", test="bee cow")
    second = folders(tmp_path / "second", train="ant bee cow", test="ant cow")
    labels = UnpairedImageData((str(first), str(second))).labels()
    assert [each.tolist() for each in labels] == [[1, 1, 1, 2, 2, 2], [0, 0, 0, 2, 2, 2]]
    other = folders(tmp_path / "other", train="ant cow", test="ant cow")
    with pytest.raises(DataError, match=r"has the classes ant, bee, cow, .*other has ant, cow"):
        UnpairedImageData((str(first), str(other))).labels()
    assert len(UnpairedImageData((str(first), "digits")).labels()[1]) == 297


# Checkpoints


def data_of(root: Path, **names: str) -> LabelledImageData:
    return LabelledImageData(str(folders(root, **names)), batch_size=4, validation=1)


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """Of a model that has learned ants, bees and cows."""
    run = trainer(max_epochs=1, limit_val_batches=0)
    run.fit(labelled_coopnets(), datamodule=data_of(tmp_path / "learned", train="ant bee cow", test="ant"))
    run.save_checkpoint(tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def goes_on(command: str, data: Any, checkpoint: Path) -> None:
    run = trainer(max_epochs=2, limit_val_batches=0 if command == "fit" else 1)
    getattr(run, command)(labelled_coopnets(), datamodule=data, ckpt_path=checkpoint, weights_only=True)


COMMANDS = pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])


@COMMANDS
def test_a_run_goes_on_with_the_classes_that_were_learned(checkpoint, tmp_path, command):
    state = torch.load(checkpoint, weights_only=True)["LabelledImageData"]
    assert state["classes"] == ["ant", "bee", "cow"]
    goes_on(command, data_of(tmp_path / "again", train="ant bee cow", test="cow"), checkpoint)


@COMMANDS
@pytest.mark.parametrize(("train", "says"), [
    ("bee cow", "it lacks ant."),
    ("ant bee cow dog", "it adds dog."),
    ("ant cow dog eel", "it lacks bee and adds dog, eel."),
])  # fmt: skip
def test_other_classes_than_those_learned_are_named(checkpoint, tmp_path, command, train, says):
    data = data_of(tmp_path / "other", train=train, test="cow")
    with pytest.raises(DataError) as caught:
        goes_on(command, data, checkpoint)
    assert says in str(caught.value) and str(tmp_path / "other") in str(caught.value)


@COMMANDS
def test_classes_without_names_are_not_compared(checkpoint, tmp_path, command):
    run = trainer(max_epochs=1, limit_val_batches=0)
    run.fit(labelled_coopnets(), datamodule=TinyData(classed(8)))
    run.save_checkpoint(tmp_path / "b.ckpt")
    goes_on(command, data_of(tmp_path / "again", train="ant bee cow", test="ant"), tmp_path / "b.ckpt")
    goes_on(command, TinyData(classed(8)), checkpoint)


def test_a_detector_keeps_its_classes_too(tmp_path):
    data = ready(folders(tmp_path / "a", train="ant bee cow", test="ant bee"), LeftOutImageData, left_out=1)
    other = ready(folders(tmp_path / "b", train="bee cow dog", test="bee cow"), LeftOutImageData, left_out=1)
    with pytest.raises(DataError, match="lacks ant and adds dog"):
        other.load_state_dict(data.state_dict())
    data.load_state_dict(other.state_dict() | {"classes": ["ant", "bee", "cow"]})


def test_the_command_line_says_which_class_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, train in (("learned", "ant bee cow"), ("other", "bee cow")):
        folders(tmp_path / name, train=train, test="cow")
    quiet = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    data = {"class_path": "ebm_zoo.data.LabelledImageData", "init_args": {"source": "learned", "batch_size": 3}}
    config = {"model": to_config(labelled_coopnets()), "data": data, "trainer": {**quiet, "max_epochs": 1}}
    Path("tiny.yaml").write_text(json.dumps(config))
    done("fit", "--config", "tiny.yaml")
    (checkpoint,) = Path("runs").rglob("last.ckpt")
    again = ("--config", "tiny.yaml", "--ckpt_path", checkpoint)
    done("test", *again)
    for command in ("fit", "test", "predict"):
        result = zoo(command, *again, "--data.init_args.source", "other")
        assert result.code == 1 and result.err.count("ebm-zoo: ") == 1 and "Traceback" not in result.err
        assert "ebm-zoo: other has other classes than the checkpoint's model learned: it lacks ant." in result.err
