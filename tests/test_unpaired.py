"""Two domains without pairs: what is read, how it is shuffled, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from tiny import cycle_coopnets, trainer
from torch.utils.data import DataLoader
from zoo_helpers import draw, idx_files, image_folder

from ebm_zoo.data import UnpairedImageData
from ebm_zoo.data.paired import outlines
from ebm_zoo.errors import ConfigError, DataError

BYTES = (0.0, 255.0)


def cyclegan(root: Path, counts: tuple[int, ...] = (5, 3, 3, 2), shape: tuple[int, int, int] = (3, 8, 8)) -> Path:
    """Folders in CycleGAN's layout."""
    for k, (name, count) in enumerate(zip(("trainA", "trainB", "testA", "testB"), counts, strict=True)):
        (root / name).mkdir(parents=True)
        image_folder(root / name, count, shape, seed=k)
    return root


def pixels(count: int, seed: int, shape: tuple[int, int, int] = (3, 8, 8)) -> torch.Tensor:
    return torch.from_numpy(draw(count, shape, seed)).float()


def ready(source: object, stage: str | None = None, **settings) -> UnpairedImageData:
    data = UnpairedImageData(source if isinstance(source, tuple) else str(source), value_range=BYTES, **settings)
    data.setup(stage)
    return data


def stored(data: UnpairedImageData) -> list[torch.Tensor]:
    """The training pictures of both domains in their stored order."""
    return [each.dataset.__getitems__(list(range(len(each.dataset)))) for each in data.train_dataloader().iterables]


def batches(loader) -> list[tuple]:
    """What a loader gives; Lightning's joint loader of two gives each batch with its number."""
    return [batch if isinstance(loader, DataLoader) else batch[0] for batch in loader]


def seen(parts: list[torch.Tensor]) -> list[float]:
    """What tells pictures apart, sorted."""
    return sorted(torch.cat(parts).flatten(1).sum(1).tolist())


def test_folders_of_cyclegan(tmp_path):
    data = ready(cyclegan(tmp_path))
    for found, (count, seed) in zip(stored(data), ((5, 0), (3, 1)), strict=True):
        assert torch.equal(found, pixels(count, seed))
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        a, b = zip(*batches(loader), strict=True)
        assert torch.equal(torch.cat(a), pixels(3, 2)) and torch.equal(torch.cat(b), pixels(2, 3))


def test_two_sources_are_brought_to_one_size(tmp_path, monkeypatch):
    monkeypatch.setenv("EBM_ZOO_DATA", str(tmp_path))
    idx_files(tmp_path, "MNIST")
    for split in ("train", "test"):
        image_folder(tmp_path / "usps" / split, 6, (1, 16, 16))
    data = UnpairedImageData(("MNIST", "$EBM_ZOO_DATA/usps"), size=16, batch_size=4)
    data.prepare_data()
    data.setup()
    assert [len(each.dataset) for each in data.train_dataloader().iterables] == [12, 6]
    a, b = batches(data.train_dataloader())[0]
    assert a.shape == b.shape == (4, 1, 16, 16)
    assert stored(data)[1].sub(torch.from_numpy(draw(6, (1, 16, 16))).float() / 127.5 - 1).abs().max() < 1e-6


def test_digits_and_outlines_of_other_digits():
    data = UnpairedImageData(batch_size=2000)
    data.setup()
    scans = (torch.from_numpy(load_digits().images) * 255 / 16).round().byte()[:, None]
    (a, b), ((test_a, test_b),) = stored(data), batches(data.test_dataloader())
    torch.testing.assert_close(a, scans[:1500:2].float() / 127.5 - 1)
    torch.testing.assert_close(b, outlines(scans[1:1500:2]).float() / 127.5 - 1)
    torch.testing.assert_close(test_b, outlines(scans[1500:]).float() / 127.5 - 1)
    assert len(test_a) == 297


def test_domains_are_shuffled_apart_and_the_smaller_one_begins_anew(tmp_path):
    data = ready(cyclegan(tmp_path, (12, 4, 1, 1)), batch_size=2)
    torch.manual_seed(0)
    epochs = [batches(data.train_dataloader()) for _ in range(2)]
    for epoch in epochs:
        a, b = zip(*epoch, strict=True)
        assert [len(x) for x in (*a, *b)] == [2] * 12
        assert seen(a) == seen([pixels(12, 0)])
        for k in (0, 2, 4):
            assert seen(b[k : k + 2]) == seen([pixels(4, 1)])
        assert any(not torch.equal(x, y) for x, y in zip(b[:2], b[2:4], strict=True)), (
            "the second round is shuffled too"
        )
    assert not torch.equal(epochs[0][0][0], epochs[1][0][0])
    torch.manual_seed(0)
    again = batches(data.train_dataloader())
    assert all(
        torch.equal(x, y) for one, two in zip(again, epochs[0], strict=True) for x, y in zip(one, two, strict=True)
    )


