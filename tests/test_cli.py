"""The commands that do what they are asked for; what they refuse is in test_bad_input.py."""

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.metrics import roc_auc_score
from tiny import SHAPE
from zoo_helpers import NAME, ROOT, done, draw, experiment, image_folder, picture, saved_model, started, tiny_zoo, zoo

from ebm_zoo import __version__, from_pretrained
from ebm_zoo.data import ImageData
from ebm_zoo.models import Classifier, GenerativeConvNet
from ebm_zoo.networks import ConvEnergy
from ebm_zoo.zoo import catalog
from ebm_zoo.zoo.catalog import VARIABLE


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def model(tmp_path):
    """The one model of a tiny zoo."""
    with tiny_zoo(tmp_path / "zoo") as model:
        yield model


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Checkpoint of a run of one epoch."""
    root = tmp_path_factory.mktemp("trained")
    path = experiment(root / "tiny.yaml", root / "data")
    done("fit", "--config", path, "--trainer.logger.init_args.save_dir", root, "--model.init_args.penalty", "0.25")
    return root / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"


def newest_run() -> Path:
    return max(Path("runs/lightning_logs").iterdir(), key=lambda path: int(path.name.rpartition("_")[2]))


def arguments(run: Path) -> dict:
    """Constructor arguments of the model that a run had, as the model itself told them."""
    return yaml.safe_load((run / "hparams.yaml").read_text())["init_args"]


def size(path: Path | str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def from_archive(path: str, name: str) -> np.ndarray:
    with np.load(path) as arrays:
        return arrays[name]


def figures(run: Path) -> dict[str, float]:
    """The last value of each figure that a run logged."""
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    return {name: float(value) for row in rows for name, value in row.items() if value}


# Without torch


def python(code: str, stdout: int = subprocess.PIPE) -> subprocess.Popen:
    """Run code in a fresh interpreter that finds the tiny zoo below ``here``'s parent."""
    find = f"""
import importlib, pathlib, sys
from ebm_zoo.cli import main
module = importlib.import_module("ebm_zoo.zoo.catalog")
module.resource = lambda name: pathlib.Path({str(Path.cwd().parent / "zoo")!r}, name)
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", find + code]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("command", [["list"], ["info", NAME], ["--help"], ["--version"]])
def test_listing_commands_do_not_import_torch(model, command):
    code = f"""
try:
    main({command!r})
finally:
    heavy = {{"torch", "lightning", "numpy"}} & set(sys.modules)
    if heavy:
        sys.exit(f"imported {{heavy}}")
"""
    process = python(code)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out


@pytest.mark.parametrize("lines", [1, 10_000], ids=["little", "much"])
def test_a_reader_that_goes_away_ends_a_listing_quietly(model, lines):
    code = f"""
