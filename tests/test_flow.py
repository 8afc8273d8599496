"""Normalizing flows: what is mapped forth comes back, densities are exact, and the first batch is whitened once."""

import math

import pytest
import torch
from tiny import SHAPE, TinyData, coopnets, flow, fresh_flow, images, normalizing_flow, trainer
from torch import nn
from torch.autograd.functional import jacobian

from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.metrics import bits_per_dimension
from ebm_zoo.networks import ConvGenerator, CouplingSize, Dequantisation, FlowPlusPlus
from ebm_zoo.networks.flow import gaussian
from ebm_zoo.networks.flow_coupling import Coupling, mixture_logit, mixture_quantile
from ebm_zoo.networks.flow_layers import ActNorm, InvertibleConv, Steps, from_checkerboard, to_checkerboard
from ebm_zoo.space import Space

SMALL = CouplingSize(4, 1, 3, heads=2)
PAIR = (1, 1, 2)
"""The smallest image that has a checkerboard."""


def shaken(network: nn.Module, scale: float = 0.3) -> nn.Module:
    """The network with other weights than it begins with, so that it is not the identity."""
    for parameter in network.parameters():
        parameter.data.add_(scale * torch.randn_like(parameter))
    return network


def pair_flow() -> FlowPlusPlus:
    fill = Dequantisation(PAIR, 1, CouplingSize(2, 1, 2), context=1)
    network = FlowPlusPlus(PAIR, ((0, 2),), CouplingSize(2, 0, 2), fill)
    return shaken(network, 0.2).double()


LAYERS = {
    "norm": (lambda: ActNorm(4), (4, 3, 2)),
    "mixer": (lambda: InvertibleConv(4), (4, 3, 2)),
    "coupling": (lambda: Coupling(4, (3, 2), SMALL), (4, 3, 2)),
    "coupling-no_blocks": (lambda: Coupling(2, (2, 3), CouplingSize(3, 0, 1)), (2, 2, 3)),
    "steps": (lambda: Steps(4, (3, 2), 2, SMALL), (4, 3, 2)),
}
FLOWS = {
    "checkerboard": ((1, 3, 4), ((0, 2),)),
    "channelwise": ((2, 3, 3), ((2, 0),)),
    "scales": ((1, 4, 8), ((0, 1), (1, 1), (1, 0))),
    "stacked_first": ((1, 4, 4), ((0, 0), (1, 1))),
    "stacked_last": ((3, 4, 4), ((0, 1), (0, 0))),
}
layers = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS.keys())
flows = pytest.mark.parametrize(("shape", "scales"), FLOWS.values(), ids=FLOWS.keys())


class Half(nn.Module):
    """Dequantisation by the middle of each step."""

    def forward(self, x):
        return torch.full_like(x, 0.5), x.new_zeros(len(x))


def plain(shape, scales) -> FlowPlusPlus:
    return shaken(FlowPlusPlus(shape, scales, SMALL, Half()))


@layers
def test_layers_come_back_and_their_determinant_is_that_of_autograd(make, shape):
    layer = shaken(make()).double()
    x = 2 * torch.randn(3, *shape, dtype=torch.float64)
    with torch.no_grad():
        y, total = layer(x)
        assert not torch.allclose(x, y, atol=0.1)
        assert (layer.inverse(y) - x).abs().max() < 1e-10
    size = math.prod(shape)
    for each, value in zip(x, total.expand(3), strict=True):
        matrix = jacobian(lambda row: layer(row.unsqueeze(0))[0], each).view(size, size)
        torch.testing.assert_close(torch.linalg.slogdet(matrix)[1], value)


