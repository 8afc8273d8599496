"""Options of a training command before the parser sees them: names become files, trained models become options."""

import json
from pathlib import Path

from ebm_zoo.cli.runs import KEYWORDS
from ebm_zoo.config import require_public, to_config
from ebm_zoo.errors import CatalogError, ConfigError, ZooError
from ebm_zoo.fitting import build
from ebm_zoo.models import EnergyModel
from ebm_zoo.models.checkpoint import read_checkpoint
from ebm_zoo.zoo import config_path
from ebm_zoo.zoo.client import Access
from ebm_zoo.zoo.hub import build_model
from ebm_zoo.zoo.resolve import Found, resolve


def expand(arguments: list[str]) -> tuple[list[str], Found | None]:
    """Turn catalog names into files, and a trained model or a checkpoint into model options that come first.

    Args:
        arguments: the subcommand and its options.

    Returns:
        The same for the parser, and the trained model that ``--pretrained`` names, if any.

    Raises:
        ZooError: for names of weights that are unknown, unreadable or two.
    """
    subcommand, rest = arguments[0], arguments[1:]
    rest = _joined(rest)
    if {"--pretrained", "--ckpt_path"} <= {argument.partition("=")[0] for argument in rest}:
        raise ZooError("--pretrained and --ckpt_path both name weights: give one of them.")
    trained, first, kept = None, [], []
    for argument in rest:
        option, _, value = argument.partition("=")
        if option in ("--config", "-c") and not Path(value).is_file():
            kept.append(f"--config={config_path(value)}")
        elif option == "--pretrained":
            if subcommand == "fit":
                raise ZooError("--pretrained goes with test, validate and predict; to train on, use --ckpt_path.")
            trained = resolve(value, access=Access())
            # Built here first: the parser would import whatever class a stranger's configuration names.
            model = build_model(trained.config, trained.weights, trained.place)
            first = [*_experiment(trained), f"--model={json.dumps(to_config(model))}"]
        else:
            if option == "--ckpt_path" and value not in (*KEYWORDS, "null"):
                own = any(each.split("=")[0] in ("--config", "-c", "--model") for each in rest)
                if subcommand != "fit" or not own:
                    first += _model_of(value, own)
                if value.startswith("~"):
                    argument = f"--ckpt_path={Path(value).expanduser()}"
            kept.append(argument)
    # A file's settings come before single options, whatever the order they were given in.
    return [subcommand, *first, *kept], trained


def _model_of(checkpoint: str, own: bool) -> list[str]:
    """Option for the model of a checkpoint, unless it is of classes that only the user's own configuration may name."""
    found = read_checkpoint(checkpoint)
    config = found["ebm_zoo"]["config"]
    try:
        require_public(config)
    except ConfigError as error:
        if own:
            return []
        raise ConfigError(f"{checkpoint}: {error} Give the configuration it was trained with (--config).") from None
    # Built here first, no larger than its weights: the parser would build whatever the file asks for.
    model = build(config, found["state_dict"], checkpoint, EnergyModel)
    return [f"--model={json.dumps(to_config(model))}"]


def _experiment(trained: Found) -> list[str]:
    """Option for the data and settings of a trained model, where the zoo has them."""
    try:
        return [] if trained.entry is None else [f"--config={trained.entry.config}"]
    except CatalogError:
        # A model of the user's own: its data are named by options.
        return []


def _joined(arguments: list[str]) -> list[str]:
    """Write ``--option value`` as ``--option=value`` for the options that `expand` reads."""
    joined, pending = [], None
    for argument in arguments:
        if pending is not None:
            joined.append(f"{pending}={argument}")
            pending = None
        elif argument in ("--config", "-c", "--pretrained", "--ckpt_path"):
            pending = argument
        else:
            joined.append(argument)
    return joined if pending is None else [*joined, pending]
