"""Networks: parameter counts, shapes, maps, and one energy or image per datum that sees no other."""

from pathlib import Path

import pytest
import torch
import yaml
from tiny import energy, generator
from torch import nn

from ebm_zoo.config import from_config
from ebm_zoo.errors import ConfigError
from ebm_zoo.networks import (
    ConvEncoder,
    ConvEnergy,
    ConvGenerator,
    ConvGRUPredictor,
    CoopNetsGenerator,
    DenseGenerator,
    DoublingGenerator,
    DoublingTranslator,
    GaussianReference,
    LabelledEnergy,
    LabelledGenerator,
    ObjectEnergy,
    PairedEnergy,
    ResidualEnergy,
    ResNetTranslator,
    ShortRunEnergy,
    TextureEnergy,
    UNetGenerator,
    WarpedTranslator,
)

# Filter area x channels in x filters + biases, layer by layer.
OBJECT_COUNT = (49 * 3 * 100 + 100) + (25 * 100 * 64 + 64) + (9 * 64 * 20 + 20) + (100 * 20 * 1 + 1)
# Down, up, and the two layers of the full size; norms have two numbers per filter.
UNET_COUNT = (
    (16 * 1 * 4 + 4 + 8)
    + (16 * 4 * 6 + 6 + 12)
    + (9 * (6 + 5) * 4 + 4 + 8)
    + (9 * (4 + 4) * 4 + 4)
    + (9 * (4 + 1) * 3 + 3)
)
SCENE = Path(__file__).parents[1] / "zoo_configs" / "coopnets" / "paper_scene.yaml"
SMALL = {
    "conv": (energy, (1, 8, 8)),
    "pooled": (lambda: ConvEnergy(2, ((4, 3, 1, 1, 2), (3, 3, 1, 1))), (2, 8, 8)),
    "texture": (lambda: TextureEnergy(1), (1, 176, 176)),
    "object": (lambda: ObjectEnergy(1), (1, 110, 110)),
    "short_run": (lambda: ShortRunEnergy(3, 4), (3, 32, 32)),
    "reference": (lambda: GaussianReference(energy(), 0.7), (1, 8, 8)),
    "residual": (lambda: ResidualEnergy(2, (4, 6, 8), (3, 2)), (2, 8, 8)),
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
    (ResidualEnergy(3, (128, 256, 512, 1024), (100, 4)), 17_129_444),
    (ConvEnergy(1, ((2, 3, 1, 1), (1, 8, 1, 0))), (9 * 2 + 2) + (64 * 2 + 1)),
    (CoopNetsGenerator(), 5_127_683),
    (ConvGenerator(4, ((6, 4, 1, 0), (3, 4, 2, 1)), groups=2), (16 * 4 * 6 + 6 + 12) + (16 * 6 * 3 + 3)),
    (LabelledEnergy(ConvEnergy(3, ((1, 8, 1, 0),)), 5, 8, channels=2), 5 * 2 * 64 + 64 * 3 + 1),
    (UNetGenerator((1, 3), (4, 6), latent_dim=5, groups=2), UNET_COUNT),
    (DenseGenerator(5, (7,), (1, 2, 3)), (5 * 7 + 7) + (7 * 6 + 6)),
    (DoublingGenerator(5, (4, 6), 3, 2), (16 * 5 * 4 + 4 + 8) + (9 * 4 * 6 + 6 + 12) + (9 * 6 * 3 + 3)),
])  # fmt: skip
def test_parameter_count(network, count):
    assert sum(p.numel() for p in network.parameters()) == count


def test_parameter_count_of_the_scene_energy():
    network = from_config(yaml.safe_load(SCENE.read_text())["model"]["init_args"]["energy"])
    assert sum(p.numel() for p in network.parameters()) == 6_927_588


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


