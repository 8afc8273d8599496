"""`ebm-zoo fit | validate | test | predict`: LightningCLI with the zoo's defaults."""

import json
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

import ebm_zoo.callbacks
import ebm_zoo.data
import ebm_zoo.metrics
import ebm_zoo.networks  # noqa: F401 - importing them makes their short class names known to the parser
from ebm_zoo.callbacks import DivergenceGuard, run_folder
from ebm_zoo.config import to_config
from ebm_zoo.errors import CatalogError, ConfigError, ZooError
from ebm_zoo.files import atomic
from ebm_zoo.models import EnergyModel
from ebm_zoo.models.base import read_checkpoint
from ebm_zoo.zoo import config_path
from ebm_zoo.zoo.client import Access
from ebm_zoo.zoo.hub import build_model, load_weights
from ebm_zoo.zoo.resolve import Found, resolve

# What Lightning resolves to a checkpoint by itself.
KEYWORDS = ("best", "last", "hpc")


class SaveConfig(SaveConfigCallback):
    """Keeps the whole configuration in the run's folder and with the logger."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml."""
        text = self.parser.dump(self.config, skip_none=False)
        with atomic(run_folder(trainer) / "config.yaml") as path:
            path.write_text(text, encoding="utf-8")
        for logger in trainer.loggers:
            logger.log_hyperparams(yaml.safe_load(text))


