"""Models put on the Hub's double by the real client, and pulled again into an empty cache."""

import hashlib
import importlib
import os
import shutil
from pathlib import Path

import hub_store
import pytest
import torch
from hub_client import OWNER, READER, UPLOAD_WARNING, asked
from hub_files import SIGNATURE
from hub_server import HubServer, delay, refuse
from huggingface_hub import constants
from safetensors.torch import load, save
from zoo_helpers import NAME, done, everything, refused, rewrite, saved_model, shipped, tiny_zoo, zoo

from ebm_zoo import from_pretrained, save_pretrained
from ebm_zoo.config import to_config
from ebm_zoo.errors import WeightsError
from ebm_zoo.files import WEIGHTS, resource
from ebm_zoo.models import EnergyModel
from ebm_zoo.zoo import catalog, find, limits, read_catalog
from ebm_zoo.zoo.card import card
from ebm_zoo.zoo.catalog import VARIABLE, merged
from ebm_zoo.zoo.parts import Hub

pytestmark = pytest.mark.filterwarnings(UPLOAD_WARNING)
REPO = "zoo/tiny"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder, an empty cache, the owner's token, and no catalog of one's own."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("HF_TOKEN", OWNER)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def hub(monkeypatch):
    with HubServer() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


@pytest.fixture
def model(tmp_path):
    with tiny_zoo(tmp_path / "zoo") as model:
        yield model


def head(hub: HubServer, repo: str = REPO) -> dict[str, bytes]:
    """What lies in a repository, but for the file that the Hub adds."""
    files = hub.repos[repo].resolve("main").files
    return {path: file.content for path, file in files.items() if path != ".gitattributes"}


def same(a: EnergyModel, b: EnergyModel) -> bool:
    """Whether two models have the same settings, the same weights to the bit, and answer the same."""
    states = [model.state_dict() for model in (a, b)]
    equal = to_config(a) == to_config(b) and states[0].keys() == states[1].keys()
    equal = equal and all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    if "sample" in a.tasks:
        steps = min(2, a.chain_length)  # a flow takes none
        samples = [model.sample(2, steps=steps, generator=seed) for model, seed in zip((a, b), seeds, strict=True)]
        return equal and torch.equal(*samples)
    x = torch.rand(8, *a.space.shape)
    if "classify" in a.tasks:
        return equal and torch.equal(a.classify(x), b.classify(x))
    seeds = [{"generator": seed, "steps": 2} for seed in seeds]
    if "translate" in a.tasks:
        return equal and torch.equal(a.translate(x, "b", **seeds[0]), b.translate(x, "b", **seeds[1]))
    question = torch.rand(8, *a.condition.shape)
    return equal and torch.equal(a.predict(question, **seeds[0])[1], b.predict(question, **seeds[1])[1])


# Push


def test_a_pushed_model_is_pulled_the_same(hub, model, tmp_path):
    before = find(NAME).source.read_text()
    text = done("push", NAME, "--repo", REPO)
    commit = hub.repos[REPO].resolve("main")
    assert text == f"{NAME}  {REPO}@{commit.oid}\n"
    assert [each.title for each in hub.repos[REPO].history("main")] == ["Add model", "initial commit"]
    files = head(hub)
    assert files.keys() == {"config.json", "model.safetensors", "README.md"} and not hub.repos[REPO].private
    folder = find(NAME).folder
    assert all(files[name] == (folder / name).read_bytes() for name in ("config.json", "model.safetensors"))
    config = hashlib.sha256(files["config.json"]).hexdigest()
    assert find(NAME).hub == Hub(REPO, commit.oid, config)
    after = find(NAME).source.read_text()
    assert after.replace(f"  hub: {{repo: {REPO}, revision: '{commit.oid}', config: '{config}'}}\n", "") == before
    pulled = from_pretrained(NAME, source="hub", cache_dir=tmp_path / "empty")
    assert same(pulled, model) and same(from_pretrained(REPO, cache_dir=tmp_path / "other"), model)


