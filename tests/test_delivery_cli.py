"""`ebm-zoo download` and `verify`, and repositories where commands take names."""

import sys
from pathlib import Path

import pytest
from delivery import (
    REPO,
    asked_by_default,
    files,
    flip,
    other,
    pinned,
)
from hub_client import asked
from zoo_helpers import NAME, done, experiment, rewrite, saved_model, tiny_zoo, zoo

from ebm_zoo.zoo import find
from ebm_zoo.zoo.client import Access, announced


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with asked_by_default(tmp_path / "cache") as hub:
        yield hub


# The command line


@pytest.fixture
def known(hub, tmp_path):
    """A catalog of one model with a local copy, which is on the Hub too."""
    with tiny_zoo(tmp_path / "zoo") as model:
        repo = hub.add(REPO, files(tmp_path / "zoo" / "weights" / NAME))
        pinned(tmp_path / "zoo", repo)
        yield model


def test_download(known, hub, tmp_path):
    text = done("download", NAME)
    assert text.startswith(f"ok      {NAME}  {find(NAME).weights.sha256}  {tmp_path / 'cache'}")
    asked(hub)
    assert done("download", "--all") == text and asked(hub) == []
    result = zoo("download", "generative_convnet/tini", "zoo/other", f"{REPO}@main", NAME)
    assert result.code == 1 and [line.split()[0] for line in result.out.splitlines()] == [
        "FAILED",
        "FAILED",
        "ok",
        "ok",
    ]
    for arguments in ((), (NAME, "--all")):
        assert zoo("download", *arguments).code == 1


def test_verify_finds_one_flipped_byte_anywhere(known, hub, tmp_path):
    assert done("verify") == f"ok      {NAME}\n"
    done("download", NAME)
    lines = [f"ok      {NAME}", f"ok      {NAME} (cached)", f"ok      {NAME} (Hub)"]
    asked(hub)
    assert done("verify").splitlines() == lines[:2] and asked(hub) == []
    assert done("verify", "--hub").splitlines() == lines
    assert {line.split()[0] for line in asked(hub)} == {"HEAD"}
    (cached,) = (tmp_path / "cache").glob("models--zoo--tiny/snapshots/*/model.safetensors")
    for number, path in enumerate((find(NAME).folder / "model.safetensors", cached.resolve())):
        flip(path)
        result = zoo("verify", NAME)
        assert result.code == 1
        assert [line.startswith("FAILED") for line in result.out.splitlines()] == [number == 0, number == 1]
        assert str(path) in result.out
        flip(path)
    assert done("verify", "--hub").splitlines() == lines


def test_verify_compares_with_what_the_hub_announces(known, hub, tmp_path):
    repo = hub.repos[REPO]
    repo.commit(other(tmp_path / "other"))
    pinned(tmp_path / "zoo", repo)
    result = zoo("verify", "--hub")
    assert result.code == 1 and f"FAILED  {NAME} (Hub): {REPO}@" in result.out
    assert announced(REPO, "model.safetensors", "main", Access()).etag in result.out


def test_commands_take_repositories(known, hub, tmp_path):
    commit = hub.repos[REPO].resolve("main").oid
    assert f"{REPO}@{commit}" in done("list") and f"{REPO}@{commit}" in done("info", NAME)
    text = done("info", f"{REPO}@main")
    assert text.startswith(f"{REPO}@{commit}\n") and "GenerativeConvNet" in text and find(NAME).weights.sha256 in text
    done("sample", f"{REPO}@main", "--n", 2, "--steps", 1, "--out", "a.npy")
    assert Path("a.npy").is_file()
    config = experiment(tmp_path / "own.yaml", tmp_path / "images")
    shown = done("test", "--config", config, "--pretrained", f"{REPO}@main")
    assert f"{REPO}@{commit}" in shown and "frechet_distance" in shown


def test_a_strangers_configuration_names_no_class_of_its_own(known, hub, tmp_path):
    saved_model(tmp_path / "bad")
    # The command line's parser would take this for a class to import.
    rewrite(tmp_path / "bad", lambda config: config["model"]["init_args"].update(energy="antigravity.Module"))
    hub.add("bad/model", files(tmp_path / "bad"))
    config = experiment(tmp_path / "own.yaml", tmp_path / "images")
    for command in (
        ["sample", "bad/model", "--out", "a.npy"],
        ["test", "--config", config, "--pretrained", "bad/model"],
    ):
        result = zoo(*command)
        assert result.code == 1 and "'energy' must be of type" in result.err
        assert "antigravity" not in sys.modules
