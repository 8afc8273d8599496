"""The catalog, trained models by name, and every experiment of zoo_configs."""

import datetime
import importlib
import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from tiny import SHAPE, convnet
from zoo_helpers import NAME, done, entry, figure, idx_files, image_folder, saved_model, shipped, tiny_zoo, zoo

import ebm_zoo
from ebm_zoo import from_pretrained, list_models, save_pretrained
from ebm_zoo.config import from_config, to_config
from ebm_zoo.errors import CatalogError, ConfigError, WeightsError, ZooError
from ebm_zoo.files import WEIGHTS, read_folder, resource
from ebm_zoo.models import GenerativeConvNet
from ebm_zoo.samplers import Persistent
from ebm_zoo.zoo import catalog, config_path, find, read_catalog
from ebm_zoo.zoo.card import card, write_cards
from ebm_zoo.zoo.catalog import merged
from ebm_zoo.zoo.parts import Metric

CONFIGS = sorted(resource("zoo_configs").rglob("*.yaml"))
SHIPPED = shipped()
FEW = 2000
# Of one seed still: their commands take from ten minutes to hours of a core. What is measured leaves this list.
PENDING = {
    "coopnets/lfw64": r"(draft_)?squeezenet_frechet_distance(_\d+_steps)?",
    "conditional_coopnets/facades": "regression_.*",
    "coopflow/fashion_mnist": "reconstruction_error|mean_image_error",
    "latent_ebm/shakespeare": "(unigram_|bigram_)?nats_per_token(_error)?",
}


@pytest.fixture
def model(tmp_path):
    with tiny_zoo(tmp_path / "zoo") as model:
        yield model


# Reading a catalog


@pytest.fixture
def item(tmp_path) -> dict:
    """A valid entry, to be spoilt."""
    return entry(tmp_path / "saved", saved_model(tmp_path / "saved"))


def read(tmp_path, content) -> dict:
    path = tmp_path / "catalog.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump({NAME: content}))
    return read_catalog(path)


def test_an_entry_is_read_as_it_is_written(tmp_path, item):
    found = read(tmp_path, item)[NAME]
    assert found.name == NAME and found.tasks == GenerativeConvNet.tasks
    assert found.space.shape == SHAPE and (found.space.low, found.space.high) == (-1.0, 1.0)
    assert [(metric.name, metric.value, metric.paper) for metric in found.metrics] == [
        ("frechet_distance", 1.5, 2.25),
        ("made_up_figure", 3.0, None),
    ]
    assert (found.paper.year, found.training.notes, found.weights.size) == (2016, "", item["weights"]["size"])


REQUIRED = {
    "": ["summary", "model", "tasks", "space", "sampler", "weights"],
    "paper": ["title", "authors", "year", "url"],
    "data": ["name", "split", "terms", "url"],
    "space": ["shape", "low", "high"],
    "weights": ["file", "size", "sha256", "parameters"],
    "training": ["command", "seed", "wall_time", "hardware", "date", "versions"],
}


@pytest.mark.parametrize(("part", "name"), [(part, name) for part, names in REQUIRED.items() for name in names])
def test_a_missing_field_is_named(tmp_path, item, part, name):
    (item[part] if part else item).pop(name)
    where = f"{NAME}.{part}" if part else NAME
    with pytest.raises(CatalogError) as error:
        read(tmp_path, item)
    assert str(error.value) == f"{tmp_path / 'catalog.yaml'}: {where} lacks the field '{name}'."


@pytest.mark.parametrize("part", REQUIRED)
def test_an_unknown_field_is_named(tmp_path, item, part):
    # Where a catalog lies is not for the catalog to say.
    unknown = "nonsense" if part else "source"
    (item[part] if part else item)[unknown] = "x"
    with pytest.raises(CatalogError, match=f"{part or NAME} has the unknown field '{unknown}'; it may have "):
        read(tmp_path, item)


