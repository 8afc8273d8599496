"""Objects as plain data and back, and what configurations are refused."""

import json
import sys
import types
from dataclasses import dataclass

import pytest
import torch
from tiny import convnet
from torch import nn

import ebm_zoo.samplers
from ebm_zoo.config import TORCH_CLASSES, from_config, require_public, to_config
from ebm_zoo.errors import ConfigError, DataError
from ebm_zoo.models import GenerativeConvNet
from ebm_zoo.networks import (
    ConvEncoder,
    ConvEnergy,
    ConvGenerator,
    ConvGRUPredictor,
    CoopNetsGenerator,
    CouplingSize,
    DenseGenerator,
    Dequantisation,
    DoublingGenerator,
    DoublingTranslator,
    FlowPlusPlus,
    GaussianOutput,
    GaussianReference,
    LabelledEnergy,
    LabelledGenerator,
    LatentEnergy,
    ObjectEnergy,
    PairedEnergy,
    RecurrentOutput,
    ResidualEnergy,
    ResNetTranslator,
    ShortRunEnergy,
    TextureEnergy,
    UNetGenerator,
    WarpedTranslator,
)
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import HMC, FittedGaussian, FromData, Gaussian, Langevin, Persistent, ShortRun, Uniform, WarmStart
from ebm_zoo.space import Classes, Space, TokenSpace

SIZE = CouplingSize(4, blocks=1, components=3, heads=2, drop=0.5)
FILLED = Dequantisation((1, 4, 4), couplings=1, size=SIZE, context=2, squeezes=1)
TOKENS = TokenSpace(length=5, vocabulary=("a", "bc"))
# Every argument has another value than its default.
OBJECTS = [
    Space((3, 4, 5), 0.0, 2.0),
    Classes(3),
    TOKENS,
    Adam(lr=0.1, betas=(0.5, 0.9), clip=2.0, warmup=3, final=0.25),
    Langevin(3, (0.1, 0.2), (1.0, 0.0), (-2.0, 2.0), max_gradient=3.0, max_move=0.5),
    HMC(3, 0.1, leapfrog=4),
    ShortRun(count=5),
    FromData(),
    Persistent(size=7, refresh=0.5, count=3),
    WarmStart(size=7),
    Uniform(0.0, 2.0),
    Gaussian(sigma=2.0, mean=1.0),
    FittedGaussian((1, 2, 3), rank=4, low=0.0, high=2.0),
    ConvEnergy(2, ((4, 3, 1, 1, 2), (1, 4, 1, 0)), nn.LeakyReLU(0.3)),
    GaussianReference(ConvEnergy(2, ((1, 4, 1, 0),)), sigma=0.3),
    TextureEnergy(1),
    ObjectEnergy(1),
    ShortRunEnergy(1, width=4),
    ConvEncoder(2, ((4, 4, 1, 0),), nn.ReLU()),
    ConvGenerator(3, ((4, 4, 1, 0), (1, 4, 2, 1, 1)), groups=2, activation=nn.ReLU()),
    CoopNetsGenerator(3, channels=1),
    LatentEnergy(3, widths=(4, 5), activation=nn.ReLU()),
    GaussianOutput(ConvGenerator(3, ((1, 4, 1, 0),)), sigma=0.5),
    RecurrentOutput(TOKENS, latent_dim=3, embedding=4, hidden=5, layers=2, word_dropout=0.5),
    LabelledGenerator(ConvGenerator(5, ((1, 4, 1, 0),)), classes=2),
    LabelledEnergy(ConvEnergy(3, ((1, 4, 1, 0),)), classes=2, size=4, channels=2),
    PairedEnergy(ConvEnergy(2, ((1, 4, 1, 0),))),
    ResidualEnergy(2, (4, 6, 8), head=(3, 2)),
    DenseGenerator(5, (4, 8), (1, 2, 3), activation=nn.ReLU()),
    DoublingGenerator(5, (4, 8), channels=1, groups=2),
    UNetGenerator((1, 3), (4, 8), latent_dim=2, groups=2, drop=0.5),
    ResNetTranslator(1, width=4, blocks=2, drop=0.5, keep=0.25),
    DoublingTranslator(1, width=4, blocks=2),
    WarpedTranslator(ResNetTranslator(1, width=4), scale=1.5),
    ConvGRUPredictor(1, width=4, kernel=3),
    SIZE,
    FILLED,
    FlowPlusPlus((1, 4, 4), ((0, 1), (1, 0)), SIZE, FILLED),
    *(getattr(nn, name)() for name in sorted(TORCH_CLASSES)),
]
VALUES = {
    "shape",
    "low",
    "high",
    "lr",
    "betas",
    "steps",
    "step_size",
    "clamp",
    "layers",
    "sigma",
    "width",
    "scales",
    "vocabulary",
}


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: type(value).__name__)
def test_round_trip_through_json(value):
    config = to_config(value)
    assert set(config) == {"class_path", "init_args"}
    rebuilt = from_config(json.loads(json.dumps(config)))
    assert type(rebuilt) is type(value)
    assert to_config(rebuilt) == config
    for name in VALUES & set(config["init_args"]):
        assert getattr(rebuilt, name) == getattr(value, name), "tuples come back as tuples"