from ebm_zoo.cli import show
show.list_command = lambda **_: print("line\\n" * {lines}) or 0
sys.exit(main(["list"]))
"""
    reader, writer = os.pipe()
    os.close(reader)
    process = python(code, writer)
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (1, "")


def test_help_names_every_command():
    text = done("--help")
    for command in ("fit", "validate", "test", "predict", "list", "info", "sample", "apply", "verify"):
        assert f"\n    {command} " in text


def test_version():
    assert done("--version") == f"ebm-zoo {__version__}\n"


def test_list_shows_name_parameters_and_first_figure(model):
    (line,) = done("list").splitlines()
    count = sum(p.numel() for p in model.parameters())
    assert line.split()[:4] == [NAME, f"{count:,}", "frechet_distance", "1.5"]
    assert done("list", "*tiny*") == done("list")
    assert done("list", "*digits*") == ""


def test_list_as_json_holds_the_whole_entry(model):
    (item,) = json.loads(done("list", "--json"))
    assert item == json.loads(done("info", NAME, "--json"))
    assert item["name"] == NAME and item["metrics"][0]["paper"] == 2.25


def test_info_tells_all_that_is_recorded(model):
    text = done("info", NAME)
    recorded = catalog()[NAME]
    for part in (*recorded.tasks, recorded.paper.title, recorded.data.terms, recorded.weights.sha256, "1 x 8 x 8"):
        assert part in text
    assert "frechet_distance 1.5 (paper: 2.25)" in text and "made_up_figure 3.00 ± 0.12\n" in text
    assert "; seed 0; a core" in text and "; mean and spread of seeds 0 to 4; a core" in text


# sample


def test_sample_writes_what_the_model_draws(model):
    done("sample", NAME, "--n", 5, "--out", "a.npy", "--seed", 3)
    found = np.load("a.npy")
    assert found.shape == (5, *SHAPE) and found.dtype == np.float32
    expected = model.sample(5, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(torch.from_numpy(found), expected)


def test_sample_is_repeatable_and_seeds_differ(model):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done("sample", NAME, "--n", 2, "--out", f"{name}.npz", "--seed", seed)
    a, b, c = (from_archive(f"{name}.npz", "samples") for name in "abc")
    assert (a == b).all() and (a != c).any()


def test_sample_steps_and_size_reach_the_model(model):
    done("sample", NAME, "--n", 2, "--out", "a.npy", "--steps", 0, "--size", 12)
    start_of_chains = model.noise(torch.empty(2, 1, 12, 12), torch.Generator().manual_seed(0))
    assert (np.load("a.npy") == start_of_chains.numpy()).all()


def test_sample_grid_is_a_picture_of_all_samples(model, here):
    done("sample", NAME, "--n", 20, "--out", "new/folder/grid.png")
    # 8 columns of 8 pixels, enlarged 7 times, 2 between
    assert size("new/folder/grid.png") == (8 * 58 + 2, 3 * 58 + 2)
    assert [path.name for path in Path("new/folder").iterdir()] == ["grid.png"]


def test_more_samples_than_a_batch_are_all_drawn_anew(model):
    done("sample", NAME, "--n", 230, "--out", "a.npy", "--steps", 0)
    assert len(np.unique(np.load("a.npy").reshape(230, -1), axis=0)) == 230


# apply


def test_energies_have_the_file_names(model):
    folder = image_folder(Path("images"), 3)
    done("apply", NAME, "energy", "--input", folder, "--out", "energy.csv")
    rows = list(csv.reader(Path("energy.csv").read_text().splitlines()))
    assert rows[0] == ["image", "energy"] and [row[0] for row in rows[1:]] == ["000.png", "001.png", "002.png"]
    expected = model.energy(torch.from_numpy(draw(3)).float() / 255 * 2 - 1)
    torch.testing.assert_close(torch.tensor([float(row[1]) for row in rows[1:]]), expected.detach())


def test_energies_of_arrays_as_arrays(model):
    x = np.random.default_rng(0).uniform(-1, 1, (3, *SHAPE))  # float64, as NumPy makes them
    expected = model.energy(torch.from_numpy(x).float()).detach().numpy()
    np.save("x.npy", x.astype(">f8"))
    done("apply", NAME, "energy", "--input", "x.npy", "--out", "energy.npy")
    done("apply", NAME, "energy", "--input", "x.npy", "--out", "energy.npz")
    np.testing.assert_allclose(np.load("energy.npy"), expected, rtol=1e-5)
    np.testing.assert_allclose(from_archive("energy.npz", "energy"), expected, rtol=1e-5)
    np.save("one.npy", x[0])
    done("apply", NAME, "energy", "--input", "one.npy", "--out", "one_energy.npy")
    np.testing.assert_allclose(np.load("one_energy.npy"), expected[:1], rtol=1e-5)


def test_sixteen_bit_images_are_scaled_not_clipped(model):
    pixels = draw(1)[0]
    picture(Path("a/8.png"), pixels)
    Image.fromarray(pixels[0].astype(np.uint16) * 257).save("a/16.png")
    done("apply", NAME, "energy", "--input", "a", "--out", "energy.npy")
    sixteen, eight = np.load("energy.npy")
    assert sixteen == eight


def test_inpaint_keeps_the_known_pixels_of_a_mask(model):
    pixels = draw(2)
    image_folder(Path("images"), 2)
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[..., :4] = 255
    picture(Path("mask.png"), mask)
    np.save("mask.npy", mask)
    for name in ("mask.png", "mask.npy"):
        done("apply", NAME, "inpaint", "--input", "images", "--mask", name, "--out", "a.npy")
        answer = np.load("a.npy")
        given = pixels.astype(np.float32) / 255 * 2 - 1
        assert np.abs(answer - given)[..., :4].max() < 1e-6
        assert np.abs(answer - given)[..., 4:].mean() > 0.1


def test_inpaint_takes_transparent_pixels_as_unknown(tmp_path):
    saved_model(tmp_path / "grey")
    grey = draw(1)[0]
    alpha = np.full((8, 8), 255, np.uint8)
    alpha[:3] = 0
    Image.merge("LA", [Image.fromarray(grey[0]), Image.fromarray(alpha)]).save("a.png")
    done("apply", tmp_path / "grey", "inpaint", "--input", "a.png", "--out", "b.npy", "--steps", 2)
    difference = np.abs(np.load("b.npy")[0, 0] - (grey[0].astype(np.float32) / 255 * 2 - 1))
    assert difference[3:].max() < 1e-6 and difference[:3].mean() > 0.1


def masks() -> dict[str, Image.Image]:
    """A mask whose upper half is known, as people draw and save it."""
    known = np.zeros((8, 8), np.uint8)
    known[:4] = 1
    zero = np.zeros_like(known)
    turned = Image.Exif()
    turned[0x0112] = 3
    Image.fromarray(known[::-1].copy() * 255).save("turned.png", exif=turned)
    palette = Image.fromarray(known, "P")
    palette.putpalette([0, 0, 0, 255, 255, 255])
    return {
        "white": Image.fromarray(known * 255),
        "two_colours": Image.fromarray(known.astype(bool)),
        "palette": palette,
        "turned": Image.open("turned.png"),
        "opaque_ink": Image.fromarray(np.dstack([zero, zero, zero, known * 255])),
        "opaque_grey": Image.fromarray(np.dstack([zero, known * 255])),
        "white_without_transparency": Image.fromarray(np.dstack([known * 255] * 3 + [zero + 255])),
        "zero_one": Image.fromarray(known),
        "zero_one_colours": Image.fromarray(np.dstack([known] * 3)),
        "zero_one_deep": Image.fromarray(known.astype(np.uint16)),
        "deep": Image.fromarray(known.astype(np.uint16) * 65535),
    }


def test_masks_are_read_as_they_were_drawn(model):
    picture(Path("x.png"), draw(1)[0])
    given = draw(1)[0, 0].astype(np.float32) / 255 * 2 - 1
    for name, mask in masks().items():
        mask.save("mask.png", exif=mask.getexif())
        done("apply", NAME, "inpaint", "--input", "x.png", "--mask", "mask.png", "--out", "a.npy")
        difference = np.abs(np.load("a.npy")[0, 0] - given)
        assert difference[:4].max() < 1e-6 and difference[4:].mean() > 0.1, name


def test_file_names_that_are_no_utf_8_can_be_found_again(model):
    picture(Path("images/a.png"), draw(1)[0])
    Path("images/a.png").rename(Path(os.fsdecode(b"images/caf\xe9.png")))
    picture(Path("images/caf\u00e8.png"), draw(2)[1])
    done("apply", NAME, "energy", "--input", "images", "--out", "energy.csv")
    rows = list(csv.reader(Path("energy.csv").read_text(encoding="utf-8").splitlines()))
    energies = model.energy(torch.from_numpy(draw(2)).float() / 255 * 2 - 1).tolist()
    assert {name: float(value) for name, value in rows[1:]} == {
        "caf\\xe9.png": pytest.approx(energies[0], rel=1e-5),
        "caf\u00e8.png": pytest.approx(energies[1], rel=1e-5),
    }
    out = os.fsdecode(b"caf\xe9.npy")
    text = done("sample", NAME, "--n", 1, "--out", out)
    assert text.encode() and Path(out).is_file()


def test_what_systems_leave_in_a_folder_is_passed_over(model):
    image_folder(Path("images"), 2)
    Path("images/000.png").rename("images/000.PNG")
    for name in ("Thumbs.db", ".DS_Store", "desktop.ini"):
        Path("images", name).write_bytes(b"x")
    done("apply", NAME, "energy", "--input", "images", "--out", "energy.csv")
    assert [line.split(",")[0] for line in Path("energy.csv").read_text().splitlines()] == [
        "image",
        "000.PNG",
        "001.png",
    ]


def test_samples_in_archives_are_taken_back(model):
    done("sample", NAME, "--n", 3, "--out", "a.npz")
    done("apply", NAME, "energy", "--input", "a.npz", "--out", "energy.npz")
    expected = model.energy(torch.from_numpy(from_archive("a.npz", "samples"))).detach().numpy()
    np.testing.assert_allclose(from_archive("energy.npz", "energy"), expected, rtol=1e-5)
    np.savez("more.npz", samples=from_archive("a.npz", "samples"), label=np.arange(3))
    done("apply", NAME, "energy", "--input", "more.npz", "--out", "energy.npy")
    np.testing.assert_allclose(np.load("energy.npy"), expected, rtol=1e-5)


def test_endings_in_capitals_are_the_same_kinds(model):
    done("sample", NAME, "--n", 2, "--out", "A.NPY")
    done("sample", NAME, "--n", 2, "--out", "A.NPZ")
    done("sample", NAME, "--n", 2, "--out", "A.PNG")
    assert (np.load("A.NPY") == from_archive("A.NPZ", "samples")).all() and size("A.PNG") == (2 * 58 + 2, 60)
    for name in ("A.NPY", "A.NPZ"):
        done("apply", NAME, "energy", "--input", name, "--out", "E.CSV")
        assert Path("E.CSV").read_text().startswith("image,energy\n")
    assert {path.name for path in Path.cwd().iterdir()} == {"A.NPY", "A.NPZ", "A.PNG", "E.CSV"}


def test_paths_begin_at_home(model, trained, monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    monkeypatch.setenv(VARIABLE, "")  # which --catalog sets
    shutil.copytree(trained.parent, "home/run")
    image_folder(Path("home/images"), 2)
    np.save("home/mask.npy", np.eye(8))
    done("export", "--ckpt_path", "~/run/last.ckpt", "--out", "~/model")
    done("sample", "~/model", "--n", 2, "--out", "~/new/x.npy")
    done("apply", "~/model", "inpaint", "--input", "~/images", "--mask", "~/mask.npy", "--out", "~/y.npz")
    done("apply", "~/model", "energy", "--input", "~/new/x.npy", "--out", "$HOME/e.csv")
    done("register", "~/model", "--name", "mine/first", "--catalog", "~/own/my.yaml")
    done("push", "~/model", "--repo", "user/x", "--dry-run")
    done("info", "mine/first", "--catalog", "~/own/my.yaml")
    assert [path.name for path in Path.cwd().iterdir()] == ["home"]
    assert {"model", "new", "y.npz", "e.csv", "own"} <= {path.name for path in Path("home").iterdir()}


def test_links_are_followed(model):
    Path("there").mkdir()
    Path("there/a.npy").write_bytes(b"old")
    Path("a.npy").symlink_to("there/a.npy")
    done("sample", NAME, "--n", 2, "--out", "a.npy")
    assert Path("a.npy").is_symlink() and np.load("there/a.npy").shape == (2, *SHAPE)


def test_inpaint_is_repeatable_and_seeds_differ(model):
    np.save("x.npy", np.zeros((1, *SHAPE), np.float32))
    np.save("mask.npy", np.eye(8))
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        done("apply", NAME, "inpaint", "--input", "x.npy", "--mask", "mask.npy", "--out", f"{name}.npy", "--seed", seed)
    a, b, c = (np.load(f"{name}.npy") for name in "abc")
    assert (a == b).all() and (a != c).any()


def test_reconstruct_and_interpolate(model):
    np.save("x.npy", draw(4).astype(np.float32) / 255 * 2 - 1)
    done("apply", NAME, "reconstruct", "--input", "x.npy", "--out", "a.npy", "--iterations", 3)
    x = torch.from_numpy(np.load("x.npy"))
    torch.testing.assert_close(torch.from_numpy(np.load("a.npy")), model.reconstruct(x, iterations=3))
    done("apply", NAME, "interpolate", "--input", "x.npy", "--out", "b.npy", "--n", 3, "--iterations", 2)
    walks = model.interpolate(x[::2], x[1::2], 3, iterations=2)
    torch.testing.assert_close(torch.from_numpy(np.load("b.npy")), walks.flatten(0, 1))
    done("apply", NAME, "interpolate", "--input", "x.npy", "--out", "b.png", "--n", 3, "--iterations", 1)
    assert size("b.png") == (3 * 58 + 2, 2 * 58 + 2)


def test_colour_images_reach_a_colour_model(tmp_path):
    from ebm_zoo.space import Space

    energy = ConvEnergy(3, ((6, 3, 1, 1), (1, 8, 1, 0)))
    model = saved_model(tmp_path / "colour", energy=energy, space=Space((3, 8, 8)))
    image_folder(Path("images"), 2, (3, 8, 8))
    done("apply", tmp_path / "colour", "energy", "--input", "images", "--out", "a.npy")
    expected = model.energy(torch.from_numpy(draw(2, (3, 8, 8))).float() / 255 * 2 - 1)
    np.testing.assert_allclose(np.load("a.npy"), expected.detach().numpy(), rtol=1e-5)


def test_classify_writes_classes(tmp_path):
    from ebm_zoo import save_pretrained
    from ebm_zoo.metrics import GreyClassifier
    from ebm_zoo.optim import Adam
    from ebm_zoo.space import Space

    classifier = Classifier(GreyClassifier(10, 4), Space((1, 28, 28), 0.0, 1.0), {"network": Adam()}).eval()
    save_pretrained(classifier, tmp_path / "classifier")
    image_folder(Path("images"), 5, (1, 28, 28))
    done("apply", tmp_path / "classifier", "classify", "--input", "images", "--out", "a.csv")
    rows = list(csv.reader(Path("a.csv").read_text().splitlines()))
    expected = classifier.classify(torch.from_numpy(draw(5, (1, 28, 28))).float() / 255)
    assert rows[0] == ["image", "classify"] and [int(row[1]) for row in rows[1:]] == expected.tolist()


# verify


def test_verify_names_what_it_checked(model):
    assert done("verify") == f"ok      {NAME}\n" == done("verify", NAME)


# fit, validate, test, predict


def test_fit_leaves_checkpoints_figures_pictures_and_its_configuration(trained):
    run = trained.parent.parent
    assert {path.name for path in trained.parent.iterdir()} == {"last.ckpt"}
    assert {"loss/energy", "energy/data", "energy/samples", "gradient_norm/energy"} <= figures(run).keys()
    assert size(run / "pictures" / "validation_0000002.png") == (6 * 58 + 2, 60)
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["model"]["init_args"]["penalty"] == 0.25 and config["trainer"]["max_epochs"] == 1
    assert config["trainer"]["inference_mode"] is False, "energies are differentiated in validation and test too"
    assert arguments(run)["penalty"] == 0.25
    assert GenerativeConvNet.load_from_checkpoint(trained).penalty == 0.25


def test_the_saved_configuration_repeats_the_run(trained):
    done("fit", "--config", trained.parent.parent / "config.yaml", "--trainer.logger.init_args.save_dir", "again")
    again = torch.load("again/lightning_logs/version_0/checkpoints/last.ckpt", weights_only=True)
    first = torch.load(trained, weights_only=True)
    for name, value in first["state_dict"].items():
        assert torch.equal(value, again["state_dict"][name]), name


def test_fit_goes_on_where_a_checkpoint_ends(trained, tmp_path):
    path = experiment(tmp_path / "tiny.yaml", tmp_path / "data")
    done("fit", "--config", path, "--ckpt_path", trained, "--trainer.max_epochs", 2)
    checkpoint = torch.load(newest_run() / "checkpoints/last.ckpt", weights_only=True)
    assert (checkpoint["epoch"], checkpoint["global_step"]) == (1, 4)


def test_the_best_checkpoint_is_that_of_the_smallest_figure(tmp_path):
    path = experiment(tmp_path / "tiny.yaml", tmp_path / "data")
    learn = ("--trainer.max_epochs", 3, "--model.init_args.optim.energy.lr", 0.03)
    done("fit", "--config", path, *learn, "--checkpoint.monitor", "frechet_distance")
    rows = csv.DictReader((newest_run() / "metrics.csv").read_text().splitlines())
    distances = [float(row["frechet_distance"]) for row in rows if row["frechet_distance"]]
    best = torch.load(newest_run() / "checkpoints/best.ckpt", weights_only=True)
    assert len(set(distances)) == 3
    assert best["epoch"] == distances.index(min(distances))
    assert torch.load(newest_run() / "checkpoints/last.ckpt", weights_only=True)["epoch"] == 2


DATA = ("--data", "ImageData", "--trainer.accelerator", "cpu", "--data.source")


@pytest.mark.parametrize("command", ["test", "validate", "predict"])
def test_a_checkpoint_alone_says_which_model_it_holds(trained, tmp_path, command):
    image_folder(tmp_path / "images")
    held_back = ("--data.validation", 4) if command == "validate" else ()
    done(command, "--ckpt_path", trained, *DATA, tmp_path / "images", *held_back)
    assert arguments(newest_run())["penalty"] == 0.25 and arguments(newest_run())["sample_steps"] == 4


@pytest.mark.parametrize("first", [True, False])
def test_options_win_over_what_a_checkpoint_holds(trained, tmp_path, first):
    option = ["--model.init_args.sample_steps", 2]
    checkpoint = ["--ckpt_path", trained]
    image_folder(tmp_path / "images")
    done("test", *(option + checkpoint if first else checkpoint + option), *DATA, tmp_path / "images")
    assert arguments(newest_run())["sample_steps"] == 2 and arguments(newest_run())["penalty"] == 0.25
    config = yaml.safe_load((newest_run() / "config.yaml").read_text())
    assert config["model"]["init_args"]["sample_steps"] == 2


def outlier_auroc(model, root: Path) -> float:
    """The figure of a model on the two test sets of a tiny zoo, by scikit-learn."""
    data = ImageData(str(root / "data/images"), batch_size=20, outliers=str(root / "data/outliers"))
    data.setup("test")
    inside, outside = (model.energy(next(iter(loader))).detach() for loader in data.test_dataloader())
    return roc_auc_score([0] * len(inside) + [1] * len(outside), torch.cat([inside, outside]))


def test_test_of_a_trained_model_prints_measured_beside_recorded(model, tmp_path):
    text = done("test", "--pretrained", NAME)
    logged = figures(newest_run())
    rows = {line.split()[0]: line.split()[1:] for line in text.partition(f"\n{NAME}\n")[2].splitlines()}
    assert rows["figure"] == ["measured", "recorded", "paper"]
    assert rows["frechet_distance"] == [f"{logged['frechet_distance']:.5g}", "1.5", "2.25"]
    assert rows["made_up_figure"] == ["-", "3.00", "±", "0.12", "-"]
    assert rows["outlier_auroc"] == [f"{logged['outlier_auroc']:.5g}", "-", "-"]
    assert (newest_run() / "pictures" / "test.png").is_file()
    # The energies are those of the trained weights.
    assert logged["outlier_auroc"] == pytest.approx(outlier_auroc(model, tmp_path / "zoo"), abs=1e-6)


def test_predict_of_a_trained_model_draws_its_samples(model):
    done("predict", "--pretrained", NAME, "--model.init_args.sample_steps", 0)
    assert arguments(newest_run())["sample_steps"] == 0
    assert sorted(p.name for p in (newest_run() / "pictures").iterdir()) == ["predict_00000.png", "predict_00001.png"]


def test_a_configuration_can_be_named_as_in_the_catalog(model):
    done("fit", "--config", NAME, "--trainer.max_steps", 1)
    assert torch.load(newest_run() / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 1


# As a process


def test_sample_from_a_shell(tmp_path, here):
    saved_model(tmp_path / "saved")
    with started("sample", tmp_path / "saved", "--n", 3, "--out", "a.npy", cwd=here) as process:
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, f"a.npy: 3 samples of {tmp_path / 'saved'}\n", "")
    assert zoo("sample", tmp_path / "saved", "--n", 3, "--out", "b.npy").code == 0
    np.testing.assert_allclose(np.load("a.npy"), np.load("b.npy"), atol=1e-5)
    assert from_pretrained(tmp_path / "saved").tasks == GenerativeConvNet.tasks
