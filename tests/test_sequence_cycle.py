"""Sequences: clips that are read, predictors, the losses of the slides, animations, the command line."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CLIP, TinyData, clips, cycle_coopnets, domains, sequence_cycle, trainer
from torch import nn
from zoo_helpers import done, draw, image_folder, picture, refused

from ebm_zoo import save_pretrained
from ebm_zoo.callbacks import TranslatedClips, TranslationPictures
from ebm_zoo.data import UnpairedVideoData
from ebm_zoo.data.video import read_video
from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.networks import ConvGRUPredictor
from ebm_zoo.samplers import Langevin
from ebm_zoo.space import Space

BYTES = (0.0, 255.0)


# Predictors


def test_a_predictor_starts_as_a_copy_and_learns_a_motion():
    network = ConvGRUPredictor(1, width=8, kernel=3)
    clip = clips(32)[0]
    assert torch.equal(network(clip[:, :3]), clip[:, 2])
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(150):
        loss = (network(clip[:, :3]) - clip[:, 3]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unseen = clips(64)[0][32:]
    error, copied = ((guess - unseen[:, 3]).abs().mean() for guess in (network(unseen[:, :3]), unseen[:, 2]))
    assert error < copied / 2
    assert network(torch.zeros(2, 1, 1, 6, 4)).shape == (2, 1, 6, 4)


def test_the_unit_is_that_of_the_equations():
    network, clip = ConvGRUPredictor(1, width=2, kernel=1), clips(2)[0][:, :2]
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    state = torch.zeros(2, 2, 4, 4)
    for x in clip.unbind(1):
        e = network.encode(x)
        z, r = torch.sigmoid(network.gates(torch.cat([e, state], 1))).split(2, 1)
        n = torch.tanh(network.candidate(torch.cat([e, r * state], 1)))
        state = (1 - z) * state + z * n
    torch.testing.assert_close(network(clip), clip[:, -1] + network.decode(state))


@pytest.mark.parametrize(("make", "says"), [
    (lambda: ConvGRUPredictor(0), "not .0, 32, 5"),
    (lambda: ConvGRUPredictor(1, width=0), "not .1, 0, 5"),
    (lambda: ConvGRUPredictor(1, kernel=2), "odd kernel, not .1, 32, 2"),
    (lambda: ConvGRUPredictor(1)(torch.zeros(1, 2, 1, 5, 4)), "Sides must be even, not .5, 4"),
])  # fmt: skip
def test_predictors_that_cannot_be(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


# The model


class Shifted(nn.Module):
    """A predictor by hand: the last frame, and as much."""

    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, clip):
        return clip[:, -1] + self.by


class Scaled(nn.Module):
    """A translator by hand."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.factor * x


def by_hand(**arguments):
    still = Langevin(steps=0, step_size=0.1)
    networks = {"translator_ab": Scaled(0.5), "translator_ba": Scaled(0.8)}
    return sequence_cycle(sampler=still, predictor_a=Shifted(0.1), predictor_b=Shifted(-0.3), **networks, **arguments)


@pytest.mark.parametrize("window", [1, 2, 3])
def test_losses_are_those_counted_by_hand(window):
    a, b = clips(2)
    model = by_hand(window=window, prediction_weight=0.7, sequence_weight=0.3)
    predicted, returned = 0.0, 0.0
    for x in (a, b):
        there, back, own, other = (0.5, 0.8, 0.1, -0.3) if x is a else (0.8, 0.5, -0.3, 0.1)
        last, future = x[:, window - 1 : -1], x[:, window:]
        predicted += (last + own - future).square().mean()
        returned += (back * (there * last + other) - future).square().mean()
    losses = model.losses((a, b))
    torch.testing.assert_close(losses["translators"], 0.7 * predicted + 0.3 * returned)
    assert set(losses) == {"energy_a", "energy_b", "translators"}


def test_frames_are_translated_as_by_cycle_coopnets():
    model, (a, b) = sequence_cycle(cycle_weight=2.0).eval(), clips(3)
    frames = cycle_coopnets(**{n: m for n, m in model.named_children() if "predictor" not in n}, cycle_weight=2.0)
    torch.manual_seed(1)
    expected = frames.translate(a.flatten(0, 1), "b").unflatten(0, (3, 4))
    torch.manual_seed(1)
    assert torch.equal(model.translate(a, "b"), expected)
    torch.testing.assert_close(model.energy(b, "b"), sum(model.energy_b(frame) for frame in b.unbind(1)))
    model.prediction_weight = model.sequence_weight = 0.0
    losses = []
    for each, batch in ((model, (a, b)), (frames, (a.flatten(0, 1), b.flatten(0, 1)))):
        torch.manual_seed(2)
        losses.append(each.losses(batch))
    for name, value in losses[1].items():
        torch.testing.assert_close(losses[0][name], value)


