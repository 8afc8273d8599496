"""What the Generative ConvNet's tasks answer."""

import pytest
import torch
from tiny import SHAPE, convnet, images
from torch import nn

from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.losses import maximum_likelihood
from ebm_zoo.networks import ConvEnergy, GaussianReference
from ebm_zoo.samplers import HMC, Gaussian, Langevin, Persistent, Uniform

GENTLE = Langevin(steps=8, step_size=0.3, noise_scale=0.5)


def quadratic(sigma: float = 1.0) -> GaussianReference:
    """E = ‖x‖²/2σ², with a network that says nothing."""
    network = ConvEnergy(1, ((1, 8, 1, 0),))
    nn.init.zeros_(network.convolutions[0].weight)
    return GaussianReference(network, sigma)


def run(seed: int) -> dict[str, torch.Generator]:
    return {"generator": torch.Generator().manual_seed(seed)}


def test_samples_are_a_chain_from_the_noise():
    model = convnet(sampler=GENTLE, noise=Gaussian(0.5))
    x = model.sample(6, **run(1))
    source = torch.Generator().manual_seed(1)
    expected = GENTLE(model.energy, Gaussian(0.5)(torch.empty(6, *SHAPE), source), generator=source)
    assert torch.equal(x, expected) and torch.equal(x, model.sample(6, **run(1)))
    assert not torch.equal(x, model.sample(6, **run(2)))


def test_samples_follow_the_energy():
    # x − δ²/2 x/σ² + δ ε with δ = 0.4, σ = 0.5 has variance δ²/(1 − a²), a = 1 − δ²/2σ².
    model = convnet(energy=quadratic(0.5), sampler=Langevin(steps=30, step_size=0.4), noise=Uniform(-3.0, 3.0))
    assert model.sample(400).var().item() == pytest.approx(0.16 / (1 - 0.68**2), rel=0.03)


@pytest.mark.parametrize(("sample_steps", "steps", "expected"), [(0, None, 8), (5, None, 5), (5, 3, 3), (5, 0, 0)])
def test_length_of_the_chains(sample_steps, steps, expected):
    model = convnet(sampler=GENTLE, sample_steps=sample_steps)
    seen = []
    model.sample(2, steps=steps, on_step=lambda k, x: seen.append(k))
    model.inpaint(images(2), torch.ones(8, 8), steps=steps, on_step=lambda k, x: seen.append(k))
    assert seen == 2 * list(range(1, expected + 1))


def test_a_stationary_energy_samples_larger_images():
    model = convnet(energy=ConvEnergy(1, ((4, 3, 1, 1), (1, 3, 1, 0))))
    assert model.sample(2, shape=(1, 12, 20)).shape == (2, 1, 12, 20)


def test_inpainting_holds_what_is_known():
    model, x = convnet(sampler=GENTLE), images(4)
    known = torch.zeros(1, 1, 8, 8)
    known[..., :3] = 1
    held = known.bool().expand_as(x)
    filled = model.inpaint(x, known, **run(1))
    assert torch.equal(filled[held], x[held])
    hidden = torch.where(held, x, 0.123)
    assert torch.equal(model.inpaint(hidden, known, **run(1)), filled), "the answer shows what was to be filled"
    assert not torch.isclose(filled[~held], x[~held], atol=1e-4).all()
    assert torch.equal(model.inpaint(x, torch.ones(1)), x)


def test_reconstruction_finds_the_start_of_the_short_run():
    model = convnet(energy=quadratic(), sampler=Langevin(steps=5, step_size=0.5, noise_scale=1.0))
    x, seen = images(3), []
    start = model.invert(x, iterations=300, lr=0.02, progress=seen.append)
    assert seen == list(range(1, 301))
    # A step multiplies by 1 − δ²/2, so the start is known.
    torch.testing.assert_close(start, x / 0.875**5, rtol=0.0, atol=2e-3)
    torch.testing.assert_close(model.sampler.unrolled(model.energy, start), x, rtol=0.0, atol=2e-3)
    far, near = (model.reconstruct(x, iterations=n) for n in (1, 30))
    assert (near - x).square().sum() < (far - x).square().sum()


