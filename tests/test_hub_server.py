"""The Hub's double, asked by the real client: what is pushed is pulled, and pinned revisions stay."""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hub_client import FILES, NAME, OWNER, READER, UPLOAD_WARNING, asked, client, load, read, weights, write
from hub_server import HubServer
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

pytestmark = pytest.mark.filterwarnings(UPLOAD_WARNING)


@pytest.fixture
def hub():
    with HubServer() as hub:
        yield hub


def test_what_is_pushed_is_pulled(hub, tmp_path):
    owner, nobody = client(hub, OWNER), client(hub)
    assert owner.whoami()["name"] == "zoo"
    files = {**FILES, "pictures/samples 1.png": bytes(range(256)), "empty.safetensors": b""}
    for _ in range(2):
        owner.create_repo(NAME, exist_ok=True)
    commit = owner.upload_folder(repo_id=NAME, folder_path=write(tmp_path / "folder", files))
    assert commit.oid == nobody.model_info(NAME).sha == hub.repos[NAME].resolve("main").oid
    assert commit.startswith(f"{hub.endpoint}/{NAME}/commit/")
    pulled = nobody.snapshot_download(NAME, cache_dir=tmp_path / "cache")
    assert read(pulled) == files
    # By this name a cached file can be checked without the Hub.
    blob = Path(pulled, "model.safetensors").resolve()
    assert blob.name == hashlib.sha256(weights()).hexdigest()
    for path, content in files.items():
        assert load(nobody, path, tmp_path / "other") == content


def test_only_large_files_travel_by_the_other_origin_and_no_token_does(hub, tmp_path):
    owner = client(hub, OWNER)
    owner.create_repo(NAME, private=True)
    owner.upload_folder(repo_id=NAME, folder_path=write(tmp_path / "folder", FILES))
    owner.snapshot_download(NAME, cache_dir=tmp_path / "cache")
    there = [request for request in hub.requests if request.headers["host"] in hub.storage]
    assert [(request.method, request.user) for request in there] == [("PUT", None), ("GET", None)]
    assert there[0].body == FILES["model.safetensors"]
    assert {request.user for request in hub.requests if request not in there} == {"zoo"}
    assert not any(OWNER in repr(request) for request in hub.requests)


def test_bytes_of_another_digest_than_announced_are_refused(hub):
    url = f"{hub.storage}/upload/{hashlib.sha256(b'right').hexdigest()}"
    with pytest.raises(urllib.error.HTTPError, match="Error 400:") as answer:
        urllib.request.urlopen(urllib.request.Request(url, b"wrong", method="PUT"))
    answer.value.close()
    assert hub.uploads == {}


def test_what_has_not_changed_is_not_pushed_again(hub, tmp_path):
    owner, folder = client(hub, OWNER), write(tmp_path, FILES)
    repo = hub.add(NAME, {**FILES, "config.json": b"{}"})
    first = owner.upload_folder(repo_id=NAME, folder_path=folder)
    requests = asked(hub)
    assert f"POST /api/models/{NAME}/commit/main" in requests
    assert not any(request.startswith("PUT") for request in requests)
    second = owner.upload_folder(repo_id=NAME, folder_path=folder)
    assert first.oid == second.oid == repo.resolve("main").oid
    assert f"POST /api/models/{NAME}/commit/main" not in asked(hub)


def test_a_card_without_metadata_is_reported(hub):
    hub.add(NAME, {})
    with pytest.warns(UserWarning, match="missing yaml metadata"):
        client(hub, OWNER).upload_file(repo_id=NAME, path_in_repo="README.md", path_or_fileobj=b"# A tiny model\n")


def test_listings(hub):
    nobody = client(hub)
    repo = hub.add(NAME, {"a/b/c.json": b"{}", "model.safetensors": weights()})
    head = repo.resolve("main")
    assert nobody.repo_exists(NAME) and not nobody.repo_exists("zoo/other")
    assert nobody.file_exists(NAME, "a/b/c.json") and not nobody.file_exists(NAME, "a/b/d.json")
    assert [entry.path for entry in nobody.list_repo_tree(NAME)] == [".gitattributes", "a", "model.safetensors"]
    assert [entry.path for entry in nobody.list_repo_tree(NAME, "a/b")] == ["a/b/c.json"]
    assert sorted(nobody.list_repo_files(NAME)) == sorted(head.files)
    (stored,) = nobody.get_paths_info(NAME, ["model.safetensors", "nothing"])
    assert (stored.size, stored.lfs.sha256) == (len(weights()), head.files["model.safetensors"].sha256)
    blobs = {found.rfilename: found for found in nobody.model_info(NAME, files_metadata=True).siblings}
    assert blobs["model.safetensors"].lfs.sha256 == stored.lfs.sha256 and blobs["a/b/c.json"].size == 2
    # git's own name for the two bytes "{}"
    assert blobs["a/b/c.json"].blob_id == "9e26dfeeb6e641a33dae4961196235bdb965b21b"


