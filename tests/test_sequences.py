"""Sentences: vocabulary, decoder, data, and what molecules are worth."""

import itertools
import math
import sys
from pathlib import Path

import pytest
import torch
from tiny import TinyData, images, latent_ebm, sentence_ebm, trainer

from ebm_zoo.callbacks import MoleculeScores, Sentences
from ebm_zoo.data import SmilesData, TextData, smiles_tokens
from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.metrics import (
    canonical,
    importance_bound,
    laplace_proposal,
    log_normaliser,
    log_weights,
    molecule_properties,
    molecule_scores,
)
from ebm_zoo.networks import RecurrentOutput
from ebm_zoo.space import TokenSpace

SPACE = TokenSpace(4, ("a", "b"))
# What a row may be: a sentence of at most three tokens, its end, and nothing behind it.
ROWS = torch.tensor(
    [row for row in itertools.product(range(3), repeat=4) if row[3] == 0 and (0, 1) not in [
        (int(a > 0), int(b > 0)) for a, b in itertools.pairwise(row)
    ]]
)  # fmt: skip
CHEMICAL = TokenSpace(40, (*"CcOoNn()=#-12", "Cl", "Br", "[nH]", "[N+]", "[O-]"))


def decoder(**arguments) -> RecurrentOutput:
    """A decoder whose tokens differ much in probability."""
    network = RecurrentOutput(**{"space": SPACE, "latent_dim": 2, "embedding": 3, "hidden": 5, **arguments})
    for parameter in network.parameters():
        parameter.data.mul_(3)
    return network


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n")
    return str(path)


# The vocabulary


def test_sentences_become_rows_and_come_back():
    space = TokenSpace(5, ("C", "Cl", "l", "the "))
    assert space.split("ClCl?the C") == ["Cl", "Cl", "?", "the ", "C"]
    ids = space.ids(["ClC", "", "the lCC"])
    assert ids.tolist() == [[2, 1, 0, 0, 0], [0, 0, 0, 0, 0], [4, 3, 1, 1, 0]]
    assert space.text(ids) == ["ClC", "", "the lCC"]
    assert space.text(torch.tensor([[2, 0, 1, 1, 1], [1, 1, 1, 1, 1]])) == ["Cl", "CCCCC"]
    counted = [[True, True, True, False], [True, False, False, False], [True] * 4]
    assert space.counted(ids).tolist() == counted
    assert (space.shape, space.size) == ((5,), 5)


def test_line_breaks_and_special_characters_are_tokens_as_any():
    space = TokenSpace(8, ("\n", ".", "[", "ab", "a"))
    assert space.text(space.ids(["a\n.[ab"])) == ["a\n.[ab"]


@pytest.mark.parametrize(("sentence", "says"), [
    ("abca", "'abca': 'c' is not in the vocabulary"),
    ("abab", "4 tokens are too many for rows of 4, the end included"),
])  # fmt: skip
def test_sentences_that_do_not_fit_are_refused(sentence, says):
    with pytest.raises(DataError, match=says):
        SPACE.ids(["a", sentence])


@pytest.mark.parametrize(("rows", "says"), [
    (torch.zeros(2, 5, dtype=torch.long), "rows of 4 whole numbers"),
    (torch.zeros(2, 4), "not .* of torch.float32"),
    (torch.tensor([[1, 3, 0, 0]]), "tokens 0 to 2, not 3"),
    (torch.tensor([[1, -1, 0, 0]]), "not -1"),
])  # fmt: skip
def test_rows_that_do_not_fit_are_refused(rows, says):
    with pytest.raises(DataError, match=says):
        SPACE.check(rows)
    assert SPACE.check(ROWS) is ROWS


@pytest.mark.parametrize(("length", "vocabulary", "says"), [
    (3, (), "different tokens, not .."),
    (3, ("a", ""), "different tokens, not .*''"),
    (3, ("a", "a"), "different tokens, not .*'a', 'a'"),
    (1, ("a",), "2 or more, not 1"),
])  # fmt: skip
def test_a_vocabulary_must_be_one(length, vocabulary, says):
    with pytest.raises(ConfigError, match=says):
        TokenSpace(length, vocabulary)


# The decoder


@pytest.mark.parametrize("layers", [1, 2])
def test_probabilities_of_all_sentences_sum_to_one(layers):
    network = decoder(layers=layers)
    z = torch.randn(3, 2)
    total = sum((-network.misfit(z, row.expand(3, -1))).exp() for row in ROWS)
    assert len(ROWS) == 15
    torch.testing.assert_close(total, torch.ones(3))


