"""Models by name from folder, catalog, cache and Hub: what is asked for, and what is believed."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from delivery import (
    REPO,
    TOKEN,
    asked_by_default,
    blob,
    bodies,
    claim,
    files,
    flip,
    other,
    pinned,
    report,
    same,
)
from hub_client import asked
from hub_server import corrupt
from huggingface_hub import constants
from zoo_helpers import NAME, done, saved_model, tiny_zoo

from ebm_zoo import from_pretrained
from ebm_zoo.errors import WeightsError
from ebm_zoo.zoo import find
from ebm_zoo.zoo import resolve as resolving
from ebm_zoo.zoo.resolve import Access, resolve


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with tiny_zoo(tmp_path / "zoo") as model:
        yield model


@pytest.fixture
def hub(tmp_path, model):
    with asked_by_default(tmp_path / "cache") as hub:
        yield hub


@pytest.fixture
def repo(hub, tmp_path):
    """The tiny model on the Hub, not yet known to the catalog."""
    return hub.add(REPO, files(tmp_path / "zoo" / "weights" / NAME))


@pytest.fixture
def far(repo, tmp_path):
    """The tiny model on the Hub, pinned by the catalog, without a local copy."""
    commit = pinned(tmp_path / "zoo", repo)
    (tmp_path / "zoo" / "weights" / NAME).rename(tmp_path / "away")
    return commit


# Pins


def test_a_pinned_model_is_fetched_once_and_stays_when_main_moves(hub, repo, far, model, tmp_path):
    assert same(from_pretrained(NAME), model)
    assert bodies(hub) == ["config.json", "model.safetensors"]
    repo.commit(other(tmp_path / "other"))
    assert same(from_pretrained(NAME), model) and same(from_pretrained(NAME, local_files_only=True), model)
    assert asked(hub) == []
    assert not same(from_pretrained(NAME, revision="main"), model)
    assert not same(from_pretrained(f"{NAME}@main"), model)
    assert not same(from_pretrained(REPO), model) and same(from_pretrained(f"{REPO}@{far}"), model)


def test_a_moving_branch_never_mixes_two_commits(hub, repo, model, tmp_path):
    moved = other(tmp_path / "other")

    def move(proceed):
        answer = proceed()
        repo.commit(moved)
        return answer

    hub.fault(move, "GET .*/config.json", times=1)
    first, before = list(repo.commits)[1], files(tmp_path / "zoo" / "weights" / NAME)
    found = resolve(REPO, access=Access())
    assert (found.place, found.weights) == (f"{REPO}@{first}", before["model.safetensors"])
    assert resolve(REPO, access=Access()).weights == moved["model.safetensors"]


def test_a_damaged_local_copy_is_replaced_by_the_hub(hub, repo, model, tmp_path):
    flip(find(NAME).folder / "model.safetensors")
    with pytest.raises(WeightsError, match="it was altered"):
        from_pretrained(NAME)
    pinned(tmp_path / "zoo", repo)
    assert same(from_pretrained(NAME), model)
    with pytest.raises(WeightsError, match="it was altered"):
        from_pretrained(NAME, source="embedded")


def test_the_catalogs_hash_binds_its_own_commit_only(hub, repo, model, tmp_path):
    repo.commit(other(tmp_path / "other"))
    pinned(tmp_path / "zoo", repo)
    with pytest.raises(WeightsError, match=f"{REPO}@.*names weights with sha256 .* the catalog"):
        from_pretrained(NAME, source="hub")
    assert bodies(hub) == ["config.json"]
    first = list(repo.commits)[1]
    assert same(from_pretrained(NAME, revision=first), model)


def test_a_pin_is_answered_with_its_own_commit(hub, repo, far, tmp_path):
    """Whoever answers with another commit would slip past the catalog's hash."""
    moved = repo.commit(other(tmp_path / "other"))

    def cheat(proceed):
        answer = proceed()
        return replace(answer, headers={**answer.headers, "X-Repo-Commit": moved})

    hub.fault(cheat)
    with pytest.raises(WeightsError, match=f"{REPO}@{far}: the Hub answers with another commit, {moved}"):
        from_pretrained(NAME)