def test_the_next_frame_is_predicted_from_the_last_ones():
    model, (a, _) = by_hand(), clips(3)
    model.predictor_a = ConvGRUPredictor(1, width=2)
    for parameter in model.predictor_a.parameters():
        nn.init.normal_(parameter)
    torch.testing.assert_close(model.predict_next(a, "a"), model.predictor_a(a[:, -2:]).clamp(-1, 1))
    torch.testing.assert_close(model.predict_next(a, "b"), (a[:, -1] - 0.3).clamp(-1, 1))
    with pytest.raises(DataError, match="sees 2 frames; clips of 1 are too short"):
        model.predict_next(a[:, :1], "a")
    answers = model.predict_step((a, None), 0)
    copied = (a[:, 1:3] - a[:, 2:]).abs().mean((2, 3, 4)).flatten()
    torch.testing.assert_close(answers["a_copy_error"], copied)
    assert "b_copy_error" not in answers


def test_clips_that_do_not_fit():
    model = sequence_cycle()
    with pytest.raises(DataError, match="Clips of 2 frames are too short for predictors of 2"):
        model.losses(tuple(x[:, :2] for x in clips(2)))
    for x in (domains(2)[0], clips(2)[0][:, :, 0]):
        with pytest.raises(DataError, match="takes clips"):
            model.translate(x, "b")
    with pytest.raises(DataError, match="shape"):
        model.translate(clips(2)[0].expand(-1, -1, 3, -1, -1), "b")


@pytest.mark.parametrize(("change", "says"), [
    ({"window": 0}, "window must be"),
    ({"window": 4}, "less than T"),
    ({"space": Space((1, 8, 8))}, "clips"),
    ({"prediction_weight": -1.0}, "prediction_weight"),
    ({"sequence_weight": -1.0}, "sequence_weight"),
])  # fmt: skip
def test_settings_out_of_range(change, says):
    with pytest.raises(ConfigError, match=says):
        sequence_cycle(**change)


# Data


def frames(count: int, seed: int, shape: tuple[int, int, int] = (3, 8, 8)) -> torch.Tensor:
    return torch.from_numpy(draw(count, shape, seed)).float()


def gif(path: Path, count: int, seed: int = 0) -> Path:
    """An animation of flat pictures, whose colours a GIF keeps."""
    colours = np.random.default_rng(seed).integers(0, 256, (count, 3), dtype=np.uint8)
    pictures = [Image.fromarray(np.broadcast_to(colour, (8, 8, 3)).copy()) for colour in colours]
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=100)
    return path


def ready(*source: Path, **settings) -> UnpairedVideoData:
    defaults = {"frames": 3, "value_range": BYTES, "batch_size": 50}
    data = UnpairedVideoData(tuple(map(str, source)), **{**defaults, **settings})
    data.setup()
    return data


def windows(data: UnpairedVideoData, domain: int) -> torch.Tensor:
    dataset = data.train_dataloader().iterables[domain].dataset
    return dataset.__getitems__(list(range(len(dataset))))


def test_folders_of_frames_become_clips(tmp_path):
    a, b = image_folder(tmp_path / "a", 10, (3, 8, 8)), image_folder(tmp_path / "b", 20, (3, 8, 8), seed=1)
    data = ready(a, b, test=0.4, batch_size=2)
    first, second = frames(10, 0), frames(20, 1)
    assert torch.equal(windows(data, 0), torch.stack([first[k : k + 3] for k in range(4)]))
    assert torch.equal(windows(data, 1), torch.stack([second[k : k + 3] for k in range(10)]))
    tests = list(data.test_dataloader())
    assert [len(x) for x, _ in tests] == [1] and torch.equal(tests[0][0][0], first[6:9])
    assert torch.equal(tests[0][1], torch.stack([second[12:15], second[15:18]]))


