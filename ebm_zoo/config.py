"""Any object of the zoo as plain data, and back: one grammar for YAML, config.json and checkpoints.

    {"class_path": "ebm_zoo.models.GenerativeConvNet", "init_args": {...}}

It rests on one rule: a constructor argument is kept under its own name.
"""

import importlib
import inspect
import reprlib
from types import UnionType
from typing import Any, Union, get_args, get_origin

from ebm_zoo.errors import ConfigError, ZooError

# Activations that take plain numbers; everything else a configuration names comes from this package.
TORCH_CLASSES = frozenset({"ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus", "Tanh", "Identity"})
# Parts of this package whose public classes a configuration may name.
PUBLIC_PARTS = ("metrics", "models", "networks", "optim", "samplers", "space")
# Judges bring weights of their own: making one reads a file or asks the network, which no configuration may cause.
JUDGES = frozenset(
    {"DigitsClassifier", "FashionClassifier", "Inception", "MnistClassifier", "SqueezeNet", "UspsClassifier"}
)
# Deeper than any model, far from the depth at which Python gives up.
MAX_DEPTH = 32

_short = reprlib.Repr()
_short.maxstring = 80


def to_config(value: Any) -> Any:
    """Describe an object by its class and constructor arguments.

    Args:
        value: None, a number, a string, a list, tuple or dict of such, or an object of a class that keeps every
            constructor argument as an attribute of the same name. A class of yours is named too, so that a run
            can be logged; only public classes can be built again from the configuration.

    Returns:
        JSON-ready data; objects become ``{"class_path": ..., "init_args": {...}}``.

    Raises:
        ConfigError: if an argument is not kept under its name, or a class of this package is not public.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [to_config(item) for item in value]
    if isinstance(value, dict):
        return {key: to_config(item) for key, item in value.items()}
    cls = type(value)
    path, arguments = class_path(cls), {}
    for name in _parameters(cls):
        if not hasattr(value, name):
            raise ConfigError(f"{cls.__name__} does not keep its argument '{name}' as an attribute of that name.")
        arguments[name] = to_config(getattr(value, name))
    return {"class_path": path, "init_args": arguments}


def from_config(config: Any) -> Any:
    """Build the object that `to_config` described, importing nothing but named, allowed classes.

    Args:
        config: plain data.

    Returns:
        The object.

    Raises:
        ConfigError: if a class is not allowed or unknown, an argument is missing, unknown or refused, or the data
            nest deeper than `MAX_DEPTH`.
    """
    return _built(config, MAX_DEPTH)


def _built(config: Any, depth: int) -> Any:
    if depth < 0:
        raise ConfigError(f"The configuration is nested deeper than {MAX_DEPTH} levels, as no model of the zoo is.")
    if isinstance(config, list):
        # JSON has no tuple: sizes, ranges and layers come back as the tuples that constructors declare.
        return tuple(_built(item, depth - 1) for item in config)
    if not isinstance(config, dict):
        return config
    if "class_path" not in config:
        return {key: _built(item, depth - 1) for key, item in config.items()}
    arguments = config.get("init_args") or {}
    if set(config) - {"class_path", "init_args"} or not isinstance(arguments, dict):
        shown = _shown(config)
        raise ConfigError(f"An object has keys class_path and init_args (a mapping) only, not {shown}.")
    path, cls = config["class_path"], allowed_class(config["class_path"])
    known = _parameters(cls)
    for name in arguments:
        if name not in known:
            raise ConfigError(f"{path} has no argument {_shown(name)}; it has {', '.join(known)}.")
    built = {name: _built(value, depth - 1) for name, value in arguments.items()}
    _require_types(cls, built)
    try:
        return cls(**built)
    except ZooError:
        raise
    except Exception as error:  # whatever a constructor says of arguments from a file, they are refused
        raise ConfigError(f"{path} cannot be built from its arguments: {_first_line(error)}.") from error


def class_path(cls: type) -> str:
    """Shortest public path of a class, for instance ``ebm_zoo.models.GenerativeConvNet``; a foreign class's own."""
    if cls.__module__.startswith("torch.nn.") and cls.__name__ in TORCH_CLASSES:
        return f"torch.nn.{cls.__name__}"
    if cls.__module__.split(".")[0] != "ebm_zoo":
        return f"{cls.__module__}.{cls.__qualname__}"
    path = ".".join([*cls.__module__.split(".")[:2], cls.__name__])
    if allowed_class(path) is not cls:
        raise ConfigError(f"{cls.__module__}.{cls.__name__} is not public, so no configuration can name it.")
    return path


