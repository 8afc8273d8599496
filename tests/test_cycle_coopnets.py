"""CycleCoopNets: the published algorithm, translations of any size, and the command line."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Callback
from PIL import Image
from tiny import REVISION, TWO_DOMAINS, TinyData, cycle_coopnets, domains, images, trainer, translator
from torch import nn
from zoo_helpers import done, draw, picture, refused

from ebm_zoo import save_pretrained
from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.networks import ResNetTranslator, WarpedTranslator
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Langevin

# The algorithm


class Losses(Callback):
    """Remembers the losses of every iteration."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append([outputs[name].item() for name in ("energy_a", "energy_b", "translators")])


class Published:
    """Two pairs as published: each network steps by itself, domain b before domain a, the translators last."""

    def __init__(self, model, lr, cycle, identity):
        self.score_a, self.score_b = (copy.deepcopy(net) for net in (model.energy_a, model.energy_b))
        self.ab, self.ba = (copy.deepcopy(net) for net in (model.translator_ab, model.translator_ba))
        self.cycle, self.identity = cycle, identity
        self.steps = {net: torch.optim.Adam(net.parameters(), lr, (0.5, 0.999)) for net in (self.score_a, self.score_b)}
        both = [*self.ab.parameters(), *self.ba.parameters()]
        self.translators = torch.optim.Adam(both, lr, (0.5, 0.999))

    def revised(self, score, x):
        x = x.detach()
        for _ in range(4):
            x.requires_grad_(True)
            slope = torch.autograd.grad(-score(x).sum(), x)[0]
            x = (x.detach() + 0.5 * 3.0**2 * slope).clamp(-1, 1)
        return x

    def shifted(self, score, observed, synthesised):
        loss = score(observed).mean() - score(synthesised).mean()
        self.steps[score].zero_grad()
        loss.backward()
        self.steps[score].step()
        return loss.item()

    def iterate(self, a, b):
        x, y = self.revised(self.score_a, self.ba(b)), self.revised(self.score_b, self.ab(a))
        shift_b, shift_a = self.shifted(self.score_b, b, y), self.shifted(self.score_a, a, x)
        self.translators.zero_grad()
        loss = ((self.ba(b) - x) ** 2).mean() + ((self.ab(a) - y) ** 2).mean()
        loss = loss + self.cycle * ((self.ba(self.ab(a)) - a).abs().mean() + (self.ab(self.ba(b)) - b).abs().mean())
        loss = loss + self.identity * ((self.ba(a) - a).abs().mean() + (self.ab(b) - b).abs().mean())
        loss.backward()
        self.translators.step()
        return [shift_a, shift_b, loss.item()]


