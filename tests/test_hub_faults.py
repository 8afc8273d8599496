"""The Hub's double, asked by the real client: what is refused, and what goes wrong."""

import urllib.error
import urllib.request

import pytest
from hub_client import FILES, NAME, OWNER, READER, client, load, weights
from hub_server import HubServer, corrupt, delay, refuse, truncate
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CONFIG = FILES["config.json"]


@pytest.fixture
def hub():
    with HubServer() as hub:
        yield hub


@pytest.mark.parametrize("token", [OWNER, READER, False])
def test_what_is_missing_is_named(hub, tmp_path, token):
    api, head = client(hub, token), hub.add(NAME, FILES).resolve("main").oid
    # Strangers are not told whether it is hidden from them.
    status = "404" if token else "401"
    for ask in (api.model_info, lambda name: api.hf_hub_download(name, "config.json", cache_dir=tmp_path)):
        with pytest.raises(RepositoryNotFoundError, match=status):
            ask("zoo/other")
    for revision in ("v9", "0" * 40):
        with pytest.raises(RevisionNotFoundError):
            api.model_info(NAME, revision=revision)
        with pytest.raises(RevisionNotFoundError):
            load(api, "config.json", tmp_path, revision)
    with pytest.raises(EntryNotFoundError):
        load(api, "nothing.json", tmp_path)
    assert list(tmp_path.glob(f"*/.no_exist/{head}/nothing.json"))


def test_a_private_repository_is_there_for_its_owner_only(hub, tmp_path):
    owner = client(hub, OWNER)
    owner.create_repo(NAME, private=True)
    owner.upload_file(repo_id=NAME, path_in_repo="config.json", path_or_fileobj=CONFIG)
    assert owner.model_info(NAME).private
    for stranger in (client(hub, READER), client(hub)):
        with pytest.raises(RepositoryNotFoundError):
            load(stranger, "config.json", tmp_path)
        assert not stranger.repo_exists(NAME)
    assert load(owner, "config.json", tmp_path) == CONFIG


def test_a_gated_repository_is_there_for_its_readers(hub, tmp_path):
    repo = hub.add(NAME, FILES)
    repo.gated = "manual"
    for token, status in ((READER, "403"), (False, "401")):
        stranger = client(hub, token)
        assert stranger.model_info(NAME).gated == "manual"
        with pytest.raises(GatedRepoError, match=status):
            load(stranger, "config.json", tmp_path)
    repo.readers.add("reader")
    for token in (OWNER, READER):
        assert load(client(hub, token), "model.safetensors", tmp_path / token) == weights()


def test_a_token_is_needed_to_write_and_must_be_known(hub, tmp_path):
    hub.add(NAME, FILES)
    stranger = client(hub, "hf_stranger")
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        load(stranger, "config.json", tmp_path)
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        stranger.create_repo("stranger/other")
    with pytest.raises(HfHubHTTPError, match=r"\b401\b"):
        client(hub).create_repo("zoo/other")
    with pytest.raises(HfHubHTTPError, match=r"\b403\b"):
        client(hub, READER).create_repo("zoo/other")
    assert set(hub.repos) == {NAME}


def test_a_busy_hub_is_asked_again(hub, tmp_path):
    hub.add(NAME, FILES)
    hub.fault(refuse(429), times=2)
    assert load(client(hub), "config.json", tmp_path) == CONFIG
    assert [request.method for request in hub.requests] == ["HEAD", "HEAD", "HEAD", "GET"]


def test_what_is_refused_has_no_effect(hub):
    owner = client(hub, OWNER)
    hub.fault(refuse(503), "POST /api/repos/create", times=1)
    with pytest.raises(HfHubHTTPError, match=r"\b503\b"):
        owner.create_repo(NAME)
    assert not hub.repos
    owner.create_repo(NAME)
    assert set(hub.repos) == {NAME}


def test_a_broken_download_is_resumed(hub, tmp_path, monkeypatch):
    # The client keeps what it got in units of this many bytes; its own are far larger than the file.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 100)
    hub.add(NAME, FILES)
    hub.fault(truncate, "GET /stored/.*/model.safetensors", times=1)
    assert load(client(hub), "model.safetensors", tmp_path) == weights()
    first, second = (request for request in hub.requests if request.path.startswith("/stored/"))
    assert "range" not in first.headers
    # All that arrived, in whole units.
    assert second.headers["range"] == f"bytes={len(weights()) // 2 // 100 * 100}-"


@pytest.mark.parametrize("path", ["config.json", "model.safetensors"])
def test_a_part_of_a_file_is_served(hub, path):
    hub.add(NAME, FILES)
    whole = FILES[path]
    url = f"{hub.endpoint}/{NAME}/resolve/main/{path}"
    for part, start, end in (("5-", 5, len(whole)), ("0-3", 0, 4), ("7-99999", 7, len(whole))):
        with urllib.request.urlopen(urllib.request.Request(url, headers={"Range": f"bytes={part}"})) as answer:
            assert (answer.status, answer.read()) == (206, whole[start:end])
            assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(whole)}"
    with pytest.raises(urllib.error.HTTPError, match="Error 416:") as failure:
        urllib.request.urlopen(urllib.request.Request(url, headers={"Range": f"bytes={len(whole)}-"}))
    failure.value.close()


def test_altered_bytes_of_the_right_number_are_served(hub, tmp_path):
    nobody = client(hub)
    hub.add(NAME, FILES)
    hub.fault(corrupt, "GET /stored/.*/model.safetensors")
    found = nobody.snapshot_download(NAME, cache_dir=tmp_path)
    altered = load(nobody, "model.safetensors", tmp_path)
    assert len(altered) == len(weights()) and altered != weights()
    checked = nobody.verify_repo_checksums(NAME, cache_dir=tmp_path)
    assert str(checked.verified_path) == found and checked.missing_paths == []
    assert [mismatch["path"] for mismatch in checked.mismatches] == ["model.safetensors"]


def test_a_slow_hub_is_not_waited_for_when_the_file_is_cached(hub, tmp_path):
    nobody, repo = client(hub), hub.add(NAME, FILES)
    load(nobody, "config.json", tmp_path)
    repo.commit({"config.json": b"new"})
    hub.fault(delay(0.5), "HEAD", times=1)
    assert load(nobody, "config.json", tmp_path, etag_timeout=0.1) == CONFIG
    assert load(nobody, "config.json", tmp_path) == b"new"


def test_a_hub_that_is_gone_leaves_the_cache(hub, tmp_path):
    nobody = client(hub)
    hub.add(NAME, FILES)
    load(nobody, "config.json", tmp_path)
    asked = len(hub.requests)
    hub.stop()
    assert load(nobody, "config.json", tmp_path) == CONFIG
    assert len(hub.requests) == asked
    with pytest.raises(LocalEntryNotFoundError):
        nobody.hf_hub_download(NAME, "model.safetensors", cache_dir=tmp_path, local_files_only=True)
