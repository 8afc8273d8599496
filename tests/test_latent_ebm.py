"""Latent vectors: the published algorithm, inference whose answer is known, tasks, incomplete data, tokens."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from contract import left_half
from lightning import Callback
from tiny import TinyData, abp, generator, images, indexed, latent_ebm, trainer
from torch import nn

from benchmarks.latent_ebm import Published
from ebm_zoo.config import from_config
from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.files import resource
from ebm_zoo.metrics import Pixels
from ebm_zoo.models.latent import linear
from ebm_zoo.networks import GaussianOutput, LatentEnergy
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import Gaussian, Langevin, Persistent, WarmStart
from ebm_zoo.space import Space, TokenSpace


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Learning


def published(model, steps=(5, 4)):
    """The port with copies of a model's networks."""
    networks = copy.deepcopy(model.prior), copy.deepcopy(model.generator.generator)
    return Published(*networks, 4, 0.3, (steps[0], 0.4), (steps[1], 0.1), (2e-3, 1e-2))


def held_against():
    betas = (0.5, 0.999)
    return latent_ebm(
        prior_langevin=Langevin(steps=5, step_size=0.4),
        posterior_langevin=Langevin(steps=4, step_size=0.1),
        optim={"prior": Adam(lr=2e-3, betas=betas), "generator": Adam(lr=1e-2, betas=betas)},
    )


def test_gradients_are_those_of_the_published_algorithm():
    model, x = held_against(), images(6)
    port = published(model)
    torch.manual_seed(3)
    losses = model.losses(x)
    sum(losses.values()).backward()
    torch.manual_seed(3)
    inferred, drawn = port.infer(torch.randn(6, 4), x), port.draw(torch.randn(6, 4))
    misfit = ((port.generate(inferred) - x) ** 2).sum() / 6
    shift = port.energy(inferred).mean() - port.energy(drawn).mean()
    (misfit + shift).backward()
    # The page leaves 1/2σ² out of the generator's loss.
    torch.testing.assert_close(losses["generator"] * 0.18, misfit, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(losses["prior"], shift, atol=1e-5, rtol=1e-5)
    for ours, theirs, scale in ((model.prior, port.energy, 1.0), (model.generator.generator, port.generate, 0.18)):
        assert any(q.grad.any() for q in theirs.parameters())
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(p.grad * scale, q.grad, atol=1e-5, rtol=1e-5)


class Losses(Callback):
    """Begins each iteration at a stream of its own number, and remembers the losses."""

    def __init__(self):
        self.seen = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(batch_idx)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seen.append((0.18 * outputs["generator"].item(), outputs["prior"].item()))


def test_training_is_the_published_algorithm():
    model, data, ours = held_against(), images(80), Losses()
    port = published(model)
    run = trainer(max_steps=10, limit_val_batches=0, callbacks=[ours])
    run.fit(model, datamodule=TinyData(data, batch_size=8, shuffle=False))
    theirs = []
    for k, batch in enumerate(data.split(8)):
        torch.manual_seed(k)
        theirs.append(port.iterate(batch))
    torch.testing.assert_close(torch.tensor(ours.seen), torch.tensor(theirs), atol=1e-5, rtol=1e-5)
    assert len(theirs) == 10 and abs(theirs[-1][0] - theirs[0][0]) > 1e-2


class Line(nn.Module):
    """An output model whose posterior is known: x = W z."""

    latent_dim = 2

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 2))

    def forward(self, latent):
        return latent @ self.weight.T


def on_a_line(**arguments):
    """AlternatingBackProp of a linear generator, σ = 1."""
    settings = {"posterior_langevin": Langevin(steps=60, step_size=0.3), "chains": None, **arguments}
    return abp(generator=GaussianOutput(Line(), sigma=1.0), space=Space((6,), -20.0, 20.0), **settings)


