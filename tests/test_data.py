"""The data modules on tiny files of each format, offline."""

import pickle
import struct
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import scipy.io
import torch
import torchvision
from jsonargparse import ArgumentParser
from lightning.fabric.utilities.data import _replace_dunder_methods
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import RunningStage
from lightning.pytorch.utilities.data import _update_dataloader
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, DistributedSampler, SequentialSampler

from ebm_zoo.data import ImageData, TextureData, sources, tensors
from ebm_zoo.data.files import decode, stored_shape
from ebm_zoo.data.loading import TrainingLoader
from ebm_zoo.data.tensors import to_channels
from ebm_zoo.errors import ConfigError, DataError

SIZES = {"train": 7, "test": 5}


def random_pixels(count, height, width, channels):
    """Repeatable pictures (N, H, W, C)."""
    return np.random.default_rng(count).integers(0, 256, (count, height, width, channels), dtype=np.uint8)


def as_batch(pixels):
    """What ImageData should make of pictures (N, H, W, C) with its own range of values."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 * 2 - 1


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(path)


def save_all(folder, pixels):
    for i, each in enumerate(pixels):
        save(folder / f"{i:03}.png", each)


def write_idx(root, name):
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    pixels = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        n = SIZES[split]
        pixels[split] = random_pixels(n, 28, 28, 1)
        head = struct.pack(">IIII", 0x803, n, 28, 28)
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(head + pixels[split].tobytes())
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + bytes(n))
    return pixels


def write_cifar(root):
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    pixels = {"train": random_pixels(10, 32, 32, 3), "test": random_pixels(5, 32, 32, 3)}
    parts = {f"data_batch_{i + 1}": pixels["train"][2 * i : 2 * i + 2] for i in range(5)}
    for name, part in {**parts, "test_batch": pixels["test"]}.items():
        rows = part.transpose(0, 3, 1, 2).reshape(len(part), -1)
        (folder / name).write_bytes(pickle.dumps({"data": rows, "labels": [0] * len(part)}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": ["ship"]}))
    return pixels


def write_svhn(root):
    root.mkdir(parents=True)
    pixels = {split: random_pixels(n, 32, 32, 3) for split, n in SIZES.items()}
    for split, each in pixels.items():
        arrays = {"X": each.transpose(1, 2, 3, 0), "y": np.ones((len(each), 1), np.uint8)}
        scipy.io.savemat(root / f"{split}_32x32.mat", arrays)
    return pixels


def write_celeba(root):
    pixels = {split: random_pixels(n, 22, 18, 3) for split, n in SIZES.items()}
    rows = ["validation.jpg 1"]
    for part, split in ((0, "train"), (2, "test")):
        for i, each in enumerate(pixels[split]):
            # the pictures of CelebA end in jpg; Pillow goes by their content, and PNG keeps every pixel
            path = root / "celeba" / "img_align_celeba" / f"{split}{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(each).save(path, format="png")
            rows.append(f"{path.name} {part}")
    (root / "celeba" / "list_eval_partition.txt").write_text("\n".join(rows) + "\n")
    return pixels


WRITERS = {
    "MNIST": lambda root: write_idx(root, "MNIST"),
    "FashionMNIST": lambda root: write_idx(root, "FashionMNIST"),
    "CIFAR10": write_cifar,
    "SVHN": write_svhn,
    "CelebA": write_celeba,
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty root of the public sets, and no network."""

    def fail(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setenv("EBM_ZOO_DATA", str(tmp_path / "root"))
    monkeypatch.setattr("urllib.request.urlopen", fail)
    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", fail)
    # the checksums are those of the real files
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: Path(path).is_file())
    monkeypatch.setattr("torchvision.datasets.svhn.check_integrity", lambda path, md5=None: Path(path).is_file())
    return tmp_path / "root"


def ready(data, stage=None):
    data.prepare_data()
    data.setup(stage)
    return data


def whole(loader):
    return torch.cat(list(loader))