def test_residual_energy_is_its_formula():
    network, x = ResidualEnergy(2, (3, 4), (5, 2)), torch.randn(3, 2, 6, 4)
    stem, block = network.stem[0], network.blocks[0]
    first, second, across = block.branch[0], block.branch[2], block.shortcut[0]
    silu = nn.functional.silu
    hidden = silu(nn.functional.conv2d(x, stem.weight, stem.bias, padding=1))
    both = silu(second(silu(first(hidden)))) + silu(across(hidden))
    quarters = torch.stack([both[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    torch.testing.assert_close(network(x), network.last(quarters.mean(0)).sum((1, 2, 3)))


@pytest.mark.parametrize("sizes", [(2, (4,), (1, 1)), (2, (4, 0), (1, 1)), (2, (4, 4), (0, 1)), (0, (4, 4), (1, 1))])
def test_residual_energy_refuses_sizes(sizes):
    with pytest.raises(ConfigError, match="two or more widths and sizes of 1 or more"):
        ResidualEnergy(*sizes)


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


def test_encoder_is_the_mean_of_its_last_map():
    network, x = ConvEncoder(2, ((4, 3, 1, 1), (6, 3, 2, 0)), nn.Tanh()), torch.randn(5, 2, 9, 9)
    first, second = network.convolutions
    maps = nn.functional.conv2d(first(x).tanh(), second.weight, second.bias, stride=2)
    torch.testing.assert_close(network(x), maps.mean((2, 3)))
    with torch.autocast("cpu", torch.bfloat16):
        assert network(x).dtype == torch.float32


# Conditions


def test_an_energy_of_labels_sees_a_map_of_the_label():
    network, x, labels = energy(3), torch.randn(4, 1, 8, 8), torch.tensor([2, 0, 2, 1])
    labelled = LabelledEnergy(network, classes=4, size=8, channels=2)
    maps = labelled.maps.weight.view(4, 2, 8, 8)
    torch.testing.assert_close(labelled(x, labels), network(torch.cat([x, maps[labels]], 1)))
    values = labelled(x, labels)
    assert not torch.isclose(values, labelled(x, (labels + 1) % 4)).any()
    (gradient,) = torch.autograd.grad(values.sum(), labelled.maps.weight)
    assert gradient[:3].any(1).all() and not gradient[3].any()


def test_an_energy_of_pairs_sees_both():
    network, x, question = energy(3), torch.randn(4, 1, 8, 8), torch.randn(4, 2, 8, 8, requires_grad=True)
    values = PairedEnergy(network)(x, question)
    torch.testing.assert_close(values, network(torch.cat([x, question], 1)))
    (gradient,) = torch.autograd.grad(values[2], question)
    assert gradient[2].any() and not gradient[[0, 1, 3]].any()


def test_conditions_pass_the_reference():
    x, labels = torch.randn(3, 1, 8, 8), torch.tensor([0, 1, 0])
    labelled = LabelledEnergy(energy(2), classes=2, size=8)
    tilted = GaussianReference(labelled, sigma=0.5)
    torch.testing.assert_close(tilted(x, labels), labelled(x, labels) + x.square().sum((1, 2, 3)) / 0.5)


@pytest.mark.parametrize("numbers", [(0, 8, 1), (2, 0, 1), (2, 8, 0)])
def test_an_energy_of_labels_refuses_numbers_below_one(numbers):
    with pytest.raises(ConfigError, match="1 or more"):
        LabelledEnergy(energy(2), *numbers)


def test_an_energy_of_labels_refuses_images_of_another_size():
    with pytest.raises(ConfigError, match=r"sides \(8, 6\) need maps of their size, not 8"):
        LabelledEnergy(energy(2), 2, 8)(torch.zeros(1, 1, 8, 6), torch.tensor([0]))


# Generators


def labels(n: int) -> torch.Tensor:
    return torch.arange(n) % 3


def questions(n: int) -> torch.Tensor:
    return torch.linspace(-1, 1, n * 128).view(n, 1, 8, 16)


GENERATORS = {
    "plain": (lambda: ConvGenerator(4, ((6, 4, 1, 0), (3, 4, 2, 1)), activation=nn.ReLU()), (), (3, 8, 8)),
    "groups": (lambda: ConvGenerator(4, ((6, 4, 1, 0), (3, 4, 2, 1)), groups=2), (), (3, 8, 8)),
    "odd": (lambda: ConvGenerator(4, ((6, 4, 1, 0), (1, 3, 2, 1, 1), (1, 3, 2, 1))), (), (1, 15, 15)),
    "labels": (lambda: LabelledGenerator(generator(7), classes=3), (labels,), (1, 8, 8)),
    "dense": (lambda: DenseGenerator(4, (6, 8), (3, 2, 5)), (), (3, 2, 5)),
    "doubling": (lambda: DoublingGenerator(4, (4, 6, 8), channels=2, groups=2), (), (2, 16, 16)),
    "unet": (lambda: UNetGenerator((1, 3), (4, 6, 8), latent_dim=4, groups=2), (questions,), (3, 8, 16)),
}
made = pytest.mark.parametrize(("make", "conditions", "shape"), GENERATORS.values(), ids=GENERATORS.keys())


@made
def test_one_image_per_latent_vector_that_sees_no_other(make, conditions, shape):
    network, latent = make(), torch.randn(4, 4, requires_grad=True)
    given = [condition(4) for condition in conditions]
    assert network.latent_dim == 4
    images = network(latent, *given)
    assert images.shape == (4, *shape) and images.abs().max() < 1
    torch.testing.assert_close(network(latent[2:3], *(each[2:3] for each in given)), images[2:3])
    (gradient,) = torch.autograd.grad(images[2].square().sum(), latent)
    assert gradient[2].all() and not gradient[[0, 1, 3]].any()


@made
def test_images_are_float32_under_autocast(make, conditions, shape):
    with torch.autocast("cpu", torch.bfloat16):
        images = make()(torch.randn(2, 4), *(condition(2) for condition in conditions))
    assert images.dtype == torch.float32


def test_images_of_the_coopnets_generator_depend_on_each_other():
    network, latent = CoopNetsGenerator(latent_dim=5, channels=1), torch.randn(3, 5)
    with torch.no_grad():
        together, alone = network(latent), network(latent[:1])
        assert together.shape == (3, 1, 64, 64)
        assert (together[:1] - alone).abs().max() > 0.1
        torch.testing.assert_close(network.eval()(latent), together)


def test_generator_is_its_formula():
    network, latent = ConvGenerator(4, ((6, 4, 1, 0), (2, 4, 2, 1)), groups=3), torch.randn(5, 4)
    first, last = network.convolutions
    maps = first(latent.view(5, 4, 1, 1)).reshape(5, 3, -1)
    normal = (maps - maps.mean(2, keepdim=True)) / (maps.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    hidden = nn.functional.silu(normal.view(5, 6, 4, 4))
    torch.testing.assert_close(network(latent), last(hidden).tanh(), rtol=1e-4, atol=1e-5)


def test_pixels_are_repeated_not_interleaved():
    network = DoublingGenerator(2, (2, 4), channels=1, groups=1)
    block, seen = network.blocks[0], []
    block[1].register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    network(torch.randn(3, 2))
    (twice,) = seen
    assert twice.shape == (3, 2, 8, 8)
    torch.testing.assert_close(twice, twice[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_the_label_is_appended_to_the_latent_vector():
    network, latent = generator(7), torch.randn(3, 4)
    appended = torch.cat([latent, torch.tensor([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])], 1)
    found = LabelledGenerator(network, 3)(latent, torch.tensor([2, 0, 1]))
    torch.testing.assert_close(found, network(appended))


def test_every_pixel_of_the_question_reaches_a_translation():
    network, question = UNetGenerator((2, 1), (4, 6), latent_dim=3, groups=2), torch.randn(2, 2, 8, 8)
    question.requires_grad_()
    images = network(torch.randn(2, 3), question)
    (gradient,) = torch.autograd.grad(images[1, 0, 0, 0], question)
    assert gradient[1].all() and not gradient[0].any()


def test_features_are_dropped_in_training_alone():
    network, latent = UNetGenerator((1, 1), (4, 6), latent_dim=3, groups=2, drop=0.5), torch.randn(2, 3)
    question = torch.randn(2, 1, 8, 8)
    assert not torch.equal(network(latent, question), network(latent, question))
    network.eval()
    assert torch.equal(network(latent, question), network(latent, question))


def test_translation_refuses_sides_that_cannot_be_halved():
    network = UNetGenerator((1, 1), (4, 6), latent_dim=3, groups=2)
    for sides in ((8, 10), (6, 8)):
        with pytest.raises(ConfigError, match=rf"multiples of 4, not \({sides[0]}, {sides[1]}\)"):
            network(torch.zeros(1, 3), torch.zeros(1, 1, *sides))


ROWS = ((6, 4, 1, 0), (1, 4, 2, 1))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ConvGenerator(4, ((6, 4, 1),)), "A layer is"),
        (lambda: ConvGenerator(4, ((6, 4, 1, 0, 0, 0),)), "A layer is"),
        (lambda: ConvGenerator(4, ()), "needs layers"),
        (lambda: ConvGenerator(0, ROWS), "needs layers and latent entries"),
        (lambda: ConvGenerator(4, ROWS, groups=4), r"Widths \[6\] must be multiples of groups, 4"),
        (lambda: ConvGenerator(4, ROWS, groups=-1), "multiples of groups"),
        (lambda: LabelledGenerator(generator(7), 7), "7 latent entries leaves none beside 7 classes"),
        (lambda: LabelledGenerator(generator(7), 0), "0 classes"),
        (lambda: UNetGenerator((1, 1), (8,), 2), "two or more widths"),
        (lambda: DenseGenerator(2, (8, 0), (1, 4, 4)), r"sizes of 1 or more, not 2, \[8, 0\], \[1, 4, 4\]"),
        (lambda: DoublingGenerator(2, ()), "needs latent entries, channels, and widths"),
        (lambda: DoublingGenerator(2, (8, 12)), r"multiples of groups \(8\), not 2, 3 and \[8, 12\]"),
        (lambda: UNetGenerator((1, 1), (8, 12), 2), r"multiples of groups \(8\), not \[8, 12\]"),
        (lambda: UNetGenerator((1, 1), (8, 8), 2, groups=0), "multiples of groups"),
        (lambda: UNetGenerator((1, 1), (8, 8), 0), "1 or more latent entries, not 0"),
    ],
)
def test_generators_refuse(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_parameter_count_of_the_papers_translator():
    # 11,378,179 in the convolutions, two per filter in the norms.
    network = ResNetTranslator(3)
    norms = 2 * (64 + 128 + 256 + 18 * 256 + 128 + 64)
    assert sum(p.numel() for p in network.parameters()) == 11_378_179 + norms
    assert sum(p.numel() for p in WarpedTranslator(network).parameters()) == 11_378_179 + norms + 4


@pytest.mark.parametrize("make", [
    lambda: ResNetTranslator(3, width=4, blocks=2),
    lambda: DoublingTranslator(3, width=4, blocks=2),
    lambda: WarpedTranslator(ResNetTranslator(3, width=4, blocks=2, keep=0.5), 1.2),
])  # fmt: skip
def test_one_translation_per_image_that_sees_no_other(make):
    network, x = make(), torch.rand(3, 3, 12, 16) * 2 - 1
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    found = network(x)
    assert found.shape == x.shape and found.dtype == torch.float32 and found.abs().max() <= 1
    torch.testing.assert_close(network(x[1:2]), found[1:2], rtol=1e-4, atol=1e-5)


def test_repeated_pixels_draw_no_grid_into_a_plain_map():
    torch.manual_seed(0)
    rising = (nn.Sequential(*make.rise(4, 8)) for make in (DoublingTranslator, ResNetTranslator))
    plain, gridded = (layers(torch.ones(1, 4, 16, 16))[..., 4:-4, 4:-4].std((2, 3)).max() for layers in rising)
    assert plain < 1e-5 and gridded > 0.1


def test_a_translator_drops_features_in_training_alone():
    network, x = ResNetTranslator(1, width=4, blocks=2, drop=0.5), torch.rand(2, 1, 8, 8)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_parameter_count_of_the_predictor():
    # Encoder, gates, candidate, decoder.
    count = (16 * 3 * 4 + 4) + (9 * 8 * 8 + 8) + (9 * 8 * 4 + 4) + (16 * 4 * 3 + 3)
    assert sum(p.numel() for p in ConvGRUPredictor(3, width=4, kernel=3).parameters()) == count