def test_short_runs_are_as_long_as_a_fresh_chain():
    model, x = convnet(sampler=GENTLE, sample_steps=3), images(2)
    expected = model.sampler.unrolled(model.energy, x, steps=3)
    torch.testing.assert_close(model.reconstruct(x, iterations=0), expected)
    assert not torch.equal(model.sampler.unrolled(model.energy, x), expected)
    shorter = convnet(energy=model.energy, sampler=Langevin(steps=3, step_size=0.3))
    torch.testing.assert_close(model.invert(x, iterations=5), shorter.invert(x, iterations=5))


def test_interpolation_walks_from_one_reconstruction_to_the_other():
    model = convnet(energy=quadratic(), sampler=Langevin(steps=3, step_size=0.3))
    a, b, settings = images(2, seed=1), images(2, seed=2), {"iterations": 40}
    walks = model.interpolate(a, b, 5, **settings)
    ends = model.reconstruct(torch.cat([a, b]), **settings)
    torch.testing.assert_close(walks[:, 0], ends[:2])
    torch.testing.assert_close(walks[:, -1], ends[2:], atol=1e-5, rtol=1e-5)
    # The middle start weighs both with sqrt(1/2), and this short run is linear.
    torch.testing.assert_close(walks[:, 2], (ends[:2] + ends[2:]) * 0.5**0.5, atol=1e-5, rtol=1e-5)


def test_interpolation_turns_about_the_mean_of_the_noise():
    model = convnet(energy=quadratic(), sampler=Langevin(steps=0, step_size=0.3), noise=Uniform(0.0, 1.0))
    a, b = torch.full((1, *SHAPE), 0.9), torch.full((1, *SHAPE), 0.5)
    walk = model.interpolate(a, b, 3, iterations=400, lr=0.01)
    torch.testing.assert_close(walk[0, 1], torch.full(SHAPE, 0.5 + 0.4 * 0.5**0.5), atol=2e-3, rtol=0.0)


def test_learning_uses_penalty_and_data_noise():
    x = images(4)
    for settings in ({"penalty": 0.5}, {"data_noise": 0.3}, {}):
        model = convnet(sampler=GENTLE, **settings)
        torch.manual_seed(1)
        (loss,) = model.losses(x).values()
        torch.manual_seed(1)
        negative = model.sampler(model.energy, model.chains.start(x, model.noise))
        positive = x + settings.get("data_noise", 0.0) * torch.randn_like(x)
        expected = maximum_likelihood(model.energy, positive, negative, penalty=settings.get("penalty", 0.0))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5, abs=1e-7)


def test_learning_gives_its_samples_back_to_the_chains():
    model = convnet(chains=Persistent(size=4, refresh=0.0), sampler=GENTLE)
    model.losses(images(4))
    before = model.chains.memory.clone()
    model.losses(images(4))
    assert not torch.isclose(model.chains.memory, before).all((1, 2, 3)).any(), "a chain stood still"


def test_test_step_samples_for_images_and_not_for_outliers():
    model, x = convnet(), images(4)
    assert {name: tuple(value.shape) for name, value in model.test_step(x, 0, 0).items()} == {
        "real": (4, *SHAPE),
        "samples": (4, *SHAPE),
        "energy": (4,),
    }
    outputs = model.test_step(x, 0, 1)
    assert set(outputs) == {"outliers", "energy"} and torch.equal(outputs["energy"], model.energy(x))


def test_what_cannot_be_answered_is_refused():
    model, x = convnet(), images(2)
    for ask, says in (
        (lambda: model.sample(0), "At least one sample"),
        (lambda: model.inpaint(x[..., :4], torch.ones(1)), "takes .* shape"),
        (lambda: model.inpaint(x * 5, torch.ones(1)), "takes values in"),
        (lambda: model.invert(x[0]), "takes .* shape"),
        (lambda: model.interpolate(x, x[:1], 3), "two batches of one shape"),
        (lambda: model.interpolate(x, x, 1), "needs n >= 2 .* not 1"),
    ):
        with pytest.raises(DataError, match=says):
            ask()
    with pytest.raises(ConfigError, match="not HMC"):
        convnet(sampler=HMC(2, 0.1)).reconstruct(x)
