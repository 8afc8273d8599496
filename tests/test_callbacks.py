"""Figures, pictures and guards: the numbers are those of the functions, the pictures can be opened."""

from pathlib import Path

import pytest
import torch
from lightning import Callback
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score
from tiny import TinyData, convnet, images, trainer
from torch import nn
from torch.utils.data import DataLoader
from zoo_helpers import experiment, zoo

from ebm_zoo.callbacks import (
    AnomalyScore,
    Compile,
    DivergenceGuard,
    GenerationScores,
    Pictures,
    picture_grid,
    run_folder,
)
from ebm_zoo.cli import train
from ebm_zoo.errors import ConfigError, DataError, DivergenceError
from ebm_zoo.metrics import (
    GreyClassifier,
    Pixels,
    frechet_distance,
    kernel_distance,
    nearest_distance,
    precision_recall_density_coverage,
)
from ebm_zoo.networks import ConvEnergy
from ebm_zoo.samplers import FittedGaussian, Persistent

# Of Lightning, which asks newer torch for a class on its way out and advises more workers.
pytestmark = pytest.mark.filterwarnings("ignore:.*LeafSpec", "ignore:.*does not have many workers")


class Photographs(TinyData):
    """Test images that are not the training images, and outliers as a second set."""

    def __init__(self, data, outliers=None):
        super().__init__(data, batch_size=7)
        self.seen = images(30, seed=5)
        self.outliers = outliers

    def test_dataloader(self):
        loader = DataLoader(self.seen, 7)
        return loader if self.outliers is None else [loader, DataLoader(self.outliers, 5)]


class Outputs(Callback):
    """Keeps what the test step returned."""

    def __init__(self):
        self.parts = {}

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        for name, value in outputs.items():
            self.parts.setdefault((name, dataloader_idx), []).append(value)

    def all(self, name, loader=0):
        return torch.cat(self.parts[name, loader])


def figures(model, data, *callbacks):
    """What a test run logs, and what the model returned."""
    outputs = Outputs()
    run = trainer(callbacks=[outputs, *callbacks], inference_mode=False)
    run.test(model, datamodule=data, verbose=False)
    return {name: float(value) for name, value in run.callback_metrics.items()}, outputs


# Scores


def test_generation_scores_are_those_of_the_functions():
    data = Photographs(images(40))
    found, outputs = figures(convnet(), data, GenerationScores(Pixels()))
    real, fake = ((outputs.all(name).flatten(1) + 1) / 2 for name in ("real", "samples"))
    assert len(real) == len(fake) == 30
    # Distances to training images are taken in the model's range.
    near = [nearest_distance(outputs.all(name), data.data).mean() for name in ("samples", "real")]
    expected = {
        "frechet_distance": frechet_distance(real, fake),
        "kernel_distance": kernel_distance(real, fake, generator=torch.Generator().manual_seed(0)),
        **precision_recall_density_coverage(real, fake),
        "copy_ratio": near[0] / near[1],
    }
    assert found.keys() == {*expected, "gaussian_frechet_distance"}
    for name, value in expected.items():
        assert found[name] == pytest.approx(float(value), rel=1e-5, abs=1e-7), name


def test_the_gaussian_for_scale_is_fitted_to_the_training_images():
    data = Photographs(images(40))
    found, outputs = figures(convnet(), data, GenerationScores(Pixels()))
    noise = FittedGaussian((1, 8, 8), 64)
    noise.fit([data.data])
    real = (outputs.all("real").flatten(1) + 1) / 2
    draws = [frechet_distance(real, ((noise(torch.empty(30, 1, 8, 8)) + 1) / 2).flatten(1)) for _ in range(20)]
    assert min(draws) * 0.7 < found["gaussian_frechet_distance"] < max(draws) * 1.5
    assert max(draws) * 1.5 < found["frechet_distance"]


def test_copies_of_the_training_set_are_found():
    model = convnet()
    model.sample = lambda n, **_: images(40)[:n]
    found, _ = figures(model, Photographs(images(40)), GenerationScores(Pixels()))
    assert found["copy_ratio"] < 1e-3


def test_scores_take_at_most_as_many_images_as_asked():
    found, outputs = figures(convnet(), Photographs(images(40)), GenerationScores(Pixels(), samples=10))
    real, fake = ((outputs.all(name)[:10].flatten(1) + 1) / 2 for name in ("real", "samples"))
    assert found["frechet_distance"] == pytest.approx(float(frechet_distance(real, fake)), rel=1e-5)
    with pytest.raises(ConfigError, match="2 or more samples, not 1"):
        GenerationScores(Pixels(), samples=1)


class BrightOrDark(GreyClassifier):
    """Tells bright images from dark ones; a third class is never chosen."""

    forward = Pixels.forward

    def logits(self, x):
        mean = x.mean((1, 2, 3))
        return torch.stack([mean, 1 - mean, torch.full_like(mean, -1)], 1)[:, : self.classes]


