"""A folder goes through every task in batches: memory does not grow with it, and answers keep their order."""

import pytest
import torch
from tiny import SHAPE, abp, convnet, coop_flow, coopnets, images, latent_ebm, sentence_ebm, sentences

from ebm_zoo.cli import answers
from ebm_zoo.cli import sentences as text

MODELS = {"convnet": convnet, "coopnets": coopnets, "coop_flow": coop_flow, "latent_ebm": latent_ebm, "abp": abp}


@pytest.fixture
def sizes(monkeypatch):
    """Small batches; the sizes of what a model is asked."""
    for module, name, size in ((answers, "BATCH", 4), (answers, "UNROLLED", 2), (text, "BATCH", 4)):
        monkeypatch.setattr(module, name, size)
    return []


def watched(model, task, sizes):
    method = getattr(model, task)
    setattr(model, task, lambda x, *rest, **settings: (sizes.append(len(x)), method(x, *rest, **settings))[1])
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("task", ["reconstruct", "interpolate", "inpaint"])
def test_every_task_takes_images_in_batches(name, task, sizes):
    model = watched(MODELS[name](), task, sizes)
    unrolled = name in ("convnet", "coop_flow") and task != "inpaint"
    whole = {"reconstruct": [2] * 5 if unrolled else [4, 4, 2], "inpaint": [4, 4, 2]}
    expected = {**whole, "interpolate": [1] * 5 if unrolled else [2, 2, 1]}[task]
    x = images(10)
    if task == "inpaint":
        known = (torch.arange(8) < 4).expand(1, *SHAPE)
        answer = answers.inpainted(model, x, known, None)
        assert torch.equal(answer[..., :4], x[..., :4])
    else:
        answer, _ = answers.rebuilt(model, task, x, 3, 2, None)
    assert sizes == expected and answer.shape == (15 if task == "interpolate" else 10, *SHAPE)


def test_masks_go_with_their_images(sizes):
    x, known = images(10), torch.rand(10, 1, 8, 8) < 0.5
    answer = answers.inpainted(watched(convnet(), "inpaint", sizes), x, known, 1)
    assert torch.equal(answer[known], x[known]) and sizes == [4, 4, 2]


def test_answers_in_batches_are_those_of_the_whole(sizes):
    model, x = convnet(), images(10)
    walks, columns = answers.rebuilt(model, "interpolate", x, 3, 2, None)
    torch.testing.assert_close(walks, model.interpolate(x[::2], x[1::2], 3, iterations=2).flatten(0, 1))
    rebuilt, _ = answers.rebuilt(model, "reconstruct", x, 3, 2, None)
    torch.testing.assert_close(rebuilt, model.reconstruct(x, iterations=2))
    assert columns == 3


def test_walks_between_sentences_are_taken_in_batches(sizes):
    model = watched(sentence_ebm(), "interpolate", sizes)
    assert len(text._answers(model, "interpolate", sentences(10), 3, None)) == 15 and sizes == [2, 2, 1]
