"""Whatever a catalog, a config.json or a weight file holds: it loads, or one of our own errors says why not."""

import copy
import hashlib
import json
import os
import resource
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from tiny import SHAPE, convnet
from zoo_helpers import NAME, ROOT, entry, saved_model

from ebm_zoo import fitting, from_pretrained, save_pretrained
from ebm_zoo.config import PUBLIC_PARTS, TORCH_CLASSES, from_config, to_config
from ebm_zoo.errors import CatalogError, ConfigError, WeightsError, ZooError
from ebm_zoo.files import MAX_CONFIG, MAX_DEPTH, plain_yaml, read_folder
from ebm_zoo.metrics import GreyClassifier
from ebm_zoo.models import Classifier
from ebm_zoo.networks import ConvEnergy, GaussianReference, ShortRunEnergy
from ebm_zoo.optim import Adam
from ebm_zoo.samplers import HMC, FittedGaussian, Gaussian, Persistent
from ebm_zoo.space import Space
from ebm_zoo.zoo import read_catalog
from ebm_zoo.zoo.hub import build_model, load_weights

# The same cases every time; the deadline, far above what a case takes, is there for what never ends.
same = settings(
    derandomize=True,
    database=None,
    max_examples=120,
    deadline=60_000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
ODD_NUMBERS = [0, -1, 1, 2, 2**31, 2**63 - 1, 2**63, 2**64, 10**30, -(10**400), 1e308, float("inf"), float("nan"), -0.0]
CLASSES = sorted(
    {f"ebm_zoo.{part}.{name}" for part in PUBLIC_PARTS for name in vars(sys.modules[f"ebm_zoo.{part}"])}
    | {f"torch.nn.{name}" for name in [*TORCH_CLASSES, "Linear", "Module", "Sequential", "LazyLinear"]}
    | {f"{module}.main" for module in sys.stdlib_module_names}
    | {"builtins.eval", "os.system", "subprocess.Popen", "torch.load", "torch.hub.load", "wandb.init", "tiny.convnet"}
)

# Not sampled_from: the list is too long for hypothesis to print.
classes = st.integers(0, len(CLASSES) - 1).map(lambda k: CLASSES[k])
numbers = st.sampled_from(ODD_NUMBERS) | st.integers() | st.floats()
leaves = st.none() | st.booleans() | numbers | st.text(max_size=8) | classes
objects = st.builds(lambda path, given: {"class_path": path, "init_args": given}, classes, leaves)
junk = st.recursive(
    leaves | objects,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def places(data: Any, path: tuple = ()) -> list[tuple]:
    """Paths of all items in nested mappings and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [deeper for key, value in items for deeper in [(*path, key), *places(value, (*path, key))]]


@st.composite
def altered(draw: st.DrawFn, whole: Any, values: st.SearchStrategy) -> Any:
    """Valid data with one to three items replaced, dropped, repeated or exchanged for another of their items."""
    data = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        known = places(data)
        if not known:
            break
        *way, last = draw(st.sampled_from(known))
        parent = data
        for key in way:
            parent = parent[key]
        kind = draw(st.sampled_from(["replace", "replace", "drop", "exchange", "wrap", "add"]))
        if kind == "drop":
            del parent[last]
        elif kind == "wrap":
            parent[last] = [parent[last]]
        elif kind == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=4))] = draw(values)
        elif kind == "exchange":
            *way, other = draw(st.sampled_from(places(whole)))
            source = whole
            for key in way:
                source = source[key]
            parent[last] = copy.deepcopy(source[other])
        else:
            parent[last] = draw(values)
    return data


def survives(action: Any, *arguments: Any) -> str:
    """Do it; what its error says if it is one of ours, whose text is one short line. Nothing else is imported."""
    before = set(sys.modules)
    says = ""
    try:
        action(*arguments)
    except ZooError as error:
        says = str(error)
        assert says and "\n" not in says and len(says) < 2000, says[:3000]
    new = {name for name in set(sys.modules) - before if name.partition(".")[0] != "torch"}
    assert not new, f"imported: {sorted(new)}"
    return says


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("properties")


def peak() -> int:
    """Most memory this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


# Catalogs


def tiny_entry(folder: Path) -> dict[str, Any]:
    model = saved_model(folder)
    return {NAME: {**entry(folder, model), "hub": {"repo": "some/body", "revision": "0" * 40}}}


def read(folder: Path, data: bytes) -> dict:
    path = folder / "catalog.yaml"
    path.write_bytes(data)
    return read_catalog(path)


@same
@given(data=st.binary() | st.text().map(str.encode) | junk.map(lambda data: json.dumps(data).encode()))
@example(data=b"{a: " * 500 + b"1" + b"}" * 500)
@example(data=b"a: 2026-99-99")
@example(data=b"a: 0x" + b"f" * 10_000)
@example(data=b"? [1, 2]\n: 3")
@example(data=b"a: &a [*a]\nb: {<<: *a}")
@example(data=b"a: !!python/object/apply:os.system [true]")
@example(data=b"a: !!int x\n")
@example(data=b"a: !!float ''\n")
@example(data=b"a: !!timestamp x\n")
@example(data=b'"\\ud800": {}')
@example(data="é: 1".encode("latin-1"))
def test_any_bytes_as_a_catalog(folder, data):
    says = survives(read, folder, data)
    assert "catalog.yaml" in says or yaml.safe_load(data) == {}, says


# Nested so deep that the loader in C would end the process, and a few lines that would stand for 2**24 items.
BOMBS = {
    "flow": "[" * 100_000,
    "block": "- " * 100_000,
    "keys": "? " * 100_000,
    "items": "".join(f"x{k}: &x{k} [*x{k - 1}, *x{k - 1}]\n" if k else "x0: &x0 [1, 1]\n" for k in range(24)),
    "merges": "".join(f"x{k}: &x{k} {{<<: [*x{k - 1}, *x{k - 1}]}}\n" if k else "x0: &x0 {a: 1}\n" for k in range(24)),
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_yaml_that_ends_the_process_or_fills_the_memory(text):
    before = peak()
    # Who refuses first, this package or its parser, depends on the parser's version.
    with pytest.raises(ValueError) as error:
        plain_yaml(text)
    assert "\n" not in str(error.value) and peak() - before < 100


@pytest.mark.parametrize(("start", "end"), [("[", "]"), ("- ", ""), ("{a: ", "}")])
def test_how_deep_yaml_may_nest(start, end):
    for depth in (1, MAX_DEPTH):
        plain_yaml(start * (depth - 1) + "{}" + end * (depth - 1))
    with pytest.raises(ValueError):
        plain_yaml(start * MAX_DEPTH + "{}" + end * MAX_DEPTH)


TWICE = {
    "entries": ("a: {}\nb: {}\na: {}\n", 3, "a"),
    "fields": ("x:\n  b: 1\n  b: 1\n", 3, "b"),
    "in braces": ("x: {b: 1, c: {},\n b: 2}", 2, "b"),
    "in a list": ("x:\n- y: 1\n\n  y: 2\n", 4, "y"),
    "quoted": ("x: 1\n'x': 2\n", 2, "x"),
    "number and text": ("1: 1\n'1': 2\n", 2, "1"),
    "two ways of one number": ("1: 1\n0x1: 2\n", 2, "1"),
    "two ways of one truth": ("{yes: 1, true: 2}", 1, "True"),
}


@pytest.mark.parametrize(("text", "line", "key"), TWICE.values(), ids=TWICE)
def test_a_key_that_is_there_twice(folder, text, line, key):
    with pytest.raises(CatalogError, match=rf"catalog\.yaml: line {line} has the key '{key}' again"):
        read(folder, text.encode())


@pytest.mark.parametrize("text", ["a: {x: 1}\nb: {x: 1}", "[{x: 1}, {x: 2}]", "1: 1\n2: 1\n'3': 1", "<<: {a: 1}\na: 2"])
def test_keys_of_different_mappings_are_different(text):
    assert plain_yaml(text) == yaml.safe_load(text)


def test_catalogs_are_read_as_plain_yaml(folder):
    with pytest.raises(CatalogError, match=r"catalog\.yaml: it has the alias \*a: write out"):
        read(folder, b"a: &a {}\nb: *a")


@pytest.fixture(scope="module")
def valid_entry(folder) -> dict[str, Any]:
    return tiny_entry(folder / "entry")


@same
@given(draw=st.data())
def test_an_altered_catalog(folder, valid_entry, draw):
    catalog = draw.draw(altered(valid_entry, junk))
    survives(read, folder, yaml.safe_dump(catalog, sort_keys=False, allow_unicode=True).encode(errors="surrogatepass"))


@pytest.mark.parametrize("number", [n for n in ODD_NUMBERS if n != n or abs(n) > 2**60], ids=str)
@pytest.mark.parametrize(
    "place", [("weights", "size"), ("space", "shape", 0), ("space", "high"), ("metrics", 0, "value")]
)
def test_odd_numbers_in_a_catalog(folder, valid_entry, place, number):
    catalog = copy.deepcopy(valid_entry)
    parent = catalog[NAME]
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = number
    survives(read, folder, yaml.safe_dump(catalog).encode())


# Configurations


def models() -> list[Any]:
    """Models that name between them most public classes."""
    fitted = FittedGaussian(SHAPE, 3)
    return [
        convnet(energy=GaussianReference(ConvEnergy(1, ((2, 3, 1, 1, 2), (1, 4, 1, 0)), torch.nn.LeakyReLU(0.1)))),
        convnet(noise=fitted, chains=Persistent(9), sampler=HMC(2, 0.1), energy=ShortRunEnergy(1, 2)),
        convnet(noise=Gaussian(), penalty=0.5),
        Classifier(GreyClassifier(3, width=2), Space((1, 28, 28)), {"network": Adam()}),
    ]


@pytest.fixture(scope="module")
def saved(folder) -> list[tuple[Any, bytes]]:
    found = []
    for model in models():
        config, weights, _ = read_folder(save_pretrained(model, folder / "valid"))
        found.append((config, weights))
    return found


def written(folder: Path, config: Any, weights: bytes) -> Path:
    described = {"sha256": hashlib.sha256(weights).hexdigest(), "size": len(weights)}
    return written_text(folder, json.dumps({"model": config, "weights": described}).encode(), weights)


def written_text(folder: Path, text: bytes, weights: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(text)
    (folder / "model.safetensors").write_bytes(weights)
    return folder


@same
@given(config=junk | objects)
def test_any_data_as_a_configuration(folder, saved, config):
    assert survives(from_pretrained, written(folder / "any", config, saved[0][1]))
    survives(from_config, config)


@settings(same, max_examples=200)
@given(draw=st.data(), index=st.integers(0, 3))
def test_an_altered_configuration(folder, saved, draw, index):
    config, weights = saved[index]
    config = draw.draw(altered(config, junk))
    survives(from_pretrained, written(folder / "altered", config, weights))


@same
@given(text=st.binary() | st.text().map(str.encode) | junk.map(lambda data: json.dumps(data).encode()))
@example(text=b"[" * 100_000)
@example(text=b'{"model":' * 50_000)
@example(text=b'{"model": ' + b"9" * 10_000 + b"}")
@example(text=b'{"model": {}, "weights": {"sha256": "x", "size": 1e999}}')
@example(text=b'{"model": {}, "weights": {"sha256": "x", "size": true}}')
@example(text=b'{"model": {}, "weights": {"sha256": 3, "size": NaN}}')
@example(text=b" " * (MAX_CONFIG + 1))
@example(text='{"model": 1}'.encode("utf-16"))
def test_any_bytes_as_config_json(folder, text):
    assert "config.json" in survives(from_pretrained, written_text(folder / "text", text, b""))


@pytest.mark.parametrize("place", ['"model"', '"sha256"', '"channels"'])
def test_a_key_that_is_there_twice_in_config_json(folder, saved, place):
    at = written(folder / "twice", *saved[0])
    text = (at / "config.json").read_text()
    assert place in text
    (at / "config.json").write_text(text.replace(place, f"{place}: 1, {place}", 1))
    with pytest.raises(WeightsError, match=rf"config\.json has the key '{place[1:-1]}' twice"):
        from_pretrained(at)


@same
@given(data=altered({"model": {}, "weights": {"sha256": hashlib.sha256(b"").hexdigest(), "size": 0}}, junk))
def test_altered_names_of_the_weights(folder, data):
    assert survives(from_pretrained, written_text(folder / "text", json.dumps(data).encode(), b""))


@pytest.mark.parametrize("levels", [33, 100, 300])
def test_nesting_deeper_than_any_model(folder, saved, levels):
    config, weights = copy.deepcopy(saved[0])
    for _ in range(levels):
        inner = config["init_args"]["energy"]
        config["init_args"]["energy"] = {
            "class_path": "ebm_zoo.networks.GaussianReference",
            "init_args": {"network": inner},
        }
    deep: Any = 1
    for _ in range(levels):
        deep = [deep]
    for nested in (config, deep, {"class_path": deep}):
        assert survives(from_pretrained, written(folder / "deep", nested, weights))
    with pytest.raises(ConfigError, match="deeper than 32"):
        from_config(config)


SIZES = {
    "channels": (0, ("energy", "init_args", "network", "init_args", "channels")),
    "filters": (0, ("energy", "init_args", "network", "init_args", "layers", 0, 0)),
    "kernel": (0, ("energy", "init_args", "network", "init_args", "layers", 0, 1)),
    "width": (1, ("energy", "init_args", "width")),
    "classes": (3, ("network", "init_args", "classes")),
    "network width": (3, ("network", "init_args", "width")),
}


@pytest.mark.parametrize("factor", [1, 1000])
@pytest.mark.parametrize("size", SIZES)
def test_sizes_beyond_the_weights_take_no_memory(folder, saved, size, factor):
    index, (*way, last) = SIZES[size]
    config, weights = copy.deepcopy(saved[index])
    parent = config["init_args"]
    for key in way:
        parent = parent[key]
    # Numbers that ask for half a gigabyte or more, and for a thousand or a million times as much.
    parent[last] = factor * {"width": 2000, "network width": 4000, "kernel": 8000, "classes": 10**7}.get(size, 10**7)
    at = written(folder / "large", config, weights)
    before = peak()
    with pytest.raises(WeightsError, match="do not fit its configuration: (size mismatch|it asks)"):
        from_pretrained(at)
    assert peak() - before < 100


def made(name: str, **arguments: Any) -> dict[str, Any]:
    return {"class_path": f"ebm_zoo.networks.{name}", "init_args": arguments}


MANY, SIZE = 10**9, {"width": 4, "components": 1}
FILLED = made("Dequantisation", shape=[1, 8, 8], couplings=1, size=made("CouplingSize", blocks=1, **SIZE), context=2)
FLOW = {"size": made("CouplingSize", blocks=0, **SIZE), "dequantiser": FILLED}
# A few bytes that ask for more modules or numbers than any memory holds; no size of a weight file tells of them.
HUGE = {
    "translator": made("ResNetTranslator", channels=1, width=1, blocks=MANY),
    "recurrent": made(
        "RecurrentOutput",
        space={"class_path": "ebm_zoo.space.TokenSpace", "init_args": {"length": 2, "vocabulary": ["a"]}},
        latent_dim=1,
        hidden=1,
        layers=MANY,
    ),
    "steps": made("FlowPlusPlus", shape=[2, 8, 8], scales=[[MANY, 0]], **FLOW),
    "blocks": made(
        "FlowPlusPlus",
        shape=[2, 8, 8],
        scales=[[1, 0]],
        size=made("CouplingSize", blocks=MANY, **SIZE),
        dequantiser=FILLED,
    ),
    "couplings": made("Dequantisation", **{**FILLED["init_args"], "couplings": MANY}),
    "squeezes": made("Dequantisation", **{**FILLED["init_args"], "squeezes": 2**62}),
    "marks of positions": made(
        "FlowPlusPlus",
        shape=[2, 2**15, 2**15],
        scales=[[1, 0]],
        size=made("CouplingSize", blocks=1, heads=1, **SIZE),
        dequantiser=FILLED,
    ),
    "objects": [made("ResNetTranslator", channels=1, width=1)] * 5000,
    "fitted noises": [{"class_path": "ebm_zoo.samplers.FittedGaussian", "init_args": {"shape": [4096], "rank": 4096}}]
    * 5000,
}


@pytest.mark.parametrize("energy", HUGE.values(), ids=HUGE)
def test_a_few_bytes_that_ask_for_a_billion_blocks(folder, saved, energy):
    config, weights = copy.deepcopy(saved[0])
    config["init_args"]["energy"] = energy
    at = written(folder / "huge", config, weights)
    memory, began = peak(), time.process_time()
    with pytest.raises((ConfigError, WeightsError), match="do not fit its configuration: it asks|after .* squeezes"):
        from_pretrained(at)
    # A second on a machine that does nothing else; far less than a billion of anything takes.
    assert time.process_time() - began < 3 and peak() - memory < 200
    # Whatever is built next is built as it was.
    assert torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(2000)))


def test_the_limit_is_of_one_thread(saved):
    """While one thread loads a stranger's model, others build what they like."""
    built: list[torch.nn.Module] = []

    def meanwhile(config):
        thread = threading.Thread(target=lambda: built.extend(torch.nn.Linear(1, 1) for _ in range(2000)))
        thread.start()
        thread.join()
        return from_config(config)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "from_config", meanwhile)
        assert build_model(*saved[0], "x")
    assert len(built) == 2 * 2000


@pytest.mark.parametrize("name", ["Inception", "DigitsClassifier", "FashionClassifier", "SqueezeNet"])
def test_no_configuration_loads_the_weights_of_a_judge(name):
    with pytest.raises(ConfigError, match="may not name"):
        from_config({"class_path": f"ebm_zoo.metrics.{name}", "init_args": {}})


WRONG = {
    "text for a pair": ("sampler", "clamp", "ab"),
    "three for a pair": ("sampler", "clamp", [0.0, 0.5, 1.0]),
    "truth for a number": ("sampler", "steps", True),
    "fraction for a whole number": ("sampler", "steps", 1.5),
    "not a number": ("sampler", "step_size", float("nan")),
    "beyond 64 bits": ("space", "shape", [1, 8, 2**63]),
    "text in a shape": ("space", "shape", [1, 8, "8"]),
    "number for a shape": ("space", "shape", 8),
    "row of a row": ("energy", "layers", [[[6, 3, 1, 1]]]),
    "an object of another kind": ("energy", "activation", {"class_path": "ebm_zoo.samplers.FromData"}),
}


@pytest.mark.parametrize(("part", "name", "value"), WRONG.values(), ids=WRONG)
def test_arguments_of_another_type_are_named(part, name, value):
    config = to_config(convnet())
    config["init_args"][part]["init_args"][name] = value
    with pytest.raises(ConfigError, match=rf"ebm_zoo\.\w+\.\w+: '{name}' must be of type .*, not \w+ \("):
        from_config(config)


def test_settings_of_a_network_are_an_object():
    config = to_config(convnet())
    config["init_args"]["optim"] = {"energy": {"lr": 0.1}}
    with pytest.raises(ConfigError, match="'optim' must be of type"):
        from_config(config)


# Weights


def split(weights: bytes) -> tuple[dict[str, Any], bytes]:
    end = 8 + struct.unpack("<Q", weights[:8])[0]
    return json.loads(weights[8:end]), weights[end:]


def joined(header: Any, body: bytes, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


TYPES = [
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E8M0",
    "F6_E2M3",
    "F4",
    "C64",
    "I64",
    "I8",
    "U8",
    "U64",
    "BOOL",
    "X",
]
sizes = st.lists(st.sampled_from([0, 1, 2, 3, 6, 24, 2**31, 2**32, 2**62, 2**63, 2**64, -1]), max_size=5)


@same
@given(draw=st.data())
def test_an_altered_header_of_the_weights(saved, draw):
    header, body = split(saved[2][1])
    header = draw.draw(altered(header, st.sampled_from(TYPES) | sizes | junk))
    length = draw.draw(st.none() | st.none() | st.sampled_from([0, 1, 100, 10**8, 2**40, 2**63, 2**64 - 1]))
    survives(load_weights, convnet(), joined(header, draw.draw(st.sampled_from([body, body[:-4], b""])), length), "x")


@same
@given(draw=st.data())
def test_altered_types_shapes_and_offsets(saved, draw):
    header, body = split(saved[2][1])
    for name in draw.draw(st.lists(st.sampled_from(sorted(header)), min_size=1, max_size=2)):
        key = draw.draw(st.sampled_from(["dtype", "shape", "data_offsets"]))
        header[name][key] = draw.draw(st.sampled_from(TYPES) if key == "dtype" else sizes)
    survives(load_weights, convnet(), joined(header, body), "x")


@same
@given(data=st.binary(max_size=200))
def test_any_bytes_as_weights(data):
    assert survives(load_weights, convnet(), data, "some/where").startswith("The weights of some/where are not")


EMPTY = {"dtype": "F32", "shape": [0, 2**63], "data_offsets": [0, 0]}
MORE = {"unknown type": {**EMPTY, "dtype": "F4", "shape": [0]}, "size beyond 64 bits": EMPTY}


@pytest.mark.parametrize("more", MORE.values(), ids=MORE)
def test_tensors_that_torch_cannot_hold(saved, more):
    header, body = split(saved[2][1])
    with pytest.raises(WeightsError, match="are not safetensors that torch can hold"):
        load_weights(convnet(), joined({**header, "more": more}, body), "x")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda found: found.pop("energy.convolutions.0.bias"), "only the configuration has 'energy.convolutions.0.b"),
        (lambda found: found.update(more=torch.zeros(1)), "only the file has 'more'"),
        (
            lambda found: found.update({"energy.convolutions.0.bias": torch.zeros(7)}),
            r"\(7,\) in the file and not \(6,",
        ),
        (lambda found: found.update({"energy.convolutions.0.bias": torch.zeros(6).int()}), "int32, not torch.float32"),
    ],
)
def test_what_does_not_fit_is_named(change, says):
    model = convnet()
    found = dict(model.state_dict())
    change(found)
    with pytest.raises(WeightsError, match=says):
        load_weights(model, save({name: value.contiguous() for name, value in found.items()}), "x")


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_weights_that_are_not_finite(folder, saved, wrong, kind):
    found = {name: value.to(kind) for name, value in load(saved[0][1]).items()}
    if kind == torch.float16:
        # Large, and yet finite: the sum is not.
        found = {name: value.zero_().add_(6e4) for name, value in found.items()}
    from_pretrained(written(folder / "finite", saved[0][0], save(found)))
    name = sorted(found)[-1]
    found[name].view(-1)[-1] = wrong
    at = written(folder / "infinite", saved[0][0], save(found))
    for load_it in (
        from_pretrained,
        lambda at: load_weights(models()[0], (at / "model.safetensors").read_bytes(), "x"),
    ):
        with pytest.raises(WeightsError, match=f"hold NaN or infinite values in '{name}'"):
            load_it(at)


def test_files_larger_than_the_memory_are_not_read(folder, saved):
    at = written(folder / "sparse", *saved[0])
    before = peak()
    for name, says in (("model.safetensors", "bytes, not"), ("config.json", "larger than")):
        os.truncate(at / name, 2**36)
        assert says in survives(from_pretrained, at)
    assert peak() - before < 100


def test_configurations_are_refused_without_the_type_checker():
    """The checker of these tests refuses by itself much of what the package has to refuse alone."""
    command = [sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "no:cacheprovider", "-k"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, "as_a_configuration or altered_configuration or another_type", __file__],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
