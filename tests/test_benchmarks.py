"""The benchmark of the Langevin sampler: who takes part, and that all of them compute the same."""

import itertools
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from tiny import TOKENS, energy, latent_ebm, sentence_ebm, translating_coopnets
from zoo_helpers import image_folder

from benchmarks import facades, iteration, molecules, reconstruction, text
from benchmarks import langevin as benchmark
from benchmarks.chain_length import test_images as first_images
from ebm_zoo import save_pretrained
from ebm_zoo.data.files import decode
from ebm_zoo.metrics import Pixels
from ebm_zoo.networks import LatentEnergy, PairedEnergy, RecurrentOutput, UNetGenerator
from ebm_zoo.samplers import Langevin
from ebm_zoo.space import Space, TokenSpace

ROOT = Path(__file__).resolve().parents[1]
COMPARED = ["plain loop, fp32", "ours, eager fp32"]


@pytest.fixture
def uncompiled(monkeypatch):
    """Energies as they are where one is to be compiled."""
    monkeypatch.setattr(torch, "compile", lambda energy: energy)


@pytest.fixture
def absent(monkeypatch):
    """A machine without torchebm."""
    monkeypatch.setitem(sys.modules, "torchebm", None)
    monkeypatch.setitem(sys.modules, "torchebm.core", None)