def test_draws_have_the_probabilities_that_the_misfit_says():
    network, n = decoder(), 20_000
    z = torch.randn(1, 2)
    drawn = network.draw(z.expand(n, -1), torch.Generator().manual_seed(0))
    wanted = torch.cat([(-network.misfit(z, row[None])).exp() for row in ROWS])
    counts = torch.stack([(drawn == row).all(1).sum() for row in ROWS])
    assert counts.sum() == n and wanted.max() < 0.9
    found = counts / n
    assert ((found - wanted).abs() <= 4 * (wanted * (1 - wanted) / n).sqrt() + 1e-9).all()


def test_greedy_writing_takes_the_most_probable_token_each_time():
    network = decoder(latent_dim=3)
    z = torch.randn(20, 3)
    for latent, row in zip(z, network(z), strict=True):
        for t in range(int(SPACE.counted(row[None]).sum())):
            known = torch.arange(4)[None] <= t
            others = torch.stack([row.index_fill(0, torch.tensor([t]), k) for k in range(3)])
            assert network.misfit(latent.expand(3, -1), others, known).argmin() == row[t]
    assert len(network(z).unique(dim=0)) > 1, "z says nothing"


def test_of_a_beginning_the_misfit_is_that_of_all_its_continuations():
    network = decoder()
    z, row = torch.randn(1, 2), ROWS[-1]
    begun = ROWS[(ROWS[:, :2] == row[:2]).all(1)]
    together = network.misfit(z.expand(len(begun), -1), begun).neg().logsumexp(0)
    known = torch.tensor([[True, True, False, False]])
    torch.testing.assert_close(-network.misfit(z, row[None], known)[0], together)
    anything = torch.tensor([[*row[:2].tolist(), 0, 2]])
    torch.testing.assert_close(network.misfit(z, anything, known), network.misfit(z, row[None], known))
    with pytest.raises(DataError, match="only the beginning"):
        network.misfit(z, row[None], torch.tensor([[True, False, True, False]]))


def test_what_stands_behind_the_end_changes_nothing():
    network = decoder()
    rows = torch.tensor([[1, 0, 0, 0], [1, 0, 2, 1]])
    first, second = network.misfit(torch.randn(1, 2).expand(2, -1), rows)
    assert first == second


def test_words_are_dropped_in_learning_alone():
    network = decoder(word_dropout=0.5)
    z, x = torch.randn(1, 2).expand(50, -1), ROWS[-1].expand(50, -1)
    learning = network.misfit(z, x)
    assert len(learning.unique()) > 1
    torch.testing.assert_close(network.eval().misfit(z, x), decoder_like(network).misfit(z, x))


def decoder_like(network: RecurrentOutput) -> RecurrentOutput:
    same = decoder()
    same.load_state_dict(network.state_dict())
    return same


def test_text_of_a_decoder():
    assert decoder().text(ROWS[-1:]) == ["bbb"]


@pytest.mark.parametrize("arguments", [{"hidden": 0}, {"latent_dim": 0}, {"word_dropout": 1.0}, {"layers": 0}])
def test_decoders_out_of_range_are_refused(arguments):
    with pytest.raises(ConfigError, match="A decoder needs"):
        decoder(**arguments)


# Data


def test_text_is_read_line_by_line(tmp_path):
    lines = [f"{'ab' * (k % 3)}a" for k in range(25)]
    data = TextData(TokenSpace(8, ("a", "b")), write(tmp_path / "x.txt", *lines, "", "  "), batch_size=4, validation=3)
    data.setup()
    assert data.space.text(torch.cat(list(data.val_dataloader()))) == ["aba", "ababa", "a"]
    assert data.space.text(torch.cat(list(data.test_dataloader()))) == [lines[9], lines[19]] == data.sentences("test")
    train = list(data.train_dataloader())
    assert [len(batch) for batch in train] == [4] * 5 and train[0].dtype == torch.long
    assert len(data.sentences("train")) == 23


def test_a_file_of_its_own_is_the_test(tmp_path):
    paths = [write(tmp_path / name, *[letter] * 10) for name, letter in (("a.txt", "a"), ("b.txt", "b"))]
    data = TextData(SPACE, paths[0], test=paths[1])
    data.setup()
    assert data.sentences("train") == ["a"] * 10 and data.sentences("test") == ["b"] * 10
    assert data.val_dataloader() == []
    assert next(iter(data.predict_dataloader())).tolist() == [[2, 0, 0, 0]] * 10


def test_windows_line_ends_are_none(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"ab\r\nba\r\n" * 5)
    assert set(TextData(SPACE, str(tmp_path / "x.txt")).sentences("train")) == {"ab", "ba"}


