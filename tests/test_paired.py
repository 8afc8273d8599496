"""Pairs of images: which belong together, and that they stay together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from ebm_zoo.data import MaskedImageData, PairedImageData
from ebm_zoo.data.paired import outlines
from ebm_zoo.errors import ConfigError, DataError

BYTES = (0.0, 255.0)


def pixels(seed: int, height: int = 4, width: int = 6, channels: int = 3) -> np.ndarray:
    """A repeatable picture, (H, W, C)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def save(path: Path, picture: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture.squeeze(-1) if picture.shape[-1] == 1 else picture).save(path)
    return picture


def write(root: Path, count: int = 3, split: str = "train", **shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Files of photographs and labels, and the tensors they should become."""
    photos = [save(root / split / "photo" / f"{i:03}.png", pixels(i, **shape)) for i in range(count)]
    labels = [save(root / split / "label" / f"{i:03}.png", pixels(100 + i, **shape)) for i in range(count)]
    return stacked(photos), stacked(labels)


def stacked(pictures: list[np.ndarray]) -> torch.Tensor:
    return torch.stack([torch.from_numpy(picture).permute(2, 0, 1) for picture in pictures]).float()


def ready(source: object, stage: str = "fit", **settings) -> PairedImageData:
    data = PairedImageData(str(source), **{"value_range": BYTES, **settings})
    data.setup(stage)
    return data


def training(data: PairedImageData) -> tuple[torch.Tensor, torch.Tensor]:
    """All training pairs in their stored order."""
    loader = data.train_dataloader()
    count = len(loader.dataset)
    # What is drawn depends on the place in the loader's own order.
    begin = next(iter(loader.order)) // count * count
    return loader.dataset.__getitems__(list(range(begin, begin + count)))


def joined(loader) -> tuple[torch.Tensor, torch.Tensor]:
    answers, questions = zip(*loader, strict=True)
    return torch.cat(answers), torch.cat(questions)


# What belongs together


def test_folders_are_paired_by_name_whatever_the_ending(tmp_path):
    for name, kinds in (("b", ("png", "png")), ("a", ("bmp", "PNG")), ("c.1", ("png", "tif"))):
        for folder, kind, seed in zip(("photo", "label"), kinds, (0, 100), strict=True):
            save(tmp_path / "train" / folder / f"{name}.{kind}", pixels(seed + ord(name[0])))
    save(tmp_path / "train" / "other" / "d.png", pixels(0))
    answers, questions = training(ready(tmp_path))
    assert torch.equal(answers, stacked([pixels(ord(c)) for c in "abc"]))
    assert torch.equal(questions, stacked([pixels(100 + ord(c)) for c in "abc"]))


def test_files_of_one_name_in_two_folders_below_are_two_pairs(tmp_path):
    for k, below in enumerate(("x", "y")):
        save(tmp_path / "train" / "photo" / below / "1.png", pixels(k))
        save(tmp_path / "train" / "label" / below / "1.png", pixels(100 + k))
    answers, questions = training(ready(tmp_path))
    assert torch.equal(answers, stacked([pixels(0), pixels(1)]))
    assert torch.equal(questions, stacked([pixels(100), pixels(101)]))


def test_folders_of_other_names_and_splits(tmp_path, monkeypatch):
    answer, question = (save(tmp_path / "test" / name / "1.png", pixels(k)) for k, name in enumerate("BA"))
    monkeypatch.setenv("PAIRS", str(tmp_path))
    data = ready("$PAIRS", "test", folders=("B", "A"))
    for loader in (data.test_dataloader(), data.predict_dataloader()):
        answers, questions = joined(loader)
        assert torch.equal(answers, stacked([answer])) and torch.equal(questions, stacked([question]))


@pytest.mark.parametrize("halves", [(0, 1), (1, 0)])
def test_pictures_side_by_side(tmp_path, halves):
    wide = [save(tmp_path / "train" / f"{i}.png", pixels(i, width=8)) for i in range(3)]
    left, right = (stacked([picture[:, part] for picture in wide]) for part in (slice(4), slice(4, None)))
    found = training(ready(tmp_path, halves=halves))
    assert torch.equal(found[halves[0]], left) and torch.equal(found[halves[1]], right)


def test_digits_are_asked_by_their_outlines():
    data = PairedImageData("digits", channels=(1, 1), batch_size=300)
    data.setup()
    scans = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
    (answers, questions), (tests, _) = training(data), joined(data.test_dataloader())
    torch.testing.assert_close(answers, scans[:1500], atol=0.005, rtol=0)
    torch.testing.assert_close(tests, scans[1500:], atol=0.005, rtol=0)
    assert set(questions.unique().tolist()) == {-1.0, 1.0}
    assert ((questions > 0) <= (answers > 0)).all(), "outlines lie on ink"
    assert 0.05 < (questions > 0).float().mean() < (answers > 0).float().mean()
    assert ready("digits", size=16, channels=(3, 1))._train[0][0].shape == (3, 16, 16)


def test_outline_of_a_square_is_its_border():
    square = torch.zeros(1, 1, 7, 7, dtype=torch.uint8)
    square[..., 1:6, 1:6] = 200
    border = torch.where(square > 0, 255, 0).byte()
    border[..., 2:5, 2:5] = 0
    assert torch.equal(outlines(square), border)


# What becomes of them


def test_range_of_values(tmp_path):
    save(tmp_path / "train" / "photo" / "1.png", np.array([[[0], [255]]], np.uint8))
    save(tmp_path / "train" / "label" / "1.png", np.array([[[51], [0]]], np.uint8))
    ((answer, question),) = ready(tmp_path, value_range=(-2.0, 3.0), channels=(1, 1)).train_dataloader()
    assert answer.dtype == question.dtype == torch.float32
    assert answer.tolist() == [[[[-2.0, 3.0]]]] and question.tolist() == [[[[-1.0, -2.0]]]]


def test_size_and_channels(tmp_path):
    save(tmp_path / "train" / "photo" / "1.png", pixels(0, 20, 30))
    save(tmp_path / "train" / "label" / "1.png", pixels(1, 10, 15, 1))
    save(tmp_path / "train" / "photo" / "2.png", pixels(2, 5, 5, 1))
    save(tmp_path / "train" / "label" / "2.png", pixels(3, 5, 5, 3))
    answers, questions = training(ready(tmp_path, size=10, channels=(3, 1)))
    assert answers.shape == (2, 3, 10, 10) and questions.shape == (2, 1, 10, 10)
    assert torch.equal(questions[0], stacked([pixels(1, 10, 15, 1)[:, 2:12]])[0]), "the centre is cut out"
    assert torch.equal(answers[1, 0], answers[1, 2]), "grey becomes RGB"


def test_validation_is_held_back_from_the_end(tmp_path):
    photos, labels = write(tmp_path, 5)
    assert ready(tmp_path).val_dataloader() == []
    data = ready(tmp_path, "validate", validation=2, batch_size=2, flip=1.0)
    answers, questions = joined(data.val_dataloader())
    assert torch.equal(answers, photos[3:]) and torch.equal(questions, labels[3:])
    assert torch.equal(training(data)[0], photos[:3].flip(-1))
    for held, says in ((0, "no pairs to validate on"), (5, "has 5 training pairs, of which .* holds back 5")):
        with pytest.raises(DataError, match=says):
            ready(tmp_path, "validate", validation=held)


def test_the_last_small_batch_is_dropped_in_training_alone(tmp_path):
    write(tmp_path, 5)
    write(tmp_path, 5, "test")
    data = ready(tmp_path, None, batch_size=2)
    assert [len(x) for x, _ in data.train_dataloader()] == [2, 2]
    assert [len(x) for x, _ in data.test_dataloader()] == [2, 2, 1]


# Augmentation


def test_both_are_mirrored_or_neither(tmp_path):
    photos, labels = write(tmp_path, 200, height=2, width=4)
    data = ready(tmp_path, flip=0.25)
    torch.manual_seed(3)
    first = training(data)
    flipped = (first[0] != photos).flatten(1).any(1)
    assert 0.15 < flipped.float().mean() < 0.35
    for found, plain in zip(first, (photos, labels), strict=True):
        expected = torch.where(flipped[:, None, None, None], plain.flip(-1), plain)
        assert torch.equal(found, expected)
    assert not torch.equal(training(data)[0], first[0])
    torch.manual_seed(3)
    assert torch.equal(training(data)[0], first[0])


def test_both_are_moved_together_and_edges_repeated(tmp_path):
    photos, labels = write(tmp_path, 60)
    found = training(ready(tmp_path, shift=1))
    moves = []
    for k in range(60):
        both = [torch.nn.functional.pad(plain[k], (1, 1, 1, 1), mode="replicate") for plain in (photos, labels)]
        fits = [
            (y, x)
            for y in range(3)
            for x in range(3)
            if all(torch.equal(f[k], b[:, y : y + 4, x : x + 6]) for f, b in zip(found, both, strict=True))
        ]
        assert len(fits) == 1, "one move explains both"
        moves += fits
    assert len(set(moves)) == 9


def test_tests_are_neither_mirrored_nor_moved(tmp_path):
    photos, labels = write(tmp_path, 4, "test")
    answers, questions = joined(ready(tmp_path, "test", flip=1.0, shift=2).test_dataloader())
    assert torch.equal(answers, photos) and torch.equal(questions, labels)


# What is wrong


def refused(source: object, *says: str, **settings) -> None:
    with pytest.raises(DataError) as caught:
        ready(source, **settings)
    for each in says:
        assert each in str(caught.value)


def test_files_without_partner_are_each_named(tmp_path):
    write(tmp_path, 2)
    save(tmp_path / "train" / "photo" / "x.png", pixels(0))
    save(tmp_path / "train" / "label" / "y.png", pixels(0))
    refused(tmp_path, str(Path("photo", "x.png")), str(Path("label", "y.png")), "add it, or remove these")
    for i in range(7):
        save(tmp_path / "train" / "photo" / f"z{i}.png", pixels(0))
    refused(tmp_path, "y.png", "z2.png and 4 more")


def test_a_missing_folder_is_named(tmp_path):
    write(tmp_path, 2)
    refused(tmp_path, str(Path("train", "labels")), "0.png", folders=("photo", "labels"))


def test_two_files_of_one_name_in_one_folder(tmp_path):
    write(tmp_path, 2)
    save(tmp_path / "train" / "label" / "001.bmp", pixels(0))
    refused(tmp_path, "1.bmp", "1.png", "remove one")


@pytest.mark.parametrize("folders", [(), ("photo", "label"), ("A", "B")])
def test_a_split_without_pairs(tmp_path, folders):
    for name in folders:
        (tmp_path / "train" / name).mkdir(parents=True)
        if name in "AB":
            save(tmp_path / "train" / name / "1.png", pixels(0))
    refused(tmp_path, f"{tmp_path / 'train'} has no pairs", "photo and label")


def test_a_corrupt_image_among_good_ones_is_named(tmp_path):
    write(tmp_path / "folders")
    for i in range(3):
        save(tmp_path / "halves" / "train" / f"{i}.png", pixels(i))
    for bad in (tmp_path / "folders" / "train" / "label" / "001.png", tmp_path / "halves" / "train" / "1.png"):
        bad.write_bytes(bad.read_bytes()[:40])
        refused(bad.parents[1] if "halves" in bad.parts else bad.parents[2], f"{bad} is not a readable image", size=4)


def test_an_odd_width_has_no_halves(tmp_path):
    save(tmp_path / "train" / "1.png", pixels(0, width=6))
    save(tmp_path / "train" / "2.png", pixels(0, width=7))
    refused(tmp_path, "2.png is 7 pixels wide")


def test_sizes_that_differ(tmp_path):
    write(tmp_path, 2)
    save(tmp_path / "train" / "photo" / "3.png", pixels(0, 8, 12))
    save(tmp_path / "train" / "label" / "3.png", pixels(0, 8, 12))
    refused(tmp_path, "3.png has 12 x 8 pixels, but those before it 6 x 4 pixels: set size")
    assert len(training(ready(tmp_path, size=4))[0]) == 3


def test_pairs_of_two_sizes(tmp_path):
    save(tmp_path / "train" / "photo" / "1.png", pixels(0, 8, 12))
    save(tmp_path / "train" / "label" / "1.png", pixels(0, 4, 6))
    refused(tmp_path, "1.png has 12 x 8 pixels and its partner 6 x 4 pixels: set size")
    ready(tmp_path, size=4)
    save(tmp_path / "train" / "label" / "1.png", pixels(0, 4, 4))
    refused(tmp_path, "its partner 4 x 4 pixels, which is another shape", size=4)


@pytest.mark.parametrize("source", ["MNIST", "/no/such/folder"])
def test_unknown_source(source):
    with pytest.raises(DataError, match=f"'{source}' is neither a folder nor digits"):
        PairedImageData(source)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("halves", (0, 0)),
        ("halves", (1, 2)),
        ("size", 0),
        ("channels", (3, 2)),
        ("value_range", (1.0, -1.0)),
        ("batch_size", 0),
        ("flip", 1.5),
        ("flip", -0.5),
        ("shift", -1),
        ("validation", -1),
    ],
)
def test_arguments_out_of_range(key, value):
    with pytest.raises(ConfigError, match=f"{key} is "):
        PairedImageData("digits", **{key: value})


# Pictures with holes


@pytest.mark.parametrize("hole", [1, 3, 8])
def test_holes_are_squares_in_the_middle_of_the_range(hole):
    data = MaskedImageData("digits", hole=hole, batch_size=50, validation=100)
    data.setup()
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    places = []
    for loader in loaders:
        images, holed = next(iter(loader))
        changed = (images != holed) | (holed == 0)
        assert (holed[changed] == 0).all() and torch.equal(images[~changed], holed[~changed])
        rows, columns = (changed[:, 0].sum(axis).amax(1) for axis in (1, 2))
        # Grey that was there before may touch the hole.
        assert (rows >= hole).all() and (columns >= hole).all()
        places.append(holed[:, 0] == 0)
    start = (8 - hole) // 2
    middle = slice(start, start + hole)
    assert all(place[:, middle, middle].all() for place in places[1:])
    assert places[0][:, middle, middle].all() == (hole == 8)


def test_holes_that_cannot_be_cut():
    with pytest.raises(ConfigError, match="at least 1 pixel"):
        MaskedImageData("digits", hole=0)
    with pytest.raises(DataError, match="hole is 9, but digits has 8 x 8"):
        MaskedImageData("digits", hole=9).setup()
