"""Cooperative models: the published algorithm, and what their tasks answer."""

import copy
import re

import pytest
import torch
from lightning import Callback
from published import Published, sign_flipped
from tiny import (
    COOPERATION,
    REVISION,
    SHAPE,
    TinyData,
    classed,
    convnet,
    coop_flow,
    coop_vaebm,
    coopnets,
    generator,
    images,
    labelled_coopnets,
    pairs,
    trainer,
    translating_coopnets,
)
from torch import nn

from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.losses import gaussian_divergence, squared_error, teaching
from ebm_zoo.models import ConditionalCoopNets
from ebm_zoo.models.latent import candidates, linear, posterior_mode, spherical
from ebm_zoo.networks import PairedEnergy
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Langevin
from ebm_zoo.space import Classes, Space


class Losses(Callback):
    """Remembers the losses of every iteration."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append((outputs["energy"].item(), outputs["generator"].item()))


@pytest.mark.parametrize("latent_steps", [0, 3])
def test_training_is_the_published_algorithm(latent_steps):
    model = coopnets(
        sampler=Langevin(steps=4, step_size=0.3, clamp=(-1.0, 1.0)),
        latent_langevin=Langevin(steps=latent_steps, step_size=0.1),
        optim={"energy": Adam(lr=7e-3, betas=(0.5, 0.999)), "generator": Adam(lr=1e-3, betas=(0.5, 0.999))},
    )
    energy, network = copy.deepcopy(model.energy), copy.deepcopy(model.generator)
    port = Published(
        sign_flipped(energy),
        network,
        torch.optim.Adam(energy.parameters(), lr=7e-3, betas=(0.5, 0.999)),
        torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999)),
        latent_dim=4,
        steps=4,
        step_size=0.3,
        low=-1.0,
        high=1.0,
        latent_steps=latent_steps,
        latent_step_size=0.1,
        sigma=0.3,
    )
    data, ours = images(160), Losses()
    # Ours draws the data's noise too, of strength 0: each iteration begins at a stream of its own.
    seeds = Seeds()
    trainer(max_steps=20, limit_val_batches=0, callbacks=[seeds, ours]).fit(
        model, datamodule=TinyData(data, batch_size=8, shuffle=False)
    )
    theirs = []
    for k, batch in enumerate(data.split(8)):
        torch.manual_seed(k)
        theirs.append(port.iterate(batch))
    torch.testing.assert_close(torch.tensor(ours.seen), torch.tensor(theirs), atol=1e-5, rtol=1e-5)
    assert len(theirs) == 20 and abs(theirs[-1][1] - theirs[0][1]) > 1e-3


class Seeds(Callback):
    """Begins each iteration at a stream of its own number."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(batch_idx)


def test_teaching_is_the_squared_error_over_two_variances():
    a, b = torch.randn(3, 2, 4), torch.randn(3, 2, 4, requires_grad=True)
    loss = teaching(a.requires_grad_(), b, sigma=0.5)
    torch.testing.assert_close(loss, ((a - b) ** 2).sum() / 3 / 0.5)
    loss.backward()
    assert b.grad is None and a.grad is not None


def test_squared_errors_are_summed_in_full_precision():
    a, b = torch.full((1, 1000), 1.0, dtype=torch.bfloat16), torch.full((1, 1000), 0.9, dtype=torch.bfloat16)
    found = squared_error(a, b)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, ((a.double() - b.double()) ** 2).sum(1).float())


def test_divergence_is_that_of_torch():
    mean, log_sigma = torch.randn(5, 3), torch.randn(5, 3)
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean, log_sigma.exp()), normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(gaussian_divergence(mean, log_sigma), expected)


def test_samples_are_revised_drafts():
    model = coopnets()
    drafts = model.sample(6, steps=0, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drafts, model.propose(model.latent(6, torch.Generator().manual_seed(1))))
    source = torch.Generator().manual_seed(1)
    revised = REVISION(model.energy, model.propose(model.latent(6, source)), generator=source)
    assert torch.equal(model.sample(6, generator=torch.Generator().manual_seed(1)), revised)
    with pytest.raises(DataError, match="At least one"):
        model.sample(0)