@pytest.mark.parametrize("known", [None, torch.tensor([1, 1, 0, 1, 0, 0])], ids=["whole", "incomplete"])
def test_inference_draws_from_a_posterior_that_is_known(known):
    # z | x ~ N(S WᵀM x, S), S = (WᵀM W + I)⁻¹.
    model = on_a_line()
    mask = torch.ones(6) if known is None else known.float()
    weights = model.generator.generator.weight.detach() * mask[:, None]
    x = torch.randn(6)
    covariance = torch.linalg.inv(weights.T @ weights + torch.eye(2))
    latent = model.infer(x.expand(4000, 6), known, generator=seeded(1))
    torch.testing.assert_close(latent.mean(0), covariance @ weights.T @ (x * mask), atol=0.06, rtol=0.1)
    # Steps of 0.3 widen the stationary distribution a little.
    torch.testing.assert_close(latent.T.cov(), covariance, atol=0.06, rtol=0.2)


def test_unknown_entries_teach_nothing():
    model, (x, known, index) = abp(), indexed(4)
    noise = torch.where(known, x, torch.rand_like(x))
    gradients = []
    for data in (x, noise):
        model.zero_grad()
        model.chains.memory = None
        torch.manual_seed(1)
        model.losses((data, known, index))["generator"].backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert not torch.equal(noise, x)


def test_chains_go_on_where_each_datum_left_off():
    model, (x, known, index) = abp(posterior_langevin=Langevin(steps=3, step_size=0.1)), indexed(6)
    seen = []
    model.posterior_langevin = Spy(seen)
    model.losses((x[:4], known[:4], index[:4]))
    begun = model.chains.memory.clone()
    assert torch.equal(begun[:4], seen[0] + 1) and begun.std() > 0.5, "all chains begin at noise"
    model.losses((x[2:], known[2:], index[2:]))
    assert torch.equal(seen[1], begun[2:6])
    assert torch.equal(model.chains.memory[:2], begun[:2]) and torch.equal(model.chains.memory[2:6], begun[2:6] + 1)


class Spy:
    """Stands for Langevin dynamics: adds 1, and remembers where it began and how it was called."""

    steps = 1

    def __init__(self, seen):
        self.seen = seen

    def __call__(self, energy, latent, *context, **settings):
        self.seen.append(latent.clone())
        self.settings = settings
        return latent + 1


def test_the_priors_chains_go_on():
    model, seen = latent_ebm(prior_chains=Persistent(6, refresh=0.0)), []
    model.prior_langevin = Spy(seen)
    model.losses(images(6))
    assert seen[0].std() > 0.5, "all chains begin at noise"
    model.losses(images(6))
    assert torch.equal(seen[1].sort(0)[0], seen[0].sort(0)[0] + 1)
    torch.manual_seed(1)
    inferred = model.posterior_langevin(model.posterior, torch.randn(6, 4), images(6))
    torch.manual_seed(1)
    losses = model.losses(images(6))
    shift = model.prior(inferred).mean() - model.prior(seen[2] + 1).mean()
    torch.testing.assert_close(losses["prior"], shift)


@pytest.mark.parametrize(("noise_scale", "temperature"), [(1.0, 1.0), (0.7, 0.49), ((1.0, 0.5), 0.25)])
def test_the_temperature_is_that_of_the_chains_end(noise_scale, temperature):
    chains = Langevin(steps=3, step_size=0.4, noise_scale=noise_scale)
    assert latent_ebm(prior_langevin=chains).temperature == pytest.approx(temperature)
    assert abp(posterior_langevin=chains).temperature == 1


def test_samples_can_take_longer_than_learning():
    model, seen = latent_ebm(sample_steps=7), []
    model.sample(2, on_step=lambda k, z: seen.append(k))
    assert seen == list(range(1, 8)) and model.chain_length == 7
    model.prior_langevin = Spy([])
    model.losses(images(3))
    assert "steps" not in model.prior_langevin.settings


def test_without_a_memory_every_run_begins_anew():
    model, seen = abp(chains=None), []
    model.posterior_langevin = Spy(seen)
    for _ in range(2):
        model.losses(images(4))
    assert not torch.isclose(*seen).any()


def test_the_ablation_differs_in_the_prior_alone():
    configs = [
        yaml.safe_load((Path(resource("zoo_configs")) / f"{name}.yaml").read_text())
        for name in ("latent_ebm/fashion_mnist", "abp/fashion_mnist_short_run")
    ]
    for config in configs:
        config["trainer"].pop("logger")
        config["model"].pop("class_path")
    for name in ("prior", "prior_langevin"):
        configs[0]["model"]["init_args"].pop(name)
    configs[0]["model"]["init_args"]["optim"].pop("prior")
    assert configs[0] == configs[1]


