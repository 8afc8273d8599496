"""Catalogs of one's own: small edits, registered models, and `--catalog`."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from zoo_helpers import NAME, done, everything, refused, saved_model, tiny_zoo, zoo

from ebm_zoo import from_pretrained
from ebm_zoo.errors import CatalogError
from ebm_zoo.zoo import catalog, find, read_catalog
from ebm_zoo.zoo.catalog import VARIABLE
from ebm_zoo.zoo.edit import add, pin, require_editable
from ebm_zoo.zoo.parts import Hub
from ebm_zoo.zoo.register import described

HUB, OTHER = Hub("user/name", "0123456789" * 4), Hub("some-one/else.2", "f" * 40)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder, and no catalog of one's own."""
    monkeypatch.setenv(VARIABLE, "")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def model(tmp_path):
    with tiny_zoo(tmp_path / "zoo") as model:
        yield model


@pytest.fixture
def plain(model) -> str:
    """The catalog of the tiny zoo, with a second entry, comments and odd line breaks, as text."""
    text = find(NAME).source.read_text()
    assert "  weights:\n" in text and "  training:\n" in text
    text = text.replace("  weights:\n", "  # of the run in January\n  weights:   # kept\n")
    text = text.replace("  training:\n", "  # on a machine of ours\n  training:\n")
    return f"# A catalog.\n\n{text}\n\n# the last one\n{text.replace('tiny:', 'second:')}# the end"


def edited(path: Path, text: str, name: str = NAME, hub: Hub = HUB) -> str:
    path.write_bytes(text.encode())
    pin(read_catalog(path)[name], hub)
    return path.read_bytes().decode()


# Pinning


def test_a_pin_adds_one_line_and_leaves_the_rest(plain, tmp_path):
    text = edited(tmp_path / "a.yaml", plain)
    added = f"  hub: {{repo: {HUB.repo}, revision: '{HUB.revision}'}}\n"
    assert text.replace(added, "", 1) == plain
    # What stood above a field still does.
    assert f"{added}  # on a machine of ours\n" in text
    found = read_catalog(tmp_path / "a.yaml")
    assert found[NAME].hub == HUB and found["generative_convnet/second"].hub is None


def test_a_pin_replaces_the_pin_before(plain, tmp_path):
    first = edited(tmp_path / "a.yaml", plain)
    second = edited(tmp_path / "a.yaml", first, hub=OTHER)
    assert second == first.replace(HUB.repo, OTHER.repo).replace(HUB.revision, OTHER.revision)
    assert read_catalog(tmp_path / "a.yaml")[NAME].hub == OTHER


@pytest.mark.parametrize(
    "old",
    [
        "  hub:\n    # where it lies\n    revision: {a}  # in May\n    repo: a/b\n",
        "  hub: {{revision: '{a}', repo: \"a/b\"}}\n",
        "  hub: null  # not yet\n",
        "  hub:\n",
        "  hub: ~\n",
    ],
)
def test_a_pin_written_by_hand_is_replaced_in_place(plain, tmp_path, old):
    old = old.format(a="a" * 40)
    text = edited(tmp_path / "a.yaml", plain.replace("  weights:", f"{old}  weights:", 1))
    assert read_catalog(tmp_path / "a.yaml")[NAME].hub == HUB
    assert text.count("hub:") == 1 and "a" * 40 not in text
    assert [line for line in text.splitlines() if line not in plain.splitlines()]
    comments = [line.partition("#")[2] for line in old.splitlines() if "#" in line]
    assert all(f"#{comment}" in text for comment in comments)