@flows
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_flows_come_back(shape, scales, dtype, limit):
    network = plain(shape, scales).to(dtype)
    x = 2 * torch.rand(5, *shape, dtype=dtype) - 1
    with torch.no_grad():
        latent = network.latent_of(x)
        assert latent.shape == (5, network.latent_dim) and network.latent_dim == math.prod(shape)
        assert (network(latent) - x).abs().max() < limit
        unfolded = 3 * torch.randn(5, *shape, dtype=dtype)
        latent, _ = network.encode(unfolded)
        assert (network.decode(latent) - unfolded).abs().max() < limit
        # The other way round, from noise.
        noise = torch.randn(5, network.latent_dim, dtype=dtype)
        assert (network.encode(network.decode(noise))[0] - noise).abs().max() < 10 * limit


@flows
def test_the_determinant_of_a_flow_is_that_of_autograd(shape, scales):
    network = plain(shape, scales).double()
    x = 2 * torch.randn(2, *shape, dtype=torch.float64)
    _, total = network.encode(x)
    for each, value in zip(x, total, strict=True):
        matrix = jacobian(lambda row: network.encode(row.view(1, *shape))[0][0], each.flatten())
        torch.testing.assert_close(torch.linalg.slogdet(matrix)[1], value)


def test_the_gradient_of_a_draw_is_that_of_an_inverse():
    network = plain((1, 3, 4), ((0, 2),)).double()
    latent = torch.randn(12, dtype=torch.float64)
    drawn = jacobian(lambda row: network.decode(row.view(1, 12)).flatten(), latent)
    unfolded = network.decode(latent.view(1, 12)).detach().flatten()
    seen = jacobian(lambda row: network.encode(row.view(1, 1, 3, 4))[0][0], unfolded)
    torch.testing.assert_close(drawn @ seen, torch.eye(12, dtype=torch.float64), atol=1e-9, rtol=0)
    # And with respect to the weights: the draw of a fixed latent vector moves so that its image in z stays.
    weight = network.checkerboard[0].couplings[0].conditioner.last.gain
    (slope,) = torch.autograd.grad(network.decode(latent.view(1, 12)).sum(), weight)
    index, step = slope.abs().argmax().item(), 1e-5
    sums = []
    for sign in (-1, 1):
        with torch.no_grad():
            weight.view(-1)[index] += sign * step
            sums.append(network.decode(latent.view(1, 12)).sum())
            weight.view(-1)[index] -= sign * step
    torch.testing.assert_close(slope.view(-1)[index], (sums[1] - sums[0]) / (2 * step), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("spread", [0.5, 5.0])
def test_mixtures_are_inverted(dtype, spread):
    log_weight = (2 * torch.randn(2000, 5, dtype=dtype)).log_softmax(1)
    mean, log_scale = spread * torch.randn(2, 2000, 5, dtype=dtype)
    value = 20 * torch.randn(2000, dtype=dtype)
    mixture = (log_weight, mean, log_scale.clamp(-7, 3))
    x = mixture_quantile(value, *mixture)
    found, log_slope = mixture_logit(x, *mixture)
    error = (found - value).abs()
    # To rounding of v, or of x where F is so steep that neighbouring numbers lie further apart in v.
    allowed = torch.maximum(1 + value.abs(), (1 + x.abs()) * log_slope.exp())
    assert (error / allowed).max() < 10 * torch.finfo(dtype).eps


def test_mixtures_are_those_of_their_formula():
    x, mean, log_scale = torch.randn(7, dtype=torch.float64), *torch.randn(2, 7, 3, dtype=torch.float64)
    weight = torch.rand(7, 3, dtype=torch.float64)
    weight /= weight.sum(1, keepdim=True)
    x.requires_grad_()
    cdf = (weight * ((x[:, None] - mean) / log_scale.exp()).sigmoid()).sum(1)
    logit = cdf.logit()
    found, log_slope = mixture_logit(x, weight.log(), mean, log_scale)
    torch.testing.assert_close(found, logit)
    torch.testing.assert_close(log_slope, torch.autograd.grad(logit.sum(), x)[0].log())
    # Far out, where F is 0 or 1 in any precision.
    far, _ = mixture_logit(torch.tensor([-1e3, 1e3]), torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2, 1))
    assert far.tolist() == [-1e3, 1e3]


