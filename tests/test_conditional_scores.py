"""Figures and pictures of models that answer to conditions."""

from pathlib import Path

import pytest
import torch
from lightning import Callback, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image
from tiny import (
    SHAPE,
    TinyData,
    classed,
    collate,
    convnet,
    coopnets,
    energy,
    images,
    labelled_coopnets,
    pairs,
    trainer,
    translating_coopnets,
)
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

from ebm_zoo.callbacks import GenerationScores, LabelScores, PairedScores, Pictures
from ebm_zoo.errors import ConfigError
from ebm_zoo.metrics import GreyClassifier, Pixels, frechet_distance, nearest_distance
from ebm_zoo.networks import PairedEnergy, UNetGenerator
from ebm_zoo.space import Classes, Space


class Seen(TinyData):
    """All data are test data, in batches of four."""

    def test_dataloader(self):
        return DataLoader(self.data, batch_size=4, collate_fn=collate)


class Told(LightningModule):
    """Answers what it is told, a batch at a time."""

    def __init__(self, space, **answers):
        super().__init__()
        self.space, self.told = space, answers

    def test_step(self, batch, batch_idx):
        part = slice(4 * batch_idx, 4 * batch_idx + 4)
        return {"real": batch[0], **{name: value[part] for name, value in self.told.items()}}


class Outputs(Callback):
    """Keeps what the test step returned."""

    def __init__(self):
        self.parts = {}

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        for name, value in outputs.items():
            self.parts.setdefault(name, []).append(value)

    def __getitem__(self, name):
        return torch.cat(self.parts[name])


def figures(model, data, *callbacks, **settings):
    """What a test run logs, and what the model returned."""
    outputs = Outputs()
    run = trainer(callbacks=[outputs, *callbacks], inference_mode=False, **settings)
    run.test(model, datamodule=data, verbose=False)
    return {name: float(value) for name, value in run.callback_metrics.items()}, outputs


# Classes


class Brightest(GreyClassifier):
    """The class of an image is the brightest of its pixels; these are its features, too."""

    def __init__(self, classes=3):
        super().__init__(classes, 1)
        self.head = nn.Identity()

    def forward(self, images):
        return images.flatten(1)


THREE = Space((1, 1, 3))
ASKED = torch.tensor([0] * 6 + [1] * 7 + [2] * 5)


def bright(*pixels: int) -> torch.Tensor:
    """Images of three pixels, one of which is bright, **(B, 1, 1, 3)**; no two are equal."""
    dim = 0.4 * torch.rand(len(pixels), 3) - 0.9
    return (dim + 1.4 * nn.functional.one_hot(torch.tensor(pixels), 3))[:, None, None]


def label_scores(real, samples, drafts, count=5000):
    model = Told(THREE, samples=samples, drafts=drafts, condition=ASKED)
    return figures(model, Seen((real, ASKED)), LabelScores(Brightest(), count))[0]


def test_label_scores_are_those_counted_by_hand():
    # The last test image looks like another class. Asked for class 0 or 2 the model copies the test images, asked
    # for class 1 it draws class 0. Its drafts are all of class 0.
    real = bright(*[0] * 6, *[1] * 7, *[2] * 4, 0)
    samples = torch.cat([real[:6], bright(*[0] * 7), real[13:]])
    found = label_scores(real, samples, bright(*[0] * 18))
    assert found == {
        "label_accuracy": pytest.approx(10 / 18),
        "draft_label_accuracy": pytest.approx(6 / 18),
        "real_label_accuracy": pytest.approx(17 / 18),
        # Copies of six images: each lies in the balls of all six, which hold five neighbours. Class 1 is missed; of
        # class 2 there are five images, too few.
        "class_density": pytest.approx((6 / 5 + 0) / 2),
        "class_coverage": pytest.approx((1 + 0) / 2),
    }