def test_molecules_are_read_by_chemical_tokens(tmp_path):
    assert smiles_tokens("C[N+](=O)c1cc[nH]c1Cl%12Br") == [
        *("C", "[N+]", "(", "=", "O", ")", "c", "1", "c", "c", "[nH]", "c", "1", "Cl", "%12", "Br"),
    ]  # fmt: skip
    path = write(tmp_path / "x.smi", "CCl chloromethane", "", "Oc1cc[nH]c1\tpyrrolol", *["C"] * 9)
    data = SmilesData(CHEMICAL, path)
    data.setup("fit")
    assert data.sentences("train")[:2] == ["CCl", "Oc1cc[nH]c1"]
    assert CHEMICAL.ids(["Cl[nH]"])[0, :3].tolist() == [14, 16, 0]


def test_molecules_of_a_table(tmp_path):
    path = write(tmp_path / "x.csv", "name,SMILES", '"a, b",CCO', "none,", *["x,ClC"] * 9)
    assert SmilesData(CHEMICAL, path).sentences("train") == ["CCO", *["ClC"] * 8]
    with pytest.raises(DataError, match="no column 'smiles'"):
        SmilesData(CHEMICAL, write(tmp_path / "y.csv", "name,formula", "a,CCO")).setup()


@pytest.mark.parametrize("kind", [TextData, SmilesData])
def test_examples_come_with_the_package(kind):
    probe = kind(SPACE)
    sentences = probe.sentences("train") + probe.sentences("test")
    vocabulary = tuple(sorted({token for each in sentences for token in probe.tokens(each)}))
    data = kind(TokenSpace(40, vocabulary), batch_size=8)
    data.setup()
    assert set(data.space.text(torch.cat(list(data.train_dataloader())))) <= set(sentences)
    if kind is SmilesData:
        pytest.importorskip("rdkit")
        assert molecule_scores(sentences, []) == {"validity": 1, "uniqueness": 1, "novelty": 1}


@pytest.mark.parametrize(("lines", "settings", "says"), [
    (["ab", "", "abc", "dc"], {}, r"x\.txt, line 3: 'c' is not in the vocabulary.*: \['c', 'd'\]\. Add them"),
    (["ab", "abab"], {}, r"x\.txt, line 2: 4 tokens are too many for rows of 4"),
    (["", " "], {}, "has no sentence for the train split"),
    (["a"] * 5, {}, "has no sentence for the test split.*10 or more"),
    (["a"] * 20, {"validation": 18}, "18 sentences to train on, of which validation holds back 18"),
])  # fmt: skip
def test_text_that_does_not_fit_is_refused(lines, settings, says, tmp_path):
    data = TextData(SPACE, write(tmp_path / "x.txt", *lines), **settings)
    with pytest.raises(DataError, match=says):
        data.setup()


def test_molecules_that_do_not_fit_are_refused(tmp_path):
    data = SmilesData(CHEMICAL, write(tmp_path / "x.smi", "CC", "C[C@H]P!", "C["))
    with pytest.raises(DataError, match=r"line 2: '\[C@H\]' .*: \['\[C@H\]', 'P', '!', '\['\]"):
        data.setup()


@pytest.mark.parametrize("settings", [{"source": "nowhere.txt"}, {"test": "nowhere.txt"}])
def test_missing_files_are_refused(settings):
    with pytest.raises(DataError, match=r"'nowhere\.txt' is no file"):
        TextData(SPACE, **settings)


def test_what_is_no_text_is_refused(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\x1f\x8b\xff\xfe")
    with pytest.raises(DataError, match=r"x\.txt is no text in UTF-8"):
        TextData(SPACE, str(tmp_path / "x.txt")).setup()


def test_settings_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="batch_size is 0"):
        TextData(SPACE, batch_size=0)
    with pytest.raises(ConfigError, match="validation is -1"):
        TextData(SPACE, validation=-1)
    with pytest.raises(DataError, match="no sentences to validate on"):
        TextData(SPACE).setup("validate")


# Molecules


def test_scores_of_molecules():
    pytest.importorskip("rdkit")
    # Ethanol twice, benzene in two forms, no molecule, none at all, and methane, which is known.
    drawn = ["CCO", "OCC", "c1ccccc1", "C1=CC=CC=C1", "C(", "", "C"]
    assert canonical(drawn) == ["CCO", "CCO", "c1ccccc1", "c1ccccc1", None, None, "C"]
    scores = molecule_scores(drawn, ["[CH4]", "CC"])
    assert scores == {"validity": 5 / 7, "uniqueness": 3 / 5, "novelty": 2 / 3}
    assert molecule_scores(["("], []) == {"validity": 0, "uniqueness": 0, "novelty": 0}


def test_properties_of_molecules():
    pytest.importorskip("rdkit")
    found = molecule_properties(["CC(=O)Oc1ccccc1C(=O)O", "C(", "C"])
    assert found.shape == (2, 2)
    # Aspirin, as RDKit's own documentation and others have it.
    torch.testing.assert_close(found[0], torch.tensor([0.550, 1.310]), atol=2e-3, rtol=0)
    assert molecule_properties(["("]).shape == (0, 2)