def test_a_checkerboard():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    white, black = to_checkerboard(x)[0]
    assert white.tolist() == [[0, 2], [5, 7], [8, 10], [13, 15]]
    assert black.tolist() == [[1, 3], [4, 6], [9, 11], [12, 14]]
    x = torch.randn(2, 3, 5, 6)
    assert torch.equal(from_checkerboard(to_checkerboard(x)), x)


def test_a_coupling_keeps_one_half_and_they_change_places():
    coupling = shaken(Coupling(4, (3, 2), SMALL))
    x = torch.randn(2, 4, 3, 2)
    with torch.no_grad():
        y, _ = coupling(x)
        assert torch.equal(y[:, :2], x[:, 2:])
        fresh = Coupling(4, (3, 2), CouplingSize(4, 1, 3))
        y, _ = fresh(x)
    # Three equal parts at −1, 0 and 1.
    cdf = (x[:, :2, None] - torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1)).sigmoid().mean(2)
    torch.testing.assert_close(y[:, 2:], cdf.logit(), atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        y, total = Coupling(4, (3, 2), CouplingSize(4, 1, 1))(x)
    torch.testing.assert_close(y, torch.cat([x[:, 2:], x[:, :2]], 1))
    torch.testing.assert_close(total, torch.zeros(2), atol=1e-5, rtol=0)


def test_attention_sees_all_positions_and_data_do_not_see_each_other():
    network = shaken(FlowPlusPlus((1, 4, 8), ((0, 1),), SMALL, Half()))
    x = torch.randn(3, 1, 4, 8, requires_grad=True)
    latent, total = network.encode(x)
    # A white field changes with all black ones, far or near.
    (gradient,) = torch.autograd.grad(latent[1].square().sum() + total[1], x)
    assert gradient[1].all() and not gradient[[0, 2]].any()
    coupling = shaken(Coupling(2, (4, 4), SMALL))
    x = torch.randn(1, 2, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(coupling(x)[0][0, 1, 0, 0], x)
    assert gradient[0, 1].all() and gradient[0, 0].count_nonzero() == 1


def grid(low: float, high: float, n: int) -> tuple[torch.Tensor, float]:
    """Midpoints of n x n squares, as images of two pixels, and the area of a square."""
    step = (high - low) / n
    line = low + step * (torch.arange(n, dtype=torch.float64) + 0.5)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"), -1).view(-1, *PAIR), step**2


def test_the_density_integrates_to_one():
    network = pair_flow()
    points, area = grid(-20, 20, 300)
    with torch.no_grad():
        latent, total = network.encode(points)
        mass = (gaussian(latent) + total).exp().sum() * area
    assert mass.item() == pytest.approx(1, abs=1e-6)


def test_draws_of_the_bound_average_to_the_probability_of_the_levels(monkeypatch):
    network = pair_flow()
    levels = torch.tensor([100.0, 30.0], dtype=torch.float64)
    x = (levels / 255 * 2 - 1).view(1, *PAIR)
    # The flow's density over the square of dequantised pixels that are rounded to these levels.
    inside, area = grid(0, 1, 30)
    with torch.no_grad():
        p = 0.5 + 0.9 * ((levels.view(PAIR) + inside) / 256 - 0.5)
        latent, total = network.encode(p.logit())
        slope = (0.9 / 256 / (p * (1 - p))).log().sum((1, 2, 3))
        exact = ((gaussian(latent) + total + slope).exp().sum() * area).log()
        draws = network.log_prob(x.expand(2000, -1, -1, -1))
        assert draws.std() > 0.05 and draws.mean() < exact
        # All noise that dequantisation may draw, in place of some.
        noise, area = grid(-25, 25, 400)
        noise = noise.view(-1, 2, 1, 1)
        monkeypatch.setattr(torch, "randn_like", lambda _: noise)
        draws = network.log_prob(x.expand(len(noise), -1, -1, -1))
    mean = ((draws + gaussian(noise)).exp().sum() * area).log()
    assert mean.item() == pytest.approx(exact.item(), abs=1e-4)


def test_the_entropy_of_dequantisation_is_its_density():
    network = shaken(Dequantisation((1, 2, 4), 2, SMALL, context=2)).double()
    x = torch.rand(1, 1, 2, 4, dtype=torch.float64)

    def noise_to_u(noise):
        context = network.first(to_checkerboard(x) - 0.5)
        context = context + network.seen(context, None)
        return from_checkerboard(network.steps(noise.view(1, 2, 2, 2), context)[0].sigmoid()).flatten()

    torch.manual_seed(3)
    noise = torch.randn(1, 2, 2, 2, dtype=torch.float64)
    matrix = jacobian(noise_to_u, noise.flatten())
    torch.manual_seed(3)
    u, entropy = network(x)
    torch.testing.assert_close(u.flatten(), noise_to_u(noise))
    torch.testing.assert_close(entropy[0], torch.linalg.slogdet(matrix)[1] - gaussian(noise)[0])
    assert u.min() > 0 and u.max() < 1
    torch.manual_seed(3)
    assert not torch.allclose(u, network(1 - x)[0])


@pytest.mark.parametrize("squeezes", [0, 1])
def test_noise_is_laid_where_the_pixels_are(squeezes):
    network = Dequantisation((3, 4, 8), 1, SMALL, context=1, squeezes=squeezes)
    x = torch.rand(2, 3, 4, 8)
    network.steps.forward = lambda noise, context: (network._packed(x), noise.new_zeros(2))
    torch.testing.assert_close(network(x)[0], x.sigmoid())


def test_images_are_drawn_in_the_range_and_the_middle_of_a_level_is_a_level():
    network = flow()
    drawn = network(5 * torch.randn(20, 64))
    assert drawn.min() == -1 and drawn.max() == 1
    x = torch.randint(0, 256, (4, *SHAPE)) / 255 * 2 - 1
    torch.testing.assert_close(network(network.latent_of(x)), x, atol=1e-4, rtol=0)


def test_bits_per_dimension():
    # 256 equally probable levels take 8 bits each.
    assert bits_per_dimension(torch.full((5,), -3 * math.log(256)), 3).item() == pytest.approx(8)
    assert bits_per_dimension(torch.tensor([-math.log(2), -3 * math.log(2)]), 2).item() == pytest.approx(1)


# The first batch


def test_the_first_images_are_whitened():
    size = CouplingSize(4, 1, 2)
    network = FlowPlusPlus(SHAPE, ((0, 1), (1, 0)), size, Dequantisation(SHAPE, 1, size, context=2))
    x, seen = images(64), {}

    def look(module, _, output):
        seen[module] = output[0]

    assert not network.initialised
    torch.manual_seed(5)
    network.initialise(x)
    assert network.initialised
    norms = [module for module in network.modules() if isinstance(module, ActNorm)]
    for norm in norms:
        norm.register_forward_hook(look)
    torch.manual_seed(5)
    network.log_prob(x)
    assert len(norms) == len(seen) == 3
    for y in seen.values():
        torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(y.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(y.shape[1]), atol=1e-3, rtol=0)
    before = norms[0].mean.clone()
    network.log_prob(-x)
    assert torch.equal(norms[0].mean, before)


def test_training_begins_with_whitening_and_goes_on_without(tmp_path, monkeypatch):
    model, resumed = (normalizing_flow(flow=fresh_flow()) for _ in range(2))
    calls, begin = [], FlowPlusPlus.initialise
    monkeypatch.setattr(FlowPlusPlus, "initialise", lambda self, x: (calls.append(len(x)), begin(self, x)))
    data = TinyData(images(40), batch_size=8)
    run = trainer(max_epochs=1, limit_val_batches=0)
    run.fit(model, datamodule=data)
    assert calls == [40]
    run.save_checkpoint(tmp_path / "a.ckpt")
    last = trainer(max_epochs=2, limit_val_batches=0)
    last.fit(resumed, datamodule=data, ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert calls == [40] and resumed.flow.initialised and last.global_step == 10


class Counted(list):
    """Batches that count how often one of them was taken."""

    taken = 0

    def __iter__(self):
        for batch in super().__iter__():
            self.taken += 1
            yield batch


def test_whitening_takes_no_more_images_than_it_needs(monkeypatch):
    model, batches, calls = normalizing_flow(flow=fresh_flow()), Counted(images(40).split(8)), []
    monkeypatch.setattr("ebm_zoo.models.flow.INITIAL", 20)
    begin = FlowPlusPlus.initialise
    monkeypatch.setattr(FlowPlusPlus, "initialise", lambda self, x: (calls.append((x, batches.taken)), begin(self, x)))
    data = TinyData(images(40))
    monkeypatch.setattr(data, "train_dataloader", lambda: batches)
    trainer(max_steps=1, limit_val_batches=0).fit(model, datamodule=data)
    ((x, taken),) = calls
    assert torch.equal(x, images(40)[:20]) and taken == 3


def test_a_loaded_flow_answers_the_same_and_has_begun():
    network = flow()
    loaded = FlowPlusPlus(SHAPE, network.scales, network.size, network.dequantiser)
    assert not loaded.initialised
    loaded.load_state_dict(network.state_dict())
    answers = []
    for each in (network, loaded):
        torch.manual_seed(1)
        answers.append(each.log_prob(images(4)))
    assert torch.equal(*answers) and loaded.initialised


def test_likelihood_rises():
    model, data = normalizing_flow(), images(64)
    torch.manual_seed(1)
    before = model.log_prob(data).mean()
    trainer(max_steps=40, limit_val_batches=0).fit(model, datamodule=TinyData(data, batch_size=16))
    assert model.log_prob(data).mean() > before + 20


def test_test_figures_hold_the_bits():
    # Unlike the model's own samples.
    model, data = normalizing_flow(), torch.where(images(8) > 0, 1.0, -1.0)
    run = trainer()
    torch.manual_seed(2)
    run.test(model, datamodule=TinyData(data, batch_size=8), verbose=False)
    found = run.callback_metrics["bits_per_dimension"].item()
    draws = torch.stack([bits_per_dimension(model.log_prob(data), 64) for _ in range(40)])
    assert found == pytest.approx(draws.mean().item(), abs=5 * draws.std().item())
    of_samples = bits_per_dimension(model.log_prob(model.sample(8)), 64).item()
    assert abs(of_samples - found) > 10 * draws.std()
    assert set(run.callback_metrics) == {"bits_per_dimension"}


# Precision, drop


def test_autocast_reaches_the_networks_alone():
    model = flow().eval()
    x = images(4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        latent = model.latent_of(x)
        drawn, density = model(latent), model.log_prob(x)
        mixer = model.checkerboard[0].mixers[0]
        y = torch.randn(2, 2, 8, 4)
        back = mixer.inverse(mixer(y)[0])
    assert {each.dtype for each in (latent, drawn, density)} == {torch.float32}
    torch.testing.assert_close(back, y)
    # Both directions see the same conditioning, up to what rounding makes of nearly equal inputs.
    assert (drawn - x).abs().max() < 0.1


def test_features_are_dropped_in_training_if_asked():
    assert CouplingSize(4, 1, 2).drop == 0
    x = torch.randn(2, 2, 4, 4)
    for drop, differ in ((0.0, False), (0.5, True)):
        coupling = shaken(Coupling(2, (4, 4), CouplingSize(4, 1, 2, drop=drop)))
        assert (not torch.equal(coupling(x)[0], coupling(x)[0])) is differ
        coupling.eval()
        assert torch.equal(coupling(x)[0], coupling(x)[0])


def test_a_flow_is_a_generator_of_coopnets():
    model = coopnets(generator=flow())
    loss = model.losses(images(4))["generator"]
    (gradient,) = torch.autograd.grad(loss, [model.generator.checkerboard[0].norms[0].mean])
    assert gradient.any()


# What is refused

FILL = Dequantisation((1, 4, 4), 1, SMALL, context=2)


@pytest.mark.parametrize(("make", "says"), [
    (lambda: FlowPlusPlus((1, 4, 4), ((1, 0),), SMALL, FILL), "scale 0 .* 1 x 4 x 4, has an odd number"),
    (lambda: FlowPlusPlus((1, 28, 28), ((0, 1), (0, 1), (0, 1)), SMALL, FILL), "scale 2 .* 4 x 7 x 7, has an odd one"),
    (lambda: FlowPlusPlus((1, 7, 4), ((0, 1), (1, 0)), SMALL, FILL), "scale 0 .* 1 x 7 x 4, has an odd one"),
    (lambda: FlowPlusPlus((1, 4, 4), ((0, 0),), SMALL, FILL), "rows"),
    (lambda: FlowPlusPlus((1, 4, 4), (), SMALL, FILL), "rows"),
    (lambda: FlowPlusPlus((1, 4, 4), ((0, -1), (1, 0)), SMALL, FILL), "rows"),
    (lambda: FlowPlusPlus((1, 4, 0), ((0, 1),), SMALL, FILL), r"\(1, 4, 0\)"),
    (lambda: Dequantisation((1, 4, 3), 1, SMALL, context=2), "1 x 4 x 3 .* multiple of 1 .* one of 2"),
    (lambda: Dequantisation((1, 6, 6), 1, SMALL, context=2, squeezes=1), "multiple of 2 .* one of 4"),
    (lambda: Dequantisation((1, 4, 4), 0, SMALL, context=2), "couplings"),
    (lambda: Dequantisation((1, 4, 4), 1, SMALL, context=0), "context"),
    (lambda: Dequantisation((1, 4, 4), 1, CouplingSize(4, 0, 2), context=1), "blocks"),
    (lambda: CouplingSize(6, 1, 2, heads=4), "must divide its width, 6"),
    (lambda: CouplingSize(4, 1, 0), "components"),
    (lambda: CouplingSize(4, -1, 2), "blocks"),
    (lambda: CouplingSize(4, 1, 2, drop=1.0), "drop"),
    (lambda: normalizing_flow(flow=ConvGenerator(4, ((1, 8, 1, 0),))), "ConvGenerator is no flow"),
    (lambda: normalizing_flow(space=Space((1, 4, 4))), r"shape \(1, 8, 8\) .* space is \(1, 4, 4\)"),
    (lambda: normalizing_flow(space=Space(SHAPE, 0.0, 1.0)), r"in \[0, 1\]"),
])  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_images_of_another_size_are_refused():
    with pytest.raises(ConfigError, match=r"images of \(1, 8, 8\), not \(1, 8, 4\)"):
        flow().log_prob(torch.zeros(2, 1, 8, 4))
    with pytest.raises(DataError, match="shape"):
        normalizing_flow().log_prob(torch.zeros(2, 3, 8, 8))


def test_a_flow_takes_no_steps():
    model = normalizing_flow()
    with pytest.raises(DataError, match="cannot take 3 steps"):
        model.sample(2, steps=3)
    with pytest.raises(DataError, match="At least one"):
        model.sample(0)
    drawn = model.sample(3, steps=0, generator=torch.Generator().manual_seed(1))
    latent = torch.empty(3, 64).normal_(generator=torch.Generator().manual_seed(1))
    assert torch.equal(drawn, model.flow(latent))