@pytest.mark.parametrize("old", [
    "  hub:\n    # where it lies\n    revision: {a}  # in May\n    repo: a/b\n",
    "  hub:\n    repo: a/b\n    revision: {a}\n    config: {b}  # of May\n",
    "  hub: {{revision: '{a}', repo: \"a/b\"}}\n",
    "  hub: {{repo: a/b, revision: '{a}', config: '{b}'}}\n",
    "  hub: ~\n",
    "",
])  # fmt: skip
def test_a_pin_of_the_configuration(plain, tmp_path, old):
    old = old.format(a="a" * 40, b="b" * 64)
    pinned = replace(HUB, config="0123456789abcdef" * 4)
    text = edited(tmp_path / "a.yaml", plain.replace("  weights:", f"{old}  weights:", 1), hub=pinned)
    assert read_catalog(tmp_path / "a.yaml")[NAME].hub == pinned
    assert "a" * 40 not in text and "b" * 64 not in text and text.count("config:") == 1
    # One that is not known is taken back.
    edited(tmp_path / "a.yaml", text)
    assert read_catalog(tmp_path / "a.yaml")[NAME].hub == HUB


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_ends_of_lines_and_encoding_stay(plain, tmp_path, ending):
    text = plain.replace("bars of noise", "Balken, gemäß Entwurf").replace("\n", ending)
    after = edited(tmp_path / "a.yaml", text)
    assert after.replace(f"  hub: {{repo: {HUB.repo}, revision: '{HUB.revision}'}}{ending}", "") == text


def test_the_last_line_may_have_no_end(plain, tmp_path):
    items = yaml.safe_load(plain)[NAME]
    weights = items.pop("weights")
    text = yaml.safe_dump({NAME: {**items, "weights": weights}}, sort_keys=False).rstrip()
    after = edited(tmp_path / "a.yaml", text)
    assert after == f"{text}\n  hub: {{repo: {HUB.repo}, revision: '{HUB.revision}'}}"
    add(replace(read_catalog(tmp_path / "a.yaml")[NAME], name="a/b"))
    assert len(read_catalog(tmp_path / "a.yaml")) == 2


def test_weights_in_braces_are_followed_by_the_pin(plain, tmp_path):
    items = yaml.safe_load(plain)
    head = yaml.safe_dump({NAME: {k: v for k, v in items[NAME].items() if k != "weights"}})
    weights = ",\n    ".join(f"{key}: {value}" for key, value in items[NAME]["weights"].items())
    edited(tmp_path / "a.yaml", f"{head}  weights: {{{weights}}}  # in braces\n")
    assert read_catalog(tmp_path / "a.yaml")[NAME].hub == HUB


def test_an_entry_in_braces_is_pinned(plain, tmp_path):
    items = yaml.safe_load(plain)
    text = yaml.safe_dump(items, default_flow_style=True, width=10**6)
    edited(tmp_path / "a.yaml", text)
    assert read_catalog(tmp_path / "a.yaml")[NAME].hub == HUB


def test_what_cannot_be_edited_safely_is_left(plain, tmp_path):
    # The text of a folded value ends where the next field begins.
    items = yaml.safe_load(plain)[NAME]
    weights = {**items.pop("weights")}
    file = weights.pop("file")
    space = {"space": items.pop("space")}
    head, last = (yaml.safe_dump({NAME: part}, sort_keys=False) for part in ({**items, "weights": weights}, space))
    text = f"{head}    file: >-\n      {file}\n{last.partition(chr(10))[2]}"
    (tmp_path / "a.yaml").write_text(text)
    entry = read_catalog(tmp_path / "a.yaml")[NAME]
    before = everything(tmp_path)
    for change in (lambda: pin(entry, OTHER), lambda: require_editable(entry)):
        with pytest.raises(CatalogError, match=r"a\.yaml is written in a way that cannot be edited safely"):
            change()
    assert everything(tmp_path) == before


def test_a_link_to_a_catalog_stays_a_link(plain, tmp_path):
    (tmp_path / "a.yaml").write_text(plain)
    link = tmp_path / "link.yaml"
    link.symlink_to(tmp_path / "a.yaml")
    pin(read_catalog(link)[NAME], HUB)
    assert link.is_symlink() and read_catalog(tmp_path / "a.yaml")[NAME].hub == HUB


