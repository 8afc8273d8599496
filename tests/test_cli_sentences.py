"""Models of sentences on the command line."""

import csv
import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TOKENS, coopnets, sentence_ebm
from zoo_helpers import done, refused

from ebm_zoo import save_pretrained
from ebm_zoo.cli import main
from ebm_zoo.cli.sentences import read_sentences
from ebm_zoo.data import SmilesData, TextData
from ebm_zoo.models import LatentEBM
from ebm_zoo.space import TokenSpace


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with a model and some sentences."""
    monkeypatch.chdir(tmp_path)
    save_pretrained(sentence_ebm(), "model")
    Path("x.txt").write_text("abc\n\nab\nc\nca\n")
    return tmp_path


@pytest.fixture
def model():
    torch.manual_seed(0)
    return sentence_ebm().eval()


def test_samples_are_printed_or_written(model):
    drawn = TOKENS.text(model.sample(3, generator=torch.Generator().manual_seed(4)))
    assert done("sample", "model", "--n", 3, "--seed", 4).splitlines() == drawn
    assert done("sample", "model", "--n", 3, "--seed", 4, "--out", "y.txt") == "y.txt: 3 sentences\n"
    assert Path("y.txt").read_text().splitlines() == drawn
    assert len(done("sample", "model", "--n", 101, "--steps", 1).splitlines()) == 101


def test_sentences_are_rebuilt_and_walked(model):
    torch.manual_seed(4)
    rebuilt = TOKENS.text(model.reconstruct(TOKENS.ids(["abc", "ab", "c", "ca"])))
    assert done("apply", "model", "reconstruct", "--input", "x.txt", "--seed", 4).splitlines() == rebuilt
    walks = done("apply", "model", "interpolate", "--input", "x.txt", "--n", 5, "--steps", 2)
    assert len(walks.splitlines()) == 10
    done("apply", "model", "reconstruct", "--input", "x.txt", "--out", "y.smi")
    assert len(Path("y.smi").read_text().splitlines()) == 4


def test_beginnings_are_continued():
    finished = done("apply", "model", "inpaint", "--input", "x.txt").splitlines()
    assert [line[: len(begun)] for line, begun in zip(finished, ("abc", "ab", "c", "ca"), strict=True)] == [
        *("abc", "ab", "c", "ca"),
    ]  # fmt: skip


def test_what_a_terminal_cannot_show_is_shown_escaped(monkeypatch):
    shown = io.BytesIO()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
        patch.setattr(LatentEBM, "sample", lambda *_, **__: torch.zeros(1, 6, dtype=torch.long))
        patch.setattr(TokenSpace, "text", lambda *_: ["caf\u00e9"])
        assert main(["sample", "model", "--n", "1"]) == 0
        assert shown.getvalue() == b"caf\\xe9\n"


def test_numbers_go_to_tables(model):
    done("apply", "model", "log_joint", "--input", "x.txt", "--seed", 4, "--out", "y.csv")
    with Path("y.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header[1] == "log_joint" and [row[0] for row in rows] == ["abc", "ab", "c", "ca"]
    torch.manual_seed(4)
    wanted = model.log_joint(TOKENS.ids(["abc", "ab", "c", "ca"]))
    np.testing.assert_allclose([float(row[1]) for row in rows], wanted.numpy(), rtol=1e-5)
    done("apply", "model", "infer", "--input", "x.txt", "--out", "z.npy")
    assert np.load("z.npy").shape == (4, 4)


def test_sentences_are_read_as_the_data_modules_read_them():
    Path("a.txt").write_bytes(b"\xef\xbb\xbfabc\r\n\x0c\r\na\x0cb\r\nc")
    Path("a.smi").write_bytes(b"\xef\xbb\xbfabc first\x0cone\n\n  ab\tsecond\nc")
    Path("a.SMILES").write_text("abc\n")
    Path("a.csv").write_bytes(b'\xef\xbb\xbfSMILES,name\r\nabc,"one, two"\r\nab,b\r\n')
    wanted = {"a.txt": ["abc", "a\x0cb", "c"], "a.smi": ["abc", "ab", "c"], "a.csv": ["abc", "ab"], "a.SMILES": ["abc"]}
    for name, sentences in wanted.items():
        assert read_sentences(name) == sentences
        data = (TextData if name == "a.txt" else SmilesData)(TOKENS, name, test=name)
        assert data.sentences("test") == sentences


def test_a_place_that_cannot_be_written_to_is_refused_before_anything_is_drawn(monkeypatch):
    for task in ("sample", "reconstruct", "energy"):
        monkeypatch.setattr(LatentEBM, task, lambda *_, **__: pytest.fail("computed before it was refused"))
    Path("folder.txt").mkdir()
    Path("folder.csv").mkdir()
    refused("sample", "model", "--out", "folder.txt", says=("folder.txt is a folder",))
    for task, out in (("reconstruct", "folder.txt"), ("energy", "folder.csv")):
        refused("apply", "model", task, "--input", "x.txt", "--out", out, says=(f"{out} is a folder",))


def test_what_does_not_fit_is_refused():
    Path("unknown.txt").write_text("ab\nad\n")
    Path("long.txt").write_text("ababab\n")
    Path("empty.txt").write_text("\n\n")
    Path("odd.txt").write_text("a\n")

    def apply(task, source, *more):
        return ("apply", "model", task, "--input", source, *more)

    refused(*apply("reconstruct", "unknown.txt"), says=("unknown.txt: 'ad': 'd' is not in the vocabulary",))
    refused(*apply("reconstruct", "long.txt"), says=("long.txt: 'ababab': 6 tokens", "rows of 6"))
    refused(*apply("reconstruct", "empty.txt"), says=("empty.txt has no sentence",))
    refused(*apply("reconstruct", "nowhere.txt"), says=("nowhere.txt is no file", "one sentence per line"))
    refused(*apply("interpolate", "odd.txt"), says=("even number, not 1",))
    refused(*apply("reconstruct", "x.txt", "--out", "y.png"), says=("Cannot write y.png", ".txt, .smi"))
    refused(*apply("energy", "x.txt"), says=("ends in .csv, .npy, .npz", "--out"))
    refused(*apply("energy", "x.txt", "--out", "y.txt"), says=("Cannot write y.txt", ".csv, .npy, .npz"))
    refused(*apply("sample", "x.txt"), says=("ebm-zoo sample",))
    refused("sample", "model", "--out", "y.png", says=("Cannot write y.png",))


def test_models_of_images_need_a_file():
    save_pretrained(coopnets(), "images")
    refused("sample", "images", says=("ends in .png", "--out"))
    refused("apply", "images", "energy", "--input", "x.npy", says=("ends in .csv", "--out"))
