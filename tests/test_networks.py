"""Networks: parameter counts, shapes, maps, and one energy per datum that sees no other."""

import pytest
import torch
from tiny import energy
from torch import nn

from ebm_zoo.errors import ConfigError
from ebm_zoo.networks import ConvEnergy, GaussianReference, ObjectEnergy, ShortRunEnergy, TextureEnergy

# Filter area x channels in x filters + biases, layer by layer.
OBJECT_COUNT = (49 * 3 * 100 + 100) + (25 * 100 * 64 + 64) + (9 * 64 * 20 + 20) + (100 * 20 * 1 + 1)
SMALL = {
    "conv": (energy, (1, 8, 8)),
    "pooled": (lambda: ConvEnergy(2, ((4, 3, 1, 1, 2), (3, 3, 1, 1))), (2, 8, 8)),
    "texture": (lambda: TextureEnergy(1), (1, 176, 176)),
    "object": (lambda: ObjectEnergy(1), (1, 110, 110)),
    "short_run": (lambda: ShortRunEnergy(3, 4), (3, 32, 32)),
    "reference": (lambda: GaussianReference(energy(), 0.7), (1, 8, 8)),
}
small = pytest.mark.parametrize(("make", "shape"), SMALL.values(), ids=SMALL.keys())


def scores(network: ConvEnergy, x: torch.Tensor) -> torch.Tensor:
    """The last map of a convolutional energy, before it is summed."""
    maps = []
    handle = network.convolutions[-1].register_forward_hook(lambda module, inputs, output: maps.append(output))
    network(x)
    handle.remove()
    return maps[0]


@pytest.mark.parametrize(("network", "count"), [
    (TextureEnergy(3), 275_965),
    (ObjectEnergy(3), OBJECT_COUNT),
    (ShortRunEnergy(3, 64), 2_763_393),
    (ConvEnergy(1, ((2, 3, 1, 1), (1, 8, 1, 0))), (9 * 2 + 2) + (64 * 2 + 1)),
])  # fmt: skip
def test_parameter_count(network, count):
    assert sum(p.numel() for p in network.parameters()) == count


@pytest.mark.parametrize(("network", "side", "size"), [
    (TextureEnergy(3), 224, 1),
    (TextureEnergy(3), 296, 2),
    (ObjectEnergy(3), 110, 5),
    (ShortRunEnergy(3, 4), 32, 1),
    (ShortRunEnergy(3, 4), 48, 3),
])  # fmt: skip
def test_size_of_the_map_of_scores(network, side, size):
    x = torch.randn(1, 3, side, side)
    with torch.no_grad():
        last = scores(network, x)
        assert last.shape == (1, 1, size, size)
        torch.testing.assert_close(network(x), last.sum((1, 2, 3)))


@small
def test_one_energy_per_datum_that_sees_no_other(make, shape):
    network = make()
    x = torch.randn(4, *shape, requires_grad=True)
    values = network(x)
    assert values.shape == (4,) and values.dtype == torch.float32
    torch.testing.assert_close(network(x[2:3]), values[2:3], rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad(values[2], x)
    assert gradient[2].any() and not gradient[[0, 1, 3]].any()


def test_conv_energy_is_the_sum_of_its_last_map():
    network = ConvEnergy(2, ((4, 3, 1, 1, 2), (3, 3, 2, 0)), nn.Tanh())
    x = torch.randn(5, 2, 9, 9)
    first, second = network.convolutions
    expected = nn.functional.conv2d(x, first.weight, first.bias, padding=1).tanh()
    expected = nn.functional.conv2d(nn.functional.max_pool2d(expected, 2), second.weight, second.bias, stride=2)
    torch.testing.assert_close(network(x), expected.flatten(1).sum(1))


def test_energy_is_summed_in_float32_under_autocast():
    # 4096 equal scores of 1: bfloat16 could not count beyond 256.
    network = ConvEnergy(1, ((1, 1, 1, 0),))
    with torch.no_grad():
        network.convolutions[0].weight.fill_(1.0)
        network.convolutions[0].bias.zero_()
        with torch.autocast("cpu", torch.bfloat16):
            values = network(torch.ones(2, 1, 64, 64))
    assert values.dtype == torch.float32 and values.tolist() == [4096, 4096]


@pytest.mark.parametrize("row", [(4, 3, 1), (4, 3, 1, 1, 2, 2)])
def test_conv_energy_refuses_rows_of_another_length(row):
    with pytest.raises(ConfigError, match="A layer is"):
        ConvEnergy(1, (row,))


def test_gaussian_reference_adds_its_formula():
    network, x = energy(), torch.randn(3, 1, 8, 8)
    tilted = GaussianReference(network, sigma=0.5)
    expected = network(x) + torch.stack([(image**2).sum() / (2 * 0.25) for image in x])
    torch.testing.assert_close(tilted(x), expected)


def test_gaussian_reference_hands_the_context_on():
    class Conditional(nn.Module):
        def forward(self, x, context):
            return (x * context).sum(1)

    x, context = torch.randn(3, 2), torch.randn(3, 2)
    tilted = GaussianReference(Conditional())
    torch.testing.assert_close(tilted(x, context), (x * context).sum(1) + x.square().sum(1) / 2)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_gaussian_reference_refuses_sigma_that_is_not_positive(sigma):
    with pytest.raises(ConfigError, match="sigma > 0"):
        GaussianReference(energy(), sigma)
