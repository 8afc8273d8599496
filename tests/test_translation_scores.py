"""Figures and pictures of translations between two domains."""

from collections.abc import Callable

import pytest
import torch
from lightning import Callback
from PIL import Image
from tiny import TinyData, clips, convnet, cycle_coopnets, domains, images, sequence_cycle, trainer
from torch import Tensor, nn

from ebm_zoo.callbacks import TranslationPictures, TranslationScores
from ebm_zoo.data import UnpairedImageData
from ebm_zoo.errors import ConfigError
from ebm_zoo.metrics import GreyClassifier, MnistClassifier, Pixels, UspsClassifier, frechet_distance


class Outputs(Callback):
    """Keeps what the test step returned."""

    def on_test_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.kept = {name: value.clone() for name, value in outputs.items()}


def figures(model, data, *callbacks, **settings) -> tuple[dict[str, float], dict[str, Tensor]]:
    """What a test run logs, and what the model returned."""
    outputs = Outputs()
    run = trainer(callbacks=[outputs, *callbacks], inference_mode=False, **settings)
    run.test(model, datamodule=data, verbose=False)
    return {name: float(value) for name, value in run.callback_metrics.items()}, outputs.kept


def pixels(x: Tensor) -> Tensor:
    return ((x + 1) / 2).clamp(0, 1).flatten(1)


def test_scores_of_images_are_those_of_the_functions():
    found, x = figures(cycle_coopnets(), TinyData(domains(12), batch_size=12), TranslationScores(Pixels(), Pixels()))
    expected = {}
    for source, target in ("ab", "ba"):
        way = source + target
        for prefix, name in (("untranslated_", source), ("draft_", f"{target}_drafts"), ("", f"{target}_samples")):
            expected[f"{way}_{prefix}frechet_distance"] = frechet_distance(pixels(x[target]), pixels(x[name])).item()
        expected[f"{way}_cycle_error"] = x[f"{target}_cycle"].mean().item() / 2
        expected[f"{way}_draft_cycle_error"] = x[f"{target}_draft_cycle"].mean().item() / 2
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_scores_take_at_most_as_many_images_as_asked():
    scores = TranslationScores(Pixels(), Pixels(), samples=5)
    found, x = figures(cycle_coopnets(), TinyData(domains(12), batch_size=12), scores)
    expected = frechet_distance(pixels(x["b"])[:5], pixels(x["b_samples"])[:5]).item()
    assert found["ab_frechet_distance"] == pytest.approx(expected, rel=1e-4)
    with pytest.raises(ConfigError, match="2 or more samples, not 1"):
        TranslationScores(Pixels(), Pixels(), samples=1)


def test_scores_of_clips_are_those_of_their_frames():
    found, x = figures(sequence_cycle(), TinyData(clips(4)), TranslationScores(Pixels(), Pixels()))
    frames = {name: value.flatten(0, 1) for name, value in x.items() if value.dim() == 5}
    expected = frechet_distance(pixels(frames["b"]), pixels(frames["b_samples"])).item()
    assert found["ab_frechet_distance"] == pytest.approx(expected, rel=1e-4)
    for name in ("next", "copy"):
        assert found[f"a_{name}_error"] == pytest.approx(x[f"a_{name}_error"].mean().item() / 2)


class Brightest(GreyClassifier):
    """The class of an image is the row of its brightest pixel."""

    def __init__(self):
        super().__init__(8, 1)
        self.head = nn.Identity()

    def forward(self, images):
        return images.amax((1, 3))


class Labelled(TinyData):
    """Two domains with classes."""

    def __init__(self, data, classes: Callable[[], object]):
        super().__init__(data, batch_size=len(data[0]))
        self.labels = classes