@pytest.fixture
def threads():
    """Keep what a run sets from the tests after it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def printed_rows(text, separator):
    """Cells of every line with a time per step or a dash in its place."""
    lines = [[cell.strip() for cell in line.split(separator) if cell.strip()] for line in text.splitlines()]
    return [line for line in lines if line and line[0].startswith(("plain", "ours", "torchebm"))]


@pytest.mark.parametrize("arguments", [[], ["--markdown"]], ids=["text", "markdown"])
def test_prints_both_tables(arguments, uncompiled, absent, threads, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "BATCH", 2)
    benchmark.main(["--steps", "2", "--rounds", "1", "--threads", "1", *arguments])
    text = capsys.readouterr().out
    rows = printed_rows(text, "|" if arguments else "  ")
    compiled = ["ours, compiled fp32", "ours, compiled bf16", "ours, compiled fp32, frozen"]
    latents = [*COMPARED, "ours, compiled fp32", "ours, compiled fp32, frozen"]
    assert [row[0] for row in rows] == [*COMPARED, "ours, eager bf16", *compiled, "torchebm", *latents]
    assert all(len(row) == 6 for row in rows)
    assert rows[6][1:] == ["-", "-", "-", "-", "not installed: pip install torchebm"]
    for name, *_, agreement in rows[:6] + rows[7:]:
        assert agreement.endswith("within 5e-03" if "bf16" in name else "within 1e-05"), name
    assert f"PyTorch {torch.__version__}" in text and "threads: 1," in text
    assert "images/s" in text and "latents/s" in text


@pytest.mark.parametrize("contestants", [benchmark.image_contestants, benchmark.latent_contestants])
def test_the_states_move_far_beyond_the_tolerances(contestants, uncompiled, absent):
    torch.manual_seed(0)
    reference = contestants()[0]
    start = torch.rand(2, 1, 32, 32) if contestants is benchmark.image_contestants else torch.randn(2, 100)
    moved = (reference.run(start, benchmark.CHECK_STEPS, 0.0) - start).abs().max().item()
    assert moved > 10 * benchmark.BF16


def test_a_sampler_that_computes_something_else_is_beyond_its_tolerance():
    def halved(x, steps, noise_scale):
        return x + (benchmark.plain(energy, x, steps, noise_scale) - x) / 2

    def energy(x):
        return x.square().sum(1)

    reference = benchmark.Contestant("plain", partial(benchmark.plain, energy))
    rows = benchmark.race([reference, benchmark.Contestant("halved", halved)], torch.ones(2, 3), 1, 1)
    assert [row[-1].split()[1] for row in rows] == ["within", "BEYOND"]


def test_the_plain_loop_is_the_zoos_sampler_noise_included():
    def energy(x):
        return x.square().sum(1)

    ends = []
    for run in (benchmark.plain, benchmark.ours):
        torch.manual_seed(0)
        ends.append(run(energy, torch.ones(2, 3), 4, 0.5))
    torch.testing.assert_close(*ends)


def test_torchebm_takes_the_same_steps_noise_included():
    pytest.importorskip("torchebm")
    energy = benchmark.with_gradients(torch.nn.Sequential(torch.nn.Linear(3, 1), torch.nn.Flatten(0)))
    ends = []
    for run in (partial(benchmark.plain, energy), benchmark.torchebm(energy).run):
        torch.manual_seed(0)
        ends.append(run(torch.ones(2, 3), 4, 0.5))
    torch.testing.assert_close(*ends)


def test_a_missing_compiler_is_a_note_in_the_row():
    def no_compiler(graph, inputs):
        raise RuntimeError("No working C++ compiler found\nhint")

    compiled = torch.compile(lambda x, steps, noise_scale: x + 1, backend=no_compiler)
    reference = benchmark.Contestant("plain", lambda x, steps, noise_scale: x)
    rows = benchmark.race([reference, benchmark.Contestant("compiled", compiled)], torch.ones(2, 3), 1, 1)
    assert rows[1][:5] == ["compiled", "-", "-", "-", "-"]
    assert rows[1][5].startswith("torch.compile failed: ") and "\n" not in rows[1][5]


def test_the_energy_is_that_of_the_fashion_mnist_configuration():
    config = yaml.safe_load((ROOT / "zoo_configs/generative_convnet/fashion_mnist.yaml").read_text())
    layers = config["model"]["init_args"]["energy"]["init_args"]["layers"]
    assert tuple(map(tuple, layers)) == benchmark.LAYERS


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--rounds", "-1"]])
def test_refuses_runs_without_a_step(arguments, capsys):
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert "is below 1" in capsys.readouterr().err


# Cooperative models


def test_iterations_take_turns(capsys):
    names = ["generative_convnet/fashion_mnist", "coopnets/fashion_mnist"]
    iteration.main([*names, "--iterations", "1"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == names
    assert rows[0][2] == rows[0][4] == "1.00" and rows[0][3] == "10000"
    ratio, updates, whole = float(rows[1][2]), int(rows[1][3]), float(rows[1][4])
    assert whole == pytest.approx(ratio * updates / 10000, abs=0.011)


def test_facades_are_compared_with_their_baselines(tmp_path, monkeypatch, capsys):
    shape = (3, 8, 8)
    for split, folder in itertools.product(("train", "test"), ("photo", "label")):
        image_folder(tmp_path / split / folder, 8, shape, seed=len(split + folder))
    settings = {"energy": PairedEnergy(energy(6)), "generator": UNetGenerator((3, 3), (4, 4), 2, groups=2)}
    model = translating_coopnets(**settings, space=Space(shape), condition=Space(shape))
    save_pretrained(model, tmp_path / "model")
    monkeypatch.setattr(facades, "SqueezeNet", lambda path: Pixels())
    folders = ["--regression", str(tmp_path / "model"), "--source", str(tmp_path)]
    facades.main([str(tmp_path / "model"), *folders, "--picture", str(tmp_path / "x.png")])
    rows = [re.split("  +", line) for line in capsys.readouterr().out.splitlines()[2:]]
    found = {name: (float(error), float(distance)) for name, error, distance in rows}
    assert list(found) == ["mean photograph", "regression", "draft", "solution", "training photographs"]
    # The same model, asked with the same seed.
    assert found["regression"] == found["draft"] != found["solution"]
    truth, training = (
        torch.stack([decode(tmp_path / split / "photo" / f"{k:03}.png") for k in range(8)]) / 255
        for split in ("test", "train")
    )
    error = (training.mean(0) - truth).abs().mean().item()
    assert found["mean photograph"][0] == pytest.approx(error, abs=1e-3)
    assert (tmp_path / "x.png").is_file()


def test_reconstructions_are_compared_with_the_mean_image(capsys):
    name, found = "generative_convnet/digits", []
    for iterations in ("1", "8"):
        reconstruction.main([name, "--n", "6", "--iterations", iterations, "--seed", "3"])
        assert torch.initial_seed() == 3
        rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
        found.append({row[0]: float(row[-1]) for row in rows})
    few, many = found
    images = first_images(name, 6)
    assert many["reconstruction"] < few["reconstruction"]
    assert few["mean"] == many["mean"] == pytest.approx((images - images.mean(0)).square().mean().item(), abs=1e-5)


# Models of sentences


def prepared_sentences(model, kind, lines, folder, monkeypatch) -> str:
    """A saved model, and a configuration that names its data."""
    save_pretrained(model, folder / "model")
    (folder / "x.txt").write_text("\n".join(lines))
    settings = {"source": str(folder / "x.txt"), "test": str(folder / "x.txt"), "space": "the model's"}
    config = {"data": {"class_path": f"ebm_zoo.data.{kind}", "init_args": settings}}
    (folder / "x.yaml").write_text(yaml.safe_dump(config))
    monkeypatch.setattr(text, "config_path", lambda name: folder / "x.yaml")
    return str(folder / "model")


@pytest.mark.parametrize("noise", [1.0, 0.6], ids=["temperature one", "cold chains"])
def test_the_bound_of_a_likelihood_is_close_to_the_likelihood(noise, tmp_path, monkeypatch, capsys):
    model = latent_ebm(
        prior=LatentEnergy(1, (8,)),
        generator=RecurrentOutput(TOKENS, 1, embedding=3, hidden=8),
        space=TOKENS,
        prior_langevin=Langevin(60, 0.3, noise),
    ).eval()
    for parameter in model.parameters():
        parameter.data.mul_(2)
    lines = ["abc", "a", "ccab", "b"]
    name = prepared_sentences(model, "TextData", lines, tmp_path, monkeypatch)
    monkeypatch.setattr(text, "PRIOR_ROWS", 200)
    text.main([name, "--draws", "2000"])
    printed = capsys.readouterr().out
    z = torch.linspace(-9, 9, 3001)[:, None]
    with torch.no_grad():
        prior, x = -model.prior_energy(z) / noise**2, TOKENS.ids(lines)
        exact = [(prior - model.generator.misfit(z, row.expand(len(z), -1))).logsumexp(0) for row in x]
        wanted = (len(x) * prior.logsumexp(0) - sum(exact)).item() / 13
    found = float(re.search(r"^model +(\S+)", printed, re.M)[1])
    assert wanted - 1e-3 < found < wanted + 0.01
    assert "4 test sentences, 13 tokens" in printed
    assert len(printed.splitlines()) == 18, "ten samples behind the figures"
    told = {name: float(re.search(rf"^{name} +(\S+)", printed, re.M)[1]) for name in ("own z", "another's z")}
    assert told["own z"] < told["another's z"]
    # 4 ends, 3 a, 3 b, 3 c, each raised by one for every token that may have come before.
    unigram = -sum(n * torch.tensor((n + 4) / 29).log().item() for n in (4, 3, 3, 3)) / 13
    assert float(re.search(r"^unigram +(\S+)", printed, re.M)[1]) == pytest.approx(unigram, abs=1e-3)


def test_molecules_are_judged_and_drawn(tmp_path, monkeypatch, capsys):
    pytest.importorskip("rdkit")
    space = TokenSpace(6, ("C", "O", "N"))
    model = sentence_ebm(space=space, generator=RecurrentOutput(space, 4, hidden=8)).eval()
    name = prepared_sentences(model, "SmilesData", ["C", "CO", "CCN", "CNC"], tmp_path, monkeypatch)
    molecules.main([name, "--n", "40", "--picture", str(tmp_path / "x.png")])
    printed = capsys.readouterr().out
    samples, tests = (re.findall(r"\d\.\d{4}", line) for line in printed.splitlines()[1:3])
    assert len(samples) == 3 and tests == ["1.0000", "1.0000", "0.0000"]
    assert "training molecules   QED 0.0000 logP 0.0000" in printed
    assert decode(tmp_path / "x.png").float().std() > 0
    assert molecules.quantile_distance(torch.arange(9.0), torch.arange(9.0) + 2) == pytest.approx(2)