def test_without_rdkit_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "rdkit", None)
    for name in ("rdkit.Chem", "rdkit.rdBase"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ConfigError, match=r"RDKit.*pip install ebm-zoo\[molecules\]"):
        molecule_scores(["C"], [])


def test_a_run_writes_its_sentences_and_scores_its_molecules(tmp_path):
    pytest.importorskip("rdkit")
    space = TokenSpace(6, ("C", "O", "N"))
    network = RecurrentOutput(space, 4, hidden=8)
    network.predict.bias.data[0] = -3.0
    model = sentence_ebm(space=space, generator=network)
    path = write(tmp_path / "x.smi", *["".join(each) for each in itertools.product("CON", repeat=3)])
    data = SmilesData(space, path, batch_size=8)
    callbacks = [Sentences(count=3), MoleculeScores()]
    run = trainer(max_epochs=1, callbacks=callbacks, default_root_dir=tmp_path)
    run.fit(model, datamodule=data)
    (scores,) = run.test(model, datamodule=data, verbose=False)
    assert scores["validity"] == 1 and 0 < scores["uniqueness"] <= 1 and 0 <= scores["novelty"] <= 1
    run.predict(model, datamodule=data)
    files = {path.name: path.read_text().splitlines() for path in (tmp_path / "sentences").iterdir()}
    assert set(files) == {"train_0000003.txt", "test.txt", "predict_00000.txt"}
    assert [len(lines) for lines in files.values()] == [2 if "train" not in name else 3 for name in files]
    assert set("".join(files["test.txt"])) <= set("CON")


def test_models_of_images_write_no_sentences(tmp_path):
    images_ebm = latent_ebm()
    run = trainer(callbacks=[Sentences()], default_root_dir=tmp_path)
    with pytest.raises(ConfigError, match="LatentEBM of images writes no sentences"):
        run.test(images_ebm, datamodule=TinyData(images(4)), verbose=False)


# Likelihoods by importance sampling


PRECISION = torch.tensor([[4.0, 1.0], [1.0, 2.0]])
CENTRES = torch.tensor([[1.0, -1.0], [0.5, 2.0], [0.0, 0.0]])


def quadratic(z: torch.Tensor) -> torch.Tensor:
    """Three Gaussian integrals, each (2π)^{d/2} |P|^{-1/2} e³."""
    away = z - CENTRES.to(z)
    return (away @ PRECISION.to(z) * away).sum(1) / 2 - 3


def truth() -> float:
    return 3 - PRECISION.logdet().item() / 2


def test_of_a_gaussian_every_draw_has_the_weight_of_the_integral():
    mean, factor = laplace_proposal(quadratic, torch.zeros(3, 2), iterations=600)
    torch.testing.assert_close(mean, CENTRES, atol=1e-3, rtol=0)
    torch.testing.assert_close(factor @ factor.mT, PRECISION.inverse().expand(3, 2, 2))
    weights = log_weights(quadratic, mean, factor, 20)
    torch.testing.assert_close(weights, torch.full((20, 3), truth()), atol=1e-3, rtol=0)


def test_bounds_come_closer_with_more_draws():
    mean, factor = torch.zeros(3, 2), torch.eye(2).expand(3, 2, 2)
    weights = log_weights(quadratic, mean, factor, 4000, torch.Generator().manual_seed(0))
    one, ten, all_ = (importance_bound(part).mean(-1).mean() for part in (
        weights[None], weights.view(10, 400, 3), weights,
    ))  # fmt: skip
    assert one < ten - 0.1 < truth() - 0.1
    assert all_.item() == pytest.approx(truth(), abs=0.1)


def test_directions_without_curvature_get_a_finite_proposal():
    _, factor = laplace_proposal(lambda z: z[:, 0].square() - z[:, 1].cos() * 0, torch.randn(2, 2), iterations=3)
    torch.testing.assert_close((factor @ factor.mT).diagonal(dim1=1, dim2=2), torch.tensor([[0.5, 2.0]] * 2))


def test_a_normaliser_is_rather_too_large():
    draws = torch.randn(200, 1000, generator=torch.Generator().manual_seed(0))
    # E exp(x) = exp(1/2); of a thousand draws about (E w)² / E w² = 1/e are effective.
    found = [log_normaliser(row) for row in draws]
    assert sum(value > 0.5 for value, _ in found) > 190
    assert sum(value for value, _ in found) / 200 == pytest.approx(0.5 + 3 * math.sqrt((math.e - 1) / 1000), abs=0.03)
    assert 200 < sum(effective for _, effective in found) / 200 < 450
    assert log_normaliser(torch.full((50,), 2.0)) == pytest.approx((2.0, 50.0))
