"""CoopFlow: the published iteration, the Langevin flow and what inverts it, and flows that were trained before."""

import copy
import dataclasses
from functools import partial

import pytest
import torch
from lightning import Callback
from tiny import SHAPE, TinyData, coop_flow, coopnets, flow, generator, images, normalizing_flow, trainer
from torch import nn

from ebm_zoo import save_pretrained
from ebm_zoo.callbacks import InitialWeights
from ebm_zoo.errors import ConfigError, WeightsError
from ebm_zoo.losses import squared_error
from ebm_zoo.metrics import bits_per_dimension
from ebm_zoo.models import CoopFlow
from ebm_zoo.models.latent import candidates, posterior_mode, start_of_run
from ebm_zoo.networks import ConvEnergy
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import HMC, Langevin
from ebm_zoo.space import Space

STEEP = Langevin(steps=5, step_size=3.0, noise_scale=0.0, clamp=(-1.0, 1.0), max_move=0.1)


class Seeds(Callback):
    """Begins each iteration at a stream of its own number, and remembers the losses."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(batch_idx)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append([outputs["energy"].item(), outputs["generator"].item()])


def published(energy: nn.Module, network: nn.Module, optimizers, x: torch.Tensor, steps: int) -> list[float]:
    """An iteration as the authors' program does it with f = −E: draft, Langevin flow, then each loss and its step."""
    with torch.no_grad():
        revised = network(torch.randn(len(x), network.latent_dim))
    for _ in range(steps):
        revised.requires_grad_()
        (slope,) = torch.autograd.grad(-energy(revised).sum(), revised)
        revised = (revised.detach() + (0.5 * 3.0**2 * slope).clamp(-0.1, 0.1)).clamp(-1, 1)
    # No flow but ours is at hand: its likelihood is held against autograd's Jacobian in test_flow.py.
    flow_loss = -network.log_prob(revised).mean()
    energy_loss = -energy(revised).mean() + energy(x).mean()
    losses = [energy_loss.item(), flow_loss.item()]
    for optimizer, loss in zip(optimizers, (energy_loss, flow_loss), strict=True):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return losses


def test_training_is_the_published_algorithm():
    model = coop_flow(sampler=STEEP, optim={"energy": Adam(lr=5e-3), "generator": Adam(lr=5e-3)})
    energy, network = copy.deepcopy(model.energy), copy.deepcopy(model.generator)
    optimizers = [torch.optim.Adam(each.parameters(), lr=5e-3) for each in (energy, network)]
    data, ours = images(96), Seeds()
    # Both draw the same noise: data_noise is drawn last, after the flow's dequantisation.
    trainer(max_steps=12, limit_val_batches=0, callbacks=[ours]).fit(
        model, datamodule=TinyData(data, batch_size=8, shuffle=False)
    )
    theirs = []
    for k, batch in enumerate(data.split(8)):
        torch.manual_seed(k)
        theirs.append(published(energy, network, optimizers, batch, STEEP.steps))
    torch.testing.assert_close(torch.tensor(ours.seen), torch.tensor(theirs), atol=1e-3, rtol=1e-4)
    assert len(theirs) == 12 and abs(theirs[-1][1] - theirs[0][1]) > 1


def test_the_flow_learns_the_likelihood_of_revised_images_that_are_constants():
    model, revised, latent = coop_flow(), images(4).requires_grad_(), torch.randn(4, 64)
    torch.manual_seed(1)
    loss = model.teach(latent, revised, images(4, seed=1))["generator"]
    torch.manual_seed(1)
    torch.testing.assert_close(loss, -model.generator.log_prob(revised).mean())
    loss.backward()
    assert revised.grad is None and model.generator.checkerboard[0].norms[0].mean.grad.any()


def test_the_langevin_flow_has_no_noise_and_limits_each_move():
    model = coop_flow(sampler=STEEP)
    for parameter in model.energy.parameters():
        parameter.data.mul_(5)
    drafts, states = model.propose(model.latent(16)), []
    ends = [model.revise(drafts, on_step=lambda k, x: states.append(x.clone())) for _ in range(2)]
    assert torch.equal(*ends)
    walk = torch.stack([drafts, *states[:5]])
    moves = (walk[1:] - walk[:-1]).abs()
    assert moves.max() <= 0.1 + 1e-6 and (moves > 0.1 - 1e-6).float().mean() > 0.1
    assert walk.abs().max() <= 1
    with torch.no_grad():
        assert model.energy(ends[0]).mean() < model.energy(drafts).mean()