BAD = {
    "text for a number": (("weights", "size"), "many", "weights.size must be of type int, not str ('many')"),
    "number for text": (("summary",), 3, "summary must be of type str, not int (3)"),
    "fraction for a count": (("weights", "parameters"), 1.5, "weights.parameters must be of type int, not float"),
    "yes for a count": (("training", "seed"), True, "training.seed must be of type int, not bool"),
    "date without quotes": (("training", "date"), datetime.date(2026, 1, 31), "type str, not date"),
    "text for a list": (("tasks",), "sample", "tasks must be of type list, not str"),
    "item of a list": (("space", "shape"), [1, "8", 8], "space.shape[1] must be of type int, not str ('8')"),
    "nothing": (("weights",), None, "weights must be of type dict, not NoneType"),
    "half a repository": (("hub",), {"repo": "user"}, "hub lacks the field 'revision'"),
    "no repository": (("hub",), {"repo": "../x", "revision": "a" * 40}, "hub.repo must be user/name, not '../x'"),
    "a branch": (("hub",), {"repo": "a/b", "revision": "main"}, "hub.revision must be 40 hexadecimal digits"),
    "half a hash": (
        ("hub",),
        {"repo": "a/b", "revision": "a" * 40, "config": "ab"},
        "hub.config must be 64 hexadecimal digits, not 'ab'",
    ),
    "more than a number": (("metrics",), [figure("a", 10**400)], "metrics[0].value must be a number between"),
    "no mapping": (("weights",), [1], "weights must be of type dict, not list"),
    "negative size": (("weights", "size"), -5, "weights.size must be positive, not -5"),
    "no parameters": (("weights", "parameters"), 0, "weights.parameters must be positive, not 0"),
    "short hash": (("weights", "sha256"), "abc", "weights.sha256 must be 64 hexadecimal digits, not 'abc'"),
    "negative seed": (("training", "seed"), -1, "training.seed must be 0 or more, not -1"),
    "negative side": (("space", "shape"), [1, -8, 8], "space.shape must be sizes above 0, not (1, -8, 8)"),
    "empty shape": (("space", "shape"), [], "space.shape must be sizes above 0, not ()"),
    "range upside down": (("space", "low"), 2, "space.low must be below high (1), not 2.0"),
    "file elsewhere": (("weights", "file"), "../../x.safetensors", "weights.file leaves the weights folder"),
    "file of no name": (("weights", "file"), "a\0b", "weights.file must be a path of printable characters"),
    "file anywhere": (("weights", "file"), "/etc/passwd", "weights.file leaves the weights folder"),
    "figure in words": (("metrics",), [figure("a", "low")], "metrics[0].value must be of type float, not str"),
    "no figure": (("metrics",), [figure("a", float("nan"))], "metrics[0].value must be finite, not nan"),
    "a figure of nothing": (("metrics",), [figure("a", 1.0, samples=0)], "metrics[0].samples must be positive, not 0"),
    "negative spread": (("metrics",), [figure("a", 1.0, spread=-1.0, seeds=5)], "metrics[0].spread must be 0 or more"),
    "spread of one seed": (("metrics",), [figure("a", 1.0, spread=0.1)], "metrics[0].seeds must be 1 without a spread"),
    "seeds without spread": (("metrics",), [figure("a", 1.0, seeds=5)], "metrics[0].seeds must be 1 without a spread"),
    "second figure": (("metrics",), [figure("a", 1.0), {"name": "b"}], "metrics[1] lacks the field 'value'"),
    "figure of the paper": (("metrics",), [figure("a", 1.0, paper="best")], "metrics[0].paper must be of type float"),
}