def test_accuracies_are_those_counted_by_hand():
    data = domains(10)
    labels = (torch.arange(10) % 8, torch.arange(10) // 2)
    scores = TranslationScores(Brightest(), Brightest())
    found, x = figures(cycle_coopnets(), Labelled(data, lambda: labels), scores)

    def right(name: str, classes: Tensor) -> float:
        return (x[name].amax((1, 3)).argmax(1) == classes).float().mean().item()

    for source, target, own, other in (("a", "b", *labels), ("b", "a", *labels[::-1])):
        assert found[f"{source}{target}_accuracy"] == pytest.approx(right(f"{target}_samples", own))
        assert found[f"{source}{target}_draft_accuracy"] == pytest.approx(right(f"{target}_drafts", own))
        assert found[f"{source}{target}_untranslated_accuracy"] == pytest.approx(right(source, own))
        assert found[f"{target}_accuracy"] == pytest.approx(right(target, other))
    mixed = figures(cycle_coopnets(), Labelled(data, lambda: labels), TranslationScores(Pixels(), Brightest()))[0]
    assert "ab_accuracy" in mixed and "ba_accuracy" not in mixed
    assert "ab_accuracy" not in figures(cycle_coopnets(), Labelled(data, lambda: None), scores)[0]
    assert "ab_accuracy" not in figures(cycle_coopnets(), TinyData(data, batch_size=10), scores)[0]


def test_classes_of_digits(tmp_path):
    from sklearn.datasets import load_digits

    data = UnpairedImageData("digits")
    for labels in data.labels():
        assert labels.tolist() == load_digits().target[-297:].tolist()
    for name in ("trainA", "trainB"):
        (tmp_path / name).mkdir()
    assert UnpairedImageData(str(tmp_path)).labels() is None
    first, second = UnpairedImageData(("digits", "digits")).labels()
    assert torch.equal(first, second) and len(first) == 297


@pytest.mark.parametrize("judge", [MnistClassifier, UspsClassifier])
def test_shipped_judges_see_images_of_16(judge):
    judge = judge()
    x = torch.rand(3, 1, 16, 16)
    assert judge(x).shape == (3, 64) and judge.logits(x).shape == (3, 10)
    assert not any(p.requires_grad for p in judge.parameters()) and not judge.training


def test_scores_need_translations():
    with pytest.raises(ConfigError, match="translates between two domains: remove it"):
        figures(convnet(), TinyData(images(4)), TranslationScores(Pixels(), Pixels()))


# Pictures


def test_rows_of_both_directions(tmp_path):
    model, data = cycle_coopnets(), domains(4)
    _, x = figures(model, TinyData(data), TranslationPictures(columns=3), default_root_dir=tmp_path)
    with Image.open(tmp_path / "pictures" / "test.png") as image:
        shown = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).view(
            *image.size[::-1], 3
        )
    assert shown.shape == (6 * 58 + 2, 3 * 58 + 2, 3)
    for k, name in enumerate(("a", "b_drafts", "b_samples", "b", "a_drafts", "a_samples")):
        for column in range(3):
            y, left = 2 + 58 * k, 2 + 58 * column
            tile = shown[y : y + 56 : 7, left : left + 56 : 7, 0].float() / 127.5 - 1
            torch.testing.assert_close(tile, x[name][column, 0], atol=0.01, rtol=0)


def test_a_training_draws_the_first_batch_of_an_epoch(tmp_path):
    def fitted(*callbacks):
        torch.manual_seed(0)
        run = trainer(max_epochs=2, limit_val_batches=0, default_root_dir=tmp_path, callbacks=list(callbacks))
        model = cycle_coopnets()
        run.fit(model, datamodule=TinyData(domains(8)))
        return model

    drawn, plain = fitted(TranslationPictures()), fitted()
    for ours, theirs in zip(drawn.parameters(), plain.parameters(), strict=True):
        assert torch.equal(ours, theirs), "pictures leave the run's random stream alone"
    assert [path.name for path in sorted((tmp_path / "pictures").iterdir())] == [
        "train_0000002.png",
        "train_0000004.png",
    ]