def test_rarest_class_of_the_samples():
    assert figures(convnet(), Photographs(images(40)), GenerationScores(BrightOrDark(3)))[0]["rarest_class"] == 0
    found, outputs = figures(convnet(), Photographs(images(40)), GenerationScores(BrightOrDark(2)))
    dark = (outputs.all("samples").mean((1, 2, 3)) < 0).float().mean().item()
    assert 0 < dark < 1
    assert found["rarest_class"] == pytest.approx(min(dark, 1 - dark))


def test_too_few_images_for_scores_are_refused():
    with pytest.raises(DataError, match="k=5 neighbours cannot be found"):
        figures(convnet(), Photographs(images(40)), GenerationScores(Pixels(), samples=5))


@pytest.mark.parametrize("scale", [1.0, 1e6, 0.0], ids=["plain", "large", "tied"])
def test_anomaly_score_is_the_area_under_the_curve(scale, monkeypatch):
    # Rounded energies, many of them equal, far from [0, 1].
    monkeypatch.setattr(ConvEnergy, "forward", lambda self, x: scale * (10 * x.mean((1, 2, 3))).round())
    outliers = images(25, seed=9) + 0.3 * torch.rand(25, 1, 1, 1)
    data = Photographs(images(40), outliers.clamp(-1, 1))
    model = convnet()
    model.sample = lambda n, **_: images(n)
    found, outputs = figures(model, data, AnomalyScore())
    inside, outside = outputs.all("energy"), outputs.all("energy", 1)
    target, energy = [0] * len(inside) + [1] * len(outside), torch.cat([inside, outside])
    expected, precision = roc_auc_score(target, energy), average_precision_score(target, energy)
    assert len(outside) == 25 and (expected == 0.5 if scale == 0 else 0.55 < expected < 0.95)
    assert found == {
        "outlier_auroc": pytest.approx(expected, abs=1e-6),
        "outlier_auprc": pytest.approx(precision, abs=1e-6),
    }


def test_anomaly_score_needs_outliers_and_says_nothing_without():
    assert figures(convnet(), Photographs(images(40)), AnomalyScore())[0] == {}


def test_scores_start_anew_with_every_test():
    scores, data = GenerationScores(Pixels()), Photographs(images(40))
    figures(convnet(), data, scores)
    figures(convnet(), data, scores)
    assert sum(len(part) for part in scores.parts["real/0"]) == 30


# Pictures


def opened(path: Path) -> tuple[tuple[int, int], str]:
    with Image.open(path) as image:
        image.load()
        return image.size, image.mode


def test_grid_of_known_pixels():
    x = torch.tensor([-1.0, 1.0, 0.0]).view(3, 1, 1, 1).expand(3, 1, 2, 2)
    grid = picture_grid(x, -1.0, 1.0, columns=2, side=4)
    assert grid.shape == (3, 2 * 6 + 2, 2 * 6 + 2)
    assert (grid[:, 2:6, 2:6] == 0).all() and (grid[:, 2:6, 8:12] == 1).all() and (grid[:, 8:12, 2:6] == 0.5).all()
    assert (grid[:, :2] == 1).all(), "the frame is white"
    assert picture_grid(torch.full((1, 3, 100, 90), 7.0), 0.0, 1.0).shape == (3, 100, 90)


def test_pictures_of_every_loop_are_images(tmp_path):
    data = TinyData(images(8))
    run = trainer(callbacks=[Pictures(count=3, columns=2)], default_root_dir=tmp_path, max_epochs=2)
    model = convnet()
    run.fit(model, datamodule=data)
    run.validate(model, datamodule=data, verbose=False)
    run.test(model, datamodule=data, verbose=False)
    run.predict(model, datamodule=data)
    found = {path.name: opened(path) for path in (tmp_path / "pictures").iterdir()}
    names = ["validation_0000002.png", "validation_0000004.png", "test.png", "predict_00000.png"]
    assert found == dict.fromkeys(names, ((2 * 58 + 2, 2 * 58 + 2), "RGB"))


class Album(Logger):
    """A logger with `log_image`, as Weights & Biases has it."""

    name, version, save_dir = "album", "1", None

    def __init__(self):
        self.images = []

    def log_image(self, key, images, step):
        self.images.append((key, images[0], step))

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params, *args, **kwargs):
        pass


class Writer(Album):
    """A logger with a summary writer, as TensorBoard has it."""

    log_image = property()

    def __init__(self):
        super().__init__()
        self.experiment = self

    def add_image(self, tag, picture, step):
        self.images.append((tag, picture, step))


@pytest.mark.parametrize(("kind", "key"), [(Album, "pictures/validation"), (Writer, "validation")])
def test_pictures_reach_loggers_that_take_images(tmp_path, kind, key):
    logger = kind()
    run = trainer(callbacks=[Pictures(count=4)], logger=logger, default_root_dir=tmp_path, max_epochs=1)
    run.fit(convnet(), datamodule=TinyData(images(8)))
    ((found, picture, step),) = logger.images
    assert (found, step) == (key, 2)
    assert opened(tmp_path / "album" / "1" / "pictures" / "validation_0000002.png")[0] == (4 * 58 + 2, 60)
    assert picture.shape == (3, 60, 4 * 58 + 2)