class ZooCLI(LightningCLI):
    """LightningCLI in subclass mode.

    Gradients of the energy are needed while validating and testing, so ``inference_mode`` is off. Unlike in
    LightningCLI, options on the command line win over what a checkpoint holds.

    Args:
        arguments: command line, without the program's name.
        trained: trained model whose weights are loaded before the run.
    """

    def __init__(self, arguments: list[str], trained: Found | None) -> None:
        self.trained = trained
        super().__init__(
            EnergyModel,
            LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            seed_everything_default=0,
            trainer_defaults={
                "inference_mode": False,
                "logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "runs"}},
            },
            args=arguments,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add settings of the checkpoints: last.ckpt always, best.ckpt where ``checkpoint.monitor`` names a figure."""
        parser.add_class_arguments(ModelCheckpoint, "checkpoint", instantiate=False)
        parser.set_defaults({"checkpoint.filename": "best", "checkpoint.every_n_epochs": 1})

    def instantiate_classes(self) -> None:
        """Build model, data and trainer; say what a constructor said.

        Raises:
            ZooError: where a constructor refuses its arguments.
        """
        try:
            super().instantiate_classes()
        except ValueError as error:
            # The parser wraps what a constructor raises in a list of all types it tried.
            root: BaseException = error
            while root.__cause__ is not None:
                root = root.__cause__
            if isinstance(root, ZooError):
                raise root from error
            raise ConfigError(f"Cannot build what is configured: {root}") from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add checkpoints, and a guard and a bar unless the configuration has its own or switches the bar off."""
        own = self._get(self.config_init, "trainer.callbacks") or []
        kinds = [type(callback) for callback in (own if isinstance(own, list) else [own])]
        added = self.trainer_defaults["callbacks"] = self._checkpoints()
        if not any(issubclass(kind, DivergenceGuard) for kind in kinds):
            added.append(DivergenceGuard())
        bar = self._get(self.config, "trainer.enable_progress_bar") is not False
        if bar and not any(issubclass(kind, ProgressBar) for kind in kinds):
            added.append(RichProgressBar())
        return super().instantiate_trainer(**kwargs)

    def _checkpoints(self) -> list[Callback]:
        settings = self._get(self.config, "checkpoint").as_dict()
        # ModelCheckpoint's own save_last writes only when the monitored figure improves.
        newest = {"filename": "last", "monitor": None, "enable_version_counter": False, "save_on_train_epoch_end": True}
        last = ModelCheckpoint(**{**settings, **newest, "save_top_k": 1})
        return [last] if settings["monitor"] is None else [ModelCheckpoint(**settings), last]

    def _parse_ckpt_path(self) -> None:
        """The configuration is complete already: see `_expand`."""

    def after_instantiate_classes(self) -> None:
        """Load the trained weights."""
        if self.trained is not None:
            load_weights(self.model, self.trained.weights, self.trained.place)

    def after_test(self) -> None:
        """Print what was measured beside what is recorded."""
        if self.trained is not None and self.trainer.is_global_zero:
            print_figures(self.trained, {k: float(v) for k, v in self.trainer.callback_metrics.items()})


def run_training(arguments: Sequence[str]) -> int:
    """Run one of the training commands.

    Args:
        arguments: the subcommand and its options.

    Returns:
        Exit status 0; argument errors exit with 2 by themselves.

    Raises:
        ZooError: what the zoo's own classes refuse.
        KeyboardInterrupt: on interrupt, after the Trainer has shut down.
    """
    _quiet()
    if arguments[0] != "fit":
        # What the callbacks of a training remembered is of no use to other commands.
        warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")
    expanded, trained = _expand(list(arguments))
    cli = ZooCLI(expanded, trained)
    if cli.trainer.interrupted:
        raise KeyboardInterrupt
    return 0


def _expand(arguments: list[str]) -> tuple[list[str], Found | None]:
    """Turn catalog names into files, and a trained model or a checkpoint into model options that come first."""
    subcommand, rest = arguments[0], arguments[1:]
    rest = _joined(rest)
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
            first = [*_experiment(trained), f"--model={_model_option(to_config(model))}"]
        else:
            if option == "--ckpt_path" and value not in KEYWORDS and "://" not in value:
                config = read_checkpoint(value)["ebm_zoo"]["config"]
                if subcommand != "fit":
                    first.append(f"--model={_model_option(config)}")
            kept.append(argument)
    if trained is not None and any(argument.startswith("--ckpt_path=") for argument in kept):
        raise ZooError("--pretrained and --ckpt_path both name weights: give one of them.")
    # A file's settings come before single options, whatever the order they were given in.
    return [subcommand, *first, *kept], trained


def _experiment(trained: Found) -> list[str]:
    """Option for the data and settings of a trained model, where the zoo has them."""
    try:
        return [] if trained.entry is None else [f"--config={trained.entry.config}"]
    except CatalogError:
        # A model of the user's own: its data are named by options.
        return []


def _joined(arguments: list[str]) -> list[str]:
    """Write ``--option value`` as ``--option=value`` for the options that `_expand` reads."""
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


def _model_option(config: Any) -> str:
    return json.dumps(config)


def print_figures(trained: Found, measured: dict[str, float]) -> None:
    """Print measured beside recorded figures."""
    entry = trained.entry
    recorded = {} if entry is None else {metric.name: metric for metric in entry.metrics}
    print(f"\n{trained.place if entry is None else entry.name}")
    print(f"{'figure':28} {'measured':>12} {'recorded':>22} {'paper':>10}")
    for name in sorted({*measured, *recorded}):
        metric = recorded.get(name)
        cells = (
            f"{measured[name]:.5g}" if name in measured else "-",
            str(metric or "-"),
            f"{metric.paper:g}" if metric and metric.paper is not None else "-",
        )
        print(f"{name:28} {cells[0]:>12} {cells[1]:>22} {cells[2]:>10}")


def _quiet() -> None:
    # Both are LightningCLI's own doing: it calls API that jsonargparse 5 removes, and it is given arguments by us.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    warnings.filterwarnings("ignore", message=".*LightningCLI's args parameter.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    # A configuration without held-back pictures wants no validation.
    warnings.filterwarnings("ignore", message=".*Skipping val loop.*")
    warnings.filterwarnings("ignore", message=".*Total length of `list` across ranks is zero.*")
    warnings.filterwarnings("ignore", message=".*not supported by the model summary.*")
    # The averaged weights are what a checkpoint holds as the model's.
    warnings.filterwarnings("ignore", message=".*loading a checkpoint outside the 'fit' stage.*")
    # A run that starts from a checkpoint has a folder of its own.
    warnings.filterwarnings("ignore", message=".*The dirpath has changed.*")
    # Lightning 2.6 asks torch >= 2.10 for a class that is on its way out.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)


__all__ = ["ZooCLI", "print_figures", "run_training"]