def test_several_videos_and_animations(tmp_path):
    for k, name in enumerate(("x", "y")):
        image_folder(tmp_path / "a" / name, 10, (3, 8, 8), seed=k)
    clip = read_video(gif(tmp_path / "b.gif", 10))
    assert clip.shape == (10, 3, 8, 8) and len(clip.flatten(1).unique(dim=0)) == 10
    data = ready(tmp_path / "a", tmp_path / "b.gif", test=0.3)
    assert len(windows(data, 0)) == 2 * 5 and torch.equal(windows(data, 0)[5], frames(10, 1)[:3])
    assert torch.equal(windows(data, 1)[0], clip[:3].float())


def test_clips_are_fitted_and_mirrored_as_a_whole(tmp_path):
    a = image_folder(tmp_path / "a", 60, (3, 8, 8))
    data = ready(a, a, size=4, channels=1, flip=0.5)
    plain = windows(ready(a, a, size=4, channels=1), 0)
    found = windows(data, 0)
    assert found.shape == (46, 3, 1, 4, 4)
    flipped = (found != plain).flatten(1).any(1)
    assert 10 < flipped.sum() < 36
    assert torch.equal(found[flipped], plain[flipped].flip(-1))


class Container:
    """What PyAV opens, by hand."""

    def __init__(self, path):
        if "bad" in path:
            raise OSError("moov atom not found")
        self.frames = [] if "empty" in path else draw(6, (3, 8, 8))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def decode(self, video):
        assert video == 0
        for pixels in self.frames:
            yield types.SimpleNamespace(to_ndarray=lambda format, pixels=pixels: pixels.transpose(1, 2, 0))


def test_video_files_are_read_by_pyav(tmp_path, monkeypatch):
    for name in ("a.mp4", "bad.mp4", "empty.mp4"):
        (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"a\.mp4 can only be read with PyAV.*pip install av"):
        read_video(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", types.SimpleNamespace(open=Container))
    assert torch.equal(read_video(tmp_path / "a.mp4"), torch.from_numpy(draw(6, (3, 8, 8))))
    with pytest.raises(DataError, match=r"bad\.mp4 is not a readable video \(moov"):
        read_video(tmp_path / "bad.mp4")
    with pytest.raises(DataError, match=r"empty\.mp4 has no frames"):
        read_video(tmp_path / "empty.mp4")


def test_a_film_is_read(tmp_path):
    av = pytest.importorskip("av")
    pixels = np.full((4, 16, 16, 3), 60, np.uint8) * np.arange(4, dtype=np.uint8)[:, None, None, None]
    with av.open(str(tmp_path / "a.mp4"), "w") as film:
        stream = film.add_stream("mpeg4", rate=5)
        stream.width, stream.height = 16, 16
        for each in pixels:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(each, format="rgb24")))
        film.mux(stream.encode())
    found = read_video(tmp_path / "a.mp4")
    torch.testing.assert_close(found, torch.from_numpy(pixels.transpose(0, 3, 1, 2)), atol=2, rtol=0)


def wrong(*source: Path, says: tuple[str, ...], **settings) -> None:
    with pytest.raises(DataError) as caught:
        ready(*source, **settings)
    for each in says:
        assert each in str(caught.value)


def test_what_cannot_be_read(tmp_path):
    a = image_folder(tmp_path / "a", 10, (3, 8, 8))
    mixed = image_folder(tmp_path / "mixed", 10, (3, 8, 8))
    picture(mixed / "004.png", draw(1, (3, 8, 9))[0])
    wrong(a, mixed, says=("004.png is (3, 8, 9)", "000.png, is (3, 8, 8)", "must be alike"), size=4)
    picture(mixed / "004.png", draw(1, (1, 8, 8))[0])
    wrong(a, mixed, says=("004.png is (1, 8, 8)", "must be alike"))
    large = image_folder(tmp_path / "large", 10, (3, 12, 12))
    wrong(a, large, says=("(3, 8, 8)", "(3, 12, 12)", "set size"))
    ready(a, large, size=8, frames=2)
    (tmp_path / "nothing").mkdir()
    wrong(a, tmp_path / "nothing", says=("nothing has no frames",))
    wrong(a, tmp_path / "missing", says=("missing' is neither a folder nor a file",))
    wrong(a, a, says=("a has 8 frames to train on and 2 to test on", "clips of 3", "lower frames"))
    broken = gif(tmp_path / "broken.gif", 10)
    broken.write_bytes(b"GIF89a and no more")
    wrong(a, broken, says=("broken.gif is not a readable video",))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("frames", 0),
        ("size", 0),
        ("channels", 2),
        ("value_range", (1.0, -1.0)),
        ("batch_size", 0),
        ("flip", 1.5),
        ("test", 0.0),
        ("test", 1.0),
    ],
)
def test_arguments_out_of_range(tmp_path, key, value):
    with pytest.raises(ConfigError, match=f"{key} is "):
        UnpairedVideoData((str(tmp_path), str(tmp_path)), **{"frames": 3, key: value})