def test_a_catalog_that_can_be_edited_is_left_by_the_check(plain, tmp_path):
    (tmp_path / "a.yaml").write_text(plain)
    before = everything(tmp_path)
    require_editable(read_catalog(tmp_path / "a.yaml")[NAME])
    assert everything(tmp_path) == before


def test_a_catalog_in_a_folder_that_is_gone_cannot_be_edited(plain, tmp_path):
    entry = replace(find(NAME), source=tmp_path / "nowhere" / "a.yaml")
    with pytest.raises(CatalogError, match=r"nowhere/a\.yaml cannot be written to: No such file"):
        require_editable(entry)


# Adding


def test_an_added_entry_is_read_back(plain, tmp_path):
    (tmp_path / "a.yaml").write_text(plain)
    entry = replace(find(NAME), name="a/b", summary="no", hub=HUB, source=tmp_path / "a.yaml")
    add(entry)
    assert (tmp_path / "a.yaml").read_text().startswith(plain + "\n")
    assert read_catalog(tmp_path / "a.yaml") == {**read_catalog(tmp_path / "a.yaml"), "a/b": entry}
    assert len(read_catalog(tmp_path / "a.yaml")) == 3


@pytest.mark.parametrize("text", [None, "{}\n"])
def test_the_first_entry_of_a_catalog(model, tmp_path, text):
    path = tmp_path / "new" / "a.yaml"
    if text:
        path.parent.mkdir()
        path.write_text(text)
    entry = replace(find(NAME), source=path)
    add(entry)
    assert read_catalog(path) == {NAME: entry}


# Registering


def test_a_folder_describes_itself(tmp_path):
    model = saved_model(tmp_path / "saved")
    found = described(tmp_path / "saved", "a/b")
    assert (found.model, found.tasks) == ("GenerativeConvNet", model.tasks)
    assert found.weights.parameters == sum(p.numel() for p in model.parameters())
    for part in ("noise Uniform(", "chains ShortRun(", "sampler Langevin(steps=3, step_size=0.5"):
        assert part in found.sampler
    assert (found.paper, found.data, found.training, found.metrics) == (None, None, None, [])


def test_a_registered_model_loads_by_name(model, tmp_path, here):
    mine = saved_model(tmp_path / "saved", penalty=0.125)
    text = done("register", tmp_path / "saved", "--name", "mine/first", "--catalog", "my.yaml", "--summary", "no: it's")
    assert text == f"{here / 'my.yaml'}: mine/first, files in {here / 'weights/mine/first'}\n"
    loaded = from_pretrained("mine/first")
    assert loaded.penalty == 0.125
    assert torch.equal(next(loaded.parameters()), next(mine.parameters()))
    assert find("mine/first").summary == "no: it's"
    assert "# mine/first" in (here / "weights/mine/first/README.md").read_text()
    assert (here / "my.yaml").read_text().startswith("# A catalog of trained models")
    shutil.rmtree(tmp_path / "saved")
    assert done("verify", "mine/first") == "ok      mine/first\n"
    assert list(catalog()) == [NAME, "mine/first"]


def test_a_second_model_joins_the_first(model, tmp_path, here):
    saved_model(tmp_path / "saved")
    for name in ("a/b", "a/c"):
        done("--catalog", "my.yaml", "register", tmp_path / "saved", "--name", name)
    assert list(read_catalog("my.yaml")) == ["a/b", "a/c"]


def test_files_that_lie_there_already_stay_where_they_are(model, here):
    saved_model(here / "weights/a/b")
    before = {path.name: path.read_bytes() for path in (here / "weights/a/b").iterdir()}
    done("register", "weights/a/b", "--name", "a/b", "--catalog=my.yaml")
    after = {path.name: path.read_bytes() for path in (here / "weights/a/b").iterdir()}
    assert after.items() > before.items() and after.keys() - before.keys() == {"README.md"}