# Tasks


def test_samples_are_drawn_by_the_prior():
    model = latent_ebm()
    source = seeded(1)
    start = torch.empty(5, 4).normal_(generator=source)
    latent = model.prior_langevin(lambda z: model.prior(z) + z.square().sum(1) / 2, start, generator=source)
    assert torch.equal(model.sample(5, generator=seeded(1)), model.generator(latent).detach())
    still = model.sample(5, steps=0, generator=seeded(1))
    assert torch.equal(still, model.generator(start).detach())
    seen = []
    model.sample(2, steps=4, on_step=lambda k, z: seen.append((k, z.shape)))
    assert seen == [(k, (2, 4)) for k in (1, 2, 3, 4)]


def test_a_fixed_prior_takes_no_steps():
    model = abp()
    expected = model.generator(torch.empty(3, 4).normal_(generator=seeded(1))).detach()
    assert torch.equal(model.sample(3, generator=seeded(1)), expected)
    with pytest.raises(DataError, match="cannot take 2 steps"):
        model.sample(3, steps=2)


def test_the_joint_is_that_of_the_inferred_vector():
    model, x = latent_ebm(infer_steps=7), images(3)
    seen = []
    latent = model.infer(x, generator=seeded(1), on_step=lambda k, z: seen.append(k))
    assert seen == list(range(1, 8))
    misfit = (x - model.generator(latent)).square().sum((1, 2, 3)) / 0.18
    expected = -(model.prior(latent) + latent.square().sum(1) / 2 + misfit).detach()
    found = model.log_joint(x, generator=seeded(1))
    torch.testing.assert_close(found, expected)
    assert torch.equal(model.energy(x, generator=seeded(1)), -found)
    torch.testing.assert_close(model.latent_energy(x, generator=seeded(1)), (-found - misfit).detach())


def test_inpainting_sees_the_known_pixels_alone():
    model, x, known = latent_ebm(), images(3), left_half(images(1))
    filled = model.inpaint(x, known, generator=seeded(1))
    other = model.inpaint(torch.where(known, x, -x), known, generator=seeded(1))
    assert torch.equal(filled[..., :4], x[..., :4]) and torch.equal(filled, other)
    assert not torch.equal(filled, x)


def test_longer_inference_rebuilds_better():
    model = latent_ebm()
    with torch.no_grad():
        x = model.generator(torch.randn(8, 4))
    errors = [(model.reconstruct(x, steps=k, generator=seeded(1)) - x).square().mean() for k in (0, 300)]
    assert errors[1] < errors[0] / 2


class Loud(nn.Module):
    """A generator that leaves the range of the data."""

    latent_dim = 4

    def __init__(self):
        super().__init__()
        self.network = generator()

    def forward(self, latent):
        return 20 * self.network(latent)


@pytest.mark.parametrize("make", [latent_ebm, abp])
def test_answers_lie_in_the_range(make):
    model, x = make(generator=GaussianOutput(Loud())), images(4)
    for answer in (model.sample(4), model.reconstruct(x), model.decode(torch.randn(4, 4))):
        assert answer.min() == -1 and answer.max() == 1


def test_walks_lie_between_the_inferred_ends():
    model, (a, b) = latent_ebm(), images(4).chunk(2)
    walk = model.interpolate(a, b, 3, path=linear, generator=seeded(1))
    first, last = model.infer(torch.cat([a, b]), generator=seeded(1)).chunk(2)
    for k, latent in enumerate((first, (first + last) / 2, last)):
        torch.testing.assert_close(walk[:, k], model.decode(latent))