def test_public_paths():
    assert to_config(convnet())["class_path"] == "ebm_zoo.models.GenerativeConvNet"
    assert to_config(nn.LeakyReLU(0.3)) == {
        "class_path": "torch.nn.LeakyReLU",
        "init_args": {"negative_slope": 0.3, "inplace": False},
    }
    assert to_config(FromData()) == {"class_path": "ebm_zoo.samplers.FromData", "init_args": {}}


def test_plain_data_pass_through():
    data = {"a": [1, 2.5, None], "b": {"c": True, "d": "text"}}
    assert to_config(data) == data
    assert from_config(data) == {"a": (1, 2.5, None), "b": {"c": True, "d": "text"}}


@pytest.mark.parametrize("path", [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "this.Anything",
    "Popen",
    "",
    "torch.nn.Linear",
    "torch.nn.modules.activation.ReLU",
    "torch.load",
    "ebm_zoo.errors.ConfigError",
    "ebm_zoo.config.to_config",
    "ebm_zoo.zoo.Entry",
    "ebm_zoo.samplers.chains.FromData",
    "ebm_zoo.samplers.torch.nn.Linear",
    None,
    3,
    ["ebm_zoo.samplers.FromData"],
])  # fmt: skip
def test_classes_that_are_not_public_are_refused(path):
    with pytest.raises(ConfigError, match="may not name"):
        from_config({"class_path": path, "init_args": {}})
    assert "this" not in sys.modules, "refused, and yet imported"


@pytest.mark.parametrize("name", ["langevin", "Energy", "torch", "Chain", "__doc__", "base", "energy_gradient"])
def test_names_that_are_no_public_class_are_refused(name):
    with pytest.raises(ConfigError, match=r"ebm_zoo\.samplers has HMC, Chains"):
        from_config({"class_path": f"ebm_zoo.samplers.{name}"})


@pytest.mark.parametrize(("config", "message"), [
    ({"class_path": "ebm_zoo.samplers.HMC", "init_args": {"step": 3}}, "no argument 'step'; it has steps, step_size"),
    ({"class_path": "ebm_zoo.samplers.FromData", "init_args": {"args": 3}}, "no argument 'args'"),
    ({"class_path": "ebm_zoo.samplers.HMC", "init_args": {"self": 3}}, "no argument 'self'"),
    ({"class_path": "ebm_zoo.samplers.HMC", "init_args": {"steps": 3}}, "HMC cannot be built.*step_size"),
    ({"class_path": "ebm_zoo.samplers.HMC", "init_args": {"steps": -3, "step_size": 0.1}}, "steps >= 0"),
    ({"class_path": "ebm_zoo.samplers.Chains"}, "Chains cannot be built"),
    ({"class_path": "ebm_zoo.samplers.Persistent", "init_args": {"size": "9"}}, "'size' must be of type int, not str"),
    ({"class_path": "ebm_zoo.networks.GaussianReference", "init_args": {"network": 3}}, "'network' must be of type"),
    ({"class_path": "ebm_zoo.samplers.HMC", "init_args": [3, 0.1]}, "a mapping"),
    ({"class_path": "ebm_zoo.samplers.HMC", "steps": 3}, "class_path and init_args"),
])  # fmt: skip
def test_arguments_that_do_not_fit_are_refused(config, message):
    with pytest.raises(ConfigError, match=message):
        from_config(config)


def test_whole_numbers_are_good_for_real_ones():
    config = {"class_path": "ebm_zoo.samplers.Langevin", "init_args": {"steps": 3, "step_size": [1, 2], "max_move": 1}}
    assert from_config(config) == Langevin(3, (1.0, 2.0), max_move=1.0)


def test_nested_objects_are_checked_too():
    config = to_config(convnet())
    config["init_args"]["energy"]["init_args"]["activation"] = {"class_path": "torch.nn.Linear", "init_args": {}}
    with pytest.raises(ConfigError, match=r"torch\.nn\.Linear"):
        from_config(config)


