"""Samplers, chains and diagnostics against known answers."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from ebm_zoo.errors import ConfigError
from ebm_zoo.samplers import (
    HMC,
    FittedGaussian,
    FromData,
    Gaussian,
    Langevin,
    Persistent,
    ShortRun,
    Uniform,
    effective_sample_size,
    hmc,
    langevin,
    split_r_hat,
    unrolled_langevin,
)

SAMPLERS = {"langevin": Langevin(steps=4, step_size=0.3), "hmc": HMC(steps=4, step_size=0.3, leapfrog=2)}
both = pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS.keys())


def gaussian(x: Tensor, scale: float = 1.0) -> Tensor:
    """E = ‖x‖² / 2 scale², whatever the shape."""
    return x.flatten(1).square().sum(1) / (2 * scale**2)


def slope(x: Tensor, by: float = 1.0) -> Tensor:
    """E whose gradient is ``by`` everywhere."""
    return by * x.flatten(1).sum(1)


def quartic(x: Tensor) -> Tensor:
    """A smooth energy whose gradient is not linear."""
    return (x.flatten(1) ** 4 / 4 + torch.sin(2 * x.flatten(1))).sum(1)


def correlated(x: Tensor, rho: float = 0.8) -> Tensor:
    """Two entries of unit variance and correlation rho."""
    first, second = x[:, 0], x[:, 1]
    return (first**2 - 2 * rho * first * second + second**2) / (2 * (1 - rho**2))


def states(sampler, energy, x, **settings) -> Tensor:
    """States after every step, (steps, B, *)."""
    seen = []
    sampler(energy, x, on_step=lambda k, x: seen.append(x.clone()), **settings)
    return torch.stack(seen)


# Langevin dynamics: distributions


@pytest.mark.parametrize(("delta", "sigma", "scale"), [(1.0, 1.0, 1.0), (0.5, 0.3, 0.7), (1.2, 1.0, 0.8)])
def test_langevin_variance_is_that_of_the_discretised_chain(delta, sigma, scale):
    # x <- a x + σ δ ε with a = 1 − δ²/2s² has variance σ²δ² / (1 − a²): not s², which it only nears for small δ.
    a = 1 - delta**2 / (2 * scale**2)
    x = langevin(
        lambda x: gaussian(x, scale), torch.zeros(25_000, 1, 2, 2), steps=60, step_size=delta, noise_scale=sigma
    )
    assert x.var().item() == pytest.approx((sigma * delta) ** 2 / (1 - a**2), rel=0.02)
    assert x.mean().item() == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize(
    "sampler",
    [Langevin(steps=400, step_size=0.3), HMC(steps=60, step_size=0.4, leapfrog=5)],
    ids=["langevin", "hmc"],
)
@pytest.mark.parametrize("start", [-1.0, 1.0])
def test_mixture_weights_do_not_depend_on_the_start(sampler, start):
    weights, means, scale = torch.tensor([0.3, 0.7]), torch.tensor([-1.0, 1.0]), 0.6

    def energy(x):
        return -(weights.log() - (x - means) ** 2 / (2 * scale**2)).logsumexp(1)

    x = sampler(energy, torch.full((8000, 1), start))
    # P(x > 0) of the mixture, by the error function.
    right = (weights * (1 + torch.erf(means / (scale * math.sqrt(2)))) / 2).sum().item()
    assert (x > 0).float().mean().item() == pytest.approx(right, abs=0.02)
    assert x.mean().item() == pytest.approx((weights * means).sum().item(), abs=0.04)


def test_langevin_samples_the_conditional_of_held_entries():
    rho, held, delta = 0.8, 1.5, 0.4
    x = torch.tensor([0.0, held]).repeat(40_000, 1)
    x = langevin(correlated, x, steps=40, step_size=delta, free=torch.tensor([True, False]))
    s2 = 1 - rho**2
    a = 1 - delta**2 / (2 * s2)
    assert torch.equal(x[:, 1], torch.full((40_000,), held))
    assert x[:, 0].mean().item() == pytest.approx(rho * held, abs=0.02)
    assert x[:, 0].var().item() == pytest.approx(delta**2 / (1 - a**2), rel=0.03)


# Langevin dynamics: settings


def test_without_noise_langevin_is_gradient_descent():
    start = torch.randn(3, 2, 2, dtype=torch.float64)
    delta = 0.3
    descended = start.clone().requires_grad_()
    descent = torch.optim.SGD([descended], lr=delta**2 / 2)
    for _ in range(7):
        descent.zero_grad()
        quartic(descended).sum().backward()
        descent.step()
    x = langevin(quartic, start, steps=7, step_size=delta, noise_scale=0.0)
    torch.testing.assert_close(x, descended.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("schedule", "steps", "expected"), [
    (0.5, 3, [0.5, 0.5, 0.5]),
    ((1.0, 0.2), 5, [1.0, 0.8, 0.6, 0.4, 0.2]),
    ((0.2, 1.0), 3, [0.2, 0.6, 1.0]),
    ((0.7, 0.1), 1, [0.7]),
])  # fmt: skip
def test_schedules_go_from_first_to_last(schedule, steps, expected):
    start = torch.zeros(1, 1, dtype=torch.float64)
    path = states(Langevin(steps, step_size=schedule, noise_scale=0.0), slope, start)
    moves = -torch.cat([start[None], path]).diff(dim=0).flatten()
    torch.testing.assert_close(moves, torch.tensor(expected, dtype=torch.float64) ** 2 / 2)
    # The same schedule on the noise: δ is 1 and E is flat, so a move is σ_k ε.
    start = torch.zeros(20_000, 1)
    path = states(Langevin(steps, step_size=1.0, noise_scale=schedule), lambda x: slope(x, 0.0), start)
    spread = torch.cat([start[None], path]).diff(dim=0).std((1, 2))
    torch.testing.assert_close(spread, torch.tensor(expected), rtol=0.03, atol=0.0)


def test_clamp_keeps_every_state_in_the_range():
    path = states(Langevin(steps=10, step_size=1.0, clamp=(-0.5, 0.25)), gaussian, torch.zeros(100, 3))
    assert path.min() == -0.5 and path.max() == 0.25


def test_max_gradient_limits_each_entry():
    start = torch.zeros(1, 3)
    by = torch.tensor([100.0, -100.0, 0.5])
    x = langevin(lambda x: (by * x).sum(1), start, steps=1, step_size=1.0, noise_scale=0.0, max_gradient=2.0)
    torch.testing.assert_close(x, torch.tensor([[-1.0, 1.0, -0.25]]))


def test_max_move_limits_the_drift_and_not_the_noise():
    by = torch.tensor([100.0, -100.0, 0.1])
    settings = {"steps": 1, "step_size": 1.0, "max_move": 0.1}
    x = langevin(lambda x: (by * x).sum(1), torch.zeros(1, 3), noise_scale=0.0, **settings)
    torch.testing.assert_close(x, torch.tensor([[-0.1, 0.1, -0.05]]))
    x = langevin(lambda x: (by * x).sum(1), torch.zeros(20_000, 3), **settings)
    torch.testing.assert_close(x.std(0), torch.ones(3), rtol=0.03, atol=0.0)


def test_held_entries_may_lie_outside_the_clamp():
    x = torch.tensor([[3.0, 0.0]])
    x = langevin(gaussian, x, steps=3, step_size=0.5, clamp=(-1.0, 1.0), free=torch.tensor([False, True]))
    assert x[0, 0] == 3.0 and x[0, 1] != 0.0


# Hamiltonian Monte Carlo


def test_hmc_variance_is_exact_at_any_step_size():
    # Leapfrog alone would have variance s²/(1 − ε²/4s²), 1.56 times too large here.
    x, rate = hmc(gaussian, torch.zeros(20_000, 2), steps=30, step_size=1.2, leapfrog=3)
    assert 0.5 < rate.mean() < 0.98, "every trajectory is accepted: the correction is not tested"
    torch.testing.assert_close(x.var(0), torch.ones(2), rtol=0.04, atol=0.0)
    torch.testing.assert_close(x.mean(0), torch.zeros(2), rtol=0.0, atol=0.04)


@pytest.mark.parametrize(("step_size", "leapfrog"), [(0.05, 5), (0.5, 1), (1.0, 3), (1.5, 2), (1.9, 4)])
def test_hmc_accepts_as_theory_says(step_size, leapfrog):
    # On a Gaussian a leapfrog trajectory is a power of a 2x2 matrix, so the mean of min(1, exp(−ΔH)) can be computed
    # without a sampler.
    n, dimension = 40_000, 10
    kick = torch.tensor([[1.0, 0.0], [-step_size / 2, 1.0]])
    drift = torch.tensor([[1.0, step_size], [0.0, 1.0]])
    trajectory = torch.matrix_power(kick @ drift @ kick, leapfrog)
    before = torch.randn(n, dimension, 2)
    change = ((before @ trajectory.T).square() - before.square()).sum((1, 2)) / 2
    expected = change.neg().exp().clamp(max=1).mean().item()
    _, rate = hmc(gaussian, torch.randn(n, dimension), steps=1, step_size=step_size, leapfrog=leapfrog)
    assert rate.mean().item() == pytest.approx(expected, abs=0.012)
    if step_size == 0.05:
        assert expected > 0.995


def test_hmc_rejects_what_diverges():
    start = torch.randn(500, 4)
    x, rate = hmc(gaussian, start, steps=5, step_size=3.0, leapfrog=40)
    assert torch.equal(x, start) and rate.max() == 0
    # An energy that is NaN outside [−1, 1] gives the uniform distribution inside.
    x, rate = hmc(
        lambda x: torch.where(x.abs() > 1, torch.nan, 0 * x).sum(1), torch.zeros(20_000, 1), steps=40, step_size=0.5
    )
    assert x.abs().max() <= 1 and 0 < rate.mean() < 1
    assert x.var().item() == pytest.approx(1 / 3, rel=0.03)


def test_hmc_samples_the_conditional_of_held_entries():
    rho, held = 0.8, 1.5
    x = torch.tensor([0.0, held]).repeat(30_000, 1)
    x, _ = hmc(correlated, x, steps=15, step_size=0.5, leapfrog=2, free=torch.tensor([1, 0]))
    assert torch.equal(x[:, 1], torch.full((30_000,), held))
    assert x[:, 0].mean().item() == pytest.approx(rho * held, abs=0.015)
    assert x[:, 0].var().item() == pytest.approx(1 - rho**2, rel=0.03)


def test_hmc_without_trajectories_returns_a_copy():
    start = torch.randn(3, 2)
    x, rate = hmc(gaussian, start, steps=0, step_size=0.1)
    assert torch.equal(x, start) and x is not start and torch.equal(rate, torch.zeros(3))


# What both samplers promise


@both
def test_generator_makes_a_run_repeatable(sampler):
    start = torch.randn(4, 3)

    def run(seed):
        return sampler(gaussian, start, generator=torch.Generator().manual_seed(seed))

    before = torch.get_rng_state()
    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))
    assert torch.equal(torch.get_rng_state(), before), "a generator was given, yet the global stream moved"
    torch.manual_seed(5)
    first = sampler(gaussian, start)
    torch.manual_seed(5)
    assert torch.equal(sampler(gaussian, start), first)


@both
def test_hook_is_called_after_every_step(sampler):
    seen = []
    x = sampler(gaussian, torch.randn(4, 3), on_step=lambda k, x: seen.append((k, x.clone())))
    assert [k for k, _ in seen] == [1, 2, 3, 4]
    assert torch.equal(seen[-1][1], x)
    assert not torch.equal(seen[0][1], x)


@both
def test_steps_override_the_settings(sampler):
    start = torch.randn(4, 3)
    seen = []
    sampler(gaussian, start, steps=2, on_step=lambda k, x: seen.append(k))
    assert seen == [1, 2]
    x = sampler(gaussian, start, steps=0, on_step=lambda k, x: seen.append(k))
    assert torch.equal(x, start) and x.data_ptr() != start.data_ptr() and seen == [1, 2]
    assert torch.equal(replace(sampler, steps=0)(gaussian, start), start)


@pytest.mark.parametrize(
    "run",
    [
        lambda x: langevin(gaussian, x, steps=-1, step_size=0.1),
        lambda x: unrolled_langevin(gaussian, x, steps=-1, step_size=0.1),
        lambda x: hmc(gaussian, x, steps=-1, step_size=0.1),
        *(lambda x, sampler=sampler: sampler(gaussian, x, steps=-1) for sampler in SAMPLERS.values()),
    ],
)
def test_negative_steps_are_refused(run):
    with pytest.raises(ConfigError, match="steps must be 0 or more, not -1"):
        run(torch.zeros(2, 3))


@both
def test_free_mask_is_broadcast(sampler):
    start = torch.randn(4, 2, 3, 3)
    free = torch.zeros(1, 1, 3, 3)
    free[..., 1] = 1
    x = sampler(gaussian, start, free=free)
    held = (free == 0).expand_as(start)
    assert torch.equal(x[held], start[held])
    assert not torch.isclose(x[~held], start[~held]).any()


@both
@pytest.mark.parametrize(
    "energy", [lambda x: x.square().sum(), lambda x: x.square(), lambda x: x.square().sum(1, keepdim=True)]
)
def test_energy_of_wrong_shape_is_refused(sampler, energy):
    with pytest.raises(ConfigError, match=r"one value per chain, shape \(4,\)"):
        sampler(energy, torch.zeros(4, 3))


@both
def test_sampling_touches_neither_start_nor_parameters(sampler):
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
    start = torch.randn(4, 3)
    kept = start.clone()
    x = sampler(network, start.requires_grad_())
    assert not x.requires_grad and start.grad is None and torch.equal(start, kept)
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


@both
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_sampling_works_without_gradients_outside(sampler, mode):
    network = nn.Bilinear(3, 2, 1)

    def energy(x, context):
        return network(x, context).flatten() + gaussian(x)

    start, context = torch.randn(4, 3), torch.randn(4, 2)
    torch.manual_seed(1)
    expected = sampler(energy, start, context)
    torch.manual_seed(1)
    with mode():
        x = sampler(energy, start.clone(), context.clone())
    assert torch.equal(x, expected)


@both
def test_context_reaches_the_energy(sampler):
    centre = torch.tensor([[-10.0], [10.0]]).repeat(500, 1)
    x = replace(sampler, steps=40)(lambda x, c: gaussian(x - c, 0.3), torch.zeros(1000, 1), centre)
    assert (x - centre).abs().max() < 2


# Unrolled dynamics


@pytest.mark.parametrize("limit", [{"max_gradient": 0.5}, {"max_move": 0.05}, {"clamp": (-0.5, 0.5)}, {}])
def test_unrolled_equals_the_run_without_noise(limit):
    settings = {"step_size": (0.4, 0.2), **limit}
    sampler = Langevin(steps=6, noise_scale=0.7, **settings)
    start = torch.randn(5, 3)
    free = unrolled_langevin(quartic, start, steps=6, step_size=(0.4, 0.2))
    assert torch.equal(free, sampler.unrolled(quartic, start)) == (not limit), "the limit limits nothing"
    expected = langevin(quartic, start, steps=6, noise_scale=0.0, **settings)
    assert torch.equal(sampler.unrolled(quartic, start).detach(), expected)
    assert torch.equal(sampler.unrolled(quartic, start, steps=0), start)
    assert not torch.equal(sampler.unrolled(quartic, start, steps=2).detach(), expected)


def test_unrolled_gradient_equals_finite_differences():
    start = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    context = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)

    def run(x, c):
        return unrolled_langevin(lambda x, c: quartic(x) + (x * c).sin().sum(1), x, c, steps=4, step_size=(0.5, 0.3))

    assert torch.autograd.gradcheck(run, (start, context))


def test_unrolled_works_in_inference_mode():
    start = torch.randn(2, 3)
    expected = unrolled_langevin(quartic, start, steps=3, step_size=0.3).detach()
    with torch.inference_mode():
        x = unrolled_langevin(lambda x, c: quartic(x) * c, start.clone(), torch.ones(2), steps=3, step_size=0.3)
    torch.testing.assert_close(x.detach(), expected)


# Chains


def test_short_run_starts_from_fresh_noise():
    x = torch.full((5, 1, 2, 2), 9.0)
    chains = ShortRun()
    first, second = chains.start(x, Uniform()), chains.start(x, Uniform())
    assert first.shape == second.shape == x.shape and first.abs().max() <= 1
    assert not torch.isclose(first, second).any()
    assert ShortRun(count=3).start(x, Uniform()).shape == (3, 1, 2, 2)
    assert chains.state() == {}


def test_from_data_starts_from_a_copy_of_the_batch():
    x = torch.randn(5, 2, requires_grad=True)
    start = FromData().start(x, Uniform())
    assert torch.equal(start, x) and start.data_ptr() != x.data_ptr() and not start.requires_grad


@pytest.mark.parametrize("refresh", [0.0, 0.3, 1.0])
def test_persistent_begins_a_part_of_the_chains_anew(refresh):
    chains = Persistent(size=4000, refresh=refresh)
    x = torch.zeros(4000, 2)
    chains.start(x, Uniform())
    chains.finish(torch.full_like(x, 5.0))
    start = chains.start(x, Uniform())
    anew = start[:, 0] != 5.0
    assert torch.equal(anew, start[:, 1] != 5.0), "a chain is anew as a whole"
    assert start[anew].abs().max() <= 1 if refresh else not anew.any()
    assert anew.float().mean().item() == pytest.approx(refresh, abs=0.03)


def test_persistent_draws_no_more_noise_than_it_needs():
    chains, drawn = Persistent(size=400, refresh=0.3), []

    class Counted(Uniform):
        def __call__(self, like, generator=None):
            drawn.append(len(like))
            return super().__call__(like, generator)

    chains.restore({"memory": torch.full((400, 2), 5.0)})
    start = chains.start(torch.zeros(100, 2), Counted())
    anew = (start != 5).all(1).sum()
    assert drawn == [anew] and 0 < anew < 100


def test_persistent_takes_at_random_and_puts_back_in_place():
    chains = Persistent(size=6, refresh=0.0)
    chains.restore({"memory": torch.arange(1.0, 7.0)[:, None]})
    taken = []
    for _ in range(40):
        start = chains.start(torch.zeros(4, 1), Uniform())
        before = chains.memory.clone()
        assert len(start.unique()) == 4, "no chain is taken twice"
        chains.finish(start + 10)
        changed = chains.memory != before
        assert changed.sum() == 4 and torch.equal(chains.memory[changed], before[changed] + 10)
        assert torch.equal((chains.memory[changed] - 10).sort()[0], start.flatten().sort()[0])
        taken.append(changed)
    share = torch.stack(taken).float().mean(0)
    assert (share > 0.3).all() and (share < 1).all()
    # Each place still holds its own chain: only tens were added.
    assert torch.equal(chains.memory.flatten() % 10, torch.arange(1.0, 7.0))


def test_persistent_count_and_limits():
    x = torch.zeros(4, 2)
    assert Persistent(size=9, count=7).start(x, Uniform()).shape == (7, 2)
    with pytest.raises(ConfigError, match="4 chains are asked of a replay memory of 3"):
        Persistent(size=3).start(x, Uniform())


def test_persistent_state_is_restored():
    x = torch.zeros(4, 2)
    first, second = Persistent(size=8, refresh=0.5), Persistent(size=8, refresh=0.5)
    assert first.state() == {}
    first.finish(first.start(x, Uniform()) + 7)
    second.restore(first.state())
    starts = []
    for chains in (first, second):
        torch.manual_seed(3)
        starts.append(chains.start(x, Uniform()))
        chains.finish(starts[-1])
    assert torch.equal(*starts)
    first.finish(torch.zeros(4, 2))
    assert not torch.equal(first.memory, second.memory), "the two share one memory"
    second.restore({})
    assert second.state() == {}


# Noise


def test_uniform_and_gaussian_noise():
    like = torch.empty(50_000, 2)
    x = Uniform(-1.0, 3.0)(like)
    assert x.shape == like.shape and x.min() >= -1 and x.max() <= 3
    assert x.mean().item() == pytest.approx(1, abs=0.02) and x.var().item() == pytest.approx(16 / 12, rel=0.02)
    assert torch.equal(Uniform(-1.0, 3.0).centre(like), torch.ones(1, 2))
    x = Gaussian(sigma=2.0, mean=-1.0)(like)
    assert x.mean().item() == pytest.approx(-1, abs=0.04) and x.std().item() == pytest.approx(2, rel=0.02)
    assert torch.equal(Gaussian(mean=-1.0).centre(like), -torch.ones(1, 2))
    assert torch.equal(Gaussian(sigma=0.0, mean=0.5)(like), torch.full_like(like, 0.5))


@pytest.mark.parametrize("noise", [Uniform(), Gaussian()])
def test_noise_follows_its_generator_and_its_template(noise):
    like = torch.empty(3, 2, dtype=torch.float64)
    draws = [noise(like, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert draws[0].dtype == torch.float64


def synthetic() -> tuple[Tensor, Tensor, Tensor]:
    """Data (20000, 1, 2, 3) with their sample mean and covariance."""
    mixing = torch.randn(6, 6) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.3, 0.1])
    rows = torch.randn(20_000, 6) @ mixing.T + torch.arange(6.0)
    return rows.view(-1, 1, 2, 3), rows.mean(0), rows.T.cov(correction=0)


def test_fitted_gaussian_has_mean_and_covariance_of_the_data():
    data, mean, covariance = synthetic()
    noise = FittedGaussian((1, 2, 3), rank=6, low=-1e3, high=1e3)
    noise.fit(data.split(3000))
    x = noise(torch.empty(200_000, 1, 2, 3)).flatten(1)
    scale = covariance.diagonal().sqrt()
    assert ((x.mean(0) - mean) / scale).abs().max() < 0.015
    assert ((x.T.cov() - covariance) / torch.outer(scale, scale)).abs().max() < 0.02
    torch.testing.assert_close(noise.centre(data), mean.view(1, 1, 2, 3))


def test_fitted_gaussian_of_lower_rank_keeps_leading_directions_and_all_variances():
    data, _, covariance = synthetic()
    noise = FittedGaussian((1, 2, 3), rank=2, low=-1e3, high=1e3)
    noise.fit([data])
    values, vectors = torch.linalg.eigh(covariance)
    leading = vectors[:, -2:] * values[-2:] @ vectors[:, -2:].T
    torch.testing.assert_close(noise.factor @ noise.factor.T, leading, rtol=1e-3, atol=1e-3)
    variances = noise.factor.square().sum(1) + noise.rest.square()
    torch.testing.assert_close(variances, covariance.diagonal(), rtol=1e-3, atol=1e-3)
    x = noise(torch.empty(200_000, 1, 2, 3)).flatten(1)
    torch.testing.assert_close(x.var(0), covariance.diagonal(), rtol=0.02, atol=0.0)


def test_fitted_gaussian_is_clipped_fitted_once_and_repeatable():
    data, _, _ = synthetic()
    noise = FittedGaussian((1, 2, 3), rank=2, low=0.0, high=1.0)
    noise.fit([data])
    x = noise(torch.empty(500, 1, 2, 3), torch.Generator().manual_seed(1))
    assert x.min() == 0 and x.max() == 1
    assert torch.equal(noise(x, torch.Generator().manual_seed(1)), x)
    noise.fit([100 * data])
    assert torch.equal(noise(x, torch.Generator().manual_seed(1)), x)


def test_fitted_gaussian_refuses_data_that_do_not_fit():
    noise = FittedGaussian((1, 2, 3), rank=2)
    for data in ([], [torch.zeros(1, 1, 2, 3)]):
        with pytest.raises(ConfigError, match=f"2 or more data to be fitted, not {len(data)}"):
            noise.fit(data)
    with pytest.raises(ConfigError, match=r"cannot be fitted to \(9, 1, 2, 2\)"):
        noise.fit([torch.randn(9, 1, 2, 2)])
    with pytest.raises(ConfigError, match=r"has no other, such as \(1, 3, 2\)"):
        noise(torch.empty(4, 1, 3, 2))


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Langevin(steps=-1, step_size=0.1), "steps must be 0 or more"),
    (lambda: Langevin(steps=1, step_size=-0.1), "step_size must be"),
    (lambda: Langevin(steps=1, step_size=(0.1, -0.1)), "step_size must be"),
    (lambda: Langevin(steps=1, step_size=float("nan")), "step_size must be .* nan"),
    (lambda: Langevin(steps=1, step_size=0.1, noise_scale=-1.0), "noise_scale must be"),
    (lambda: Langevin(steps=1, step_size=0.1, clamp=(1.0, -1.0)), "clamp must be"),
    (lambda: Langevin(steps=1, step_size=0.1, max_gradient=0.0), "max_gradient must be"),
    (lambda: Langevin(steps=1, step_size=0.1, max_move=-1.0), "max_move must be"),
    (lambda: HMC(steps=-1, step_size=0.1), "HMC needs steps.* not .*steps=-1"),
    (lambda: HMC(steps=1, step_size=0.0), "HMC needs steps.*step_size=0.0"),
    (lambda: HMC(steps=1, step_size=0.1, leapfrog=0), "HMC needs steps.*leapfrog=0"),
    (lambda: ShortRun(count=-1), "count must be 0"),
    (lambda: Persistent(size=0), "size must be 1"),
    (lambda: Persistent(size=1, refresh=1.5), "refresh is a probability, not 1.5"),
    (lambda: Persistent(size=1, refresh=-0.5), "refresh is a probability, not -0.5"),
    (lambda: Persistent(size=1, count=-1), "count must be 0"),
    (lambda: Uniform(1.0, 1.0), "Uniform noise needs low < high"),
    (lambda: Gaussian(sigma=-1.0), "Gaussian noise needs sigma >= 0"),
    (lambda: FittedGaussian((2, 2), rank=0), "FittedGaussian needs .* not rank 0"),
    (lambda: FittedGaussian((2, 2), rank=5), "FittedGaussian needs .* not rank 5, 4 entries"),
    (lambda: FittedGaussian((65, 64), rank=5), "FittedGaussian needs .* not rank 5, 4160 entries"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


# Diagnostics


def autoregressive(rho: float, chains: int = 4, length: int = 20_000) -> Tensor:
    """Stationary AR(1) chains of unit variance, (C, T)."""
    noise = torch.randn(length, chains, dtype=torch.float64) * math.sqrt(1 - rho**2)
    x = [torch.randn(chains, dtype=torch.float64)]
    for each in noise[1:]:
        x.append(rho * x[-1] + each)
    return torch.stack(x, 1)


@pytest.mark.parametrize("rho", [-0.5, 0.0, 0.5, 0.9])
def test_effective_sample_size_of_autoregressive_chains(rho):
    chains = autoregressive(rho)
    expected = chains.numel() * (1 - rho) / (1 + rho)
    assert effective_sample_size(chains).item() == pytest.approx(expected, rel=0.1)
    assert split_r_hat(chains).item() == pytest.approx(1, abs=0.005)


@pytest.mark.parametrize("length", [12, 13, 40, 41])
def test_effective_sample_size_is_that_of_the_equations(length):
    # Equations 10 and 11 and Geyer's rule, lag by lag. An odd draw in the middle belongs to neither half.
    for seed in range(20):
        torch.manual_seed(seed)
        chains = autoregressive(0.6, chains=2, length=length)
        n = length // 2
        halves = [half for chain in chains for half in (chain[:n], chain[length - n :])]
        within = torch.stack([half.var() for half in halves]).mean()
        between = torch.stack([half.mean() for half in halves]).var()
        pooled = (n - 1) / n * within + between
        rho = []
        for lag in range(n):
            products = [((h - h.mean())[: n - lag] * (h - h.mean())[lag:]).sum() / (n - 1) for h in halves]
            rho.append(1 - (within - torch.stack(products).mean()) / pooled)
        total, least = 0.0, math.inf
        for even in range(0, n // 2 * 2, 2):
            pair = (rho[even] + rho[even + 1]).item()
            if pair < 0:
                break
            least = min(least, pair)
            total += least
        assert effective_sample_size(chains).item() == pytest.approx(4 * n / (2 * total - 1), rel=1e-6)
        assert split_r_hat(chains).item() == pytest.approx((pooled / within).sqrt().item())


def test_diagnostics_do_not_depend_on_units():
    chains = autoregressive(0.7, length=1000)
    for measure in (effective_sample_size, split_r_hat):
        torch.testing.assert_close(measure(5 - 100 * chains), measure(chains))


def test_chains_of_different_means_have_not_converged():
    # Half-chains with means 0, 2, 0, 2 and unit variance: B/n is 4/3.
    chains = torch.randn(2, 20_000, dtype=torch.float64) + torch.tensor([[0.0], [2.0]])
    assert split_r_hat(chains).item() == pytest.approx(math.sqrt(1 + 4 / 3), rel=0.01)
    assert effective_sample_size(chains) < 20


def test_a_drifting_chain_is_found_by_its_halves():
    drifting = torch.randn(1, 2000, dtype=torch.float64) + torch.linspace(0, 4, 2000, dtype=torch.float64)
    assert split_r_hat(drifting) > 1.3


@pytest.mark.parametrize("measure", [effective_sample_size, split_r_hat])
def test_diagnostics_need_four_draws(measure):
    with pytest.raises(ConfigError, match="4 or more draws"):
        measure(torch.randn(5, 3))
    assert torch.isfinite(measure(torch.randn(5, 4)))