@pytest.mark.skipif(not shipped(), reason="there is no catalog")
def test_the_whole_zoo_is_pushed_and_pulled(hub, tmp_path, monkeypatch):
    root = tmp_path / "zoo"
    shutil.copytree(WEIGHTS, root / "weights")
    shutil.copy(resource("checkpoints.yaml"), root)
    comments = [line for line in (root / "checkpoints.yaml").read_text().splitlines() if "#" in line]
    module = importlib.import_module("ebm_zoo.zoo.catalog")
    originals = {entry.name: from_pretrained(entry.name) for entry in shipped()}
    with monkeypatch.context() as patch:
        patch.setattr(module, "WEIGHTS", root / "weights")
        patch.setattr(module, "resource", lambda name: root / name)
        merged.cache_clear()
        lines = done("push", "--all", "--namespace", "zoo").splitlines()
        assert lines == [f"{entry.name}  {entry.hub}" for entry in catalog().values()]
        assert catalog().keys() == originals.keys()
        for entry in catalog().values():
            assert entry.hub.repo == f"zoo/{entry.name.replace('/', '-')}"
            files = head(hub, entry.hub.repo)
            assert ("samples.png" in files) == (entry.folder / "samples.png").is_file()
            assert same(from_pretrained(entry.name, source="hub"), originals[entry.name])
            assert (entry.folder / "README.md").read_text(encoding="utf-8") == card(entry)
        assert "FAILED" not in done("verify", "--hub")
        assert [line for line in (root / "checkpoints.yaml").read_text().splitlines() if "#" in line] == comments
        # Nothing has changed: no commit is made, and the catalog stays as it is.
        before = (root / "checkpoints.yaml").read_bytes()
        assert done("push", "--all", "--namespace", "zoo").splitlines() == lines
        assert (root / "checkpoints.yaml").read_bytes() == before
        assert {len(repo.history("main")) for repo in hub.repos.values()} == {2}
    merged.cache_clear()


def test_new_weights_are_a_new_commit(hub, model, tmp_path):
    done("push", NAME, "--repo", REPO)
    first = find(NAME).hub
    saved_model(tmp_path / "saved", penalty=0.5)
    done("push", tmp_path / "saved", "--repo", REPO)
    assert find(NAME).hub == first, "what a folder holds is of no catalog"
    assert len(hub.repos[REPO].history("main")) == 3
    assert from_pretrained(NAME, source="hub").penalty == model.penalty
    assert from_pretrained(REPO).penalty == 0.5


