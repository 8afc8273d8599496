"""Cards: what the Hub reads of them, and what people do."""

from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from zoo_helpers import NAME, shipped, tiny_zoo

from ebm_zoo.files import resource
from ebm_zoo.zoo import find
from ebm_zoo.zoo.card import card, table
from ebm_zoo.zoo.parts import Hub
from ebm_zoo.zoo.push import contents

REPO = "zoo/tiny"
SHIPPED = shipped()


@pytest.fixture
def model(tmp_path):
    """The one model of a tiny zoo."""
    with tiny_zoo(tmp_path / "zoo") as model:
        yield model


def parsed(text: str) -> dict:
    """The header of a card as the Hub's client reads it, written and read again."""
    data = ModelCard(text).data
    assert ModelCard(f"---\n{data.to_yaml()}\n---\n").data.to_dict() == data.to_dict()
    return data.to_dict()


def test_the_header_of_a_card_is_what_the_client_reads(model):
    text = card(find(NAME))
    header = parsed(text)
    # The licence of weights that are not the zoo's is not the zoo's to give.
    assert header["library_name"] == "ebm_zoo" and "license" not in header and "Apache" not in text
    assert header["pipeline_tag"] == "unconditional-image-generation" and "datasets" not in header
    (index,) = header["model-index"]
    figures = {m["type"]: m["value"] for result in index["results"] for m in result["metrics"]}
    assert index["name"] == NAME and figures == {"frechet_distance": 1.5, "made_up_figure": 3.0}


def test_a_dataset_of_the_hub_is_named(model):
    entry = find(NAME)
    header = parsed(card(replace(entry, data=replace(entry.data, hub="some/data"))))
    assert header["datasets"] == ["some/data"]
    assert header["model-index"][0]["results"][0]["dataset"] == {"type": "some/data", "name": "noise"}


def test_a_card_needs_neither_paper_nor_data_nor_training(model):
    text = card(replace(find(NAME), paper=None, data=None, training=None, metrics=[], limits=""))
    assert parsed(text).keys() == {"library_name", "pipeline_tag", "tags"}
    for word in ("None", "Training", "Citation", "Limits", "Figures", "Paper"):
        assert word not in text


def test_a_card_tells_limits_terms_and_citation(model):
    text = card(replace(find(NAME), limits="It cannot fly."))
    assert "## Limits\n\nIt cannot fly.\n" in text and "Training data: noise: none." in text
    assert "@misc{some2016,\n  title = {A Title},\n  author = {Some and Body}," in text


def test_a_card_names_the_commit_here_and_none_there(model):
    pinned = replace(find(NAME), hub=Hub(REPO, "a" * 40))
    assert f'from_pretrained("{NAME}")' in card(pinned) and f'from_pretrained("{pinned.hub}")' in card(pinned)
    assert card(pinned, REPO) == card(replace(pinned, hub=None), REPO) and "a" * 40 not in card(pinned, REPO)


@pytest.mark.parametrize("names", [("samples.png",), ("samples.gif",), ("samples.png", "samples.gif")])
def test_a_card_shows_the_pictures_that_are_there(model, names):
    assert "![samples]" not in card(find(NAME))
    for name in names:
        (find(NAME).folder / name).touch()
    assert card(find(NAME)).count("![samples]") == len(names)
    for name in names:
        assert f"![samples]({name})" in card(find(NAME))
        assert contents(NAME, REPO)[name] == b""


def test_a_card_shows_sentences(model):
    (find(NAME).folder / "samples.txt").write_text("CC=O\nC1CC1\n")
    assert "Samples:\n\n```text\nCC=O\nC1CC1\n```\n" in card(find(NAME))
    assert contents(NAME, REPO)["samples.txt"] == b"CC=O\nC1CC1\n"


def test_a_pipe_in_a_figure_stays_in_its_cell(model):
    metric = replace(find(NAME).metrics[0], protocol="p(a | b),\nof c")
    assert r"| p(a \| b), of c |" in card(replace(find(NAME), metrics=[metric]))


@pytest.mark.parametrize("entry", SHIPPED, ids=[entry.name for entry in SHIPPED])
def test_headers_of_the_shipped_cards(entry):
    header = parsed((entry.folder / "README.md").read_text(encoding="utf-8"))
    assert header == parsed(card(entry)) and header["license"] == "apache-2.0"
    for result in header["model-index"][0]["results"]:
        assert len(result["metrics"]) == len(entry.metrics)


@pytest.mark.skipif(not SHIPPED, reason="there is no catalog")
def test_the_readme_shows_the_catalog():
    readme = (resource("checkpoints.yaml").parent / "README.md").read_text(encoding="utf-8")
    assert table(SHIPPED) in readme, "print(table(catalog().values())) from ebm_zoo.zoo.card makes the table"