def test_samples_of_no_steps_are_those_of_the_flow():
    model = coop_flow()
    alone = normalizing_flow(flow=model.generator)
    drafts = model.sample(5, steps=0, generator=torch.Generator().manual_seed(1))
    assert torch.equal(drafts, alone.sample(5, generator=torch.Generator().manual_seed(1)))
    longer = model.sample(5, steps=9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(longer, model.revise(drafts, steps=9))


def test_log_prob_is_that_of_the_flow():
    model, x = coop_flow(), images(4)
    values = []
    for each in (model, normalizing_flow(flow=model.generator)):
        torch.manual_seed(1)
        values.append(each.log_prob(x))
    assert torch.equal(*values)
    assert not torch.equal(values[0], -model.energy(x))


def reconstruction_error(model: CoopFlow, x: torch.Tensor, iterations: int) -> torch.Tensor:
    return squared_error(model.reconstruct(x, iterations=iterations, lr=0.02), x)


def test_reconstruction_inverts_both_flows():
    model, x = coop_flow(sampler=STEEP), images(4)
    for parameter in model.energy.parameters():
        parameter.data.mul_(2)
    moved = squared_error(model.revise(x), x)
    assert moved.min() > 1e-3
    torch.testing.assert_close(reconstruction_error(model, x, 0), moved, atol=1e-3, rtol=1e-2)
    assert reconstruction_error(model, x, 100).mean() < 0.3 * moved.mean()
    start = model.invert(x, iterations=3)
    assert start.abs().max() <= 1
    torch.testing.assert_close(model.reconstruct(x, iterations=3), model.revise(start), atol=1e-3, rtol=0)


def test_inversion_is_of_as_many_steps_as_samples_take():
    model, x = coop_flow(sampler=dataclasses.replace(STEEP, steps=2), sample_steps=5), images(2)
    longer = coop_flow(energy=model.energy, generator=model.generator, sampler=STEEP)
    torch.testing.assert_close(model.invert(x, iterations=5), longer.invert(x, iterations=5))
    shorter = coop_flow(energy=model.energy, generator=model.generator, sampler=dataclasses.replace(STEEP, steps=2))
    assert not torch.allclose(model.invert(x, iterations=5), shorter.invert(x, iterations=5), atol=1e-4)


def test_walks_end_at_reconstructions():
    model, x = coop_flow(), images(4)
    walk = model.interpolate(x[:2], x[2:], 4, iterations=5)
    ends = model.reconstruct(x, iterations=5)
    torch.testing.assert_close(walk[:, 0], ends[:2], atol=1e-3, rtol=0)
    torch.testing.assert_close(walk[:, -1], ends[2:], atol=1e-3, rtol=0)


def test_inpainting_seeks_a_draft_of_what_is_known():
    model, x = coop_flow(), images(3)
    known = (torch.arange(8) < 4).expand(3, *SHAPE)
    misfits = []
    for iterations in (0, 60):
        torch.manual_seed(1)
        draft = model.propose(model.infer(x, known, iterations=iterations))
        misfits.append(squared_error(known * draft, known * x))
    drafts = model.propose(candidates(64, x.device))
    nearest = (known[:, None] * (drafts - x[:, None])).square().flatten(2).sum(2).amin(1)
    torch.testing.assert_close(misfits[0], nearest, atol=1e-4, rtol=1e-4)
    assert (misfits[1] < misfits[0]).all()
    filled = model.inpaint(x, known, iterations=2)
    assert torch.equal(filled[known], x[known]) and not torch.equal(filled, x)


def test_inference_allows_a_residual_of_a_third_of_the_unit():
    model, x, known = coop_flow(), images(3), torch.ones(3, *SHAPE)
    found = model.infer(x, known, iterations=5)
    start = candidates(64, x.device)
    expected, other = (posterior_mode(model.generator, x, known, start, s, iterations=5) for s in (0.3, 3.0))
    torch.testing.assert_close(found, expected)
    assert not torch.allclose(found, other, atol=1e-3)


def test_the_start_of_a_run_is_found_in_its_bounds():
    x, seen = torch.tensor([[1.0, 0.5]]), []
    search = partial(start_of_run, lambda z: 0.5 * z, x, iterations=200, lr=0.05)
    torch.testing.assert_close(search(progress=seen.append), 2 * x, atol=1e-2, rtol=0)
    assert seen == list(range(1, 201))
    torch.testing.assert_close(search(bounds=(-1.5, 1.5)), torch.tensor([[1.5, 1.0]]), atol=1e-2, rtol=0)


def test_test_figures_hold_the_bits_of_the_flow():
    model, run = coop_flow(), trainer()
    run.test(model, datamodule=TinyData(images(8), batch_size=8), verbose=False)
    draws = torch.stack([bits_per_dimension(model.log_prob(images(8)), 64) for _ in range(40)])
    found = run.callback_metrics["bits_per_dimension"].item()
    assert found == pytest.approx(draws.mean().item(), abs=5 * draws.std().item())


def test_autocast_leaves_the_chain_its_precision():
    model = coop_flow()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.losses(images(4))
        drawn = model.sample(3)
    assert drawn.dtype == torch.float32 and all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sampler": Langevin(3, 0.5)}, "noise_scale 0"),
        ({"sampler": Langevin(3, 0.5, (0.1, 0.0))}, "noise_scale 0"),
        ({"sampler": HMC(3, 0.1)}, "noise_scale 0"),
        ({"generator": generator()}, "ConvGenerator is no flow"),
        ({"space": Space((1, 4, 4))}, "must agree"),
        ({"space": Space(SHAPE, 0.0, 1.0)}, "must agree"),
        ({"penalty": -1.0}, "penalty"),
    ],
)
def test_what_is_no_coop_flow_is_refused(change, says):
    with pytest.raises(ConfigError, match=says):
        coop_flow(**change)
    schedule = Langevin(3, 0.5, (0.0, 0.0))
    assert coop_flow(sampler=schedule).sampler is schedule