def training(data):
    """All training pictures in their stored order."""
    loader = data.train_dataloader()
    count = len(loader.dataset)
    # What is drawn depends on the place in the loader's own order.
    begin = next(iter(loader.order)) // count * count
    return loader.dataset.__getitems__(list(range(begin, begin + count)))


@pytest.mark.parametrize("name", WRITERS)
def test_public_set_is_read_to_the_pixel(name, root):
    pixels = WRITERS[name](root)
    data = ready(ImageData(name, batch_size=2))
    assert torch.allclose(training(data), as_batch(pixels["train"]), atol=1e-6)
    assert torch.allclose(whole(data.test_dataloader()), as_batch(pixels["test"]), atol=1e-6)
    assert data.shape == tuple(as_batch(pixels["test"]).shape[1:])


@pytest.mark.parametrize("name", WRITERS)
def test_missing_set_without_network_names_folder_and_files(name, root):
    folder, files = sources.PUBLIC_SETS[name]
    data = ImageData(name)
    with pytest.raises(DataError) as caught:
        data.prepare_data()
    assert caught.value.__suppress_context__
    assert "no route to host" in str(caught.value) or name.endswith("MNIST")
    assert str(root / folder) in str(caught.value)
    assert all(file in str(caught.value) for file in files)
    assert list(root.rglob("*")) == []
    with pytest.raises(DataError, match="prepare_data"):
        data.setup("fit")


def fake_download(fail):
    def fake(folder, download):
        assert download
        write_idx(Path(folder), "MNIST")
        (Path(folder) / "MNIST" / "raw" / "archive.gz").write_bytes(b"")
        if fail:
            raise EOFError

    return fake


def test_broken_download_leaves_nothing(root, monkeypatch):
    monkeypatch.setattr(torchvision.datasets, "MNIST", fake_download(fail=True))
    with pytest.raises(DataError, match="EOFError"):
        ImageData("MNIST").prepare_data()
    assert list(root.rglob("*")) == []


def test_download_adds_the_missing_files_and_keeps_the_others(root, monkeypatch):
    own = root / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"mine")
    monkeypatch.setattr(torchvision.datasets, "MNIST", fake_download(fail=False))
    ImageData("MNIST").prepare_data()
    assert sorted(path.name for path in root.rglob("*") if path.is_file()) == sorted(sources.IDX_FILES)
    assert own.read_bytes() == b"mine"


def test_svhn_downloads_both_splits(root, monkeypatch):
    def fake(folder, split, download):
        assert download
        Path(folder, f"{split}_32x32.mat").touch()

    monkeypatch.setattr(torchvision.datasets, "SVHN", fake)
    ImageData("SVHN").prepare_data()
    assert {path.name for path in root.iterdir()} == {"train_32x32.mat", "test_32x32.mat"}


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("MNIST", "MNIST/raw/train-images-idx3-ubyte"),
        ("CIFAR10", "cifar-10-batches-py/data_batch_2"),
        ("SVHN", "train_32x32.mat"),
        ("CelebA", "celeba/list_eval_partition.txt"),
    ],
)
def test_damaged_set(name, file, root):
    WRITERS[name](root)
    (root / file).write_bytes((root / file).read_bytes()[:15])
    with pytest.raises(DataError, match=f"{name} in .* is damaged"):
        ready(ImageData(name), "fit")


def test_set_without_pictures(root):
    write_celeba(root)
    (root / "celeba" / "list_eval_partition.txt").write_text("train0.jpg 0\n")
    with pytest.raises(DataError, match="test split of CelebA"):
        ready(ImageData("CelebA"), "test")


def test_root_of_the_public_sets(monkeypatch):
    monkeypatch.setenv("SOMEWHERE", "/far")
    monkeypatch.setenv("EBM_ZOO_DATA", "$SOMEWHERE/away")
    assert sources.data_root() == Path("/far/away")
    monkeypatch.delenv("EBM_ZOO_DATA")
    assert sources.data_root().parts[-1] == "data"
    assert "ebm_zoo" in sources.data_root().parts