def require_public(config: Any) -> None:
    """Refuse a configuration that `from_config` would refuse for a class it names."""
    if isinstance(config, dict):
        if "class_path" in config:
            allowed_class(config["class_path"])
        config = list(config.values())
    if isinstance(config, list):
        for item in config:
            require_public(item)


def allowed_class(path: Any) -> type:
    """Resolve a class path, refusing all but public classes of this package and a few activations.

    Raises:
        ConfigError: naming the path.
    """
    refusal = ConfigError(
        f"A configuration may not name {_shown(path)}: only public ebm_zoo classes and a few torch.nn ones."
    )
    if not isinstance(path, str):
        raise refusal
    module, _, name = path.rpartition(".")
    if module == "torch.nn" and name in TORCH_CLASSES:
        return getattr(importlib.import_module("torch.nn"), name)
    if module not in {f"ebm_zoo.{part}" for part in PUBLIC_PARTS} or name in JUDGES:
        raise refusal
    found = importlib.import_module(module)
    public = getattr(found, "__all__", ())
    if name not in public or not _is_class(getattr(found, name)):
        raise ConfigError(f"{path:.100} does not exist; {module} has {', '.join(public)}.")
    return getattr(found, name)


def _is_class(value: Any) -> bool:
    # In Python 3.10 a type with parameters, such as Callable[..., Tensor], passes for a class.
    return inspect.isclass(value) and get_origin(value) is None


def _require_types(cls: type, arguments: dict[str, Any]) -> None:
    parameters = inspect.signature(cls).parameters
    for name, value in arguments.items():
        wanted = parameters[name].annotation
        if not _fits(value, wanted):
            shown = wanted.__name__ if _is_class(wanted) else str(wanted)
            found = f"{type(value).__name__} ({_shown(value)})"
            raise ConfigError(f"{class_path(cls)}: '{name}' must be of type {shown}, not {found}.")


def _fits(value: Any, wanted: Any) -> bool:
    # An argument of another kind would fail far from here, or at the first use of the model.
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin in (Union, UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        parts = parts[:1] * len(value) if parts[-1] is Ellipsis else parts
        return len(value) == len(parts) and all(map(_fits, value, parts))
    if origin is dict:
        return isinstance(value, dict) and all(_fits(item, parts[1]) for item in value.values())
    if wanted in (int, float):
        # What is no number equals not even itself; what 64 bits cannot hold, torch does not take.
        whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        return whole or (wanted is float and isinstance(value, float) and value == value)
    return not _is_class(wanted) or isinstance(value, wanted)


def _shown(value: Any) -> str:
    # In part and on one line: the full text of what a file holds may be huge, that of a network has many lines.
    return " ".join(_short.repr(value).split())


def _first_line(error: Exception) -> str:
    return f"{(str(error).splitlines() or [type(error).__name__])[0]:.200}"


def _parameters(cls: type) -> list[str]:
    # A class without a constructor of its own inherits (*args, **kwargs), which are no arguments.
    try:
        parameters = inspect.signature(cls).parameters.values()
    except ValueError:
        raise ConfigError(f"A {cls.__name__} cannot be described by constructor arguments.") from None
    foreign = cls.__name__ not in TORCH_CLASSES
    if foreign and "__init__" in vars(cls) and any(p.kind == p.VAR_POSITIONAL for p in parameters):
        raise ConfigError(f"{cls.__name__} takes any number of arguments: wrap it in a class that names them.")
    return [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
