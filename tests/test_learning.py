"""What an iteration of learning hands on: chains to their memory, samples and noisy data to the energies."""

from typing import Any

import pytest
import torch
from tiny import (
    CLIP,
    classed,
    clips,
    convnet,
    coop_flow,
    coop_vaebm,
    coopnets,
    cycle_coopnets,
    domains,
    images,
    labelled_coopnets,
    latent_ebm,
    pairs,
    sequence_cycle,
    translating_coopnets,
)
from torch import Tensor, nn

from ebm_zoo.samplers import Persistent, Sampler


class Watched(Sampler):
    """A sampler of which every run is remembered: where it began and ended, and of how many steps it had to be."""

    def __init__(self, sampler: Any, runs: list[tuple[Tensor, Tensor]]) -> None:
        self.sampler, self.runs, self.steps = sampler, runs, sampler.steps
        self.lengths: list[int | None] = []

    def __call__(self, energy, x, *context, **settings):
        end = self.sampler(energy, x, *context, **settings)
        self.runs.append((x.clone(), end.clone()))
        self.lengths.append(settings.get("steps"))
        return end


def watched(model: Any, name: str = "sampler") -> list[tuple[Tensor, Tensor]]:
    """Runs of one of a model's samplers, from now on."""
    runs: list[tuple[Tensor, Tensor]] = []
    setattr(model, name, Watched(getattr(model, name), runs))
    return runs


def sorted_rows(x: Tensor) -> list[list[float]]:
    return sorted(x.flatten(1).tolist())


# Memory


@pytest.mark.parametrize("make", [coopnets, coop_vaebm, coop_flow])
def test_the_memory_keeps_each_revision_beside_the_latent_vector_of_its_draft(make):
    model = make()
    model.chains = Persistent(4, refresh=0.0)
    runs, size = watched(model), model.latent(1).shape[1]
    model.losses(images(4))
    ((drafts, revised),) = runs
    latent, kept = model.chains.memory.split([size, 64], 1)
    # Which chain of the run a row of the memory is, its latent vector tells.
    distances = torch.cdist(model.propose(latent).flatten(1), drafts.flatten(1))
    chain = distances.argmin(1)
    assert sorted(chain.tolist()) == [0, 1, 2, 3] and distances.amin(1).max() < 1e-4
    assert torch.equal(kept, revised.flatten(1)[chain])
    assert not torch.isclose(revised, drafts).all((1, 2, 3)).any(), "a chain stood still"
    model.losses(images(4))
    assert sorted_rows(runs[1][0]) == sorted_rows(revised), "the second run does not go on from the first"
    assert sorted_rows(model.chains.memory[:, size:]) == sorted_rows(runs[1][1])
    assert torch.equal(model.chains.memory[:, :size], latent), "a latent vector was drawn anew"


@pytest.mark.parametrize(("make", "sampler", "chains"), [
    (convnet, "sampler", "chains"),
    (latent_ebm, "prior_langevin", "prior_chains"),
])  # fmt: skip
def test_the_memory_keeps_each_chain_in_its_place(make, sampler, chains):
    model, memory = make(), Persistent(6, refresh=0.0)
    setattr(model, chains, memory)
    runs = watched(model, sampler)
    model.losses(images(6))
    before = memory.memory.clone()
    assert sorted_rows(before) == sorted_rows(runs[0][1])
    model.losses(images(6))
    start, end = (x.flatten(1) for x in runs[1])
    place = torch.cdist(before.flatten(1), start).argmin(1)
    assert torch.equal(before.flatten(1), start[place])
    assert torch.equal(memory.memory.flatten(1), end[place]) and not torch.isclose(start, end).all(1).any()


# Noise and penalty: (model, batch, energies by loss, data by loss). The prior of a LatentEBM learns no data.

ENERGY = {"energy": "energy"}
PAIR = {"energy_a": "energy_a", "energy_b": "energy_b"}
FRAME = (-1, *CLIP[1:])
LEARNERS = {
    "generative_convnet": (convnet, images, ENERGY, lambda batch: [batch]),
    "coopnets": (coopnets, images, ENERGY, lambda batch: [batch]),
    "coop_vaebm": (coop_vaebm, images, ENERGY, lambda batch: [batch]),
    "coop_flow": (coop_flow, images, ENERGY, lambda batch: [batch]),
    "conditional-labels": (lambda **s: labelled_coopnets(supervision=0.5, **s), classed, ENERGY, lambda b: b[:1]),
    "conditional-images": (translating_coopnets, pairs, ENERGY, lambda batch: batch[:1]),
    "cycle_coopnets": (cycle_coopnets, domains, PAIR, lambda batch: batch),
    "sequence_cycle": (sequence_cycle, clips, PAIR, lambda batch: [x.reshape(FRAME) for x in batch]),
}
SAMPLERS = ("sampler", "prior_langevin", "posterior_langevin")
learners = pytest.mark.parametrize(("make", "batch", "energies", "data"), LEARNERS.values(), ids=LEARNERS.keys())