@pytest.mark.parametrize(
    ("value", "spread", "shown"),
    [(1.0676, 0.2524, "1.07 ± 0.25"), (15216, 123.4, "15216 ± 123"), (-0.002, 0.01, "-0.002 ± 0.010"),
     (0.5, 0.999, "0.50 ± 1.00"), (0.9798, 0.0, "0.9798 ± 0"), (15216, None, "15216")],
)  # fmt: skip
def test_a_figure_is_shown_to_two_digits_of_its_spread(value, spread, shown):
    assert str(Metric(**figure("a", value, spread=spread, seeds=1 if spread is None else 5))) == shown


@pytest.mark.parametrize(("field", "value", "says"), BAD.values(), ids=BAD)
def test_a_bad_field_is_one_clear_error(tmp_path, item, field, value, says):
    target = item
    for name in field[:-1]:
        target = target[name]
    target[field[-1]] = value
    with pytest.raises(CatalogError) as error:
        read(tmp_path, item)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'catalog.yaml'}: {NAME}.") and says in message and "\n" not in message


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("- a\n- b\n", "must map names to entries"),
        ("", "must map names to entries"),
        ("a: 3\n", "a must be a mapping of fields"),
        ("a: {b: [}\n", "Cannot read the catalog"),
        ("a: !!python/object/apply:os.getcwd []\n", "Cannot read the catalog"),
    ],
)
def test_files_that_are_no_catalog(tmp_path, text, says):
    with pytest.raises(CatalogError, match=says):
        read(tmp_path, text)


def test_a_missing_catalog_is_named(tmp_path):
    with pytest.raises(CatalogError, match=r"Cannot read the catalog .*nowhere\.yaml.*No such file"):
        read_catalog(tmp_path / "nowhere.yaml")


# Names


def test_names(model):
    assert list_models() == [NAME] == list_models("*tiny") == list_models("generative_convnet/*")
    assert list_models("tiny") == []
    assert find(NAME) is catalog()[NAME]


def test_the_nearest_name_is_suggested(model):
    with pytest.raises(CatalogError, match=f"named 'generative_convnet/tny'. Did you mean {NAME}"):
        find("generative_convnet/tny")
    with pytest.raises(CatalogError, match=r"named 'zzz'\. `ebm-zoo list` shows all names"):
        from_pretrained("zzz")


def test_configurations_are_found_inside_their_folder_only(model, tmp_path):
    assert config_path(NAME) == find(NAME).config == tmp_path / "zoo" / "zoo_configs" / f"{NAME}.yaml"
    (tmp_path / "zoo" / "outside.yaml").write_text("a: 1")
    for name in ("../outside", str(tmp_path / "zoo" / "outside"), "generative_convnet"):
        with pytest.raises(CatalogError, match="No configuration file and no zoo configuration is named"):
            config_path(name)


def test_verify_counts_the_parameters(model, tmp_path):
    path = tmp_path / "zoo" / "checkpoints.yaml"
    content = yaml.safe_load(path.read_text())
    content[NAME]["weights"]["parameters"] += 1
    path.write_text(yaml.safe_dump(content))
    merged.cache_clear()
    result = zoo("verify")
    count = sum(p.numel() for p in model.parameters())
    assert (result.code, result.out) == (1, f"FAILED  {NAME}: {count:,} parameters, the catalog says {count + 1:,}.\n")


# Models to files and back


def test_a_model_by_name_is_the_model_that_was_saved(model):
    loaded = from_pretrained(NAME)
    assert not loaded.training
    assert to_config(loaded) == to_config(model)
    seeds = [torch.Generator().manual_seed(1) for _ in range(2)]
    assert torch.equal(loaded.sample(3, generator=seeds[0]), model.sample(3, generator=seeds[1]))


def test_saved_models_hold_no_replay_memory(tmp_path):
    model = convnet(chains=Persistent(size=500))
    model.losses(torch.zeros(4, *SHAPE))
    save_pretrained(model, tmp_path / "a")
    loaded = from_pretrained(tmp_path / "a")
    assert loaded.chains.memory is None and loaded.chains.size == 500
    assert (tmp_path / "a" / "model.safetensors").stat().st_size < 500 * 64