def test_a_model_joins_the_zoos_own_catalog(model, tmp_path):
    saved_model(tmp_path / "saved")
    done("register", tmp_path / "saved", "--name", "a/b", "--catalog", tmp_path / "zoo" / "checkpoints.yaml")
    assert (tmp_path / "zoo" / "weights" / "a" / "b" / "model.safetensors").is_file()
    assert [entry.source for entry in catalog().values()] == [tmp_path / "zoo" / "checkpoints.yaml"] * 2


@pytest.mark.parametrize("name", ["", "one", "a/b/c", "../x", "A/b", "a/b ", "a-b/c", "/a"])
def test_bad_names_are_refused(model, tmp_path, name):
    saved_model(tmp_path / "saved")
    refused("register", tmp_path / "saved", "--name", name, "--catalog", "my.yaml", says=("small letters", f"'{name}'"))


def test_taken_names_are_refused(model, tmp_path, here):
    saved_model(tmp_path / "saved")
    arguments = ("register", tmp_path / "saved", "--catalog", "my.yaml", "--name")
    refused(*arguments, NAME, says=("There is a model", NAME))
    done(*arguments, "a/b")
    refused(*arguments, "a/b", says=("There is a model", "'a/b'"))
    (here / "weights/a/c").mkdir()
    refused(*arguments, "a/c", says=(str(here / "weights/a/c"), "is there already"))


def test_a_catalog_that_cannot_be_written_leaves_no_copies(model, tmp_path, here, monkeypatch):
    saved_model(tmp_path / "saved")
    before = everything(here)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ebm_zoo.zoo.register.add", full)
    assert zoo("register", tmp_path / "saved", "--name", "a/b", "--catalog", "my.yaml").code == 1
    assert everything(here) == before


def test_what_does_not_load_is_not_registered(model, tmp_path, here):
    refused("register", tmp_path, "--name", "a/b", "--catalog", "my.yaml", says=("config.json",))
    saved_model(tmp_path / "saved")
    path = tmp_path / "saved" / "config.json"
    config = json.loads(path.read_text())
    config["model"]["class_path"] = "os.system"
    path.write_text(json.dumps(config))
    result = zoo("register", tmp_path / "saved", "--name", "a/b", "--catalog", "my.yaml")
    assert result.code == 1 and "os.system" in result.err
    assert not (here / "my.yaml").exists() and not (here / "weights/a/b").exists()


def test_registering_wants_a_catalog(model, tmp_path):
    saved_model(tmp_path / "saved")
    refused("register", tmp_path / "saved", "--name", "a/b", says=("--catalog FILE", VARIABLE))


# --catalog


def test_catalog_goes_with_every_command_wherever_it_stands(model, tmp_path):
    saved_model(tmp_path / "saved")
    done("register", tmp_path / "saved", "--name", "a/b", "--catalog", "my.yaml")
    done("--catalog", "my.yaml", "sample", "a/b", "--n", 1, "--out", "a.npy")
    done("sample", "--catalog=my.yaml", "a/b", "--n", 1, "--out", "a.npy")
    assert "a/b" in done("list", "--catalog", "my.yaml") and "a/b" in done("info", "a/b", "--catalog", "my.yaml")
    data = ("--data", "ImageData", "--data.source", tmp_path / "zoo/data/images", "--trainer.limit_test_batches", 1)
    assert "a/b\n" in done("test", "--pretrained", "a/b", "--catalog", "my.yaml", *data, "--trainer.accelerator", "cpu")
    refused("list", "--catalog", "nowhere.yaml", says=("nowhere.yaml",))


def test_catalog_wants_a_file(model):
    result = zoo("list", "--catalog")
    assert result.code == 2 and "--catalog" in result.err.rpartition("error: ")[2]


def test_help_tells_of_catalog_and_of_the_new_commands():
    text = done("--help")
    assert "--catalog FILE" in text
    for command in ("download", "export", "register", "push"):
        assert f"\n    {command} " in text