def test_figures_of_a_test():
    model = latent_ebm(infer_steps=2)
    run = trainer(inference_mode=False)
    run.test(model, datamodule=TinyData(images(4)), verbose=False)
    assert set(run.callback_metrics) == {"reconstruction_error"}
    torch.manual_seed(1)
    answers = model.test_step(images(4), 0, dataloader_idx=1)
    torch.manual_seed(1)
    latent = model.infer(images(4))
    error = (model.decode(latent) - images(4)).square().mean((1, 2, 3))
    torch.testing.assert_close(answers["reconstruction_error"], error)
    torch.testing.assert_close(answers["energy"], model.posterior(latent, images(4)).detach())
    torch.testing.assert_close(answers["prior_energy"], model.prior_energy(latent).detach())
    assert set(answers) == {"outliers", "energy", "prior_energy", "reconstruction_error"}


def test_what_is_recovered_is_measured_apart(monkeypatch):
    model, logged = abp(chains=None), {}
    monkeypatch.setattr(model, "log_dict", lambda figures, **_: logged.update(figures))
    _, known, index = indexed(4)
    torch.manual_seed(1)
    model.test_step((images(4), known, index), 0)
    torch.manual_seed(1)
    error = (model.decode(model.infer(images(4), known)) - images(4)).square()
    torch.testing.assert_close(logged["recovery_error"], error[~known].mean())
    by_image = torch.stack([e[k].mean() for e, k in zip(error, known, strict=True)])
    torch.testing.assert_close(logged["reconstruction_error"], by_image.mean())


# Tokens

# Six letters, and 0, which ends a sequence.
LETTERS = TokenSpace(5, tuple("abcdef"))


class Letters(nn.Module):
    """An output model of sequences: independent letters."""

    latent_dim = 3

    def __init__(self):
        super().__init__()
        self.letters = nn.Linear(3, 5 * 7)

    def scores(self, latent):
        return self.letters(latent).view(-1, 5, 7)

    def forward(self, latent):
        return self.scores(latent).argmax(2)

    def misfit(self, latent, x, known=None):
        surprise = nn.functional.cross_entropy(self.scores(latent).transpose(1, 2), x, reduction="none")
        return (surprise if known is None else surprise * known).sum(1)

    def draw(self, latent, generator=None):
        chances = self.scores(latent).softmax(2).flatten(0, 1)
        return torch.multinomial(chances, 1, generator=generator).view(-1, 5)


def spelling():
    return latent_ebm(prior=LatentEnergy(3, (8,)), generator=Letters(), space=LETTERS)


def words(n):
    return torch.randint(7, (n, 5), generator=seeded())


def test_sequences_learn_and_answer():
    model = spelling()
    run = trainer(max_steps=3)
    run.fit(model, datamodule=TinyData(words(8)))
    run.test(model, datamodule=TinyData(words(4)), verbose=False)
    assert 0 <= run.callback_metrics["reconstruction_error"] <= 1
    x, known = words(4), torch.tensor([1, 1, 0, 0, 1])
    for answer, shape in (
        (model.sample(3), (3, 5)),
        (model.reconstruct(x), (4, 5)),
        (model.inpaint(x, known), (4, 5)),
        (model.interpolate(x[:2], x[2:], 3), (2, 3, 5)),
    ):
        assert answer.shape == shape and answer.dtype == torch.long and answer.min() >= 0 and answer.max() < 7
    assert torch.equal(model.inpaint(x, known)[:, known.bool()], x[:, known.bool()])


@pytest.mark.parametrize(("x", "says"), [
    (torch.zeros(2, 4, dtype=torch.long), r"rows of 5 whole numbers.* not \(2, 4\)"),
    (torch.zeros(2, 5), "not .* of torch.float32"),
    (torch.full((2, 5), 7), "tokens 0 to 6, not 7"),
    (torch.full((2, 5), -1), "tokens 0 to 6, not -1"),
])  # fmt: skip
def test_sequences_that_do_not_fit(x, says):
    with pytest.raises(DataError, match=says):
        LETTERS.check(x)


def test_a_token_space_has_a_shape_and_a_range():
    space, x = LETTERS, words(3)
    assert (space.shape, space.low, space.high) == ((5,), 0.0, 6.0)
    assert space.check(x) is x and space.clamp(x) is x
    assert torch.equal(space.error(x, x.roll(1, 0)), (x != x.roll(1, 0)).float())


# Networks