def test_each_test_picture_is_seen_once(tmp_path):
    data = ready(cyclegan(tmp_path, (1, 1, 5, 2)), "test", batch_size=2)
    a, b = zip(*batches(data.test_dataloader()), strict=True)
    assert [len(x) for x in a] == [2, 2, 1] and [None if x is None else len(x) for x in b] == [2, None, None]
    assert torch.equal(torch.cat(a), pixels(5, 2)) and torch.equal(b[0], pixels(2, 3))


def test_squares_are_cut_out_of_larger_pictures_in_training_alone(tmp_path):
    data = ready(cyclegan(tmp_path, (40, 3, 4, 2)), size=6, load_size=8)
    whole, (found, _) = pixels(40, 0), stored(data)
    assert found.shape == (40, 3, 6, 6)
    places = []
    for image, cut in zip(whole, found, strict=True):
        fits = [(y, x) for y in range(3) for x in range(3) if torch.equal(image[:, y : y + 6, x : x + 6], cut)]
        assert len(fits) == 1
        places += fits
    assert len(set(places)) == 9
    plain = ready(tmp_path, "test", size=6)
    for one, other in zip(batches(data.test_dataloader()), batches(plain.test_dataloader()), strict=True):
        assert torch.equal(one[0], other[0]) and one[0].shape == (4, 3, 6, 6)


def test_some_are_mirrored_in_training(tmp_path):
    data = ready(cyclegan(tmp_path, (100, 1, 2, 2)), flip=0.3)
    (found, _), plain = stored(data), pixels(100, 0)
    mirrored = (found != plain).flatten(1).any(1)
    assert 10 < mirrored.sum() < 50
    assert torch.equal(found[mirrored], plain[mirrored].flip(-1))
    assert torch.equal(torch.cat([a for a, _ in batches(data.test_dataloader())]), pixels(2, 2))


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_a_model_learns_and_is_tested_on_sets_of_different_size(tmp_path):
    data = UnpairedImageData(str(cyclegan(tmp_path, (9, 4, 5, 2), (1, 8, 8))), batch_size=2)
    run = trainer(max_epochs=2, inference_mode=False)
    run.fit(cycle_coopnets(), datamodule=data)
    assert run.global_step == 2 * 4
    run.test(cycle_coopnets(), datamodule=data, verbose=False)
    predicted = run.predict(cycle_coopnets(), datamodule=data)
    assert [len(answer["b_samples"]) for answer in predicted] == [2, 2, 1]
    assert [answer["a_samples"].shape[0] for answer in predicted if "a_samples" in answer] == [2]


# What is wrong


def refused(*says: str, **settings) -> None:
    with pytest.raises(DataError) as caught:
        ready(**settings)
    for each in says:
        assert each in str(caught.value)


@pytest.mark.parametrize("name", ["trainA", "testB"])
def test_an_empty_or_missing_folder_is_named(tmp_path, name):
    cyclegan(tmp_path)
    for path in (tmp_path / name).iterdir():
        path.unlink()
    refused(f"{tmp_path / name} has no images", source=tmp_path)
    (tmp_path / name).rmdir()
    refused(f"{tmp_path / name} has no images", source=tmp_path)


def test_domains_of_several_shapes(tmp_path):
    cyclegan(tmp_path)
    for k, path in enumerate(sorted((tmp_path / "trainB").iterdir())):
        Image.fromarray(draw(3, (1, 8, 8))[k, 0]).save(path)
    refused("first domain are (3, 8, 8)", "second (1, 8, 8)", "set size and channels", source=tmp_path)
    assert [x.shape[1] for x in stored(ready(tmp_path, "fit", channels=3))] == [3, 3]
    for path in (tmp_path / "trainB").iterdir():
        Image.fromarray(np.zeros((12, 8, 3), np.uint8)).save(path)
    refused("(3, 8, 8)", "(3, 12, 8)", source=tmp_path)
    assert [x.shape[2] for x in stored(ready(tmp_path, "fit", size=4))] == [4, 4]


def test_one_folder_of_several_sizes(tmp_path):
    cyclegan(tmp_path)
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "trainA" / "x.png")
    refused("x.png has 9 x 8 pixels", "set size", source=tmp_path)


@pytest.mark.parametrize("source", ["MNIST", "/no/such/folder"])
def test_unknown_source(source):
    with pytest.raises(DataError, match=f"'{source}' is neither a folder nor digits"):
        UnpairedImageData(source)
    with pytest.raises(DataError, match="'MNSIT' is neither .* Did you mean MNIST"):
        UnpairedImageData(("digits", "MNSIT"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("size", 0),
        ("load_size", 8),
        ("channels", 2),
        ("value_range", (1.0, -1.0)),
        ("batch_size", 0),
        ("flip", 1.5),
    ],
)
def test_arguments_out_of_range(key, value):
    with pytest.raises(ConfigError, match=f"{key} is "):
        UnpairedImageData("digits", **{key: value})
    with pytest.raises(ConfigError, match="load_size is 8 and size 9"):
        UnpairedImageData("digits", size=9, load_size=8)