def test_posterior_mode_of_a_linear_generator_is_known():
    # g(z) = W z with noise σ: the mode is (WᵀM W / σ² + I)⁻¹ WᵀM x / σ².
    weights, x = torch.randn(6, 2), torch.randn(3, 6)
    mask = torch.tensor([1.0, 1, 1, 0, 1, 0])
    masked = weights * mask[:, None]
    expected = torch.linalg.solve(masked.T @ masked / 0.25 + torch.eye(2), masked.T @ (x.T * mask[:, None]) / 0.25).T
    found = posterior_mode(lambda z: z @ weights.T, x, mask[None], torch.randn(8, 2), 0.5, iterations=800, lr=0.02)
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_the_search_begins_at_the_nearest_draft():
    network, draws = generator(), torch.randn(16, 4)
    with torch.no_grad():
        x = network(draws)[[3, 11]]
    nearest = posterior_mode(network, x, torch.ones_like(x), draws, 0.3, iterations=0)
    assert torch.equal(nearest, draws[[3, 11]])


def test_negative_iterations_are_refused():
    x = images(2)
    for search in (lambda: coopnets().reconstruct(x, iterations=-1), lambda: convnet().invert(x, iterations=-1)):
        with pytest.raises(ConfigError, match="iterations must be 0 or more, not -1"):
            search()


def test_inference_brings_drafts_nearer():
    model = coopnets()
    with torch.no_grad():
        x = model.generator(torch.randn(4, 4))
    before, after = (model.propose(model.infer(x, torch.ones_like(x), iterations=k)) for k in (0, 200))
    assert (squared_error(after, x) < squared_error(before, x)).all()


@pytest.mark.parametrize("path", [linear, spherical])
def test_walks_end_where_they_are_asked_to(path):
    a, b = torch.randn(3, 1, 4), torch.randn(3, 1, 4)
    walk = path(a, b, torch.linspace(0, 1, 5)[:, None])
    torch.testing.assert_close(walk[:, [0]], a)
    torch.testing.assert_close(walk[:, [-1]], b)
    assert walk.shape == (3, 5, 4)
    if path is spherical:
        equal = spherical(a / a.norm(dim=-1, keepdim=True), b / b.norm(dim=-1, keepdim=True), torch.rand(5, 1))
        torch.testing.assert_close(equal.norm(dim=-1), torch.ones(3, 5))
    else:
        torch.testing.assert_close(walk[:, 2], (a + b)[:, 0] / 2)


def test_inpainting_keeps_what_is_known():
    x, known = images(3), torch.arange(8) < 3
    for model in (coopnets(), coop_vaebm()):
        states = []
        filled = model.inpaint(x, known, iterations=3, on_step=lambda k, y, states=states: states.append(y.clone()))
        assert torch.equal(filled, states[-1]) and not torch.equal(filled, x) and len(states) == 3
        # At every step: what is unknown is revised beside it.
        assert all(torch.equal(state[..., :3], x[..., :3]) for state in states)


def test_the_encoder_gives_the_mean():
    model, x = coop_vaebm(), images(3)
    assert torch.equal(model.encode(x), model.encoder(x)[:, :4])
    with pytest.raises(DataError, match="shape"):
        model.encode(x[..., :4])


def test_a_vae_learns_the_revised_images_alone():
    model = coop_vaebm()
    first, second = images(4), torch.zeros(4, *SHAPE)
    losses = []
    for batch in (first, second):
        torch.manual_seed(1)
        losses.append(model.losses(batch)["vae"])
    assert torch.equal(*losses)


