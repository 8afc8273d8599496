"""What is written is there whole or not at all, what is read runs no code, and what is shown steers no terminal."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save
from tiny import convnet
from zoo_helpers import NAME, ROOT, done, entry, everything, refused, saved_model, tiny_zoo, zoo

from ebm_zoo import from_pretrained, save_pretrained
from ebm_zoo.config import to_config
from ebm_zoo.errors import ConfigError, WeightsError, ZooError, printable
from ebm_zoo.files import atomic
from ebm_zoo.models import EnergyModel
from ebm_zoo.zoo.catalog import VARIABLE, merged
from ebm_zoo.zoo.hub import load_weights

OLD, NEW = b"old" * 1000, b"new" * 2000


@pytest.fixture
def target(tmp_path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(OLD)
    return path


# Writing


def test_a_file_is_old_or_new_at_any_moment(target):
    with target.open("rb") as reader, atomic(target) as path:
        for k in range(0, len(NEW), 1000):
            with path.open("ab") as file:
                file.write(NEW[k : k + 1000])
            assert target.read_bytes() == OLD
        before = target.stat().st_ino
        whole = path.stat().st_ino
    assert target.read_bytes() == NEW and list(target.parent.iterdir()) == [target]
    # Renamed: the very file that was written. Who had opened the old one keeps it.
    assert target.stat().st_ino == whole != before
    with target.open("rb") as reader:
        with atomic(target) as path:
            path.write_bytes(OLD)
        assert reader.read() == NEW


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failure_leaves_what_was_there(target, error, existing):
    if not existing:
        target.unlink()
    before = everything(target.parent)
    with pytest.raises(error), atomic(target) as path:
        path.write_bytes(NEW[:100])
        raise error()
    assert everything(target.parent) == before


@pytest.mark.parametrize("call", ["fsync", "chmod", "replace"])
def test_a_disk_that_is_full_at_the_end_leaves_what_was_there(target, monkeypatch, call):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = everything(target.parent)
    monkeypatch.setattr(*{"fsync": (os, "fsync"), "chmod": (Path, "chmod"), "replace": (Path, "replace")}[call], full)
    with pytest.raises(OSError, match="No space left"), atomic(target) as path:
        path.write_bytes(NEW)
    assert everything(target.parent) == before


def test_the_content_is_on_the_disk_before_it_has_the_name(target, monkeypatch):
    happened = []
    fsync, replace = os.fsync, Path.replace
    places = {}

    def note(handle):
        at = os.fstat(handle).st_ino
        happened.append(("fsync", places.get(at, "the new file"), target.read_bytes() == NEW))
        fsync(handle)

    def rename(self, place):
        happened.append(("replace", "", False))
        return replace(self, place)

    places[target.parent.stat().st_ino] = "the folder"
    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Path, "replace", rename)
    with atomic(target) as path:
        path.write_bytes(NEW)
    assert happened == [("fsync", "the new file", False), ("replace", "", False), ("fsync", "the folder", True)]


def test_a_process_that_is_killed_leaves_the_old_file(target):
    code = "import os, sys; from ebm_zoo.files import atomic\n"
    code += "with atomic(sys.argv[1]) as path:\n    path.write_bytes(b'new'); os.kill(os.getpid(), 9)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    assert subprocess.run([sys.executable, "-c", code, target], env=environment).returncode == -9
    assert target.read_bytes() == OLD


# Reading


class Trap:
    """What unpickling it does is make a file."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.fixture
def trap(tmp_path) -> tuple[Path, Path]:
    """A checkpoint that is one but for what it hides, and the file that shows that it went off."""
    model, sprung = convnet(), tmp_path / "sprung"
    whole = {"ebm_zoo": {"config": to_config(model), "ranks": []}, "state_dict": model.state_dict(), "global_step": 1}
    torch.save({**whole, "hidden": Trap(sprung)}, tmp_path / "bad.ckpt")
    torch.load(tmp_path / "bad.ckpt", weights_only=False)
    assert sprung.exists(), "the trap works"
    sprung.unlink()
    return tmp_path / "bad.ckpt", sprung


def test_a_checkpoint_runs_no_code(trap, tmp_path):
    path, sprung = trap
    with pytest.raises(WeightsError, match=r"bad\.ckpt"):
        EnergyModel.load_from_checkpoint(path)
    assert not sprung.exists()


def test_export_runs_no_code(trap, tmp_path):
    path, sprung = trap
    command = [sys.executable, "-m", "ebm_zoo", "export", "--ckpt_path", str(path), "--out", str(tmp_path / "out")]
    result = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert result.returncode == 1 and "bad.ckpt" in result.stderr and "Traceback" not in result.stderr
    assert result.stderr.startswith("ebm-zoo: ") and result.stderr.count("\n") == 1
    assert not sprung.exists() and not (tmp_path / "out").exists()