def test_label_scores_take_at_most_as_many_images_as_asked():
    real = bright(*ASKED.tolist())
    wrong = bright(*[0] * 6, *[2] * 12)
    found = label_scores(real, wrong, real, count=6)
    assert found["label_accuracy"] == 1 and found["class_coverage"] > 0
    found = label_scores(real, wrong, real, count=8)
    assert found["label_accuracy"] == pytest.approx(6 / 8)
    found = label_scores(real, wrong, real, count=5)
    assert found.keys() == {"label_accuracy", "draft_label_accuracy", "real_label_accuracy"}, "no class is large enough"
    with pytest.raises(ConfigError, match="1 or more samples, not 0"):
        LabelScores(Brightest(), samples=0)


def test_label_scores_of_a_model():
    found, outputs = figures(labelled_coopnets(), Seen(classed(30)), LabelScores(Brightest(64)))
    assert outputs["condition"].tolist() == [0, 1, 2] * 10
    for name, prefix in (("samples", ""), ("drafts", "draft_"), ("real", "real_")):
        right = outputs[name].flatten(1).argmax(1) == outputs["condition"]
        assert found[f"{prefix}label_accuracy"] == pytest.approx(right.float().mean().item())
    assert {"class_density", "class_coverage"} <= found.keys()


@pytest.mark.parametrize(("model", "data"), [(convnet, images), (coopnets, images), (translating_coopnets, pairs)])
def test_label_scores_need_classes(model, data):
    with pytest.raises(ConfigError, match="LabelScores needs a model that answers to classes: remove it"):
        figures(model(), Seen(data(8)), LabelScores(Brightest()))


def test_labels_of_any_whole_type_become_indices():
    for kind in (torch.uint8, torch.int32, torch.int64):
        found = Classes(3).check(torch.tensor([2, 0], dtype=kind))
        assert found.dtype == torch.int64 and found.tolist() == [2, 0]
    assert len(Classes(3).check(torch.tensor([], dtype=torch.int64))) == 0


# Pairs


def test_paired_scores_are_those_counted_by_hand():
    real = images(10) / 2
    model = Told(Space(SHAPE, -2.0, 2.0), samples=real + 0.2, drafts=real - 0.4, condition=-real)
    found, _ = figures(model, Seen((real, -real)), PairedScores())
    assert found == {
        "mean_absolute_error": pytest.approx(0.2 / 4),
        "draft_mean_absolute_error": pytest.approx(0.4 / 4),
        "mean_image_absolute_error": pytest.approx((real - real.mean(0)).abs().mean().item() / 4),
    }


@pytest.mark.parametrize(("model", "data"), [(convnet, images), (coopnets, images), (labelled_coopnets, classed)])
def test_paired_scores_need_translations(model, data):
    with pytest.raises(ConfigError, match="PairedScores needs a model that translates images: remove it"):
        figures(model(), Seen(data(8)), PairedScores())


# Drafts


@pytest.mark.parametrize("count", [5000, 12])
def test_generation_scores_with_labels_and_drafts(count):
    data = Seen(classed(30))
    found, outputs = figures(labelled_coopnets(), data, GenerationScores(Pixels(), count))
    real, drafts, samples = ((outputs[name][:count].flatten(1) + 1) / 2 for name in ("real", "drafts", "samples"))
    assert found["draft_frechet_distance"] == pytest.approx(float(frechet_distance(real, drafts)), rel=1e-5)
    assert found["frechet_distance"] == pytest.approx(float(frechet_distance(real, samples)), rel=1e-5)
    assert found["draft_frechet_distance"] != pytest.approx(found["frechet_distance"], rel=1e-3)
    # The training images are the test images.
    assert nearest_distance(outputs["samples"], images(30)).mean() > 0 and found["copy_ratio"] > 1e3


def test_there_is_no_draft_distance_without_drafts():
    found, _ = figures(convnet(), Seen(images(30)), GenerationScores(Pixels()))
    assert "frechet_distance" in found and "draft_frechet_distance" not in found


# Pictures


