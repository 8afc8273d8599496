"""What a user can get wrong: one clear line, an exit status, nothing half-written."""

import hashlib
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from zoo_helpers import (
    NAME,
    done,
    draw,
    everything,
    experiment,
    image_folder,
    picture,
    refused,
    rewrite,
    saved_model,
    started,
    tiny_zoo,
    wait_for,
    zoo,
)

from ebm_zoo.cli.clips import read_clips
from ebm_zoo.errors import DataError
from ebm_zoo.models import GenerativeConvNet
from ebm_zoo.samplers import FittedGaussian
from ebm_zoo.space import Space
from ebm_zoo.zoo.client import HubUnreachable


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A working folder that holds a saved model, `model`, and an image for it, `good.png`."""
    folder = tmp_path / "here"
    saved_model(folder / "model")
    picture(folder / "good.png", draw(1)[0])
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def small_zoo(tmp_path):
    with tiny_zoo(tmp_path / "zoo"):
        yield tmp_path / "zoo"


def refused_by_parser(*arguments, says):
    """Refused with a usage and an error line by the parser itself."""
    before = everything(Path.cwd())
    result = zoo(*arguments)
    assert result.code == 2
    assert everything(Path.cwd()) == before
    assert "Traceback" not in result.out + result.err
    assert "error: " in result.err and says in result.err.rpartition("error: ")[2], result.err


# Names, tasks and numbers


COMMANDS = {
    "info": ["info", "generative_convnet/tini"],
    "sample": ["sample", "generative_convnet/tini", "--out", "a.png"],
    "apply": ["apply", "generative_convnet/tini", "energy", "--input", "good.png", "--out", "a.csv"],
    "verify": ["verify", "generative_convnet/tini"],
    "test": ["test", "--pretrained", "generative_convnet/tini"],
    "predict": ["predict", "--pretrained=generative_convnet/tini"],
}


@pytest.mark.parametrize("arguments", COMMANDS.values(), ids=COMMANDS)
def test_unknown_name_suggests_the_nearest(small_zoo, arguments):
    refused(*arguments, says=("'generative_convnet/tini'", f"Did you mean {NAME}?"))


MISSING_FOLDERS = ["./models/x", "/abs/x", "models/x/y/z", "../x", "~/x", "models/x/", "./models/x@main"]


@pytest.mark.parametrize("name", MISSING_FOLDERS)
def test_a_missing_folder_is_said_to_be_missing(small_zoo, monkeypatch, name):
    monkeypatch.setattr("ebm_zoo.zoo.resolve.announced", lambda *_: pytest.fail("asked of the Hub"))
    monkeypatch.setenv("HOME", str(Path.cwd()))
    for command in (("info", name), ("sample", name, "--out", "a.png"), ("push", name, "--repo", "user/x")):
        refused(*command, says=(f"There is no folder {name}",))


def test_a_file_is_no_folder(small_zoo):
    for command in (("info", "model/config.json"), ("push", "./model/config.json", "--repo", "user/x")):
        refused(*command, says=("model/config.json is a file: name the folder",))


def test_a_folder_that_might_be_a_repository_is_not_there_either(monkeypatch):
    def unreachable(*_):
        raise HubUnreachable("user/x: not to be had.")

    monkeypatch.setattr("ebm_zoo.zoo.resolve.announced", unreachable)
    refused("info", "user/x", says=("user/x: not to be had. There is no folder user/x either.",))


def test_unknown_name_like_no_other_points_to_the_list(small_zoo):
    refused("info", "qqq", says=("'qqq'", "`ebm-zoo list`"))


def test_unknown_configuration_suggests_the_nearest(small_zoo):
    refused("fit", "--config", "generative_convnet/tinny", says=("'generative_convnet/tinny'", f"Near: {NAME}."))
    refused("fit", "--config", "../checkpoints", says=("'../checkpoints'", NAME))


def test_unknown_command():
    refused_by_parser("frobnicate", says="'frobnicate'")


MISSING = {"sample": "name", "apply": "name", "info": "name", "fit": "model", "test": "model"}


@pytest.mark.parametrize("command", MISSING)
def test_missing_arguments(command):
    refused_by_parser(command, says=MISSING[command])


def apply(task, *more, given="good.png", out="a.png"):
    return ("apply", "model", task, "--input", given, "--out", out, *more)


NUMBERS = {
    "no samples": (("sample", "model", "--out", "a.png", "--n", 0), "--n must be 1 or more, not 0"),
    "negative steps": (("sample", "model", "--out", "a.png", "--steps", -1), "--steps must be 0 or more, not -1"),
    "no size": (("sample", "model", "--out", "a.png", "--size", 0), "positive sizes"),
    "too small": (("sample", "model", "--out", "a.png", "--size", 3), "model cannot draw images of 3 x 3"),
    "steps of inpaint": (apply("inpaint", "--steps", -2), "--steps must be 0 or more, not -2"),
    "iterations": (apply("reconstruct", "--iterations", -1), "--iterations must be 0 or more, not -1"),
    "one image": (apply("interpolate", "--iterations", 1), "an even number, not 1"),
    "task": (apply("enery"), "model has no task 'enery'; it has sample, energy"),
    "sample is no answer": (apply("sample"), "use `ebm-zoo sample`"),
}


@pytest.mark.parametrize(("arguments", "says"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_and_tasks(arguments, says):
    refused(*arguments, says=(says,))


def test_walks_of_one_image():
    np.save("x.npy", np.zeros((2, 1, 8, 8), np.float32))
    refused(*apply("interpolate", "--n", 1, "--iterations", 1, given="x.npy"), says=("n >= 2",))


@pytest.mark.parametrize("seed", [-1, 2**63, "x"])
def test_seeds(seed):
    refused_by_parser("sample", "model", "--out", "a.png", "--seed", seed, says="argument --seed")
    refused_by_parser(*apply("inpaint", "--seed", seed), says="argument --seed")


def test_size_of_a_model_whose_noise_has_one_size():
    noise = FittedGaussian((1, 8, 8), 2)
    noise.fit([torch.rand(9, 1, 8, 8)])
    saved_model(Path("fitted"), noise=noise)
    refused(
        "sample", "fitted", "--out", "a.png", "--size", 16, says=("fitted to data of shape (1, 8, 8)", "(1, 16, 16)")
    )


# Files to write


@pytest.mark.parametrize("out", ["a.txt", "a", "model", "a.csv"])
def test_unknown_extension(out):
    refused("sample", "model", "--out", out, says=(f"Cannot write {out}", ".png, .npy, .npz"))


def test_extensions_of_energies():
    refused(*apply("energy"), says=("Cannot write a.png", ".csv, .npy, .npz"))


PLACES = {
    "good.png/a.png": "good.png is a file",
    "good.png/b/a.png": "Not a directory",
    "folder.png": "folder.png is a folder",
    "/proc/ebm_zoo/a.png": "No such file or directory",
}


@pytest.mark.parametrize("out", PLACES)
def test_unwritable_output(out):
    Path("folder.png").mkdir()
    refused("sample", "model", "--out", out, says=(f"Cannot write {out}", PLACES[out], "Choose another place"))
    refused(*apply("reconstruct", "--iterations", 1, out=out), says=(f"Cannot write {out}", PLACES[out]))


def test_an_output_that_may_not_be_written_to_stays(monkeypatch):
    Path("a.png").write_bytes(b"mine")
    Path("a.png").chmod(0o444)
    # The superuser may write to all files.
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).stat().st_mode & 0o200 and mode == os.W_OK)
    for task in ("sample", "reconstruct"):
        monkeypatch.setattr(GenerativeConvNet, task, lambda *_, **__: pytest.fail("computed before it was refused"))
    for command in (("sample", "model", "--out", "a.png"), apply("reconstruct")):
        refused(*command, says=("Cannot write a.png", "may not be written to"))


def test_homes_of_nobody_make_no_folder():
    for command in (
        ("sample", "model", "--out", "~nobody_of_this_name/a.png"),
        apply("energy", out="~nobody_of_this_name/a.csv"),
    ):
        refused(*command, says=("no user has the home ~nobody_of_this_name",))


def test_an_output_that_exists_stays_when_the_command_fails():
    Path("a.png").write_bytes(b"mine")
    refused("sample", "model", "--out", "a.png", "--size", 3, says=("cannot draw",))
    refused(*apply("interpolate"), says=("an even number",))
    assert Path("a.png").read_bytes() == b"mine"


# Files to read


def array(change=None, shape=(2, 1, 8, 8)):
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    if change is not None:
        x[1, 0, 3, 3] = change
    return x


ARRAYS = {
    "NaN": (array(np.nan), "NaN or infinite"),
    "infinite": (array(np.inf), "NaN or infinite"),
    "size": (array(shape=(2, 1, 9, 8)), "not (2, 1, 9, 8)"),
    "channels": (array(shape=(2, 3, 8, 8)), "not (2, 3, 8, 8)"),
    "flat": (array(shape=(2, 64)), "not (1, 2, 64)"),
    "number": (np.float32(1), "takes data of shape (B, 1, 8, 8)"),
    "range": (array(7.0), "values in [-1, 1]; these reach from"),
    "bytes": (np.full((2, 1, 8, 8), 200, np.uint8), "holds whole numbers (uint8)"),
    "bytes of 0 and 1": (np.eye(8, dtype=np.uint8)[None, None], "holds whole numbers (uint8)"),
    "truth values": (np.eye(8, dtype=bool)[None, None], "holds whole numbers (bool)"),
    "integers": (np.eye(8, dtype=np.int64)[None, None], "this model takes real ones in [-1, 1]: rescale"),
    "integers in range": (-np.eye(8, dtype=">i2")[None, None], "holds whole numbers (int16)"),
    "no image": (array(shape=(0, 1, 8, 8)), "is empty"),
    "words": (np.array(["a", "b"]), "no array of real numbers"),
    "complex": (array().astype(complex), "no array of real numbers"),
    "objects": (np.array([{}, {}]), "cannot be read as a NumPy array"),
}


@pytest.mark.parametrize(("x", "says"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_do_not_fit(x, says):
    np.save("x.npy", x, allow_pickle=True)
    refused(*apply("energy", given="x.npy", out="a.csv"), says=("x.npy", says))
    refused(*apply("reconstruct", given="x.npy", out="a.png"), says=("x.npy", says))
    if x.dtype != object:
        np.savez("x.npz", x)
        refused(*apply("energy", given="x.npz", out="a.csv"), says=("x.npz", says))


def test_clips_of_whole_numbers_are_refused_and_archives_read():
    space = Space((2, 1, 8, 8))
    np.savez("clip.npz", samples=array(shape=(3, 2, 1, 8, 8)))
    clips, names = read_clips("clip.npz", space, 8)
    assert clips.shape == (3, 2, 1, 8, 8) and names == [f"clip.npz[{k}]" for k in range(3)]
    for kind in (bool, np.uint8, np.int64):
        np.save("clip.npy", np.ones((2, 1, 8, 8), kind))
        with pytest.raises(
            DataError, match=rf"clip\.npy holds whole numbers \({np.dtype(kind)}\).*in \[-1, 1\]: rescale"
        ):
            read_clips("clip.npy", space, 8)


def test_archives_of_several_arrays_or_none():
    np.savez("two.npz", a=array(), b=array())
    refused(*apply("energy", given="two.npz", out="a.csv"), says=("two.npz holds 2 arrays", "name it samples"))
    Path("cut.npz").write_bytes(Path("two.npz").read_bytes()[:-40])
    Path("altered.npz").write_bytes(Path("two.npz").read_bytes().replace(b"NUMPY", b"mumpy"))
    np.savez("objects.npz", np.array([{}]))
    for name in ("cut.npz", "altered.npz", "objects.npz"):
        refused(*apply("energy", given=name, out="a.csv"), says=(f"{name} ",))


def test_files_that_are_no_arrays():
    Path("text.npy").write_text("hello")
    Path("none.npy").touch()
    np.savez("archive.npz", a=array())
    Path("archive.npz").rename("archive.npy")
    for name in ("text.npy", "none.npy", "archive.npy"):
        refused(*apply("energy", given=name, out="a.csv"), says=(name,))
    refused(*apply("energy", given="missing.npy", out="a.csv"), says=("missing.npy does not exist",))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


PICTURES = {
    "size": (lambda path: picture(path, draw(1, (1, 8, 9))[0]), "1 x 8 x 9 (channels, height, width)"),
    "channels": (lambda path: picture(path, draw(1, (3, 8, 8))[0]), "3 x 8 x 8 (channels, height, width)"),
    "cut": (lambda path: cut(picture(path, draw(1)[0])), "not a readable image"),
    "text": (lambda path: path.write_text("hello"), "not a readable image"),
    "empty": (lambda path: path.touch(), "not a readable image"),
    "folder": (lambda path: path.mkdir(), "is a folder inside of images"),
    "kind": (lambda path: Image.new("F", (8, 8)).save(path, format="TIFF"), "pixels of kind 'F'"),
}


@pytest.mark.parametrize(("write", "says"), PICTURES.values(), ids=PICTURES)
def test_a_bad_image_among_good_ones_is_named(write, says):
    image_folder(Path("images"), 3)
    write(Path("images/bad.png"))
    refused(*apply("energy", given="images", out="a.csv"), says=("images/bad.png", says))


def test_a_missing_image_and_an_empty_folder():
    refused(*apply("energy", given="missing.png", out="a.csv"), says=("missing.png does not exist",))
    Path("empty").mkdir()
    refused(*apply("energy", given="empty", out="a.csv"), says=("empty is an empty folder",))
    Path("empty/Thumbs.db").write_text("x")
    refused(*apply("energy", given="empty", out="a.csv"), says=("empty is an empty folder",))


MASKS = {
    "size": (np.eye(9), "The mask is (1, 1, 9, 9), the images are (1, 1, 8, 8)"),
    "count": (np.zeros((2, 1, 8, 8)), "The mask is (2, 1, 8, 8)"),
    "all known": (np.ones((8, 8)), "leaves no pixel unknown"),
    "all unknown": (np.zeros((8, 8)), "leaves no pixel known, and all would be replaced"),
    "words": (np.array(["a"]), "no array of real numbers"),
    "NaN": (np.where(np.eye(8), np.nan, 1), "is no mask"),
    "no rows": (np.ones(8), "is no mask"),
    "nothing": (np.ones((0, 8, 8)), "is no mask"),
}


@pytest.mark.parametrize(("mask", "says"), MASKS.values(), ids=MASKS)
def test_masks_that_do_not_fit(mask, says):
    np.save("mask.npy", mask)
    refused(*apply("inpaint", "--mask", "mask.npy"), says=(says,))


def test_masks_that_are_missing_or_no_image():
    refused(*apply("inpaint"), says=("good.png has no transparent pixels", "--mask"))
    refused(*apply("inpaint", "--mask", "missing.png"), says=("missing.png does not exist",))
    Path("text.png").write_text("hello")
    refused(*apply("inpaint", "--mask", "text.png"), says=("text.png is not a readable image",))
    picture(Path("large.png"), draw(1, (1, 16, 16))[0])
    refused(*apply("inpaint", "--mask", "large.png"), says=("The mask is (1, 1, 16, 16)",))


def test_masks_under_which_nothing_or_everything_is_known():
    for value, says in ((0, "leaves no pixel known"), (1, "no pixel unknown"), (60, "no pixel known")):
        picture(Path("mask.png"), np.full((1, 8, 8), value, np.uint8))
        refused(*apply("inpaint", "--mask", "mask.png"), says=(says,))
    # Of several images one would be replaced.
    np.save("x.npy", np.zeros((2, 1, 8, 8), np.float32))
    np.save("mask.npy", np.stack([np.eye(8), np.zeros((8, 8))]))
    refused(*apply("inpaint", "--mask", "mask.npy", given="x.npy"), says=("no pixel of image 1 known",))
    picture(Path("clear.png"), np.stack([draw(1)[0, 0], np.zeros((8, 8), np.uint8)]).transpose(0, 1, 2)[:1])
    Image.merge("LA", [Image.open("clear.png"), Image.new("L", (8, 8))]).save("clear.png")
    refused(*apply("inpaint", given="clear.png"), says=("no pixel known",))


# Weights and their configuration


SAMPLE = ("sample", "model", "--n", 1, "--out", "a.png")


def edit_weights(change) -> None:
    path = Path("model/model.safetensors")
    path.write_bytes(change(path.read_bytes()))


def flip(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


def test_truncated_and_altered_weights():
    size = Path("model/model.safetensors").stat().st_size
    edit_weights(lambda data: data[:-1])
    refused(*SAMPLE, says=("model/model.safetensors", f"{size - 1} bytes, not {size}", "truncated"))
    saved_model(Path("model"))
    edit_weights(flip)
    refused(*SAMPLE, says=("model/model.safetensors has sha256", "altered"))
    Path("model/model.safetensors").unlink()
    refused(*SAMPLE, says=("Cannot read model/model.safetensors",))


def test_truncated_and_altered_weights_of_the_catalog(small_zoo):
    folder = small_zoo / "weights" / NAME
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for data, says in ((whole[:100], "truncated"), (flip(whole), "altered")):
        weights.write_bytes(data)
        refused("sample", NAME, "--out", "a.png", says=(says,))
        refused("test", "--pretrained", NAME, says=(says,))
        verified = zoo("verify")
        assert verified.code == 1 and verified.out.startswith(f"FAILED  {NAME}: ") and says in verified.out
    # Whoever exchanges both files is found by the catalog.
    saved_model(folder, penalty=0.5)
    weights.write_bytes(flip(whole))
    sha256 = hashlib.sha256(flip(whole)).hexdigest()
    rewrite(folder, lambda config: config["weights"].update(sha256=sha256))
    refused("sample", NAME, "--out", "a.png", says=(sha256, "the catalog names"))


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 100], ids=["empty", "text", "header"])
def test_weights_that_are_no_safetensors(data):
    Path("model/model.safetensors").write_bytes(data)
    found = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    rewrite(Path("model"), lambda config: config.update(weights=found))
    refused(*SAMPLE, says=("weights of model are not safetensors",))


FOREIGN = [
    "os.system",
    "torch.nn.Linear",
    "ebm_zoo.cli.main",
    "ebm_zoo.files.atomic",
    "builtins.eval",
    "system",
    3,
    None,
]


@pytest.mark.parametrize("path", FOREIGN)
@pytest.mark.parametrize("place", ["model", "energy"])
def test_configuration_naming_a_foreign_class(path, place):
    def change(config):
        part = config["model"] if place == "model" else config["model"]["init_args"]["energy"]
        part.update(class_path=path, init_args={})

    rewrite(Path("model"), change)
    refused(*SAMPLE, says=(f"may not name {path!r}",))


CONFIGURATIONS = {
    "unknown class": (lambda model: model.update(class_path="ebm_zoo.models.CoupNet"), "CoupNet does not exist"),
    "function": (lambda model: model.update(class_path="ebm_zoo.samplers.langevin"), "does not exist"),
    "no model": (lambda model: model.update(class_path="torch.nn.ReLU", init_args={}), "no model but a ReLU"),
    "unknown argument": (lambda model: model["init_args"].update(hiden=3), "has no argument 'hiden'"),
    "missing argument": (lambda model: model["init_args"].pop("energy"), "'energy'"),
    "unknown key": (lambda model: model.update(code="x"), "keys class_path and init_args"),
    "no arguments": (lambda model: model.update(init_args=[1]), "keys class_path and init_args"),
    "kind of object": (lambda model: model["init_args"].update(space="x"), "'space' must be of type Space, not str"),
    "kind of number": (lambda model: model["init_args"].update(sample_steps="x"), "'sample_steps' must be of type int"),
    "range": (lambda model: model["init_args"].update(sample_steps=-1), "sample_steps"),
    "other sizes": (
        lambda model: model["init_args"]["energy"]["init_args"].update(layers=[[1, 8, 1, 0]]),
        "do not fit",
    ),
    "impossible": (lambda model: model["init_args"]["energy"]["init_args"].update(layers=[[1, -8, 1, 0]]), "cannot be"),
}


@pytest.mark.parametrize(("change", "says"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_configurations_that_cannot_be_built(change, says):
    rewrite(Path("model"), lambda config: change(config["model"]))
    refused(*SAMPLE, says=(says,))


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"model": {}}', '{"model": {}, "weights": {"size": "x"}}'])
def test_files_that_are_no_configuration(text):
    Path("model/config.json").write_text(text)
    refused(*SAMPLE, says=("model/config.json is no model configuration",))


# Training


@pytest.fixture
def tiny(tmp_path) -> Path:
    return experiment(tmp_path / "tiny.yaml", tmp_path / "data")


OPTIONS = {
    "option": ("--model.hiden=3", "hiden"),
    "value": ("--trainer.max_epochs=many", "many"),
    "class": ("--model=CoopNet", "CoopNet"),
}


@pytest.mark.parametrize(("option", "says"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_the_parser_refuses(tiny, option, says):
    refused_by_parser("fit", "--config", tiny, option, says=says)


def test_pretrained_is_no_option_of_fit(tiny):
    refused("fit", "--config", tiny, "--pretrained", NAME, says=("--pretrained goes with test", "--ckpt_path"))


def test_two_sources_of_weights_are_refused(small_zoo):
    saved = ("--ckpt_path", "a.ckpt")
    torch.save({"ebm_zoo": {"config": {}}}, "a.ckpt")
    for order in (("--pretrained", NAME, *saved), (*saved, "--pretrained", NAME)):
        refused("test", *order, says=("--pretrained and --ckpt_path",))


def test_a_folder_of_runs_that_cannot_be_made(tiny):
    result = zoo("fit", "--config", tiny, "--trainer.logger.init_args.save_dir", "good.png")
    assert result.code == 1 and "Traceback" not in result.err
    assert result.err.splitlines()[-1].startswith("ebm-zoo: ") and "good.png" in result.err


VALUES = {
    "chains": (("--model.init_args.sampler.init_args.steps", -3), "steps must be 0 or more, not -3"),
    "networks": (("--model.init_args.optim", '{"generator": {"lr": 1e-3}}'), "optim needs settings for exactly"),
    "source": (("--data.init_args.source", "FashonMNIST"), "Did you mean FashionMNIST?"),
    "batch": (("--data.init_args.batch_size", 0), "batch_size is 0"),
    "guard": (("--trainer.callbacks+", '{"class_path": "DivergenceGuard", "init_args": {"limit": 0}}'), "limit > 0"),
    "layers": (("--model.init_args.energy.init_args.layers", "[[1, -8, 1, 0]]"), "Cannot build what is configured"),
    "shape": (("--model.init_args.space.shape", "[1, 9, 9]"), "takes data of shape (B, 1, 9, 9)"),
}


@pytest.mark.parametrize(("option", "says"), VALUES.values(), ids=VALUES)
def test_values_that_the_zoo_refuses(tiny, option, says):
    result = zoo("fit", "--config", tiny, *option)
    assert result.code == 1 and "Traceback" not in result.err
    line = result.err.splitlines()[-1]
    assert line.startswith("ebm-zoo: ") and says in line
    assert not list(Path.cwd().rglob("*.ckpt"))


def test_checkpoints_that_are_none(tiny):
    Path("cut.ckpt").write_bytes(b"PK\x03\x04" + bytes(500))
    torch.save({"state_dict": {}}, "other.ckpt")
    torch.save([1], "list.ckpt")
    for command in ("fit", "test", "validate", "predict"):
        for name, says in (
            ("missing.ckpt", "No such file"),
            ("cut.ckpt", "truncated, altered, no checkpoint"),
            ("good.png", "truncated, altered, no checkpoint"),
            ("model", "directory"),
            ("other.ckpt", "not written by a model of this zoo"),
            ("list.ckpt", "not written by a model of this zoo"),
        ):
            refused(command, "--config", tiny, "--ckpt_path", name, says=(name, says))


def test_a_diverging_run_keeps_the_last_checkpoint_and_a_checkpoint_of_another_model_is_refused(tiny):
    done("fit", "--config", tiny)
    last = Path("runs/lightning_logs/version_0/checkpoints/last.ckpt")
    before = last.read_bytes()
    learn = ("--model.init_args.optim.energy.lr", 1e9, "--trainer.max_epochs", 3)
    result = zoo("fit", "--config", tiny, *learn, "--checkpoint.dirpath", last.parent)
    (line,) = [line for line in result.err.splitlines() if line.startswith("ebm-zoo: ")]
    assert result.code == 1 and "Traceback" not in result.err
    for part in ("Training diverged: loss '", "at step", "No checkpoint had been written", "Lower the learning rate"):
        assert part in line
    assert last.read_bytes() == before
    layers = ("--model.init_args.energy.init_args.layers", "[[2, 3, 1, 1], [1, 8, 1, 0]]")
    result = zoo("test", "--config", tiny, "--ckpt_path", last, *layers)
    assert result.code == 1 and "Traceback" not in result.err
    assert "ebm-zoo: The checkpoint was written by another model: 'energy.convolutions." in result.err


# Interrupts


def interrupted(process) -> str:
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode not in (0, -signal.SIGINT)
    assert "Traceback" not in out + err
    return err


def test_interrupted_sample_leaves_nothing(here):
    with started("sample", "model", "--n", 4, "--steps", 10**9, "--out", "new/a.png", cwd=here) as process:
        wait_for(lambda: list(here.glob("new/.a-*.png")), process)
        err = interrupted(process)
    assert process.returncode == 130 and err == "ebm-zoo: interrupted; nothing unfinished was written.\n"
    assert not list(here.glob("new/*"))


def test_interrupted_fit_leaves_the_last_checkpoint_whole(here, tiny):
    folder = here / "runs/lightning_logs/version_0/checkpoints"
    with started("fit", "--config", tiny, "--trainer.max_epochs", -1, cwd=here) as process:
        wait_for((folder / "last.ckpt").is_file, process)
        interrupted(process)
    names = {path.name for path in folder.iterdir()}
    assert {"last.ckpt"} <= names <= {"best.ckpt", "last.ckpt"}
    for path in folder.iterdir():
        assert GenerativeConvNet.load_from_checkpoint(path).sample(1).shape == (1, 1, 8, 8)
    shutil.rmtree(folder.parent / "pictures")
    assert not [path for path in everything(here / "runs") if path.name.startswith(".")]