def test_a_vae_learns_the_bound_counted_by_hand():
    model, revised, latent = coop_vaebm(sigma=0.2, divergence_weight=0.7), images(4), torch.randn(4, 4)
    nn.init.normal_(next(model.encoder.parameters()))
    torch.manual_seed(1)
    loss = model.teach(latent, revised, images(4, seed=1))["vae"]
    torch.manual_seed(1)
    mean, log_sigma = model.encoder(revised).split(4, 1)
    drawn = mean + log_sigma.exp() * torch.randn(4, 4)
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(normal(mean, log_sigma.exp()), normal(0.0, 1.0)).sum(1)
    misfit = (model.generator(drawn) - revised).square().sum((1, 2, 3)) / (2 * 0.2**2)
    torch.testing.assert_close(loss, (misfit + 0.7 * divergence).mean())
    assert not torch.allclose(model.generator(drawn), model.generator(mean), atol=1e-3), "nothing is drawn"


def test_the_search_begins_at_the_encoders_vectors_too():
    model, wanted = coop_vaebm(), 20 + torch.arange(4.0)[:, None].expand(4, 4)
    x = model.propose(wanted)
    model.encode = lambda x: wanted
    assert torch.equal(model.infer(x, torch.ones_like(x), iterations=0), wanted)
    start = candidates(4, x.device)[:4]
    near = model.propose(start)
    assert torch.equal(model.infer(near, torch.ones_like(near), iterations=0), start)


@pytest.mark.parametrize("make", [coopnets, coop_vaebm, coop_flow])
def test_an_answer_does_not_depend_on_its_neighbours_or_on_what_was_drawn_before(make):
    model, x = make().eval(), images(6)
    known = torch.arange(8) < 5
    before = torch.get_rng_state()
    whole = model.infer(x, known.expand_as(x), iterations=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    parts = [model.infer(part, known.expand_as(part), iterations=3) for part in (x[:1], x[1:3], x[3:])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("make", [coopnets, coop_vaebm])
def test_inference_allows_the_generators_own_residual(make):
    model, x = make(sigma=0.1), images(3)
    known = torch.ones_like(x)
    found = model.infer(x, known, iterations=5)
    start, guess = candidates(4, x.device), None if make is coopnets else model.encode(x)
    expected, other = (
        posterior_mode(model.generator, x, known, start, s, guess=guess, iterations=5) for s in (0.1, 1.0)
    )
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, other, atol=1e-3)


def test_an_answer_for_each_condition_and_draw():
    model, labels = labelled_coopnets(), torch.tensor([2, 0])
    drafts, solutions = model.predict(labels, 3, generator=torch.Generator().manual_seed(1))
    assert drafts.shape == solutions.shape == (2, 3, *SHAPE)
    source = torch.Generator().manual_seed(1)
    repeated = torch.tensor([2, 2, 2, 0, 0, 0])
    expected = model.propose(model.latent(6, source), repeated)
    assert torch.equal(drafts.flatten(0, 1), expected)
    revised = REVISION(model.energy, expected, repeated, generator=source)
    assert torch.equal(solutions.flatten(0, 1), revised)
    with pytest.raises(DataError, match="At least one"):
        model.predict(labels, 0)


def test_scaled_latent_vectors_are_for_the_tasks_alone():
    plain = labelled_coopnets()
    scaled = labelled_coopnets(energy=plain.energy, generator=plain.generator, latent_scale=0.25)
    labels = torch.tensor([2, 0])
    drafts = scaled.predict(labels, generator=torch.Generator().manual_seed(1))[0][:, 0]
    assert torch.equal(drafts, plain.propose(0.25 * plain.latent(2, torch.Generator().manual_seed(1)), labels))
    torch.manual_seed(1)
    answered = scaled.answers(2, labels)["drafts"]
    torch.manual_seed(1)
    assert torch.equal(answered, plain.propose(0.25 * plain.latent(2), labels))
    losses = []
    for model in (plain, scaled):
        torch.manual_seed(1)
        losses.append(model.losses(classed(4))["energy"])
    assert torch.equal(*losses)
    with pytest.raises(ConfigError, match="latent_scale"):
        labelled_coopnets(latent_scale=-1.0)


def test_samples_of_a_class_and_of_all_in_turn():
    model = labelled_coopnets()
    for label, labels in ((1, [1, 1, 1, 1]), (None, [0, 1, 2, 0])):
        x = model.sample(4, label=label, generator=torch.Generator().manual_seed(1))
        expected = model.predict(torch.tensor(labels), generator=torch.Generator().manual_seed(1))[1][:, 0]
        assert torch.equal(x, expected)
    with pytest.raises(ConfigError, match="predict"):
        translating_coopnets().sample(4)


def test_supervision_is_the_absolute_error():
    model = translating_coopnets(supervision=1.0)
    x, condition = pairs(4)
    latent = torch.randn(4, 2)
    loss = model.teach(latent, torch.zeros_like(x), x, condition)["generator"]
    with torch.no_grad():
        expected = (model.generator(latent, condition) - x).abs().sum() / 4
    torch.testing.assert_close(loss.detach(), expected)


@pytest.mark.parametrize("supervision", [0.0, 0.3])
def test_teaching_and_supervision_are_weighed(supervision):
    model, (x, condition) = translating_coopnets(supervision=supervision, sigma=0.2), pairs(4)
    latent, revised = torch.randn(4, 2), images(4, seed=1)
    drafts = model.generator(latent, condition)
    taught = (drafts - revised).square().sum() / 4 / (2 * 0.2**2)
    expected = (1 - supervision) * taught + supervision * (drafts - x).abs().sum() / 4
    torch.testing.assert_close(model.teach(latent, revised, x, condition)["generator"], expected)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (torch.tensor([0, 3]), "classes 0 to 2, not 3"),
        (torch.tensor([-1, 0]), "not -1"),
        (torch.tensor([0.0, 1.0]), "float32"),
        (torch.tensor([[0], [1]]), "(2, 1)"),
    ],
)
def test_labels_that_do_not_fit(labels, says):
    model = labelled_coopnets()
    for ask in (lambda: model.predict(labels), lambda: model.losses((images(2), labels))):
        with pytest.raises(DataError, match=re.escape(says)):
            ask()