def test_run_folder_is_found_without_waiting_for_other_ranks(tmp_path, monkeypatch):
    run = trainer(logger=CSVLogger(tmp_path, name="a", version=3), default_root_dir=tmp_path / "root")
    expected = Path(run.log_dir)
    # The folder is asked for by the first rank alone: a broadcast would never return.
    monkeypatch.setattr(run.strategy, "broadcast", lambda *_: pytest.fail("it waits for the other ranks"))
    assert run_folder(run) == expected == tmp_path / "a" / "version_3"
    assert run_folder(trainer(default_root_dir=tmp_path / "root")) == tmp_path / "root"


# Guards


def exploding(*values):
    """A model whose loss is what it is told, step by step."""
    model, told = convnet(), list(values)

    def losses(batch):
        value = told.pop(0) if told else 0.0
        return {"energy": 0 * model.energy(batch).sum() + value, "other": torch.zeros(())}

    model.losses = losses
    return model


@pytest.mark.parametrize(
    ("value", "limit", "says"),
    [
        (float("nan"), 1e4, "is nan at step 2 (limit 10000)"),
        (float("inf"), 1e4, "is inf at step 2"),
        (-2e4, 1e4, "is -20000 at step 2"),
        (51.0, 50.0, "is 51 at step 2 (limit 50)"),
    ],
)
def test_guard_says_which_loss_when_and_what_to_do(value, limit, says):
    run = trainer(callbacks=[DivergenceGuard(limit)], max_epochs=1)
    with pytest.raises(DivergenceError) as error:
        run.fit(exploding(1.0, value), datamodule=TinyData(images(16)))
    message = str(error.value)
    assert message.startswith("Training diverged: loss '") and says in message
    assert "No checkpoint had been written. Lower the learning rate or the step size" in message
    assert run.global_step == 2, "the run stops at once"


def test_guard_lets_healthy_losses_pass():
    run = trainer(callbacks=[DivergenceGuard(50.0)], max_epochs=1)
    run.fit(exploding(49.0, -49.0), datamodule=TinyData(images(16)))
    assert run.global_step == 4


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan")])
def test_guard_needs_a_limit(limit):
    with pytest.raises(ConfigError, match="limit > 0"):
        DivergenceGuard(limit)


def test_command_line_adds_guard_and_bar_unless_there_are_some(tmp_path, monkeypatch):
    path = experiment(tmp_path / "tiny.yaml", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    built = []
    monkeypatch.setattr(train.ZooCLI, "after_instantiate_classes", lambda cli: built.append(cli.trainer) or cli.nothing)
    bar = '{"class_path": "lightning.pytorch.callbacks.RichProgressBar", "init_args": {"refresh_rate": 7}}'
    guard = '{"class_path": "DivergenceGuard", "init_args": {"limit": 5}}'
    for callbacks in ([], ["--trainer.callbacks+", guard, "--trainer.callbacks+", bar]):
        with pytest.raises(AttributeError, match="nothing"):
            zoo("fit", "--config", path, "--trainer.enable_progress_bar", "true", *callbacks)
    for run, limit, own in zip(built, (1e4, 5), (False, True), strict=True):
        assert [each.limit for each in run.callbacks if isinstance(each, DivergenceGuard)] == [limit]
        assert [each.refresh_rate == 7 for each in run.callbacks if isinstance(each, RichProgressBar)] == [own]


# Compile


def test_compile_names_an_unknown_network():
    run = trainer(callbacks=[Compile(("generator",))], max_epochs=1)
    with pytest.raises(ConfigError, match="Compile: GenerativeConvNet has no network 'generator'"):
        run.fit(convnet(), datamodule=TinyData(images(8)))


def test_compile_compiles_the_named_networks_and_keeps_their_names(monkeypatch):
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda self: compiled.append(self))
    model = convnet()
    names = list(model.state_dict())
    trainer(callbacks=[Compile()], max_steps=1).fit(model, datamodule=TinyData(images(8)))
    assert compiled == [model.energy] and list(model.state_dict()) == names


def test_training_without_validation_is_drawn_and_left_alone(tmp_path):
    def fitted(callbacks: list) -> torch.Tensor:
        torch.manual_seed(0)
        model = convnet(chains=Persistent(size=16, refresh=0.3))
        run = trainer(max_epochs=2, limit_val_batches=0, default_root_dir=tmp_path, callbacks=callbacks)
        run.fit(model, datamodule=TinyData(images(8)))
        return model.energy.convolutions[0].weight

    assert torch.equal(fitted([Pictures(count=4, columns=4)]), fitted([]))
    drawn = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    assert len(drawn) == 2 and all(name.startswith("train_") for name in drawn)