def test_a_folder_is_pushed_with_a_card_of_its_own_or_a_made_one(hub, model, tmp_path):
    mine = saved_model(tmp_path / "saved")
    done("push", tmp_path / "saved", "--repo", REPO)
    text = head(hub)["README.md"].decode()
    assert f'from_pretrained("{REPO}")' in text and "sampler Langevin(steps=3" in text
    assert same(from_pretrained(REPO), mine)
    (tmp_path / "saved" / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    done("push", tmp_path / "saved", "--repo", REPO)
    assert head(hub)["README.md"] == (tmp_path / "saved" / "README.md").read_bytes()


def test_a_model_of_a_catalog_of_ones_own_is_pinned_there(hub, model, tmp_path, here):
    saved_model(tmp_path / "saved")
    done("register", tmp_path / "saved", "--name", "a/b", "--catalog", "my.yaml")
    zoo_before = find(NAME).source.read_bytes()
    text = done("push", "--all", "--namespace", "zoo", "--catalog", "my.yaml")
    pin = read_catalog(here / "my.yaml")["a/b"].hub
    assert text == f"a/b  {pin}\n" and pin.repo == "zoo/a-b"
    assert find(NAME).source.read_bytes() == zoo_before and list(hub.repos) == ["zoo/a-b"]
    shutil.rmtree(here / "weights")
    assert same(from_pretrained("a/b"), from_pretrained(tmp_path / "saved"))


def test_dry_run_asks_nothing_and_writes_nothing(hub, model, tmp_path):
    before = everything(tmp_path / "zoo")
    text = done("push", NAME, "--repo", REPO, "--dry-run") + done("push", "--all", "--namespace", "me", "--dry-run")
    assert f"{NAME} -> {REPO}\n" in text and f"{NAME} -> me/generative_convnet-tiny\n" in text
    assert f"{find(NAME).weights.size:,} bytes" in text
    assert asked(hub) == [] and everything(tmp_path / "zoo") == before


def test_private(hub, model):
    done("push", NAME, "--repo", REPO, "--private")
    assert hub.repos[REPO].private and find(NAME).hub
    hub.add("zoo/public", {})
    refused("push", NAME, "--repo", "zoo/public", "--private", says=("zoo/public", "is public"))
    assert head(hub, "zoo/public") == {}


def test_a_pull_request_leaves_main_and_the_catalog(hub, model, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", READER)
    hub.add(REPO, {})
    before = everything(tmp_path / "zoo")
    text = done("push", NAME, "--repo", REPO, "--create-pr")
    assert text == f"{NAME}  {hub.endpoint}/{REPO}/discussions/1\n"
    assert head(hub) == {} and everything(tmp_path / "zoo") == before
    assert hub.repos[REPO].resolve("refs/pr/1").file("model.safetensors").content
    done("push", NAME, "--repo", REPO, "--create-pr")
    assert "refs/pr/2" in hub.repos[REPO].refs


def test_a_pull_request_of_what_is_there_is_none(hub, model):
    done("push", NAME, "--repo", REPO)
    assert done("push", NAME, "--repo", REPO, "--create-pr") == f"{NAME}  nothing to request\n"


# What goes wrong


def test_strangers_and_readers_are_refused(hub, model, tmp_path, monkeypatch):
    hub.add(REPO, {})
    before = everything(tmp_path / "zoo")
    for token, says in (("", "401"), ("hf_wrong", "401"), (READER, "403")):
        monkeypatch.setenv("HF_TOKEN", token)
        text = refused("push", NAME, "--repo", REPO, says=(REPO, says))
        assert not token or token not in text
    monkeypatch.setenv("HF_TOKEN", OWNER)
    refused("push", NAME, "--repo", "somebody/else", says=("somebody/else", "403"))
    refused("push", NAME, "--repo", "zoo/none", "--create-pr", says=("zoo/none", "no such repository"))
    assert head(hub) == {} and everything(tmp_path / "zoo") == before


@pytest.mark.parametrize(
    ("pattern", "status", "says"),
    [
        ("repos/create", 503, "busy or down"),
        ("validate-yaml", 400, "refuses README.md"),
        ("info/lfs", 400, "status 400"),
        ("PUT /upload", 403, "status 403"),
        ("/commit/main", 500, "status 500"),
    ],
)
def test_a_hub_that_fails_midway_is_one_clear_error(hub, model, tmp_path, pattern, status, says):
    before = everything(tmp_path / "zoo")
    hub.fault(refuse(status), pattern)
    text = refused("push", NAME, "--repo", REPO, says=(REPO, says))
    assert OWNER not in text and everything(tmp_path / "zoo") == before


@pytest.mark.parametrize("large", [10**7, 100], ids=["one large file", "several, sent by threads"])
@pytest.mark.parametrize(("times", "code"), [(2, 0), (99, 1)], ids=["twice", "always"])
def test_an_upload_that_fails_shows_no_address(hub, model, tmp_path, monkeypatch, capfd, caplog, large, times, code):
    """The address that takes a large file gives access to whoever reads it."""
    monkeypatch.setattr(hub_store, "LFS_SIZE", large)
    caplog.set_level("DEBUG")
    for name in ("huggingface_hub", "httpx", "httpx2", "httpcore2.http11"):
        # However much the user lets them say.
        caplog.set_level("DEBUG", name)
    hub.fault(refuse(500), "PUT /upload", times=times // 2)
    hub.fault(refuse(503), "PUT /upload", times=times - times // 2)
    result = zoo("push", NAME, "--repo", REPO)
    assert result.code == code, result
    shown = capfd.readouterr()
    texts = [result.out, result.err, *shown, *(record.getMessage() for record in caplog.records)]
    for secret in (SIGNATURE.partition("=")[2], hub.storage, OWNER):
        assert not [text for text in texts if secret in text], secret
    assert "HTTP Error" not in "".join(texts) and "Retrying" not in "".join(texts)
    uploads = [request for request in hub.requests if request.method == "PUT"]
    assert len(uploads) > times if code == 0 else 3 <= len(uploads) <= 3 * 3
    if code:
        assert (REPO in result.err and "busy or down" in result.err) and head(hub) == {}


def test_a_hub_that_does_not_answer_is_not_waited_for_without_end(hub, model, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "PATIENCE", 0.3)
    hub.fault(delay(1.5), "/commit/main")
    before = everything(tmp_path / "zoo")
    refused("push", NAME, "--repo", REPO, says=(REPO, "cannot be reached"))
    assert everything(tmp_path / "zoo") == before


def test_weights_that_are_not_finite_are_not_pushed(hub, model, tmp_path, monkeypatch):
    saved_model(tmp_path / "saved")
    weights = load((tmp_path / "saved" / "model.safetensors").read_bytes())
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = torch.nan
    data = save(weights)
    (tmp_path / "saved" / "model.safetensors").write_bytes(data)
    described = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    rewrite(tmp_path / "saved", lambda config: config["weights"].update(described))
    says = ("NaN or infinite", f"'{name}'")
    refused("push", tmp_path / "saved", "--repo", REPO, says=says)
    refused("register", tmp_path / "saved", "--name", "a/b", "--catalog", "my.yaml", says=says)
    monkeypatch.setenv(VARIABLE, "")
    # The same below a catalog that names these very weights.
    shutil.copytree(tmp_path / "saved", find(NAME).folder, dirs_exist_ok=True)
    path = find(NAME).source
    path.write_text(path.read_text().replace(find(NAME).weights.sha256, described["sha256"]))
    merged.cache_clear()
    refused("push", NAME, "--repo", REPO, says=says)
    result = zoo("verify", NAME)
    assert result.code == 1 and all(part in result.out for part in says)
    assert asked(hub) == []


def test_a_model_that_is_not_finite_is_not_saved(tmp_path):
    model = saved_model(tmp_path / "saved")
    before = everything(tmp_path)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] = torch.inf
    with pytest.raises(WeightsError, match=f"NaN or infinite values in '{next(iter(model.state_dict()))}'"):
        save_pretrained(model, tmp_path / "saved")
    assert everything(tmp_path) == before


def test_a_dead_hub(hub, model, tmp_path):
    hub.stop()
    before = everything(tmp_path / "zoo")
    refused("push", NAME, "--repo", REPO, says=(REPO, "cannot be reached"))
    refused("push", NAME, "--repo", REPO, "--create-pr", says=(REPO, "cannot be reached"))
    assert everything(tmp_path / "zoo") == before


def test_the_rest_is_pushed_after_a_failure(hub, model, tmp_path):
    saved_model(tmp_path / "saved")
    done("register", tmp_path / "saved", "--name", "a/b", "--catalog", find(NAME).source)
    hub.fault(refuse(403), "repos/create", times=1)
    result = zoo("push", "--all", "--namespace", "zoo")
    assert result.code == 1
    first, second = result.out.splitlines()
    assert first.startswith(f"FAILED  {NAME}: Cannot push") and second == f"a/b  {find('a/b').hub}"
    assert find(NAME).hub is None and list(hub.repos) == ["zoo/a-b"]


def test_altered_weights_are_not_pushed(hub, model):
    path = find(NAME).folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    refused("push", NAME, "--repo", REPO, says=(str(path), "altered"))
    assert asked(hub) == []


def test_weights_that_are_not_those_of_the_catalog_are_not_pushed(hub, model):
    other = saved_model(find(NAME).folder)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    save_pretrained(other, find(NAME).folder)
    refused("push", NAME, "--repo", REPO, says=("the catalog names", find(NAME).weights.sha256))
    assert asked(hub) == []


def test_a_catalog_that_cannot_be_edited_stops_a_push_before_it_begins(hub, model, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    refused("push", NAME, "--repo", REPO, says=(str(find(NAME).source), "read-only"))
    assert asked(hub) == []


@pytest.mark.parametrize("repo", ["tiny", "a/b/c", "../tiny", "a/../b", "a b/c", ""])
def test_bad_repositories_are_refused(hub, model, repo):
    says = ("Push one model",) if not repo else (f"'{repo}'", "user/name")
    refused("push", NAME, "--repo", repo, says=says)
    assert asked(hub) == []


@pytest.mark.parametrize(
    "arguments",
    [(), (NAME,), ("--all",), (NAME, "--all", "--namespace", "zoo"), ("--all", "--repo", REPO), ("--repo", REPO)],
)
def test_half_a_push_says_what_is_missing(model, arguments):
    refused("push", *arguments, says=("--repo user/repo", "--all --namespace user"))


def test_a_name_that_is_unknown(model):
    refused("push", "generative_convnet/tny", "--repo", REPO, says=("Did you mean", NAME))
