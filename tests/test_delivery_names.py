"""What a name stands for: catalogs, folders, repositories; nothing is asked for that is not meant."""

import json
from pathlib import Path

import pytest
from delivery import (
    REPO,
    asked_by_default,
    child,
    files,
    other,
    own_catalog,
    pinned,
    same,
)
from hub_client import asked
from zoo_helpers import NAME, done, refused, shipped, tiny_zoo

from ebm_zoo import from_pretrained
from ebm_zoo.errors import CatalogError, WeightsError
from ebm_zoo.models import Classifier, GenerativeConvNet
from ebm_zoo.zoo import catalog, find, list_models
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


# The catalog


def test_a_catalog_of_ones_own(model, tmp_path, monkeypatch):
    path = own_catalog(tmp_path / "own", "mine/bars")
    monkeypatch.setenv("EBM_ZOO_CATALOG", str(path))
    assert list_models() == [NAME, "mine/bars"]
    entry = find("mine/bars")
    assert (entry.source, entry.root) == (path, path.parent / "weights")
    assert (entry.paper, entry.data, entry.training, entry.hub, entry.limits) == (None, None, None, None, "")
    assert from_pretrained("mine/bars").penalty == 0.25
    assert "not on the Hub yet" in done("info", "mine/bars") and "mine/bars" in done("list")
    assert json.loads(done("info", "mine/bars", "--json"))["paper"] is None
    monkeypatch.delenv("EBM_ZOO_CATALOG")
    assert list_models() == [NAME]


def test_a_catalog_of_ones_own_may_not_shadow_the_zoo(model, tmp_path, monkeypatch):
    path = own_catalog(tmp_path / "own", NAME)
    monkeypatch.setenv("EBM_ZOO_CATALOG", str(path))
    with pytest.raises(CatalogError) as error:
        catalog()
    assert str(path) in str(error.value) and str(tmp_path / "zoo" / "checkpoints.yaml") in str(error.value)
    monkeypatch.setenv("EBM_ZOO_CATALOG", str(tmp_path / "nowhere.yaml"))
    refused("list", says=("nowhere.yaml", "No such file"))
    # The zoo's own file is no second catalog.
    monkeypatch.setenv("EBM_ZOO_CATALOG", str(tmp_path / "zoo" / "checkpoints.yaml"))
    assert list_models() == [NAME]


def test_weights_of_ones_own_catalog_stay_beside_it(model, tmp_path, monkeypatch):
    path = own_catalog(tmp_path / "own", "mine/bars")
    path.write_text(path.read_text().replace("mine/bars/model", "../../zoo/weights/model"))
    monkeypatch.setenv("EBM_ZOO_CATALOG", str(path))
    refused("list", says=("leaves the weights folder",))


def test_the_zoo_says_all_of_its_own_models():
    assert shipped()
    for entry in shipped():
        assert entry.paper and entry.data and entry.training and entry.limits, entry.name


# Names


def test_a_local_copy_needs_no_hub(hub, repo, tmp_path):
    pinned(tmp_path / "zoo", repo)
    for source in ("auto", "embedded"):
        assert resolve(NAME, source=source, access=Access()).path == find(NAME).folder / "model.safetensors"
    assert asked(hub) == []


def test_neither_listing_nor_local_loading_imports_the_client():
    code = "import sys, json; from ebm_zoo.cli import main; from ebm_zoo.zoo.resolve import Access, resolve; "
    code += (
        f"main(['list', '--json'] if {not shipped()} else ['info', '{shipped()[0].name}', '--json']); print('---'); "
    )
    code += f"resolve('{shipped()[0].name}', access=Access()); "
    code += "print([name for name in ('torch', 'huggingface_hub') if name in sys.modules])"
    result = child(code)
    assert result.stdout.rpartition("---\n")[2] == "[]\n", result.stderr


def test_a_misspelt_name_of_a_family_is_no_repository(hub):
    for name in ("generative_convnet/tini", "zzz", "../zoo", "a/b/c", "", "a--b/c", "zoo/../tiny"):
        with pytest.raises(CatalogError, match="The zoo has no model named"):
            from_pretrained(name)
    with pytest.raises(CatalogError, match=f"Did you mean {NAME}"):
        from_pretrained("generative_convnet/tini")
    with pytest.raises(CatalogError, match="no model named"):
        from_pretrained(REPO, source="embedded")
    assert asked(hub) == []
    # Whoever says that it is a repository is believed.
    for options in ({"source": "hub"}, {"revision": "main"}):
        with pytest.raises(WeightsError, match="no such repository"):
            from_pretrained("generative_convnet/tini", **options)
    with pytest.raises(WeightsError, match="no such repository"):
        from_pretrained("generative_convnet/tini@main")
    assert len(asked(hub)) == 3


@pytest.mark.parametrize("revision", ["../main", "a/../../b", "/etc", "", "-x", "a b", "a@b", "x" * 40 + "\n"])
def test_what_is_no_revision_is_not_asked_for(hub, revision):
    with pytest.raises(WeightsError, match="is no revision"):
        from_pretrained(f"{REPO}@{revision}")
    assert asked(hub) == []


def test_names_that_do_not_go_together(hub, repo, tmp_path):
    folder = tmp_path / "zoo" / "weights" / NAME
    for options in ({"source": "hub"}, {"revision": "main"}):
        with pytest.raises(WeightsError, match="is a folder, not a repository"):
            from_pretrained(folder, **options)
        with pytest.raises(WeightsError, match=f"{NAME} is not on the Hub yet: leave source and revision out"):
            from_pretrained(NAME, **options)
    with pytest.raises(WeightsError, match="name two revisions"):
        from_pretrained(f"{REPO}@main", revision="v1")
    pinned(tmp_path / "zoo", repo)
    with pytest.raises(WeightsError, match="has no revisions"):
        from_pretrained(NAME, source="embedded", revision="main")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"Cannot read .*empty/config.json"):
        from_pretrained("empty")
    assert asked(hub) == []


def test_a_folder_does_not_shadow_the_catalog(model, tmp_path):
    other(tmp_path / NAME)
    assert same(from_pretrained(NAME), model)
    assert not same(from_pretrained(f"./{NAME}"), model) and not same(from_pretrained(Path(NAME)), model)


def test_models_load_by_their_class(model):
    assert same(GenerativeConvNet.from_pretrained(NAME), model)
    with pytest.raises(WeightsError, match=f"{NAME} is a GenerativeConvNet, not a Classifier"):
        Classifier.from_pretrained(NAME)