def test_networks_have_the_papers_sizes():
    def count(network):
        return sum(p.numel() for p in network.parameters())

    assert count(LatentEnergy(100)) == 60_601
    sizes = {"paper_svhn": 3_447_683, "paper_cifar10": 18_883_075}
    for name, expected in sizes.items():
        config = yaml.safe_load((Path(resource("zoo_configs")) / "latent_ebm" / f"{name}.yaml").read_text())
        assert count(from_config(config["model"]["init_args"]["generator"])) == expected


def test_the_energy_is_the_equation_and_stays_in_float32():
    network, z = LatentEnergy(3, (4,), nn.ReLU()), torch.randn(5, 3)
    first, last = network.layers
    expected = (torch.relu(z @ first.weight.T + first.bias) @ last.weight.T + last.bias)[:, 0]
    torch.testing.assert_close(network(z), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(z), network(z.double().float())) and network(z).dtype == torch.float32
    assert LatentEnergy(3, ())(z).shape == (5,)


def test_the_misfit_is_that_of_a_gaussian():
    network, z, x = GaussianOutput(generator(), sigma=0.5), torch.randn(3, 4), images(3)
    normal = torch.distributions.Normal(network(z), 0.5)
    density = normal.log_prob(x).sum((1, 2, 3)) - normal.log_prob(network(z)).sum((1, 2, 3))
    torch.testing.assert_close(network.misfit(z, x), -density)
    known = left_half(x)
    half = (normal.log_prob(x) - normal.log_prob(network(z)))[..., :4].sum((1, 2, 3))
    torch.testing.assert_close(network.misfit(z, x, known), -half)
    assert torch.equal(network.draw(z), network(z))


# What does not fit


@pytest.mark.parametrize(("make", "says"), [
    (lambda: latent_ebm(prior=LatentEnergy(5)), "prior's latent_dim is 5, the generator's 4"),
    (lambda: latent_ebm(prior=nn.Linear(4, 1)), "latent_dim is None"),
    (lambda: latent_ebm(generator=generator()), "ConvGenerator is no output model: it has no misfit"),
    (lambda: latent_ebm(infer_steps=-1), "infer_steps"),
    (lambda: latent_ebm(penalty=-1.0), "penalty"),
    (lambda: latent_ebm(sample_steps=-1), "sample_steps"),
    (lambda: latent_ebm(prior_chains=Persistent(3)).losses(images(4)), "4 chains are asked of a replay memory of 3"),
    (lambda: LatentEnergy(0), "latent_dim"),
    (lambda: LatentEnergy(2, (3, 0)), "widths"),
    (lambda: GaussianOutput(generator(), sigma=0.0), "sigma"),
    (lambda: GaussianOutput(Pixels()), "Pixels, must have latent_dim"),
    (lambda: WarmStart(0), "size"),
])  # fmt: skip
def test_settings_that_do_not_fit(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_data_that_do_not_fit():
    model, x = latent_ebm(), images(3)
    none = torch.ones(3, 1, 8, 8)
    none[1] = 0
    for call in (model.inpaint, model.infer, model.log_joint, model.latent_energy):
        with pytest.raises(DataError, match="nothing known of a datum"):
            call(x, none)
    with pytest.raises(DataError, match=r"latent vectors of shape \(B, 4\), not \(2, 5\)"):
        model.decode(torch.zeros(2, 5))
    with pytest.raises(DataError, match="At least one"):
        model.sample(0)
    with pytest.raises(DataError, match="n >= 2"):
        model.interpolate(x, x, 1)
    for call in (model.reconstruct, model.energy):
        with pytest.raises(DataError, match="shape"):
            call(x[..., :4])
    with pytest.raises(DataError, match="IndexedImageData"):
        model.losses((x, torch.arange(3)))


def test_chains_need_to_know_whose_they_are():
    with pytest.raises(ConfigError, match="IndexedImageData"):
        abp().losses(images(4))
    with pytest.raises(ConfigError, match="3 chains and no datum 3"):
        abp(chains=WarmStart(3)).losses(indexed(4))
    with pytest.raises(ConfigError, match="IndexedImageData"):
        WarmStart(3).start(torch.zeros(2, 4), Gaussian())