@dataclass
class Outside:
    size: int = 1


def test_classes_of_other_packages_are_described_but_not_built():
    described = to_config(Outside(3))
    assert described == {"class_path": f"{__name__}.Outside", "init_args": {"size": 3}}
    with pytest.raises(ConfigError, match="may not name"):
        from_config(described)
    with pytest.raises(ConfigError, match="may not name"):
        require_public({"a": [described]})


def test_objects_that_do_not_keep_their_arguments_cannot_be_described():
    with pytest.raises(ConfigError, match="Tensor cannot be described"):
        to_config(nn.Linear(1, 1))  # keeps a parameter, not the switch, as `bias`
    with pytest.raises(ConfigError, match="wrap it"):
        to_config(nn.Sequential(nn.SiLU()))
    with pytest.raises(ConfigError, match="Tensor"):
        to_config({"x": torch.zeros(1)})


def test_a_class_must_be_the_public_one_of_its_name():
    impostor = type("FromData", (FromData,), {"__module__": "ebm_zoo.samplers.mine"})
    with pytest.raises(ConfigError, match=r"ebm_zoo\.samplers\.mine\.FromData is not public"):
        to_config(impostor())


def test_an_argument_that_is_not_kept_is_named(monkeypatch):
    class Forgetful:
        def __init__(self, kept: int, lost: int) -> None:
            self.kept = kept

    Forgetful.__module__ = "ebm_zoo.samplers.forgetful"
    monkeypatch.setattr(ebm_zoo.samplers, "Forgetful", Forgetful, raising=False)
    monkeypatch.setattr(ebm_zoo.samplers, "__all__", [*ebm_zoo.samplers.__all__, "Forgetful"])
    with pytest.raises(ConfigError, match="Forgetful does not keep its argument 'lost'"):
        to_config(Forgetful(1, 2))


def test_every_public_class_of_the_table_is_tested():
    public = {
        getattr(module, name)
        for module in (ebm_zoo.samplers, sys.modules["ebm_zoo.networks"])
        for name in module.__all__
        if isinstance(getattr(module, name), type)
    }
    abstract = {cls for cls in public if getattr(cls, "__abstractmethods__", ())}
    aliases = {cls for cls in public if isinstance(cls, types.GenericAlias)}
    assert public - abstract - aliases == {type(v) for v in OBJECTS} & public


# The space of a model


def test_space_checks_shape_type_and_range():
    space = Space((1, 2, 2), low=0.0, high=2.0)
    x = torch.rand(3, 1, 2, 2) * 2
    assert space.check(x) is x
    assert space.template(5, x).shape == (5, 1, 2, 2)
    assert space.check(x[:0]).shape == (0, 1, 2, 2)
    bad = x.clone()
    bad[0, 0, 0, 0] = torch.nan
    for wrong, message in [
        (x[..., :1], r"shape \(B, 1, 2, 2\), not \(3, 1, 2, 1\)"),
        (x.byte(), "floating-point"),
        (bad, "NaN"),
        (x - 1, r"in \[0, 2\]"),
        (x + 0.3 + (2 - x.max()), "rescale"),
    ]:
        with pytest.raises(DataError, match=message):
            space.check(wrong)
    assert space.check(x * 0 + 2.2, slack=0.2) is not None


@pytest.mark.parametrize(("make", "says"), [
    (lambda: Space((1, 0, 2)), "A space needs .*1, 0, 2"),
    (lambda: Space(()), "A space needs"),
    (lambda: Space((1, 2, 2), 1.0, 1.0), "A space needs .*high=1.0"),
    (lambda: Adam(lr=0.0), "Adam needs lr > 0 .*lr=0.0"),
    (lambda: Adam(betas=(0.5, 1.0)), "Adam needs .*betas=.0.5, 1.0"),
    (lambda: Adam(clip=-1.0), "Adam needs clip >= 0.*clip=-1.0"),
    (lambda: Adam(warmup=-1), "Adam needs .*warmup=-1"),
    (lambda: Adam(final=1.5), "Adam needs .*final=1.5"),
    (lambda: convnet(sample_steps=-1), "sample_steps, data_noise and penalty"),
    (lambda: convnet(data_noise=-1.0), "sample_steps, data_noise and penalty"),
    (lambda: convnet(penalty=-1.0), "sample_steps, data_noise and penalty"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused(make, says):
    with pytest.raises(ConfigError, match=says):
        make()


def test_model_keeps_its_class_through_the_config():
    assert isinstance(from_config(to_config(convnet())), GenerativeConvNet)