# Bytes


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_altered_bytes_never_load_and_force_replaces_them(hub, far, model, tmp_path, file):
    hub.fault(corrupt, f"GET .*/{file}", times=1)
    for _ in range(2):
        with pytest.raises(WeightsError) as error:
            from_pretrained(NAME)
        bad = blob(tmp_path / "cache", file)
        message = str(error.value)
        assert str(bad) in message and "altered" in message and f"ebm-zoo download {NAME} --force" in message
        found = hashlib.sha256(bad.read_bytes()).hexdigest()
        assert file == "config.json" or (found in message and find(NAME).weights.sha256 in message)
    assert find(NAME).weights.sha256 in done("download", NAME, "--force")
    assert same(from_pretrained(NAME), model)
    # And long after.
    flip(blob(tmp_path / "cache", file))
    with pytest.raises(WeightsError, match="altered"):
        from_pretrained(NAME)


def altered(link: Path) -> Path:
    """A plain file in the place of a link of the cache, which says something else."""
    config = json.loads(link.read_bytes())
    config["model"]["init_args"]["sample_steps"] = 1
    link.unlink()
    link.write_text(json.dumps(config))
    return link


def cached_config(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "cache").glob("*/snapshots/*/config.json")
    return path


def test_a_file_in_the_place_of_a_link_does_not_load(hub, far, model, tmp_path):
    """The settings belong to a pin as much as the weights, which stay as they were."""
    from_pretrained(NAME)
    altered(cached_config(tmp_path))
    asked(hub)
    for options in ({}, {"local_files_only": True}):
        with pytest.raises(WeightsError, match=f"is a file and not .* link .* `ebm-zoo download {NAME} --force`"):
            from_pretrained(NAME, **options)
    assert asked(hub) == []
    done("download", NAME, "--force")
    assert same(from_pretrained(NAME), model) and cached_config(tmp_path).is_symlink()


def test_where_there_are_no_links_the_hub_is_asked(hub, repo, far, model, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True)
    assert same(from_pretrained(NAME), model)
    assert not cached_config(tmp_path).is_symlink()
    asked(hub)
    assert same(from_pretrained(NAME), model)
    assert asked(hub) == [f"HEAD /{REPO}/resolve/{far}/config.json"]
    altered(cached_config(tmp_path))
    with pytest.raises(WeightsError, match=r"has the git hash \w{40}, not \w{40}: it was altered"):
        from_pretrained(NAME)
    done("download", NAME, "--force")
    assert same(from_pretrained(NAME), model)
    altered(cached_config(tmp_path))
    # Whom nobody can ask, nobody can compare with.
    assert from_pretrained(NAME, local_files_only=True).sample_steps == 1
    hub.stop()
    assert from_pretrained(NAME).sample_steps == 1


@pytest.mark.parametrize("links", [True, False])
def test_a_catalog_pins_the_configuration(hub, repo, model, tmp_path, monkeypatch, links):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", not links)
    config = hashlib.sha256(repo.resolve("main").file("config.json").content).hexdigest()
    commit = pinned(tmp_path / "zoo", repo, config=config)
    assert same(from_pretrained(NAME, source="hub"), model)
    asked(hub)
    assert same(from_pretrained(NAME, source="hub", local_files_only=True), model)
    altered(cached_config(tmp_path))
    with pytest.raises(WeightsError, match=f"has the sha256 .*, not {config}: it was altered"):
        from_pretrained(NAME, source="hub", local_files_only=True)
    assert asked(hub) == []
    # A Hub that lies about the commit is not believed either; another commit is another matter.
    moved = json.loads(repo.resolve("main").file("config.json").content)
    moved["model"]["init_args"]["sample_steps"] = 1
    head = repo.commit({"config.json": json.dumps(moved).encode()})
    repo.commits[commit] = replace(repo.resolve("main"), oid=commit)
    with pytest.raises(WeightsError, match=f"has the sha256 .*, not {config}: it was altered"):
        from_pretrained(NAME, source="hub", cache_dir=tmp_path / "empty")
    assert from_pretrained(NAME, revision=head, cache_dir=tmp_path / "empty").sample_steps == 1