def asked(model: Any, energies: dict[str, str], batch: Any) -> tuple[dict[str, Tensor], dict[str, list[Any]]]:
    """Losses of an iteration, and what each energy was asked and answered after the last run of MCMC: x⁻, then x⁺."""
    calls: dict[str, list[Any]] = {name: [] for name in energies.values()}
    runs: list[tuple[Tensor, Tensor]] = []

    class Forgetful(Watched):
        def __call__(self, *arguments, **settings):
            end = super().__call__(*arguments, **settings)
            for each in calls.values():
                each.clear()
            return end

    for name in SAMPLERS:
        if hasattr(model, name):
            setattr(model, name, Forgetful(getattr(model, name), runs))
    for name, each in calls.items():
        network: nn.Module = getattr(model, name)
        network.register_forward_hook(lambda _, given, answer, each=each: each.append((given, answer)))
    torch.manual_seed(1)
    losses = model.losses(batch)
    for (_, end), ((negative, _), _) in zip(runs[-len(calls) :], calls.values(), strict=True):
        assert torch.equal(negative[0], end), "an energy does not learn against what its own chains ended in"
    return losses, calls


@learners
def test_the_energies_learn_noisy_data_and_nothing_else_does(make, batch, energies, data):
    torch.manual_seed(0)
    noisy, calls = asked(make(data_noise=0.3), energies, batch(64))
    torch.manual_seed(0)
    clean, clean_calls = asked(make(), energies, batch(64))
    for loss, x in zip(energies, data(batch(64)), strict=True):
        (_, (given, _)), (_, (given_clean, _)) = (c[energies[loss]] for c in (calls, clean_calls))
        assert torch.equal(given_clean[0], x)
        noise = given[0] - x
        assert noise.std().item() == pytest.approx(0.3, rel=0.05) and abs(noise.mean().item()) < 0.03
        assert all(torch.equal(a, b) for a, b in zip(given[1:], given_clean[1:], strict=True)), "a condition is noisy"
    for name in clean.keys() - energies.keys():
        assert torch.equal(noisy[name], clean[name]), f"{name} depends on the noise of the data"


@pytest.mark.parametrize(
    ("make", "batch", "energies"),
    [*(each[:3] for each in LEARNERS.values()), (latent_ebm, images, {"prior": "prior"})],
    ids=[*LEARNERS, "latent_ebm"],
)
@pytest.mark.parametrize("penalty", [0.0, 20.0])
def test_energies_of_data_and_samples_are_shifted_and_penalised(make, batch, energies, penalty):
    losses, calls = asked(make(penalty=penalty), energies, batch(4))
    for loss, name in energies.items():
        (_, high), (_, low) = calls[name]
        squares = (low**2).mean() + (high**2).mean()
        torch.testing.assert_close(losses[loss], low.mean() - high.mean() + penalty * squares)
        assert 20 * squares > 1e-3, "the penalty is too small to be seen"


# Drafts, and the length of their revision


class Loud(nn.Module):
    """A generator or translator that leaves the range of the data."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.latent_dim = network, getattr(network, "latent_dim", None)

    def forward(self, *given: Tensor) -> Tensor:
        return 20 * self.network(*given)


COOPERATIVE = ("coopnets", "coop_vaebm", "conditional-labels", "conditional-images")
TWO_WAYS = ("cycle_coopnets", "sequence_cycle")


@pytest.mark.parametrize("name", [*COOPERATIVE, *TWO_WAYS])
def test_chains_begin_at_drafts_inside_the_range(name):
    make, batch, *_ = LEARNERS[name]
    model = make()
    for each in ("generator", "translator_ab", "translator_ba"):
        if hasattr(model, each):
            setattr(model, each, Loud(getattr(model, each)))
    runs = watched(model)
    model.losses(batch(4))
    model.predict_step(batch(4), 0)
    assert len(runs) == (2 if name in COOPERATIVE else 10)
    for start, _ in runs:
        assert start.min() == -1 and start.max() == 1


def sampled(model: Any, batch: Any) -> None:
    if hasattr(model, "answers_both_ways"):
        model.translate(batch[0], "b")
    else:
        x, *conditions = model.observed(batch)
        model.answers(len(x), *conditions)


@pytest.mark.parametrize("name", LEARNERS)
def test_samples_can_take_longer_than_learning(name):
    make, batch, *_ = LEARNERS[name]
    model = make(sample_steps=7)
    watched(model)
    model.losses(batch(2))
    learned, model.sampler.lengths = set(model.sampler.lengths), []
    sampled(model, batch(2))
    assert learned == {None} and set(model.sampler.lengths) == {7} and model.chain_length == 7
    assert make().chain_length == make().sampler.steps


# Validation


@pytest.mark.parametrize("name", LEARNERS)
def test_energies_of_data_and_samples_are_logged_under_their_names(name, monkeypatch):
    make, batch, energies, _ = LEARNERS[name]
    model, logged = make(), {}
    monkeypatch.setattr(model, "log", lambda name, value, **_: logged.update({name: value.item()}))
    given = batch(3)
    answers = model.validation_step(given, 0)
    if energies is PAIR:
        values = {
            f"energy_{domain}/{kind}": model.energy(answers[key], domain)
            for domain in "ab"
            for kind, key in (("data", domain), ("samples", f"{domain}_samples"))
        }
    else:
        x, *conditions = model.observed(given)
        kinds = {"data": x, "samples": answers["samples"]}
        values = {f"energy/{kind}": model.energy(y, *conditions) for kind, y in kinds.items()}
    expected = {key: value.mean().item() for key, value in values.items()}
    assert logged == pytest.approx(expected, rel=1e-5) and len(set(expected.values())) == len(expected)