# A flow that was trained before


@pytest.fixture
def trained(tmp_path):
    save_pretrained(model := normalizing_flow(), tmp_path / "flow")
    return model, str(tmp_path / "flow")


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Look(Callback):
    """Keeps a copy of the generator at the start and after every update."""

    def __init__(self):
        self.seen = []

    def on_train_start(self, trainer, pl_module):
        self.seen.append(copy.deepcopy(pl_module.generator))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append(copy.deepcopy(pl_module.generator))


def fit(model, *callbacks, epochs=1, **settings):
    look = Look()
    run = trainer(max_epochs=epochs, limit_val_batches=0, callbacks=[*callbacks, look])
    run.fit(model, datamodule=TinyData(images(16), batch_size=4), weights_only=True, **settings)
    return run, look.seen


def test_a_training_starts_from_a_trained_flow(trained):
    model, source = trained
    untrained = coop_flow()
    assert not same(untrained.generator, model.flow)
    _, seen = fit(untrained, InitialWeights("generator", source, "flow"))
    assert same(seen[0], model.flow) and not same(seen[1], model.flow)


def test_a_checkpoint_is_a_trained_flow_too(trained, tmp_path):
    model, _ = trained
    run = trainer(max_epochs=1, limit_val_batches=0)
    run.fit(model, datamodule=TinyData(images(8)))
    run.save_checkpoint(tmp_path / "flow.ckpt")
    _, seen = fit(coop_flow(), InitialWeights("generator", str(tmp_path / "flow.ckpt"), "flow"))
    assert same(seen[0], model.flow)


def test_a_resumed_training_keeps_its_weights(trained, tmp_path):
    model, source = trained
    start = partial(InitialWeights, "generator", source, "flow")
    run, seen = fit(coop_flow(), start())
    run.save_checkpoint(tmp_path / "a.ckpt")
    _, later = fit(coop_flow(), start(), epochs=2, ckpt_path=tmp_path / "a.ckpt")
    assert same(later[0], seen[-1]) and not same(later[0], model.flow)


def test_a_flow_may_be_held_at_first(trained):
    model, source = trained
    student = coop_flow()
    energy = copy.deepcopy(student.energy)
    _, seen = fit(student, InitialWeights("generator", source, "flow", frozen=2))
    assert [same(each, model.flow) for each in seen] == [True, True, True, False, False]
    assert not same(student.energy, energy)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("encoder", "SOURCE", "flow"), ConfigError, "CoopFlow has no network 'encoder'"),
        (("generator", "SOURCE", "generator"), ConfigError, r"NormalizingFlow has no network 'generator'.*\['flow'\]"),
        (("energy", "SOURCE", "flow"), WeightsError, "'flow' of .* does not fit 'energy'"),
        (("generator", "nowhere.ckpt", "flow"), WeightsError, "nowhere.ckpt"),
    ],
)
def test_weights_that_do_not_fit_are_refused(trained, arguments, error, says):
    arguments = [trained[1] if each == "SOURCE" else each for each in arguments]
    with pytest.raises(error, match=says):
        fit(coop_flow(), InitialWeights(*arguments))


def test_other_models_may_start_from_parts_too(tmp_path):
    save_pretrained(source := coopnets(energy=ConvEnergy(1, ((1, 8, 1, 0),))), tmp_path / "saved")
    model = coopnets(energy=ConvEnergy(1, ((1, 8, 1, 0),)))
    kept = copy.deepcopy(source.energy)
    trainer(
        max_steps=1, limit_val_batches=0, callbacks=[InitialWeights("energy", str(tmp_path / "saved"), "energy", 5)]
    ).fit(model, datamodule=TinyData(images(4)))
    assert same(model.energy, kept)
    with pytest.raises(ConfigError, match="frozen"):
        InitialWeights("energy", "x", "energy", frozen=-1)


def test_a_flow_draws_from_its_own_latent_vectors():
    model = coop_flow()
    assert model.latent(3).shape == (3, flow().latent_dim)
