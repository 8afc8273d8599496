"""Data with an index, with missing pixels, and without one class; the command line of models that infer z."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from sklearn.datasets import load_digits
from tiny import SHAPE, abp, images, latent_ebm
from zoo_helpers import done, refused

from benchmarks import latent_ebm as benchmark
from ebm_zoo import save_pretrained
from ebm_zoo.data import ImageData, IndexedImageData, LeftOutImageData
from ebm_zoo.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ready(data, stage=None):
    data.prepare_data()
    data.setup(stage)
    return data


# Data


def test_each_picture_tells_which_it_is():
    data, plain = (ready(kind("digits", batch_size=50)) for kind in (IndexedImageData, ImageData))
    pictures = torch.cat(list(plain.predict_dataloader()))
    for k, (x, known, index) in enumerate(data.test_dataloader()):
        assert torch.equal(x, pictures[index]) and torch.equal(index, torch.arange(50 * k, 50 * k + len(x)))
        assert known.dtype == torch.bool and known.shape == (len(x), 1, 8, 8) and known.all()
    whole = plain.train_dataloader().dataset
    x, _, index = next(iter(data.train_dataloader()))
    assert len(set(index.tolist())) == 50 and torch.equal(x, whole.__getitems__(index.tolist()))


def test_missing_pixels_belong_to_a_picture():
    data, plain = (ready(IndexedImageData("digits", missing=missing, validation=9)) for missing in (0.6, 0.0))
    again = ready(IndexedImageData("digits", missing=0.6))
    numbers = list(range(200))
    x, known, _ = data.train_dataloader().dataset.__getitems__(numbers)
    truth = plain.train_dataloader().dataset.__getitems__(numbers)[0]
    assert torch.equal(known, again.train_dataloader().dataset.__getitems__(numbers)[1])
    assert torch.equal(x, torch.where(known, truth, 0.0))
    assert known.float().mean() == pytest.approx(0.4, abs=0.02) and not torch.equal(known[0], known[1])
    one = data.train_dataloader().dataset[7]
    assert torch.equal(one[0], x[7]) and torch.equal(one[1], known[7]) and one[2] == 7
    # What is validated and tested is whole, so that recovery can be measured.
    for loader, other in (
        (data.val_dataloader(), plain.val_dataloader()),
        (data.test_dataloader(), plain.test_dataloader()),
    ):
        (x, known, _), (truth, *_) = next(iter(loader)), next(iter(other))
        assert torch.equal(x, truth) and not known.all()


def test_one_pixel_is_always_known():
    data = ready(IndexedImageData("digits", missing=0.999))
    known = data.train_dataloader().dataset.__getitems__(list(range(300)))[1]
    assert known.flatten(1).any(1).all() and (known.flatten(1).sum(1) == 1).any()


def test_a_class_is_left_out():
    data = ready(LeftOutImageData("digits", left_out=4, batch_size=2000))
    labels, pixels = load_digits().target, load_digits().images
    stored = torch.from_numpy(pixels).mul(255 / 16).round().float().div(255).mul(2).sub(1)[:, None]
    dataset = data.train_dataloader().dataset
    assert torch.equal(dataset.__getitems__(list(range(len(dataset)))), stored[:1500][labels[:1500] != 4])
    inside, outside = (torch.cat(list(loader)) for loader in data.test_dataloader())
    assert torch.equal(inside, stored[1500:][labels[1500:] != 4])
    assert torch.equal(outside, stored[1500:][labels[1500:] == 4])


def test_files_of_a_class_are_left_out(tmp_path):
    from zoo_helpers import image_folder

    for split in ("train", "test"):
        for k, label in enumerate("abc"):
            image_folder(tmp_path / "set" / split / label, 2, seed=k)
    data = ready(LeftOutImageData(str(tmp_path / "set"), left_out=1))
    whole = ready(ImageData(str(tmp_path / "set")))
    expected = torch.cat(list(whole.predict_dataloader()))
    inside, outside = (torch.cat(list(loader)) for loader in data.test_dataloader())
    assert torch.equal(inside, expected[[0, 1, 4, 5]]) and torch.equal(outside, expected[2:4])


@pytest.mark.parametrize(("make", "kind", "says"), [
    (lambda: LeftOutImageData("digits", left_out=-1), ConfigError, "left_out is -1"),
    (lambda: ready(LeftOutImageData("digits", left_out=10), "fit"), DataError, "0 of 1500 pictures in class 10"),
    (lambda: IndexedImageData("digits", missing=1.0), ConfigError, "missing is 1.0"),
    (lambda: IndexedImageData("digits", missing=-0.1), ConfigError, "missing is -0.1"),
])  # fmt: skip
def test_settings_that_do_not_fit(make, kind, says):
    with pytest.raises(kind, match=says):
        make()


EXPERIMENT = """
model:
  class_path: ebm_zoo.models.LatentEBM
  init_args:
    prior: {class_path: ebm_zoo.networks.LatentEnergy, init_args: {latent_dim: 4, widths: [8]}}
    generator:
      class_path: ebm_zoo.networks.GaussianOutput
      init_args:
        generator:
          class_path: ebm_zoo.networks.ConvGenerator
          init_args: {latent_dim: 4, layers: [[8, 4, 1, 0], [1, 4, 2, 1]]}
    space: {shape: [1, 8, 8]}
    prior_langevin: {steps: 3, step_size: 0.4}
    posterior_langevin: {steps: 3, step_size: 0.1}
    optim: {prior: {lr: 1.0e-3}, generator: {lr: 1.0e-3}}