def test_truncated_bytes_in_the_cache_never_load(hub, far, tmp_path):
    from_pretrained(NAME)
    path = blob(tmp_path / "cache", "model.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=f"{path} has .* truncated"):
        from_pretrained(NAME)


def test_sizes_are_compared_before_anything_large_is_fetched(hub, tmp_path, monkeypatch):
    saved_model(tmp_path / "saved")
    right = files(tmp_path / "saved")
    hub.add("zoo/long", {**right, "config.json": b" " * 2**20 + right["config.json"]})
    with pytest.raises(WeightsError, match=r"zoo/long@main: config.json has \d+ bytes on the Hub, not at most 1048576"):
        from_pretrained("zoo/long")
    assert bodies(hub) == []
    hub.add("zoo/liar", claim(tmp_path / "saved", size=77))
    with pytest.raises(WeightsError, match=r"zoo/liar@.*: model.safetensors has \d+ bytes on the Hub, not 77"):
        from_pretrained("zoo/liar")
    assert bodies(hub) == ["config.json"]
    hub.add(REPO, right)
    monkeypatch.setattr(resolving, "MAX_WEIGHTS", 100)
    with pytest.raises(WeightsError, match=r"above the limit of 100 \(MAX_WEIGHTS\)"):
        from_pretrained(REPO)
    assert bodies(hub) == ["config.json"]


def test_a_link_out_of_the_cache_is_not_followed(hub, far, tmp_path):
    from_pretrained(NAME)
    (link,) = (tmp_path / "cache").glob("*/snapshots/*/model.safetensors")
    link.unlink()
    link.symlink_to(tmp_path / "away" / "model.safetensors")
    with pytest.raises(WeightsError, match="leads out of the cache"):
        from_pretrained(NAME)


def test_loading_from_the_cache_writes_nothing(hub, far, model, tmp_path):
    from_pretrained(NAME)
    folders = [path for path in (tmp_path / "cache").rglob("*") if path.is_dir()]
    before = {path: path.stat().st_mtime_ns for path in folders}
    assert same(from_pretrained(NAME), model)
    assert {path: path.stat().st_mtime_ns for path in folders} == before


def test_sixteen_at_once_leave_one_good_copy(hub, repo, model, tmp_path):
    code = """
import json, os
from ebm_zoo.zoo.resolve import Access, resolve
import huggingface_hub.file_download  # once, before the processes part
children = []
for k in range(16):
    if not (child := os.fork()):
        try:
            os._exit(0 if resolve('zoo/tiny', access=Access()).sha256 else 1)
        finally:
            os._exit(2)
    children.append(child)
print(json.dumps([os.waitpid(child, 0)[1] for child in children]))
"""
    assert report(code, HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "home")) == [0] * 16
    (cache,) = (tmp_path / "home" / "hub").glob("models--*")
    assert len(list((cache / "blobs").iterdir())) == 2
    assert same(from_pretrained(REPO, cache_dir=cache.parent, local_files_only=True), model)


def test_the_clients_environment_counts(hub, tmp_path):
    saved_model(tmp_path / "saved")
    hub.add("zoo/secret", files(tmp_path / "saved"), private=True)
    code = """
import json
from ebm_zoo.errors import WeightsError
from ebm_zoo.zoo.resolve import Access, resolve
try:
    print(json.dumps(str(resolve('zoo/secret', access=Access()).path)))
except WeightsError as error:
    print(json.dumps(str(error)))
"""
    place = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    assert "no such repository, or a private one" in report(code, **place)
    assert report(code, HF_TOKEN=TOKEN, **place).startswith(str(tmp_path / "home" / "hub"))
    asked(hub)
    assert report(code, HF_HUB_OFFLINE="1", **place).startswith(str(tmp_path / "home" / "hub"))
    assert "HF_HUB_OFFLINE forbids" in report(code, **{**place, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)})
    assert asked(hub) == []
