"""The contract table: one line per model, tested as a whole in test_contract.py."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from tiny import (
    CLIP,
    SHAPE,
    TOKENS,
    abp,
    classed,
    clips,
    convnet,
    coop_flow,
    coop_vaebm,
    coopnets,
    cycle_coopnets,
    domains,
    energy,
    images,
    indexed,
    labelled,
    labelled_coopnets,
    latent_ebm,
    normalizing_flow,
    pairs,
    sentence_ebm,
    sentences,
    sequence_cycle,
    translating_coopnets,
)
from torch import Tensor

from ebm_zoo.metrics import GreyClassifier
from ebm_zoo.models import Classifier, EnergyModel
from ebm_zoo.networks import GaussianReference
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import HMC, FittedGaussian, FromData, Langevin, Persistent, ShortRun
from ebm_zoo.space import Space

COUNT = 4
"""Data in the batch that tasks and predict_step are given."""


@dataclass(frozen=True)
class Case:
    """A tiny model and what it has to answer.

    Args:
        model: makes it, drawing its weights from the global stream.
        batch: data of a training step, by count.
        tasks: call of every task for a batch of COUNT, and the shape of its answer.
        predicted: shape of each answer of predict_step to a batch of COUNT.
        refused: tasks that these settings cannot do.
        energies: constructor arguments that are energies; empty for a model that is no generative one.
        height: energies of a batch of data, summed over the model's energies where it has several.
    """

    model: Callable[[], EnergyModel]
    batch: Callable[[int], Any]
    tasks: dict[str, tuple[Callable[[Any, Any], Tensor], tuple[int, ...]]]
    predicted: dict[str, tuple[int, ...]]
    refused: tuple[str, ...] = ()
    energies: tuple[str, ...] = ("energy",)
    height: Callable[[Any, Any], Tensor] = lambda model, batch: model.energy(*model.observed(batch))


def left_half(x: Tensor) -> Tensor:
    return torch.arange(x.shape[-1]) < x.shape[-1] // 2


def fitted() -> FittedGaussian:
    noise = FittedGaussian(SHAPE, rank=5)
    noise.fit([images(64)])
    return noise


def classifier() -> Classifier:
    return Classifier(GreyClassifier(classes=3, width=4), Space((1, 28, 28), 0.0, 1.0), {"network": Adam(lr=1e-2)})


IMAGE_TASKS = {
    "sample": (lambda model, x: model.sample(3), (3, *SHAPE)),
    "energy": (lambda model, x: model.energy(x), (COUNT,)),
    "inpaint": (lambda model, x: model.inpaint(x, left_half(x)), (COUNT, *SHAPE)),
    "reconstruct": (lambda model, x: model.reconstruct(x, iterations=2), (COUNT, *SHAPE)),
    "interpolate": (lambda model, x: model.interpolate(x[:2], x[2:], 3, iterations=2), (2, 3, *SHAPE)),
}
IMAGE = (images, IMAGE_TASKS, {"samples": (COUNT, *SHAPE), "energy": (COUNT,)})
DRAFTED = {"drafts": (COUNT, *SHAPE), "samples": (COUNT, *SHAPE), "energy": (COUNT,)}
ENCODED = {**IMAGE_TASKS, "encode": (lambda model, x: model.encode(x), (COUNT, 4))}
LIKELIHOOD = {"log_prob": (lambda model, x: model.log_prob(x), (COUNT,))}
CONDITIONAL_TASKS = {
    "sample": (lambda model, x: model.sample(5, label=1), (5, *SHAPE)),
    "predict": (lambda model, x: torch.stack(model.predict(x[1], 3)), (2, COUNT, 3, *SHAPE)),
    "energy": (lambda model, x: model.energy(*x), (COUNT,)),
}
TWO_ENERGIES = ("energy_a", "energy_b")


def translated(shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """What a model of two domains predicts."""
    data = {f"{domain}{name}": (COUNT, *shape) for domain in "ab" for name in ("", "_drafts", "_samples")}
    return data | {f"{domain}_{name}": (COUNT,) for domain in "ab" for name in ("cycle", "draft_cycle")}


def both_ways(model: Any, x: tuple[Tensor, Tensor]) -> Tensor:
    return torch.stack([model.translate(x[0], "b"), model.translate(x[1], "a")])


CYCLE_TASKS = {
    "translate": (both_ways, (2, COUNT, *SHAPE)),
    "energy": (lambda model, x: model.energy(x[0], "a"), (COUNT,)),
}
SEQUENCE_TASKS = {
    "translate": (both_ways, (2, COUNT, *CLIP)),
    "energy": CYCLE_TASKS["energy"],
    "predict_next": (lambda model, x: model.predict_next(x[1], "b"), (COUNT, *SHAPE)),
}
# Clips of four frames have two windows of two, and a frame behind each.
SEQUENCES = {
    **translated(CLIP),
    **{f"{domain}_{name}_error": (2 * COUNT,) for domain in "ab" for name in ("next", "copy")},
}


LATENT_TASKS = {
    "sample": IMAGE_TASKS["sample"],
    "energy": IMAGE_TASKS["energy"],
    "log_joint": (lambda model, x: model.log_joint(x, steps=2), (COUNT,)),
    "latent_energy": (lambda model, x: model.latent_energy(x, steps=2), (COUNT,)),
    "infer": (lambda model, x: model.infer(x), (COUNT, 4)),
    "inpaint": (lambda model, x: model.inpaint(x, left_half(x)), (COUNT, *SHAPE)),
    "interpolate": (lambda model, x: model.interpolate(x[:2], x[2:], 3, steps=2), (2, 3, *SHAPE)),
    "reconstruct": (lambda model, x: model.reconstruct(x, steps=2), (COUNT, *SHAPE)),
}
SENTENCE_TASKS = {
    **{name: LATENT_TASKS[name] for name in ("energy", "log_joint", "latent_energy", "infer")},
    "sample": (lambda model, x: model.sample(3), (3, *TOKENS.shape)),
    "inpaint": (lambda model, x: model.inpaint(x, torch.arange(6) < 2), (COUNT, *TOKENS.shape)),
    "interpolate": (lambda model, x: model.interpolate(x[:2], x[2:], 3, steps=2), (2, 3, *TOKENS.shape)),
    "reconstruct": (lambda model, x: model.reconstruct(x, steps=2), (COUNT, *TOKENS.shape)),
}
LATENT = {"samples": (COUNT, *SHAPE), "energy": (COUNT,)}


def of_images(tasks: dict[str, Any]) -> dict[str, Any]:
    """Tasks that are asked with the images of a batch alone."""
    return {name: (partial(_of_images, call), shape) for name, (call, shape) in tasks.items()}


def _of_images(call: Callable[[Any, Any], Tensor], model: Any, batch: tuple[Tensor, ...]) -> Tensor:
    return call(model, batch[0])


def both_heights(model: Any, batch: Any) -> Tensor:
    return model.energy(batch[0], "a") + model.energy(batch[1], "b")


LABELLED = (labelled, {"classify": (lambda model, x: model.classify(x[0]), (COUNT,))}, {"classes": (COUNT,)})
NO_SHORT_RUN = ("reconstruct", "interpolate")

CASES = {
    "abp": Case(abp, indexed, of_images(LATENT_TASKS), LATENT, energies=("generator",)),
    "abp-short_run": Case(
        lambda: abp(chains=None, infer_steps=6), images, LATENT_TASKS, LATENT, energies=("generator",)
    ),
    "classifier": Case(classifier, *LABELLED, energies=()),
    "coopnets": Case(coopnets, images, IMAGE_TASKS, DRAFTED),
    "coopnets-latent_inference": Case(
        lambda: coopnets(latent_langevin=Langevin(steps=2, step_size=0.1), data_noise=0.05, penalty=0.1),
        images,
        IMAGE_TASKS,
        DRAFTED,
    ),
    "coopnets-persistent": Case(
        lambda: coopnets(chains=Persistent(size=16, refresh=0.2), sample_steps=7), images, IMAGE_TASKS, DRAFTED
    ),
    "coop_flow": Case(coop_flow, images, {**IMAGE_TASKS, **LIKELIHOOD}, DRAFTED),
    "coop_flow-persistent": Case(
        lambda: coop_flow(chains=Persistent(size=16, refresh=0.2), sample_steps=4, data_noise=0.05, penalty=0.1),
        images,
        {**IMAGE_TASKS, **LIKELIHOOD},
        DRAFTED,
    ),
    "coop_vaebm": Case(coop_vaebm, images, ENCODED, DRAFTED),
    "conditional_coopnets-labels": Case(
        labelled_coopnets, classed, CONDITIONAL_TASKS, {**DRAFTED, "condition": (COUNT,)}
    ),
    "conditional_coopnets-images": Case(
        translating_coopnets,
        pairs,
        {name: CONDITIONAL_TASKS[name] for name in ("predict", "energy")},
        {**DRAFTED, "condition": (COUNT, *SHAPE)},
    ),
    "cycle_coopnets": Case(
        cycle_coopnets, domains, CYCLE_TASKS, translated(SHAPE), energies=TWO_ENERGIES, height=both_heights
    ),
    "cycle_coopnets-identity": Case(
        lambda: cycle_coopnets(identity_weight=0.5, data_noise=0.05, penalty=0.1, sample_steps=7, cycle_weight=0.0),
        domains,
        CYCLE_TASKS,
        translated(SHAPE),
        energies=TWO_ENERGIES,
        height=both_heights,
    ),
    "sequence_cycle_coopnets": Case(
        sequence_cycle, clips, SEQUENCE_TASKS, SEQUENCES, energies=TWO_ENERGIES, height=both_heights
    ),
    "sequence_cycle_coopnets-cycle": Case(
        lambda: sequence_cycle(cycle_weight=1.0, data_noise=0.05, penalty=0.1, sample_steps=7, prediction_weight=0.5),
        clips,
        SEQUENCE_TASKS,
        SEQUENCES,
        energies=TWO_ENERGIES,
        height=both_heights,
    ),
    "latent_ebm": Case(latent_ebm, images, LATENT_TASKS, LATENT, energies=("prior", "generator")),
    "latent_ebm-penalty": Case(
        lambda: latent_ebm(penalty=0.1, infer_steps=6),
        indexed,
        of_images(LATENT_TASKS),
        LATENT,
        energies=("prior", "generator"),
    ),
    "latent_ebm-persistent": Case(
        lambda: latent_ebm(prior_chains=Persistent(size=16, refresh=0.2), sample_steps=6),
        images,
        LATENT_TASKS,
        LATENT,
        energies=("prior", "generator"),
    ),
    "latent_ebm-sentences": Case(
        sentence_ebm,
        sentences,
        SENTENCE_TASKS,
        {"samples": (COUNT, *TOKENS.shape), "energy": (COUNT,)},
        energies=("prior", "generator"),
    ),
    "generative_convnet": Case(lambda: convnet(chains=ShortRun()), *IMAGE),
    "generative_convnet-from_data": Case(lambda: convnet(chains=FromData()), *IMAGE),
    "generative_convnet-persistent": Case(lambda: convnet(chains=Persistent(size=16, refresh=0.2)), *IMAGE),
    "generative_convnet-hmc": Case(lambda: convnet(sampler=HMC(3, 0.1, 3)), *IMAGE, refused=NO_SHORT_RUN),
    "generative_convnet-fitted_noise": Case(lambda: convnet(noise=fitted()), *IMAGE),
    "generative_convnet-reference": Case(lambda: convnet(energy=GaussianReference(energy(), 0.5)), *IMAGE),
    "generative_convnet-penalty": Case(lambda: convnet(data_noise=0.05, penalty=0.1, sample_steps=7), *IMAGE),
    "normalizing_flow": Case(
        normalizing_flow,
        images,
        {**{name: IMAGE_TASKS[name] for name in ("sample", "energy")}, **LIKELIHOOD},
        {"samples": (COUNT, *SHAPE), "energy": (COUNT,)},
        energies=(),
    ),
}