def tiles(path: Path, side: int = 8) -> torch.Tensor:
    """Rows and columns of a picture of images of 8 x 8, **(rows, columns, 3, 8, 8)** in [-1, 1]."""
    with Image.open(path) as image:
        pixels = pil_to_tensor(image).float() / 255 * 2 - 1
    step = 7 * side + 2
    assert pixels.shape[0] == 3 and all(length % step == 2 for length in pixels.shape[1:])
    rows = [
        torch.stack(
            [pixels[:, y + 2 : y + step : 7, x + 2 : x + step : 7] for x in range(0, pixels.shape[2] - 2, step)]
        )
        for y in range(0, pixels.shape[1] - 2, step)
    ]
    return torch.stack(rows)


def colour_to_grey():
    """A model that answers colour with grey."""
    return translating_coopnets(
        energy=PairedEnergy(energy(4)),
        generator=UNetGenerator((3, 1), (4, 4), latent_dim=2, groups=2),
        condition=Space((3, 8, 8)),
    )


@pytest.mark.parametrize(("settings", "columns"), [({}, 4), ({"columns": 3}, 3), ({"count": 2}, 2)])
def test_question_draft_solution_and_truth_stand_below_one_another(tmp_path, settings, columns):
    answers = images(10)
    questions = torch.cat([-answers, answers.flip(-1), answers.flip(-2)], 1)
    _, outputs = figures(colour_to_grey(), Seen((answers, questions)), Pictures(**settings), default_root_dir=tmp_path)
    found = tiles(tmp_path / "pictures" / "test.png")
    assert found.shape == (4, columns, 3, 8, 8)
    for row, name in zip(found, ("condition", "drafts", "samples", "real"), strict=True):
        expected = outputs[name][:columns].expand(-1, 3, -1, -1)
        torch.testing.assert_close(row, expected, atol=0.01, rtol=0)
    torch.testing.assert_close(found[0], questions[:columns], atol=0.01, rtol=0)


def translated(folder: Path, *callbacks, **settings):
    """A model trained on eight pairs in two epochs of two batches, in order."""
    torch.manual_seed(0)
    model = translating_coopnets()
    run = trainer(callbacks=list(callbacks), limit_val_batches=0, default_root_dir=folder, **settings)
    run.fit(model, datamodule=TinyData(pairs(8), shuffle=False))
    return model


def test_a_training_without_validation_draws_the_pairs_it_learns(tmp_path):
    drawn = translated(tmp_path, Pictures(), max_epochs=2)
    plain = translated(tmp_path, max_epochs=2)
    for ours, theirs in zip(drawn.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs), "pictures leave the run's random stream alone"
    paths = sorted((tmp_path / "pictures").iterdir())
    assert [path.name for path in paths] == ["train_0000002.png", "train_0000004.png"]
    answers, questions = (part[:4].expand(-1, 3, -1, -1) for part in pairs(8))
    first, second = map(tiles, paths)
    for found in (first, second):
        torch.testing.assert_close(found[0], questions, atol=0.01, rtol=0)
        torch.testing.assert_close(found[3], answers, atol=0.01, rtol=0)
    assert not torch.equal(first[1], second[1]) and not torch.equal(first[2], first[1])


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
def test_a_training_resumed_within_an_epoch_is_drawn(tmp_path):
    every = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    model = translated(tmp_path, every, max_epochs=1, enable_checkpointing=True)
    run = trainer(max_epochs=1, limit_val_batches=0, default_root_dir=tmp_path, callbacks=[Pictures()])
    run.fit(model, datamodule=TinyData(pairs(8), shuffle=False), ckpt_path=tmp_path / "step=1.ckpt", weights_only=False)
    assert tiles(tmp_path / "pictures" / "train_0000002.png").shape == (4, 4, 3, 8, 8)


def test_a_training_with_labels_draws_all_classes_in_turn(tmp_path):
    run = trainer(
        max_epochs=1, limit_val_batches=0, default_root_dir=tmp_path, callbacks=[Pictures(count=6, columns=3)]
    )
    model = labelled_coopnets()
    run.fit(model, datamodule=TinyData(classed(8)))
    found = tiles(tmp_path / "pictures" / "train_0000002.png")
    expected = model.sample(6, generator=torch.Generator().manual_seed(0)).expand(-1, 3, -1, -1)
    torch.testing.assert_close(found.flatten(0, 1), expected, atol=0.01, rtol=0)