data:
  class_path: ebm_zoo.data.LeftOutImageData
  init_args: {source: digits, left_out: 3, batch_size: 50}
trainer:
  accelerator: cpu
  max_steps: 2
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: ebm_zoo.callbacks.AnomalyScore
"""


def test_an_anomaly_detector_is_measured_through_the_command_line():
    Path("one.yaml").write_text(EXPERIMENT)
    done("fit", "--config", "one.yaml", "--checkpoint.every_n_epochs", 1)
    (checkpoint,) = Path("runs").rglob("last.ckpt")
    done("test", "--config", "one.yaml", "--ckpt_path", checkpoint)
    (metrics,) = [path for path in Path("runs").rglob("metrics.csv") if "outlier" in path.read_text()]
    names = set(metrics.read_text().splitlines()[0].split(","))
    kinds = {f"{prefix}outlier_{name}" for prefix in ("", "reconstruction_", "prior_") for name in ("auroc", "auprc")}
    assert names >= kinds | {"reconstruction_error"}


# The command line


@pytest.mark.parametrize("make", [latent_ebm, abp])
def test_tasks_through_the_command_line(make):
    save_pretrained(model := make(infer_steps=3).eval(), "model")
    np.save("x.npy", images(4).numpy())
    np.save("m.npy", np.tri(8, dtype=bool))
    for task, expected in (
        ("infer", lambda: model.infer(images(4))),
        ("log_joint", lambda: model.log_joint(images(4))),
        ("latent_energy", lambda: model.latent_energy(images(4))),
        ("reconstruct", lambda: model.reconstruct(images(4))),
        ("interpolate", lambda: model.interpolate(images(4)[::2], images(4)[1::2], 3).flatten(0, 1)),
        ("inpaint", lambda: model.inpaint(images(4), torch.ones(8, 8).tril())),
    ):
        mask = ["--mask", "m.npy"] if task == "inpaint" else []
        done("apply", "model", task, "--input", "x.npy", *mask, "--n", 3, "--seed", 2, "--out", "y.npy")
        torch.manual_seed(2)
        np.testing.assert_allclose(np.load("y.npy"), expected().detach().numpy(), rtol=1e-4, atol=1e-5)
    done("apply", "model", "reconstruct", "--input", "x.npy", "--steps", 0, "--seed", 2, "--out", "y.npy")
    torch.manual_seed(2)
    np.testing.assert_allclose(np.load("y.npy"), model.reconstruct(images(4), steps=0).numpy(), atol=1e-5)


def test_samples_through_the_command_line():
    save_pretrained(model := latent_ebm().eval(), "model")
    done("sample", "model", "--n", 3, "--steps", 5, "--seed", 1, "--out", "x.npy")
    expected = model.sample(3, steps=5, generator=torch.Generator().manual_seed(1))
    assert np.array_equal(np.load("x.npy"), expected.numpy())
    np.save("x.npy", images(2).numpy())
    np.save("m.npy", np.zeros((8, 8), bool))
    inpaint = ("apply", "model", "inpaint", "--input", "x.npy", "--mask", "m.npy", "--out", "y.npy")
    refused(*inpaint, says=("leaves no pixel known",))
    assert np.load("x.npy").shape == (2, *SHAPE)


# The benchmark and the example


def test_the_benchmark_lets_both_take_part(capsys):
    benchmark.main(["--rounds", "1", "--prior-steps", "1", "--posterior-steps", "1"])
    rows = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == ["published page", "ours"]
    with pytest.raises(SystemExit):
        benchmark.main(["--rounds", "0"])
    assert "is below 1" in capsys.readouterr().err


def test_the_benchmark_has_the_settings_of_the_configuration():
    model, port, n = benchmark.pair(0, 0)
    config = yaml.safe_load(benchmark.config_path(benchmark.NAME).read_text())
    chains = [config["model"]["init_args"][f"{name}_langevin"] for name in ("prior", "posterior")]
    assert [(each["steps"], each["step_size"]) for each in chains] == [port.prior, port.posterior]
    assert (model.prior_langevin.steps, model.posterior_langevin.steps) == (port.prior[0], port.posterior[0])
    assert n == config["data"]["init_args"]["batch_size"] and port.sigma == model.generator.sigma


def test_the_toy_draws_its_picture(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "examples"))
    import latent_toy

    latent_toy.main(tmp_path, updates=1, n=200)
    with Image.open(tmp_path / "latent_toy.png") as picture:
        assert picture.size == (5 * (2 * latent_toy.SIDE + 2) + 2, 2 * (2 * latent_toy.SIDE + 2) + 2)