def test_digits():
    data = ready(ImageData("digits"))
    scans = torch.from_numpy(load_digits().images).float()[:, None] / 8 - 1
    assert torch.allclose(training(data), scans[:1500], atol=0.5 / 127)
    assert torch.allclose(whole(data.test_dataloader()), scans[1500:], atol=0.5 / 127)
    assert training(data).aminmax() == (-1, 1)


def test_folder_with_splits(tmp_path):
    pixels = random_pixels(6, 4, 5, 3)
    save_all(tmp_path / "train" / "b", pixels[2:4])
    save_all(tmp_path / "train" / "a" / "deep", pixels[:2])
    save_all(tmp_path / "test", pixels[4:])
    save_all(tmp_path / "other", pixels)
    save_all(tmp_path / "train" / ".hidden", pixels)
    (tmp_path / "train" / "notes.txt").write_text("no picture")
    (tmp_path / "train" / "._000.png").write_bytes(b"no picture")
    data = ready(ImageData(str(tmp_path)))
    assert torch.allclose(training(data), as_batch(pixels[:4]), atol=1e-6)
    assert torch.allclose(whole(data.test_dataloader()), as_batch(pixels[4:]), atol=1e-6)


def test_folder_without_test_holds_back_every_tenth_file(tmp_path, monkeypatch):
    pixels = random_pixels(21, 4, 4, 1)
    for i in np.random.default_rng(0).permutation(21):
        save(tmp_path / f"{i:02}.PNG", pixels[i])
    monkeypatch.setenv("PICTURES", str(tmp_path))
    data = ready(ImageData("$PICTURES"))
    test = np.isin(np.arange(21), [9, 19])
    assert torch.allclose(whole(data.test_dataloader()), as_batch(pixels[test]), atol=1e-6)
    assert torch.allclose(training(data), as_batch(pixels[~test]), atol=1e-6)


def test_folder_with_test_only_trains_on_the_rest(tmp_path):
    pixels = random_pixels(5, 4, 4, 1)
    save_all(tmp_path / "test", pixels[:2])
    save_all(tmp_path / "class", pixels[2:])
    data = ready(ImageData(str(tmp_path)))
    assert torch.allclose(training(data), as_batch(pixels[2:]), atol=1e-6)
    assert torch.allclose(whole(data.test_dataloader()), as_batch(pixels[:2]), atol=1e-6)


def test_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match="has no train images"):
        ready(ImageData(str(tmp_path)), "fit")
    save_all(tmp_path, random_pixels(9, 2, 2, 1))
    with pytest.raises(DataError, match="has no test images"):
        ready(ImageData(str(tmp_path)), "test")