HALVES = {
    "no configuration": {"ebm_zoo": {}},
    "no mapping": {"ebm_zoo": 3},
    "no step": {"global_step": None},
    "no weights": {"state_dict": None},
    "weights of text": {"state_dict": {"energy": "x"}},
    "another step": {"global_step": "x"},
    "no model": {"ebm_zoo": {"config": {"class_path": "ebm_zoo.samplers.FromData"}}},
    "a billion blocks": {
        "ebm_zoo": {
            "config": {
                "class_path": "ebm_zoo.networks.ResNetTranslator",
                "init_args": {"channels": 1, "width": 1, "blocks": 10**9},
            }
        }
    },
    "not finite": {"state_dict": {key: value / 0 for key, value in convnet().state_dict().items()}},
}


@pytest.mark.parametrize("change", HALVES.values(), ids=HALVES)
def test_half_a_checkpoint_is_not_exported(tmp_path, monkeypatch, change):
    monkeypatch.chdir(tmp_path)
    model = convnet()
    whole = {"ebm_zoo": {"config": to_config(model)}, "state_dict": model.state_dict(), "global_step": 1}
    torch.save(whole, "good.ckpt")
    torch.save({**whole, **change}, "half.ckpt")
    refused("export", "--ckpt_path", "half.ckpt", "--out", "out", says=("half.ckpt",))
    done("export", "--ckpt_path", "good.ckpt", "--out", "out")


# Showing

# Clears the screen, renames the window, turns the direction of letters, and begins lines of its own; then letters.
STEERING = "\x1b[2J\x1b]0;x\x07\u202e\r\n\u2028\x9b1mübung 漢字"


def assert_harmless(text: str) -> None:
    assert all(char.isprintable() for line in text.split("\n") for char in line), ascii(text)
    assert "übung 漢字" in text and r"\x1b[2J" in text, text


def test_letters_stay_and_controls_are_escaped():
    assert printable(STEERING) == r"\x1b[2J\x1b]0;x\x07\u202e\r\n\u2028\x9b1mübung 漢字"
    assert printable("a\\b 'c' é") == "a\\b 'c' é" and printable("\udcff\0") == r"\udcff\x00"
    error = ZooError(STEERING)
    assert str(error) == printable(STEERING) == str(ZooError(error))


@pytest.fixture
def steered(tmp_path, monkeypatch):
    """A catalog of one's own whose every text steers the terminal."""
    monkeypatch.chdir(tmp_path)
    with tiny_zoo(tmp_path / "zoo"):
        name = f"mine/{STEERING}"
        item = entry(tmp_path / "zoo" / "weights" / NAME, from_pretrained(NAME))
        item |= {"summary": STEERING, "sampler": STEERING, "limits": STEERING, "model": STEERING, "tasks": [STEERING]}
        for part in ("paper", "data", "training"):
            item[part] = {key: STEERING if isinstance(value, str) else value for key, value in item[part].items()}
        for metric in item["metrics"]:
            metric |= {key: STEERING for key, value in metric.items() if isinstance(value, str)}
        item["hub"] = {"repo": "a/b", "revision": "a" * 40}
        item["weights"]["file"] = "mine/one/model.safetensors"
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({name: item}), encoding="utf-8")
        monkeypatch.setenv(VARIABLE, str(tmp_path / "mine.yaml"))
        merged.cache_clear()
        yield name


@pytest.mark.parametrize("command", ["list", "info", "verify", "verify here", "download", "push"])
def test_a_catalog_does_not_steer_the_terminal(steered, tmp_path, command):
    arguments = {
        "info": [steered],
        "verify here": [steered],
        "download": [steered],
        "push": ["--all", "--namespace", "a", "--dry-run"],
    }.get(command, [])
    if command == "verify here":
        saved_model(tmp_path / "weights" / "mine" / "one", penalty=0.5)
    result = zoo(command.split()[0], *arguments)
    assert_harmless(result.out + result.err)
    assert result.out.count("\n") < 40


def test_no_file_steers_the_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.chdir(tmp_path)
    name = STEERING.replace("/", "")
    model = saved_model(tmp_path / name)
    assert_harmless(zoo("info", tmp_path / name).out)
    config = json.loads((tmp_path / name / "config.json").read_text())
    with pytest.raises(WeightsError) as error:
        load_weights(model, save({STEERING: torch.zeros(1)}), "x")
    assert_harmless(str(error.value))
    for path in (STEERING, f"ebm_zoo.samplers.{STEERING}"):
        config["model"]["class_path"] = path
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        with pytest.raises(ConfigError) as error:
            from_pretrained(tmp_path / name)
        assert_harmless(str(error.value))
        shown = done("info", tmp_path / name)
        assert_harmless(shown)
    (tmp_path / name / "config.json").write_text("{}")
    assert_harmless(zoo("sample", tmp_path / name, "--out", "a.npy").err)
    save_pretrained(model, tmp_path / name)
    text = done("register", tmp_path / name, "--name", "a/b", "--catalog", tmp_path / f"{name}.yaml")
    assert_harmless(text)
    (tmp_path / f"{name}.yaml").write_text(f"a: !!{'x' * 3}/\\x1b 1\n'{'b'}': [", encoding="utf-8")
    assert_harmless(zoo("list", "--catalog", tmp_path / f"{name}.yaml").err)