def test_a_pinned_revision_stays_when_main_moves(hub, tmp_path):
    owner, nobody = client(hub, OWNER), client(hub)
    pinned = hub.add(NAME, FILES).resolve("main").oid
    owner.create_tag(NAME, tag="v1")
    owner.create_branch(NAME, branch="old", revision=pinned)
    owner.upload_file(repo_id=NAME, path_in_repo="config.json", path_or_fileobj=b"new", commit_message="news")
    assert load(nobody, "config.json", tmp_path) == b"new"
    for revision in (pinned, "v1", "old"):
        assert load(nobody, "config.json", tmp_path, revision) == FILES["config.json"]
    assert nobody.model_info(NAME, revision="v1").sha == pinned
    history = nobody.list_repo_commits(NAME)
    assert [commit.title for commit in history] == ["news", "add files", "initial commit"]
    assert history[1].commit_id == pinned
    refs = nobody.list_repo_refs(NAME)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": history[0].commit_id, "old": pinned}
    assert [(tag.name, tag.target_commit) for tag in refs.tags] == [("v1", pinned)]


@pytest.mark.parametrize("word", ["tag", "branch"])
def test_what_is_named_once_cannot_be_named_again(hub, tmp_path, word):
    hub.add(NAME, FILES)
    owner, name = client(hub, OWNER), {word: "v1"}
    create, remove = getattr(owner, f"create_{word}"), getattr(owner, f"delete_{word}")
    create(NAME, **name)
    create(NAME, **name, exist_ok=True)
    with pytest.raises(HfHubHTTPError, match=r"\b409\b"):
        create(NAME, **name)
    remove(NAME, **name)
    with pytest.raises(RevisionNotFoundError):
        load(owner, "config.json", tmp_path, "v1")


def test_a_cached_pinned_revision_makes_no_request(hub, tmp_path):
    nobody = client(hub)
    pinned = hub.add(NAME, FILES).resolve("main").oid
    for path, content in FILES.items():
        load(nobody, path, tmp_path, pinned)
        assert asked(hub)
        assert load(nobody, path, tmp_path, pinned) == content
        assert asked(hub) == []
    load(nobody, "config.json", tmp_path, "main")
    assert asked(hub) == [f"HEAD /{NAME}/resolve/main/config.json"]


def test_a_commit_on_a_parent_that_is_no_longer_the_head_is_refused(hub):
    owner, repo = client(hub, OWNER), hub.add(NAME, FILES)
    parent = repo.resolve("main").oid
    change = {"repo_id": NAME, "path_in_repo": "config.json", "parent_commit": parent}
    owner.upload_file(**change, path_or_fileobj=b"first")
    with pytest.raises(HfHubHTTPError, match=r"\b412\b"):
        owner.upload_file(**change, path_or_fileobj=b"second")
    assert repo.resolve("main").file("config.json").content == b"first"


def test_a_reader_proposes_a_change(hub, tmp_path):
    reader, nobody, repo = client(hub, READER), client(hub), hub.add(NAME, FILES)
    change = {"repo_id": NAME, "path_in_repo": "model.safetensors", "path_or_fileobj": weights(1)}
    with pytest.raises(HfHubHTTPError, match=r"\b403\b"):
        reader.upload_file(**change)
    commit = reader.upload_file(**change, create_pr=True)
    assert (commit.pr_num, commit.pr_revision) == (1, "refs/pr/1")
    assert load(nobody, "model.safetensors", tmp_path) == weights()
    assert load(nobody, "model.safetensors", tmp_path, "refs/pr/1") == weights(1)
    (pull,) = nobody.list_repo_refs(NAME, include_pull_requests=True).pull_requests
    assert pull.target_commit == commit.oid and repo.commits[commit.oid].parent == repo.resolve("main").oid


def test_files_and_repositories_are_deleted(hub):
    owner, repo = client(hub, OWNER), hub.add(NAME, {**FILES, "a/b.json": b"{}", "a/c.json": b"{}"})
    owner.delete_file("config.json", NAME)
    owner.delete_folder("a", NAME)
    assert set(repo.resolve("main").files) == {".gitattributes", "README.md", "model.safetensors"}
    with pytest.raises(EntryNotFoundError):
        owner.delete_file("config.json", NAME)
    with pytest.raises(HfHubHTTPError, match=r"\b403\b"):
        client(hub, READER).delete_repo(NAME)
    owner.delete_repo(NAME)
    assert hub.repos == {}
    with pytest.raises(RepositoryNotFoundError):
        owner.delete_repo(NAME)


def test_a_request_that_the_double_does_not_know_fails_the_test():
    with pytest.raises(AssertionError) as failure, HubServer() as hub:
        with pytest.raises(urllib.error.HTTPError, match="Error 501:") as answer:
            urllib.request.urlopen(f"{hub.endpoint}/api/spaces")
        answer.value.close()
    assert "GET /api/spaces" in str(failure.value.__cause__)
