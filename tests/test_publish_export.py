"""From the checkpoint of a training to a folder that loads anywhere, a name, and the Hub."""

import json
from pathlib import Path

import pytest
import torch
from hub_client import OWNER, UPLOAD_WARNING
from hub_server import HubServer
from huggingface_hub import constants
from zoo_helpers import done, experiment, refused, tiny_zoo

from ebm_zoo import from_pretrained
from ebm_zoo.models import EnergyModel
from ebm_zoo.zoo.catalog import VARIABLE

pytestmark = pytest.mark.filterwarnings(UPLOAD_WARNING)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder, and no catalog of one's own."""
    monkeypatch.setenv(VARIABLE, "")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def fit(root: Path, *options: object) -> Path:
    """Checkpoint of a run of one epoch."""
    path = experiment(root / "tiny.yaml", root / "data")
    done("fit", "--config", path, "--trainer.logger.init_args.save_dir", root, *options)
    return root / "lightning_logs" / "version_0" / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="module")
def averaged(tmp_path_factory) -> Path:
    """Checkpoint of a run that averaged its weights."""
    average = "lightning.pytorch.callbacks.EMAWeightAveraging"
    options = ("--trainer.callbacks+", average, "--trainer.callbacks.decay", 0.5, "--model.optim.energy.lr", 0.05)
    return fit(tmp_path_factory.mktemp("averaged"), *options)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    """Checkpoint of a run that did not."""
    return fit(tmp_path_factory.mktemp("plain"))


def note(folder: str) -> dict:
    return json.loads(Path(folder, "config.json").read_text())["training"]


def test_averaged_weights_are_exported_where_the_training_averaged(averaged):
    text = done("export", "--ckpt_path", averaged, "--out", "a")
    assert text == "a: GenerativeConvNet, averaged weights after 2 steps\n"
    assert note("a") == {"weights": "averaged", "global_step": 2}
    state = torch.load(averaged, weights_only=True)["state_dict"]
    found = from_pretrained("a").state_dict()
    assert all(torch.equal(found[name], state[name]) for name in state) and found.keys() == state.keys()
    loaded = EnergyModel.load_from_checkpoint(averaged).state_dict()
    assert all(torch.equal(found[name], loaded[name]) for name in loaded)


def test_raw_weights_are_others(averaged):
    done("export", "--ckpt_path", averaged, "--out", "a", "--weights", "averaged")
    text = done("export", "--ckpt_path", averaged, "--out", "b", "--weights", "raw")
    assert text == "b: GenerativeConvNet, raw weights after 2 steps\n" and note("b")["weights"] == "raw"
    raw = torch.load(averaged, weights_only=True)["current_model_state"]
    states = [from_pretrained(folder).state_dict() for folder in "ab"]
    assert all(torch.equal(states[1][name], raw[name]) for name in raw)
    assert not any(torch.equal(states[0][name], raw[name]) for name in raw if name.endswith("weight"))


@pytest.mark.parametrize("option", [(), ("--weights", "raw")])
def test_raw_weights_are_exported_where_nothing_was_averaged(plain, option):
    assert "raw weights" in done("export", "--ckpt_path", plain, "--out", "a", *option)
    state = torch.load(plain, weights_only=True)["state_dict"]
    assert all(torch.equal(value, state[name]) for name, value in from_pretrained("a").state_dict().items())


def test_averaged_weights_that_are_not_there(plain):
    arguments = ("export", "--ckpt_path", plain, "--out", "a", "--weights", "averaged")
    refused(*arguments, says=(str(plain), "no averaged weights"))


def test_what_is_no_checkpoint_is_not_exported(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"nothing")
    for name in ("a.ckpt", "b.ckpt"):
        refused("export", "--ckpt_path", tmp_path / name, "--out", "a", says=(str(tmp_path / name),))


def test_from_a_training_to_the_hub_and_back(averaged, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", OWNER)
    done("export", "--ckpt_path", averaged, "--out", "mine")
    done("sample", "mine", "--n", 4, "--out", "mine/samples.png")
    with tiny_zoo(tmp_path / "zoo"), HubServer() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        done("register", "mine", "--name", "my_model/noise", "--catalog", "my.yaml")
        done("push", "my_model/noise", "--repo", "zoo/mine")
        files = hub.repos["zoo/mine"].resolve("main").files
        assert files["samples.png"].content == Path("mine/samples.png").read_bytes()
        assert b"![samples](samples.png)" in files["README.md"].content
        pulled = from_pretrained("my_model/noise", source="hub", cache_dir=tmp_path / "cache")
    mine = from_pretrained("mine")
    assert torch.equal(*(m.sample(2, generator=torch.Generator().manual_seed(0)) for m in (mine, pulled)))