# Pictures


def test_animations_of_all_test_clips(tmp_path):
    model, data = sequence_cycle(), clips(4)
    callbacks = [TranslatedClips(rate=5.0), TranslationPictures(columns=3)]
    run = trainer(callbacks=callbacks, default_root_dir=tmp_path, inference_mode=False)
    run.test(model, datamodule=TinyData(data), verbose=False)
    for name, source in (("ab", data[0]), ("ba", data[1])):
        with Image.open(tmp_path / "pictures" / f"{name}.gif") as image:
            assert image.n_frames == 16 and image.info["duration"] == 200 and image.info["loop"] == 0
            for k in (0, 5, 15):
                image.seek(k)
                shown = torch.from_numpy(np.array(image.convert("RGB"))).float().permute(2, 0, 1) / 127.5 - 1
                assert shown.shape == (3, 8 * 14 + 4, 3 * (8 * 14 + 2) + 2)
                first = shown[0, 2 : 2 + 112 : 14, 2 : 2 + 112 : 14]
                assert (first - source.flatten(0, 1)[k, 0]).abs().max() < 0.05, "the clip that was given stands first"
    with Image.open(tmp_path / "pictures" / "test.png") as image:
        assert image.size == (3 * 58 + 2, 6 * 58 + 2)
    with pytest.raises(ConfigError, match="translates clips: remove it"):
        run = trainer(callbacks=[TranslatedClips()], inference_mode=False)
        run.test(cycle_coopnets(), datamodule=TinyData(domains(4)), verbose=False)
    with pytest.raises(ConfigError, match="rate"):
        TranslatedClips(rate=0.0)


# The command line


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pretrained(model := sequence_cycle().eval(), "saved")
    return model


def test_clips_are_read_translated_and_written(model):
    pixels = draw(5, (1, 8, 8))
    for k, image in enumerate(pixels):
        picture(Path(f"in/{k}.png"), image)
    x = torch.from_numpy(pixels).float()[None] / 127.5 - 1
    done("apply", "saved", "translate", "--input", "in", "--to", "b", "--seed", 3, "--out", "x.npy")
    torch.manual_seed(3)
    np.testing.assert_allclose(np.load("x.npy"), model.translate(x, "b").numpy(), atol=1e-5)
    np.save("in.npy", x.expand(2, -1, -1, -1, -1).numpy())
    done("apply", "saved", "translate", "--input", "in.npy", "--to", "a", "--size", 16, "--out", "x.gif")
    with Image.open("x.gif") as image:
        assert image.n_frames == 5 and image.size == (2 * 114 + 2, 116)
    done("apply", "saved", "translate", "--input", gif(Path("in.gif"), 3), "--to", "a", "--out", "x.png")
    with Image.open("x.png") as image:
        assert image.size == (3 * 58 + 2, 60)
    done("apply", "saved", "energy", "--input", "in", "--of", "a", "--out", "e.csv")
    assert float(Path("e.csv").read_text().split(",")[-1]) == pytest.approx(model.energy(x, "a").item(), rel=1e-4)
    done("apply", "saved", "predict_next", "--input", "in", "--of", "b", "--out", "n.npy")
    np.testing.assert_allclose(np.load("n.npy"), model.predict_next(x, "b").numpy(), atol=1e-5)


def test_what_does_not_fit_is_refused(model):
    np.save("x.npy", np.zeros(CLIP, np.float32))
    np.save("flat.npy", np.zeros((8, 8), np.float32))
    np.save("one.npy", np.zeros((1, 1, 8, 8), np.float32))
    translate = ("apply", "saved", "translate", "--out", "y.npy")
    refused(*translate, "--input", "x.npy", says=("--to a or --to b",))
    refused(*translate, "--input", "flat.npy", "--to", "a", says=("(8, 8)", "(T, C, H, W)"))
    refused(*translate, "--input", "missing", "--to", "a", says=("missing does not exist",))
    following = ("apply", "saved", "predict_next", "--out", "y.npy")
    refused(*following, "--input", "one.npy", "--of", "a", says=("too short",))
    refused(*following, "--input", "x.npy", says=("--of a or --of b",))