def test_saving_again_replaces_both_files(tmp_path):
    saved_model(tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with torch.no_grad():
        model = saved_model(tmp_path / "other", penalty=0.5)
        next(model.parameters()).add_(1)
    save_pretrained(model, tmp_path)
    second = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert first.keys() == second.keys() == {"config.json", "model.safetensors"}
    assert all(first[name] != second[name] for name in first)
    assert torch.equal(next(from_pretrained(tmp_path).parameters()), next(model.parameters()))


def test_saving_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ZooError, match="Cannot write"):
        save_pretrained(convnet(), tmp_path / "file")
    with pytest.raises(ZooError, match="Cannot write"):
        save_pretrained(convnet(), tmp_path / "file" / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_weights_of_another_architecture_do_not_load(tmp_path):
    saved_model(tmp_path / "a")
    config = json.loads((tmp_path / "a" / "config.json").read_text())
    config["model"]["init_args"]["energy"]["init_args"]["layers"][0][0] = 7
    (tmp_path / "a" / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"The weights of .*a do not fit its configuration: size mismatch"):
        from_pretrained(tmp_path / "a")


def test_a_model_of_no_public_class_cannot_be_saved(tmp_path):
    class Mine(GenerativeConvNet):
        pass

    mine = convnet()
    mine.__class__ = Mine
    with pytest.raises(ConfigError, match="Mine"):
        save_pretrained(mine, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_package_names_its_api():
    assert set(ebm_zoo.__all__) == {"__version__", "from_pretrained", "list_models", "save_pretrained"}
    assert all(getattr(ebm_zoo, name) is not None for name in ebm_zoo.__all__)
    assert all(getattr(ebm_zoo.zoo, name) is not None for name in ebm_zoo.zoo.__all__)
    for package in (ebm_zoo, ebm_zoo.zoo):
        with pytest.raises(AttributeError, match="nonsense"):
            _ = package.nonsense


# Cards


def test_a_card_says_what_the_catalog_says(model, tmp_path):
    text = card(find(NAME))
    for part in (
        f'from_pretrained("{NAME}")',
        "A Title",
        "Training data: noise: none.",
        "| made_up_figure | 3.00 ± 0.12 |",
        "| 0 to 4 |",
        "| 2.25 |",
    ):
        assert part in text
    write_cards()
    assert (tmp_path / "zoo" / "weights" / NAME / "README.md").read_text(encoding="utf-8") == text


# The zoo itself


def shipped_cases():
    return pytest.mark.parametrize("shown", SHIPPED, ids=[each.name for each in SHIPPED])


@shipped_cases()
def test_shipped_weights_are_those_of_the_catalog(shown):
    assert done("verify", shown.name) == f"ok      {shown.name}\n"
    config, data, sha256 = read_folder(shown.folder)
    assert (len(data), sha256) == (shown.weights.size, shown.weights.sha256)
    model = from_config(config)
    assert shown.model.rpartition(".")[2] == type(model).__name__
    assert shown.tasks == model.tasks


@shipped_cases()
def test_shipped_models_are_what_the_catalog_says(shown):
    model = from_pretrained(shown.name)
    assert sum(p.numel() for p in model.parameters()) == shown.weights.parameters
    space = model.space
    assert (space.shape, space.low, space.high) == (shown.space.shape, shown.space.low, shown.space.high)


@shipped_cases()
def test_shipped_cards_are_up_to_date(shown):
    assert (shown.folder / "README.md").read_text(encoding="utf-8") == card(shown)


@shipped_cases()
def test_shipped_configuration_is_that_of_the_experiment(shown, tmp_path, monkeypatch):
    """What the YAML of the same name builds is what config.json describes."""
    built = built_model(shown.config, tmp_path, monkeypatch)
    assert json.loads(json.dumps(to_config(built))) == read_folder(shown.folder)[0]


def said_decay(shown) -> float | None:
    """Decay of the average that a catalog's entry says its weights are; None for the last weights."""
    notes = shown.training.notes
    averaged = re.match(r"Averaged weights \(EMA (0\.\d+)\)", notes)
    plain = notes.startswith("Last weights") or shown.model.endswith("Classifier")
    assert (averaged is None) == plain, f"the notes on {shown.name} do not say which weights ship: {notes}"
    return float(averaged[1]) if averaged else None


@shipped_cases()
def test_shipped_weights_are_averaged_where_the_catalog_says_so(shown):
    callbacks = yaml.safe_load(shown.config.read_text())["trainer"].get("callbacks", [])
    decays = [each["init_args"]["decay"] for each in callbacks if "WeightAveraging" in each["class_path"]]
    decay = said_decay(shown)
    assert decays == ([] if decay is None else [decay])
    # Folders that were exported before exports took a note have none.
    note = json.loads((shown.folder / "config.json").read_text()).get("training")
    assert note is None or note["weights"] == ("raw" if decay is None else "averaged")


@shipped_cases()
def test_shipped_models_answer_the_command_line(shown, tmp_path, monkeypatch):
    monkeypatch.setenv("EBM_ZOO_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(shown.config.read_text())
    options = [*tiny_data(config, tmp_path / "data"), *few_steps(config), "--trainer.limit_test_batches=3"]
    text = done("test", "--pretrained", shown.name, *options)
    for metric in shown.metrics:
        assert f"\n{metric.name} " in text
    if "sample" in shown.tasks and len(shown.space.shape) == 1:
        done("sample", shown.name, "--n", 2, "--steps", 2, "--out", "a.txt")
        assert len(Path("a.txt").read_text().splitlines()) == 2
    elif "sample" in shown.tasks:
        steps = 0 if shown.model in ("NormalizingFlow", "AlternatingBackProp") else 2
        done("sample", shown.name, "--n", 2, "--steps", steps, "--out", "a.npy")
        assert np.load("a.npy").shape == (2, *shown.space.shape)


@shipped_cases()
def test_shipped_figures_name_commands_that_exist(shown):
    for command in (shown.training.command, *(metric.command for metric in shown.metrics)):
        assert shown.name in command and command.startswith(("ebm-zoo ", "python ")), command


@shipped_cases()
def test_shipped_figures_of_few_samples_have_a_spread(shown):
    """The rule of CONTRIBUTING.md, 'A new checkpoint'."""
    for metric in shown.metrics:
        assert metric.samples, f"{metric.name}: how many samples?"
        if metric.samples >= FEW:
            continue
        if re.fullmatch(PENDING.get(shown.name, ""), metric.name):
            assert metric.spread is None, f"{metric.name} is measured: take it off PENDING"
            continue
        assert metric.seeds >= 5 and metric.spread is not None, f"{metric.name}: mean and spread of five seeds"
        assert re.search(r" --seed(_everything)? S\b", metric.command), f"{metric.name}: where does the seed S go?"
        if metric.spread == 0 and metric.name.endswith("accuracy"):
            error = math.sqrt(metric.value * (1 - metric.value) / metric.samples)
            assert f"standard error {error:.2g}" in metric.protocol, metric.name


@pytest.mark.skipif(not SHIPPED, reason="there is no catalog")
def test_shipped_files_belong_to_the_catalog():
    files = {path.parent for path in WEIGHTS.rglob("config.json")}
    assert files == {each.folder for each in SHIPPED}


# Every experiment, through the command line, on tiny data


def tiny_data(config: dict, root: Path) -> list[str]:
    """Options that let an experiment run on images made here, of the size that its model takes."""
    space, data = config["model"]["init_args"]["space"], config["data"]["init_args"]
    options = ["--data.init_args.batch_size=4"]
    if "vocabulary" in space:
        return [*options, *sentences(space["vocabulary"], root)]
    shape = tuple(space["shape"])
    if config["data"]["class_path"].rpartition(".")[2] in ("UnpairedImageData", "UnpairedVideoData"):
        return [*options, *two_domains(data, shape, root)]
    for name in ("source", "outliers"):
        if data.get(name) in ("FashionMNIST", "MNIST"):
            idx_files(root, data[name])
        elif name in data and config["data"]["class_path"].endswith("PairedImageData"):
            for folder in ("photo", "label"):
                for split in ("train", "test"):
                    image_folder(root / name / split / folder, 8, shape)
            options.append(f"--data.init_args.{name}={root / name}")
        elif data.get(name) not in (None, "digits") and config["data"]["class_path"].endswith("LabelledImageData"):
            options.append(f"--data.init_args.{name}={class_folders(root / name, shape)}")
        elif data.get(name) not in (None, "digits"):
            options.append(f"--data.init_args.{name}={image_folder(root / name, 12, shape)}")
    if data.get("image") not in (None, "brick", "grass", "gravel"):
        (image,) = image_folder(root / "image", 1, (shape[0], shape[1] + 8, shape[2] + 8)).iterdir()
        options += [f"--data.init_args.image={image}"]
    return options


def sentences(vocabulary: list[str], root: Path) -> list[str]:
    """A file to train and test on, whose sentences have a token or two of the vocabulary."""
    root.mkdir(parents=True)
    lines = [a + b for a, b in zip(vocabulary, ["", *vocabulary], strict=False) if (a + b).strip()]
    (root / "x.txt").write_text("\n".join(lines))
    return [f"--data.init_args.{name}={root / 'x.txt'}" for name in ("source", "test")]


def class_folders(root: Path, shape: tuple[int, ...]) -> Path:
    """An image of each of ten classes per split."""
    for label in range(10):
        for split in ("train", "test"):
            image_folder(root / split / str(label), 1, shape, seed=label)
    return root


def two_domains(data: dict, shape: tuple[int, ...], root: Path) -> list[str]:
    """Options and images for an experiment on two domains; those larger than 64 pixels are cut down to it."""
    side = min(shape[-1], 64)
    options = [] if side == shape[-1] else [
        "--data.init_args.batch_size=1",
        f"--data.init_args.size={side}",
        f"--data.init_args.load_size={side}",
        f"--model.init_args.space.shape=[{shape[0]},{side},{side}]",
    ]  # fmt: skip
    if isinstance(data["source"], str):
        for folder in ("trainA", "trainB", "testA", "testB"):
            image_folder(root / "source" / folder, 6, (shape[-3], side, side))
        return [*options, f"--data.init_args.source={root / 'source'}"]
    sources = []
    for k, source in enumerate(data["source"]):
        if source == "MNIST":
            idx_files(root, source)
        elif len(shape) == 4:
            source = image_folder(root / f"clip{k}", 20, shape[1:])
        else:
            source = class_folders(root / f"source{k}", shape)
        sources.append(str(source))
    return [*options, f"--data.init_args.source={json.dumps(sources)}"]


def few_steps(config: dict) -> list[str]:
    """Options for few chains of two steps."""
    options = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]
    if "sampler" in config["model"]["init_args"]:
        options.append("--model.init_args.sampler.init_args.steps=2")
    chains = config["model"]["init_args"].get("chains") or {}
    if chains.get("init_args", {}).get("count", 0) > 4:
        options.append("--model.init_args.chains.init_args.count=4")
    for name in ("sample_steps", "infer_steps"):
        if name in config["model"]["init_args"]:
            options.append(f"--model.init_args.{name}=2")
    for name in ("prior_langevin", "posterior_langevin"):
        if name in config["model"]["init_args"]:
            options.append(f"--model.init_args.{name}.steps=2")
    return options


def small_networks(config: dict) -> list[str]:
    """Options for flows and residual energies that take no time, unless one begins as a shipped model."""
    options: list[str] = []
    callbacks = config["trainer"].get("callbacks", [])
    if any(each.get("init_args", {}).get("source") in catalog() for each in callbacks):
        return options
    for name, network in config["model"]["init_args"].items():
        kind = network.get("class_path", "") if isinstance(network, dict) else ""
        if kind.endswith("FlowPlusPlus"):
            for part in ("size", "dequantiser.init_args.size"):
                options += [f"--model.init_args.{name}.init_args.{part}.{each}" for each in ("width=8", "blocks=1")]
        if kind.endswith("ResidualEnergy"):
            widths = [4] * len(network["init_args"]["widths"])
            options.append(f"--model.init_args.{name}.init_args.widths={widths}")
    return options


def trained_before(config: dict, data: list[str], monkeypatch) -> None:
    """Train the model that an experiment starts from, unless it ships; one in a catalog is found by its name."""
    for callback in config["trainer"].get("callbacks", []):
        if not callback["class_path"].endswith("InitialWeights") or callback["init_args"]["source"] in catalog():
            continue
        name = callback["init_args"]["source"].removeprefix("runs/").partition("/version_0/")[0]
        before = yaml.safe_load(config_path(name).read_text())
        smaller = [*few_steps(before), *small_networks(before)]
        done("fit", "--config", name, *data, *smaller, "--trainer.max_steps=1", "--checkpoint.every_n_epochs=1")
        if name == callback["init_args"]["source"]:
            done("export", "--ckpt_path", f"runs/{name}/version_0/checkpoints/last.ckpt", "--out", "exported")
            monkeypatch.setenv("EBM_ZOO_CATALOG", "catalog.yaml")
            done("register", "exported", "--name", name)
            shutil.rmtree("runs")


def built_model(path: Path, tmp_path, monkeypatch):
    """The model of an experiment, as the command line builds it."""
    train = importlib.import_module("ebm_zoo.cli.train")
    built = []

    def stop(self, *_):
        built.append(self.model)
        raise KeyboardInterrupt

    monkeypatch.setenv("EBM_ZOO_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train.ZooCLI, "after_instantiate_classes", stop)
    config = yaml.safe_load(path.read_text())
    result = zoo("fit", "--config", path, *tiny_data(config, tmp_path / "data"))
    assert result.code == 130, result
    return built[0]


@pytest.mark.parametrize("path", CONFIGS, ids=[f"{path.parent.name}/{path.stem}" for path in CONFIGS])
def test_every_experiment_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("EBM_ZOO_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load(path.read_text())
    data = tiny_data(config, tmp_path / "data")
    options = [*data, *few_steps(config), *small_networks(config)]
    trained_before(config, data, monkeypatch)
    done("fit", "--config", path, *options, "--trainer.max_steps=2", "--checkpoint.every_n_epochs=1")
    (checkpoint,) = (tmp_path / "runs" / path.parent.name / path.stem).rglob("last.ckpt")
    kept = torch.load(checkpoint, weights_only=True)
    assert kept["global_step"] == 2
    for shown in (each for each in SHIPPED if each.config == path):
        averaged = said_decay(shown) is not None
        done("export", "--ckpt_path", checkpoint, "--out", "last")
        raw, exported = kept.get("current_model_state", kept["state_dict"]), from_pretrained("last").state_dict()
        assert any(not torch.equal(raw[name], value) for name, value in exported.items()) == averaged
    done("test", "--config", path, *options, "--ckpt_path", checkpoint, "--trainer.limit_test_batches=2")


def test_experiments_are_named_after_their_run_folder():
    assert CONFIGS
    for path in CONFIGS:
        logger = yaml.safe_load(path.read_text())["trainer"]["logger"]["init_args"]
        assert logger["name"] == f"{path.parent.name}/{path.stem}"