class Plain(nn.Module):
    """A translator without norms, which would blow rounding errors up."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 4, 3, 1, 1), nn.SiLU(), nn.Conv2d(4, 1, 3, 1, 1), nn.Tanh())

    def forward(self, x):
        return self.layers(x)


@pytest.mark.parametrize(("cycle", "identity"), [(10.0, 0.0), (1.0, 0.5), (0.0, 0.0)])
def test_training_is_the_published_algorithm(cycle, identity):
    model = cycle_coopnets(
        sampler=Langevin(steps=4, step_size=3.0, noise_scale=0.0, clamp=(-1.0, 1.0)),
        optim=dict.fromkeys(TWO_DOMAINS, Adam(lr=1e-3, betas=(0.5, 0.999))),
        translator_ab=Plain(),
        translator_ba=Plain(),
        cycle_weight=cycle,
        identity_weight=identity,
    )
    port, ours = Published(model, 1e-3, cycle, identity), Losses()
    data = domains(80)
    run = trainer(max_steps=10, limit_val_batches=0, callbacks=[ours])
    run.fit(model, datamodule=TinyData(data, batch_size=8, shuffle=False))
    theirs = [port.iterate(a, b) for a, b in zip(*(x.split(8) for x in data), strict=True)]
    torch.testing.assert_close(torch.tensor(ours.seen), torch.tensor(theirs), atol=1e-5, rtol=1e-5)
    assert len(theirs) == 10 and abs(theirs[-1][2] - theirs[0][2]) > 1e-4


def test_revised_images_are_constants_of_all_losses():
    model, revised = cycle_coopnets(), []

    class Watched(Langevin):
        def __call__(self, *arguments, **settings):
            revised.append(super().__call__(*arguments, **settings))
            return revised[-1]

    model.sampler = Watched(steps=2, step_size=0.1)
    model.losses(domains(3))
    assert len(revised) == 2 and not any(x.requires_grad for x in revised)


# Tasks


def test_translations_are_revised_drafts():
    model, (a, b) = cycle_coopnets().eval(), domains(3)
    for x, to, network, energy in (
        (a, "b", model.translator_ab, model.energy_b),
        (b, "a", model.translator_ba, model.energy_a),
    ):
        drafts = network(x).detach()
        assert torch.equal(model.translate(x, to, steps=0), drafts)
        source = torch.Generator().manual_seed(3)
        expected = REVISION(energy, drafts, steps=5, generator=source)
        found = model.translate(x, to, steps=5, generator=torch.Generator().manual_seed(3))
        assert torch.equal(found, expected) and not torch.equal(found, drafts)
        assert torch.equal(model.energy(x, to), energy(x))


@pytest.mark.parametrize("sides", [(8, 8), (12, 8), (20, 24)])
def test_sides_are_free(sides):
    model = cycle_coopnets(energy_b=nn.Sequential(nn.Conv2d(1, 1, 3, 2, 1), nn.Flatten(), Summed()))
    x = torch.rand(2, 1, *sides) * 2 - 1
    assert model.translate(x, "b").shape == x.shape


class Summed(nn.Module):
    def forward(self, x):
        return x.sum(1)


@pytest.mark.parametrize(("x", "to", "says"), [
    (images(2).expand(-1, 3, -1, -1), "b", r"shape \(B, 1, 8, 8\), not \(2, 3, 8, 8\)"),
    (images(2) * 3, "b", "values in"),
    (images(2), "c", "domains 'a' and 'b', not 'c'"),
])  # fmt: skip
def test_what_cannot_be_translated(x, to, says):
    with pytest.raises(DataError, match=says):
        cycle_coopnets().translate(x, to)


def test_cycles_are_measured_there_and_back():
    model, (a, b) = cycle_coopnets(sampler=Langevin(steps=3, step_size=0.3, noise_scale=0.0)).eval(), domains(3)
    answers = model.predict_step((a, b), 0)
    there = model.translate(a, "b")
    expected = (model.translate(there, "a") - a).abs().mean((1, 2, 3))
    torch.testing.assert_close(answers["b_cycle"], expected)
    drafts = model.translator_ba(model.translator_ab(a)).detach()
    torch.testing.assert_close(answers["b_draft_cycle"], (drafts - a).abs().mean((1, 2, 3)))
    assert torch.equal(answers["b_samples"], there) and torch.equal(answers["a"], a)
    alone = model.predict_step((None, b), 0)
    assert set(alone) == {name for name in answers if name == "b" or name.startswith("a_")}


@pytest.mark.parametrize("batch", [images(4), [images(4)], (images(4),) * 3])
def test_batches_are_of_two_domains(batch):
    with pytest.raises(DataError, match="two domains"):
        cycle_coopnets().losses(batch)


@pytest.mark.parametrize("name", ["cycle_weight", "identity_weight", "sample_steps", "data_noise", "penalty"])
def test_settings_out_of_range(name):
    with pytest.raises(ConfigError, match=name):
        cycle_coopnets(**{name: -1})


# Networks


def test_translators_start_where_they_say():
    x = images(3)
    near = ResNetTranslator(1, width=4, blocks=2, keep=0.75)
    torch.testing.assert_close(near(x), 0.75 * x)
    assert not torch.allclose(translator()(x), translator(keep=0.1)(x), atol=0.1)
    # A predicted frame may lie beyond the range.
    far = (4 * x).requires_grad_()
    torch.testing.assert_close(near(far), 0.75 * far.clamp(-1, 1))
    near(far).sum().backward()
    assert far.grad.isfinite().all()
    torch.testing.assert_close(WarpedTranslator(near)(x), 0.75 * x)
    # Enlarged twice, the middle of a picture fills it.
    plain = torch.full((1, 1, 8, 8), -1.0)
    plain[..., 2:6, 2:6] = 0.5
    halved = ResNetTranslator(1, 4, keep=0.5)
    grown, shrunk = (WarpedTranslator(halved, scale)(plain) for scale in (2.0, 0.5))
    assert torch.allclose(grown[..., 1:-1, 1:-1], torch.tensor(0.25))
    assert (shrunk != -0.5).sum() == 4
    # Reduced, a picture that is bright up to its border has darkness around it.
    torch.testing.assert_close(WarpedTranslator(nn.Identity(), 0.5)(torch.ones(1, 1, 8, 8))[0, 0, 1], -torch.ones(8))
    torch.testing.assert_close(WarpedTranslator(nn.Identity(), 0.5, outside=1.0)(plain)[0, 0, 1], torch.ones(8))


def test_a_translator_learns_its_scale():
    # What is to be learned is the same picture twice as large.
    x = torch.zeros(1, 1, 16, 16)
    x[..., 5:11, 6:10] = 0.8
    wanted = WarpedTranslator(nn.Identity(), 1.5)(x).detach()
    model = WarpedTranslator(nn.Identity(), 1.2)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(100):
        loss = (model(x) - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(model.log_scale.exp(), torch.full((2,), 1.5), atol=0.1, rtol=0)


@pytest.mark.parametrize(("make", "says"), [
    (lambda: ResNetTranslator(0), "not .0, 64, 9"),
    (lambda: ResNetTranslator(1, width=0), "not .1, 0, 9"),
    (lambda: ResNetTranslator(1, blocks=0), "not .1, 64, 0"),
    (lambda: ResNetTranslator(1, drop=1.0), "drop and keep .* not 1.0"),
    (lambda: ResNetTranslator(1, keep=1.0), "drop and keep .* and 1.0"),
    (lambda: WarpedTranslator(nn.Identity(), 0.0), "scale must be above 0"),
    (lambda: translator()(torch.zeros(1, 1, 8, 10)), "multiples of 4 .* not .8, 10"),
    (lambda: translator()(torch.zeros(1, 1, 4, 8)), "multiples of 4 .* not .4, 8"),
])  # fmt: skip
def test_translators_that_cannot_be(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


# The command line


@pytest.fixture
def model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pretrained(model := cycle_coopnets().eval(), "saved")
    return model


def test_pictures_are_fitted_and_translated(model):
    pixels = draw(3, (1, 8, 8))
    for k, image in enumerate(pixels):
        picture(Path(f"in/{k}.png"), image)
    done("apply", "saved", "translate", "--input", "in", "--to", "b", "--steps", 2, "--seed", 4, "--out", "x.npy")
    torch.manual_seed(4)
    x = torch.from_numpy(pixels).float() / 127.5 - 1
    np.testing.assert_allclose(np.load("x.npy"), model.translate(x, "b", steps=2).numpy(), atol=1e-5)
    # Colour, oblong and larger: fitted to what the model learned, or to the size that is asked for.
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)).save("large.jpg")
    for options, side in (([], 8), (["--size", 16], 16)):
        done("apply", "saved", "translate", "--input", "large.jpg", "--to", "a", *options, "--out", "y.npy")
        assert np.load("y.npy").shape == (1, 1, side, side)
    np.save("large.npy", np.zeros((2, 1, 28, 28), np.float32))
    done("apply", "saved", "translate", "--input", "large.npy", "--to", "a", "--out", "y.png")


def test_energies_in_either_domain(model):
    x = images(3)
    np.save("x.npy", x.numpy())
    for of in "ab":
        done("apply", "saved", "energy", "--input", "x.npy", "--of", of, "--out", "e.npy")
        np.testing.assert_allclose(np.load("e.npy"), model.energy(x, of).detach().numpy(), rtol=1e-5)


def test_what_does_not_fit_is_refused(model):
    np.save("x.npy", images(2).numpy())
    given, out = ("apply", "saved", "translate", "--input", "x.npy"), ("--out", "y.npy")
    refused(*given, *out, says=("--to a or --to b",))
    refused(*given, *out, "--to", "a", "--size", 0, says=("--size", "not 0"))
    refused(*given, *out, "--to", "a", "--size", 10, says=("multiples of 4",))
    refused(*given, "--to", "a", "--out", "y.gif", says=("do not move",))
    energy = ("apply", "saved", "energy", "--input", "x.npy", "--out", "e.npy")
    refused(*energy, says=("--of a or --of b",))
    refused(*energy, "--of", "a", "--size", 8, says=("--size",))