@pytest.mark.parametrize("settings", [{}, {"size": 4, "channels": 1}])
def test_corrupt_file_is_named(tmp_path, settings):
    save_all(tmp_path, random_pixels(3, 40, 40, 1))
    good = (tmp_path / "001.png").read_bytes()
    for bad in (b"nothing of a picture", good[: len(good) // 2], b""):
        (tmp_path / "001.png").write_bytes(bad)
        with pytest.raises(DataError, match=r"001\.png is not a readable image"):
            ready(ImageData(str(tmp_path), **settings), "fit")


def test_mixed_sizes_and_channels_are_named(tmp_path):
    for i, shape in enumerate([(6, 4, 1), (6, 4, 1), (3, 5, 3)]):
        save(tmp_path / f"{i}.png", random_pixels(1, *shape)[0])
    with pytest.raises(DataError, match=r"2\.png has 5 x 3 pixels, but .*0\.png has 4 x 6: set size"):
        ready(ImageData(str(tmp_path)), "fit")
    with pytest.raises(DataError, match=r"2\.png has 3 channels, but .*0\.png has 1: set channels"):
        ready(ImageData(str(tmp_path), size=3), "fit")
    assert ready(ImageData(str(tmp_path), size=3, channels=3), "fit").shape == (3, 3, 3)


def test_depth_of_pixels(tmp_path):
    save_all(tmp_path, random_pixels(1, 2, 2, 1))
    deep = np.array([[0, 65535], [32768, 255]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "000.png")
    data = ready(ImageData(str(tmp_path), value_range=(0.0, 255.0)), "fit")
    assert training(data).flatten().tolist() == [0, 255, 128, 0]
    Image.fromarray(deep.astype(np.float32)).save(tmp_path / "000.tif")
    with pytest.raises(DataError, match=r"000\.tif has pixels of kind 'F'"):
        ready(ImageData(str(tmp_path)), "fit")


def test_square_is_the_centre_of_the_resized_picture(tmp_path):
    pixels = np.zeros((1, 8, 24, 1), np.uint8)
    pixels[:, :, 8:16] = 255
    save_all(tmp_path, pixels)
    same = training(ready(ImageData(str(tmp_path), size=8), "fit"))
    assert same.shape == (1, 1, 8, 8)
    assert (same == 1).all()
    half = training(ready(ImageData(str(tmp_path), size=4), "fit"))
    assert half.shape == (1, 1, 4, 4)
    assert (half[..., 1:3] == 1).all()


def test_resizing_is_antialiased(tmp_path):
    stripes = np.tile(np.array([0, 0, 0, 255], np.uint8), (1, 64, 16))[..., None]
    save_all(tmp_path, stripes)
    small = training(ready(ImageData(str(tmp_path), size=8, value_range=(0.0, 1.0)), "fit"))
    assert (small - 0.25).abs().max() < 0.1


def test_channels_are_converted(tmp_path):
    colour = np.array([[[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]]], np.uint8)
    save_all(tmp_path, colour)
    grey = training(ready(ImageData(str(tmp_path), channels=1, value_range=(0.0, 1.0)), "fit"))
    assert torch.allclose(grey.flatten(), torch.tensor([0.299, 0.587, 0.114, 1]), atol=0.01)
    rgb = training(ready(ImageData("digits", channels=3), "fit"))
    assert torch.equal(rgb, training(ready(ImageData("digits"), "fit")).expand(-1, 3, -1, -1))


@pytest.mark.parametrize("wide", [np.uint8, np.uint16], ids=["8 bit", "16 bit"])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_pictures_are_turned_as_a_viewer_shows_them(tag, suffix, wide, tmp_path):
    if wide is np.uint16 and suffix in (".jpg", ".webp"):
        return
    pixels = np.zeros((16, 32), wide)
    pixels[:8, :8] = np.iinfo(wide).max
    exif = Image.Exif()
    exif[0x0112] = tag
    lossless = {"lossless": True} if suffix == ".webp" else {}
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}", exif=exif, **lossless)
    # The tag names where the first row and the first column are shown; the white corner is where they meet.
    first_row, first_column = ("TL", "TR", "BR", "BL", "LT", "RT", "RB", "LB")[tag - 1]
    wanted = np.zeros((32, 16) if first_row in "LR" else (16, 32))
    rows, columns = (slice(-8, None) if side in first_row + first_column else slice(8) for side in "BR")
    wanted[rows, columns] = 255
    found = decode(tmp_path / f"a{suffix}")
    assert found.shape[1:] == wanted.shape == stored_shape(tmp_path / f"a{suffix}")[1:]
    assert np.abs(found[0].numpy() - wanted).max() <= 3


def test_damaged_exif_tags_are_passed_over(tmp_path):
    pixels = random_pixels(1, 4, 6, 1)[0, ..., 0]
    for name, exif in (("a.png", b"Exif\0\0MM\0*\xff\xff\xff\xff"), ("b.png", b"nothing")):
        Image.fromarray(pixels).save(tmp_path / name, exif=exif)
        assert (decode(tmp_path / name)[0].numpy() == pixels).all() and stored_shape(tmp_path / name) == (1, 4, 6)


def test_grey_stored_as_colour_stays_as_it_is(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    save_all(tmp_path / "grey", grey)
    save_all(tmp_path / "colour", grey.repeat(3, -1))
    for name in ("grey", "colour"):
        data = ready(ImageData(str(tmp_path / name), channels=1, value_range=(0.0, 255.0)), "fit")
        assert training(data).flatten().tolist() == list(range(256))
    # The nearest whole number to 0.299 R + 0.587 G + 0.114 B, here 128.80 and 76.24.
    colours = torch.tensor([[100, 255], [151, 0], [90, 0]], dtype=torch.uint8)[:, None]
    assert to_channels(colours, 1).flatten().tolist() == [129, 76]


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
def test_range_is_met_exactly(value_range):
    data = ready(ImageData("digits", value_range=value_range), "fit")
    batch = next(iter(data.train_dataloader()))
    assert batch.dtype == torch.float32
    assert batch.shape == (64, *data.shape)
    assert training(data).aminmax() == value_range


def test_large_sets_are_read_lazily_with_equal_results(tmp_path, monkeypatch):
    save_all(tmp_path, random_pixels(12, 9, 7, 3))
    settings = [{"source": str(tmp_path), "size": 5}, {"source": "digits", "size": 12, "channels": 3}]
    kept = [ready(ImageData(**each, validation=2)) for each in settings]
    monkeypatch.setattr(tensors, "MEMORY_LIMIT", 100)
    for data, each in zip(kept, settings, strict=True):
        lazy = ready(ImageData(**each, validation=2))
        assert isinstance(lazy.train_dataloader().dataset.dataset.pixels, tensors.Lazy)
        assert torch.equal(training(lazy)[-20:], training(data)[-20:])
        assert torch.equal(whole(lazy.val_dataloader()), whole(data.val_dataloader()))
        assert lazy.shape == data.shape


def test_corrupt_file_of_a_lazy_set_is_named_from_a_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(tensors, "MEMORY_LIMIT", 0)
    save_all(tmp_path, random_pixels(4, 4, 4, 1))
    (tmp_path / "003.png").write_bytes(b"nothing of a picture")
    data = ready(ImageData(str(tmp_path), size=4, channels=1, workers=1), "fit")
    with pytest.raises(DataError, match=r"003\.png is not a readable image"):
        list(data.train_dataloader())


def test_validation_is_held_back_from_the_end():
    everything = training(ready(ImageData("digits"), "fit"))
    data = ready(ImageData("digits", validation=100, flip=1.0), "fit")
    assert torch.equal(whole(data.val_dataloader()), everything[-100:])
    assert torch.equal(training(data), everything[:-100].flip(-1))
    assert ready(ImageData("digits"), "fit").val_dataloader() == []


def test_validation_cannot_take_everything_or_nothing():
    with pytest.raises(DataError, match="1500 training pictures, of which validation holds back 1500"):
        ready(ImageData("digits", validation=1500), "fit")
    with pytest.raises(DataError, match="set validation"):
        ready(ImageData("digits"), "validate")


def test_flip_is_a_probability_and_repeatable():
    plain = training(ready(ImageData("digits"), "fit"))
    data = ready(ImageData("digits", flip=0.25))
    torch.manual_seed(3)
    first, second = training(data), training(data)
    flipped = (first != plain).flatten(1).any(1)
    assert torch.equal(first[flipped], plain[flipped].flip(-1))
    assert 0.2 < flipped.float().mean() < 0.3
    assert not torch.equal(first, second)
    torch.manual_seed(3)
    assert torch.equal(training(data), first)
    assert torch.equal(whole(data.test_dataloader()), whole(ready(ImageData("digits")).test_dataloader()))


def test_outliers_make_a_second_test_loader(root):
    pixels = write_idx(root, "MNIST")
    data = ready(ImageData("digits", size=28, outliers="MNIST"), "test")
    inliers, outliers = map(whole, data.test_dataloader())
    assert inliers.shape == (297, 1, 28, 28)
    assert torch.allclose(outliers, as_batch(pixels["test"]), atol=1e-6)
    assert torch.equal(whole(data.predict_dataloader()), inliers)
    with pytest.raises(DataError, match=r"MNIST are \(1, 28, 28\).* not \(1, 8, 8\): set size and channels"):
        ready(ImageData("digits", outliers="MNIST"), "test")


def test_missing_outliers_are_named_before_training(root):
    with pytest.raises(DataError, match="SVHN is not in"):
        ImageData("digits", outliers="SVHN").prepare_data()


def test_loaders_are_ordinary():
    data = ready(ImageData("digits", validation=10))
    train, test = data.train_dataloader(), data.test_dataloader()
    assert type(train) is TrainingLoader and type(test) is DataLoader
    assert isinstance(train.sampler, DistributedSampler), "Lightning would put one of its own in its place"
    assert [len(batch) for batch in train] == [64] * (1490 // 64)
    assert isinstance(test.sampler, SequentialSampler)
    assert sum(map(len, test)) == 297
    some = train.dataset.__getitems__([5, 2])
    assert torch.equal(some, torch.stack([train.dataset[5], train.dataset[2]]))


@pytest.mark.parametrize("data", [ImageData("digits", validation=10), TextureData(crop=32)], ids=["images", "texture"])
def test_lightning_can_replace_the_sampler(data):
    ready(data)
    with _replace_dunder_methods(DataLoader, "dataset"):  # as the Trainer does around the hooks
        loaders = {
            RunningStage.TESTING: data.test_dataloader(),
            RunningStage.PREDICTING: data.predict_dataloader(),
        }
    for mode, loader in loaders.items():
        sampler = DistributedSampler(loader.dataset, num_replicas=2, rank=1)
        replaced = _update_dataloader(loader, sampler, mode)
        assert sum(map(len, replaced)) <= len(sampler)
        assert next(iter(replaced)).shape == (loader.batch_size, *data.shape)


def test_only_batch_is_kept_on_every_rank():
    data = ready(ImageData("digits"), "fit")
    dataset = data.train_dataloader().dataset
    assert len(data.shuffled(dataset, 1500)) == len(data.shuffled(dataset, 2000)) == 1
    data.trainer = SimpleNamespace(world_size=2, global_rank=1, strategy=SimpleNamespace(broadcast=lambda seed: seed))
    (batch,) = data.shuffled(dataset, 1000)
    assert len(batch) == 750


def test_read_by_worker_processes():
    data = ready(ImageData("digits", workers=1, batch_size=300), "test")
    plain = ready(ImageData("digits"), "test")
    assert torch.equal(whole(data.test_dataloader()), whole(plain.test_dataloader()))


@pytest.mark.parametrize(
    ("name", "message"),
    [("mnist", "Did you mean MNIST"), ("FashonMNIST", "Did you mean FashionMNIST"), ("/no/such", "digits")],
)
def test_unknown_source(name, message):
    with pytest.raises(DataError, match=message):
        ImageData(name)
    with pytest.raises(DataError, match=message):
        ImageData("digits", outliers=name)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        (ImageData, "size", 0),
        (ImageData, "channels", 2),
        (ImageData, "value_range", (1.0, -1.0)),
        (ImageData, "value_range", (0.0, float("inf"))),
        (ImageData, "batch_size", 0),
        (ImageData, "flip", 1.5),
        (ImageData, "validation", -1),
        (ImageData, "workers", -1),
        (TextureData, "crop", 0),
        (TextureData, "length", 0),
        (TextureData, "channels", 4),
        (TextureData, "value_range", (0.0, 0.0)),
        (TextureData, "size", 0),
        (TextureData, "batch_size", 0),
    ],
)
def test_arguments_out_of_range(kind, key, value):
    with pytest.raises(ConfigError, match=f"{key} is "):
        kind("digits" if kind is ImageData else "brick", **{key: value})


def test_shape_is_unknown_before_setup():
    for data in (ImageData("digits"), TextureData()):
        with pytest.raises(DataError, match="setup"):
            _ = data.shape


def test_configured_by_class_path():
    parser = ArgumentParser()
    parser.add_subclass_arguments(LightningDataModule, "data")
    settings = {"source": "digits", "value_range": [0, 1], "flip": 1}
    parsed = parser.parse_object({"data": {"class_path": "ebm_zoo.data.ImageData", "init_args": settings}})
    data = parser.instantiate(parsed).data
    assert training(ready(data, "fit")).aminmax() == (0, 1)


@pytest.mark.parametrize("image", ["brick", "grass", "gravel"])
def test_photographs_need_no_network(image, monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("socket.socket.connect", fail)
    data = ready(TextureData(image, crop=None))
    assert data.shape == (1, 512, 512)
    assert len(whole(data.train_dataloader())) == 1
    assert whole(data.train_dataloader()).std() > 0.05


def test_grid_tiles_the_picture(tmp_path):
    pixels = random_pixels(1, 10, 14, 3)
    save_all(tmp_path, pixels)
    data = ready(TextureData(str(tmp_path / "000.png"), crop=4, channels=3))
    tiles = whole(data.test_dataloader())
    assert tiles.shape == (6, *data.shape)
    rows = [torch.cat(list(tiles[i : i + 3]), dim=-1) for i in (0, 3)]
    assert torch.allclose(torch.cat(rows, dim=-2), as_batch(pixels)[0, :, :8, :12], atol=1e-6)


def test_random_crops_are_windows_from_everywhere(tmp_path):
    """Each pixel of the picture is unique, so that its first one gives a crop's place."""
    picture = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10, 1)
    save(tmp_path / "unique.png", picture)
    data = ready(TextureData(str(tmp_path / "unique.png"), crop=9, length=500, value_range=(0.0, 255.0)))
    crops = whole(data.train_dataloader()).round().long()
    assert crops.shape == (496, 1, 9, 9)
    stored = torch.from_numpy(picture).permute(2, 0, 1).long()
    places = [divmod(int(crop[0, 0, 0]), 10) for crop in crops]
    assert set(places) == {(top, left) for top in range(4) for left in range(2)}
    for (top, left), crop in zip(places, crops, strict=True):
        assert torch.equal(crop, stored[:, top : top + 9, left : left + 9])


def test_crops_repeat_with_the_seed_but_differ_between_ranks_and_epochs():
    loader = ready(TextureData(), "fit").train_dataloader()
    dataset, count = loader.dataset, len(loader.dataset)
    first, next_epoch = dataset.__getitems__([0, 2]), dataset.__getitems__([count, count + 2])
    torch.rand(5)
    again, other_rank = dataset.__getitems__([0, 2]), dataset.__getitems__([1, 3])
    assert torch.equal(first, again)
    assert not torch.equal(first, next_epoch)
    assert not torch.equal(first, other_rank)
    assert dataset[0].shape == (1, 64, 64)


def test_whole_picture_in_copies():
    data = ready(TextureData("grass", crop=None, length=3, size=40, channels=3))
    assert data.shape == (3, 40, 40)
    (batch,) = data.train_dataloader()
    assert batch.shape == (3, 3, 40, 40)
    assert torch.equal(batch, whole(data.test_dataloader()).expand(3, -1, -1, -1))


def test_shorter_side_is_resized(tmp_path):
    save_all(tmp_path, random_pixels(1, 10, 30, 1))
    data = ready(TextureData(str(tmp_path / "000.png"), crop=None, size=20))
    assert data.shape == (1, 20, 60)


def test_crop_must_fit(tmp_path):
    save_all(tmp_path, random_pixels(1, 10, 30, 1))
    with pytest.raises(DataError, match=r"crop is 11, but .*000\.png has 30 x 10 pixels"):
        ready(TextureData(str(tmp_path / "000.png"), crop=11))
    assert len(ready(TextureData(str(tmp_path / "000.png"), crop=10)).test_dataloader().dataset) == 3


def test_unknown_or_corrupt_texture(tmp_path):
    with pytest.raises(DataError, match="Did you mean gravel"):
        TextureData("gravle")
    (tmp_path / "bad.png").write_bytes(b"nothing of a picture")
    with pytest.raises(DataError, match=r"bad\.png is not a readable image"):
        ready(TextureData(str(tmp_path / "bad.png")))