def test_conditions_that_do_not_fit():
    model = translating_coopnets()
    with pytest.raises(DataError, match=r"shape \(B, 1, 8, 8\)"):
        model.predict(torch.zeros(2, 3, 8, 8))
    with pytest.raises(DataError, match="LabelledImageData or PairedImageData"):
        model.losses(images(4))
    with pytest.raises(DataError, match="LabelledImageData or PairedImageData"):
        trainer(max_steps=1).fit(labelled_coopnets(), datamodule=TinyData(images(8)))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"data_noise": -1.0}, "data_noise"),
        ({"penalty": -1.0}, "penalty"),
        ({"generator": nn.Linear(2, 2)}, "latent_dim"),
    ],
)
def test_settings_out_of_range(change, says):
    for make in (coopnets, labelled_coopnets):
        with pytest.raises(ConfigError, match=says):
            make(**change)


def test_settings_of_single_models_out_of_range():
    with pytest.raises(ConfigError, match="supervision"):
        labelled_coopnets(supervision=1.5)
    with pytest.raises(ConfigError, match="knows 3 classes, condition 4"):
        labelled_coopnets(condition=Classes(4))
    with pytest.raises(ConfigError, match="2 or more"):
        Classes(1)
    with pytest.raises(ConfigError, match="divergence_weight"):
        coop_vaebm(divergence_weight=-1.0)


def test_labels_reach_energy_and_generator():
    model = labelled_coopnets()
    x, labels = classed(3)
    with torch.no_grad():
        assert not torch.equal(model.energy(x, labels), model.energy(x, labels.flip(0)))
        z = torch.randn(3, 4)
        assert not torch.equal(model.generator(z, labels), model.generator(z, labels.flip(0)))


def test_a_model_of_pairs_is_one_of_space():
    model = ConditionalCoopNets(
        PairedEnergy(nn.Identity()), generator(), Space(SHAPE), Space((3, 8, 8)), REVISION, COOPERATION
    )
    assert model.condition.check(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 8, 8)
