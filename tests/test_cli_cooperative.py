"""The command line with cooperative models: classes, questions in images, latent vectors."""

import csv
import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import (
    SHAPE,
    coop_flow,
    coop_vaebm,
    coopnets,
    images,
    labelled_coopnets,
    normalizing_flow,
    pairs,
    translating_coopnets,
)
from zoo_helpers import done, draw, picture, refused, zoo

import ebm_zoo.models
from ebm_zoo import save_pretrained


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def labelled():
    save_pretrained(model := labelled_coopnets().eval(), "labelled")
    return model


@pytest.fixture
def translating():
    save_pretrained(model := translating_coopnets().eval(), "translating")
    return model


def seeded(seed: int = 0) -> dict[str, torch.Generator]:
    return {"generator": torch.Generator().manual_seed(seed)}


def test_samples_of_one_class_and_of_all(labelled):
    for options, label in (([], None), (["--label", 2], 2)):
        done("sample", "labelled", "--n", 5, *options, "--out", "x.npy")
        assert np.array_equal(np.load("x.npy"), labelled.sample(5, label=label, **seeded()).numpy())


def test_drafts_are_samples_of_no_steps():
    save_pretrained(model := coopnets().eval(), "coopnets")
    done("sample", "coopnets", "--n", 3, "--steps", 0, "--out", "x.npy")
    assert np.array_equal(np.load("x.npy"), model.propose(model.latent(3, **seeded())).numpy())


def test_questions_are_answered_several_times(translating):
    question = draw(1)[0]
    picture(Path("question.png"), question)
    done("apply", "translating", "predict", "--input", "question.png", "--n", 3, "--seed", 4, "--out", "x.npy")
    torch.manual_seed(4)
    asked = torch.from_numpy(question[None]).float() / 127.5 - 1
    expected = translating.predict(asked, 3)[1][0]
    np.testing.assert_allclose(np.load("x.npy"), expected.numpy(), atol=1e-5)
    done("apply", "translating", "predict", "--input", "question.png", "--n", 3, "--out", "x.png")


def test_energies_given_a_class_or_images(labelled, translating):
    x, condition = pairs(4)
    np.save("x.npy", x.numpy())
    np.save("c.npy", condition.numpy())
    done("apply", "labelled", "energy", "--input", "x.npy", "--condition", 1, "--out", "e.npy")
    with torch.no_grad():
        expected = labelled.energy(x, torch.ones(4, dtype=torch.long))
        np.testing.assert_allclose(np.load("e.npy"), expected.numpy(), rtol=1e-5)
        for given, conditions in (("c.npy", condition), ("one.npy", condition[:1].expand(4, -1, -1, -1))):
            np.save("one.npy", condition[:1].numpy())
            done("apply", "translating", "energy", "--input", "x.npy", "--condition", given, "--out", "e.npy")
            np.testing.assert_allclose(np.load("e.npy"), translating.energy(x, conditions).numpy(), rtol=1e-5)


def test_latent_vectors_are_written_by_name():
    save_pretrained(model := coop_vaebm().eval(), "vae")
    np.save("x.npy", images(3).numpy())
    done("apply", "vae", "encode", "--input", "x.npy", "--out", "z.csv")
    with Path("z.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "encode_0", "encode_1", "encode_2", "encode_3"]
    assert [row[0] for row in rows] == [f"x.npy[{k}]" for k in range(3)]
    found = np.array([[float(value) for value in row[1:]] for row in rows])
    np.testing.assert_allclose(found, model.encode(images(3)).numpy(), rtol=1e-5)


def test_likelihoods_are_written_by_image():
    save_pretrained(model := coop_flow().eval(), "flows")
    np.save("x.npy", images(3).numpy())
    done("apply", "flows", "log_prob", "--input", "x.npy", "--seed", 4, "--out", "values.csv")
    with Path("values.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "log_prob"]
    torch.manual_seed(4)
    np.testing.assert_allclose(np.array([float(row[1]) for row in rows]), model.log_prob(images(3)).numpy(), rtol=1e-5)


def test_a_flow_alone_draws_in_one_pass():
    save_pretrained(model := normalizing_flow().eval(), "flow")
    done("sample", "flow", "--n", 3, "--out", "x.npy")
    assert np.array_equal(np.load("x.npy"), model.sample(3, **seeded()).numpy())
    refused("sample", "flow", "--n", 3, "--steps", 2, "--out", "y.npy", says=("cannot take 2 steps",))


@pytest.mark.parametrize("task", ["inpaint", "reconstruct", "interpolate"])
def test_image_tasks_of_a_cooperative_model(task):
    save_pretrained(coopnets().eval(), "coopnets")
    np.save("x.npy", images(4).numpy())
    np.save("m.npy", np.tri(8, dtype=bool))
    mask = ["--mask", "m.npy"] if task == "inpaint" else []
    done("apply", "coopnets", task, "--input", "x.npy", *mask, "--n", 3, "--iterations", 2, "--out", "y.npy")
    assert np.load("y.npy").shape == ((6 if task == "interpolate" else 4), *SHAPE)


def test_what_does_not_fit_is_refused(labelled, translating):
    save_pretrained(coopnets().eval(), "coopnets")
    np.save("x.npy", images(4).numpy())
    sample, energy = ("--n", 2, "--out", "y.npy"), ("--input", "x.npy", "--out", "e.npy")
    np.save("three.npy", images(3).numpy())
    refused("sample", "labelled", *sample, "--label", 3, says=("classes 0 to 2, not 3",))
    refused("sample", "coopnets", *sample, "--label", 1, says=("knows no classes", "--label"))
    refused("sample", "coopnets", *sample, "--size", 16, says=("1 x 8 x 8 only", "--size"))
    refused("sample", "translating", *sample, says=("predict",))
    refused("apply", "labelled", "predict", "--input", "x.npy", "--out", "y.npy", says=("--label",))
    refused("apply", "labelled", "energy", *energy, says=("--condition",))
    refused("apply", "labelled", "energy", *energy, "--condition", 7, says=("not 7",))
    refused("apply", "labelled", "energy", *energy, "--condition", "shoe", says=("0 to 2", "'shoe'"))
    refused("apply", "coopnets", "energy", *energy, "--condition", 1, says=("knows no conditions",))
    refused("apply", "translating", "energy", *energy, "--condition", "three.npy", says=("3 conditions for 4 images",))


MODELS = ["CoopFlow", "CoopNets", "ConditionalCoopNets", "CoopVAEBM", "CycleCoopNets", "NormalizingFlow"]


@pytest.mark.parametrize("model", [*MODELS, "SequenceCycleCoopNets", "LatentEBM", "AlternatingBackProp"])
def test_help_explains_every_argument(model):
    result = zoo("fit", "--model.help", f"ebm_zoo.models.{model}")
    assert result.code == 0
    text = " ".join(result.out.split())
    cls = getattr(ebm_zoo.models, model)
    documented = cls.__doc__.partition("Args:")[2].partition("References:")[0]
    for name in list(inspect.signature(cls).parameters):
        assert f"--model.{name}" in text
        (said,) = re.findall(rf"^ +{name}: (.+)$", documented, re.M)
        # Of a dataclass each field is explained instead.
        assert said in text or f"--model.{name}." in text, name
