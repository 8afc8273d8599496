"""`ebm-zoo fit | validate | test | predict`: LightningCLI with the zoo's defaults."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, ProgressBar, RichProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

import ebm_zoo.callbacks
import ebm_zoo.data
import ebm_zoo.metrics
import ebm_zoo.networks  # noqa: F401 - importing them makes their short class names known to the parser
from ebm_zoo.callbacks import Checkpoint, CheckpointFiles, DivergenceGuard, Last, OrderlyEnd, run_folder
from ebm_zoo.cli.options import expand
from ebm_zoo.cli.runs import (
    FOLDER,
    KEYWORDS,
    claim,
    explained,
    later_rank,
    leave,
    newest_checkpoint,
    own_folder,
    require_same_range,
)
from ebm_zoo.cli.show import print_figures
from ebm_zoo.errors import ConfigError, DivergenceError, Stopped, ZooError
from ebm_zoo.files import atomic, free_name
from ebm_zoo.models import EnergyModel
from ebm_zoo.models.checkpoint import read_checkpoint
from ebm_zoo.zoo.hub import load_weights
from ebm_zoo.zoo.resolve import Found

LAUNCHED = "EBM_ZOO_FIRST_PROCESS"
"""Environment variable that tells the processes of the other ranks which one launched them."""


class SaveConfig(SaveConfigCallback):
    """Keeps the whole configuration in the run's folder and with the logger."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write config.yaml, beside one that is there already under another name."""
        text = self.parser.dump(self.config, skip_none=False)
        path = next(each for each in free_name(run_folder(trainer) / "config.yaml") if not each.exists())
        with atomic(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
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
        self.trained, self._made = trained, list[Path]()
        logger = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "runs"}}
        try:
            super().__init__(
                EnergyModel,
                LightningDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                save_config_callback=SaveConfig,
                save_config_kwargs={"save_to_log_dir": False},
                seed_everything_default=0,
                trainer_defaults={"inference_mode": False, "logger": logger},
                args=arguments,
            )
        except BaseException:
            for folder in self._made:
                leave(folder)
            raise

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add settings of the checkpoints: last.ckpt always, best.ckpt where ``checkpoint.monitor`` names a figure."""
        parser.add_class_arguments(ModelCheckpoint, "checkpoint", instantiate=False)
        parser.set_defaults({"checkpoint.filename": "best"})

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
        """Add what every run has, unless the configuration has its own: checkpoints, guard, orderly end, bar."""
        own = self._get(self.config_init, "trainer.callbacks") or []
        kinds = [type(callback) for callback in (own if isinstance(own, list) else [own])]
        added = self.trainer_defaults["callbacks"] = [OrderlyEnd(), *self._checkpoints()]
        if not any(issubclass(kind, DivergenceGuard) for kind in kinds):
            added.append(DivergenceGuard())
        bar = self._get(self.config, "trainer.enable_progress_bar") is not False
        if bar and not any(issubclass(kind, ProgressBar) for kind in kinds):
            added.append(RichProgressBar())
        if self._get(self.config, "trainer.logger") in (False, []) and not later_rank():
            base = self._get(self.config, "trainer.default_root_dir") or "."
            self._made.append(own_folder(Path(base).expanduser().absolute()))
            kwargs["default_root_dir"] = str(self._made[0])
        plugins = self._get(self.config_init, "trainer.plugins") or []
        kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), CheckpointFiles()]
        return super().instantiate_trainer(**kwargs)

    def _checkpoints(self) -> list[Callback]:
        if self._get(self.config, "trainer.enable_checkpointing") is False:
            return []
        settings = self._get(self.config, "checkpoint").as_dict()
        if settings["filename"] == "last":
            raise ConfigError("checkpoint.filename: the newest checkpoint is last.ckpt already. Choose another name.")
        last = Last(**settings)
        return [last] if settings["monitor"] is None else [Checkpoint(**{**settings, "save_last": None}), last]

    def prepare(self) -> None:
        """Find the checkpoint, compare model and data, and give the run its folder, before anything is begun."""
        options = self.config_init[self.subcommand]
        path = options["ckpt_path"]
        if path in KEYWORDS:
            path = newest_checkpoint(path, self.trainer, self._get(self.config, "checkpoint")["dirpath"])
            options["ckpt_path"] = str(path)
            rank_zero_info(f"--ckpt_path stands for {path}.")
        if path is not None:
            read_checkpoint(path)  # refused here, a run leaves no folder behind
        require_same_range(self.model, self.datamodule)
        logger = self._get(self.config, "trainer.logger")
        named = getattr(getattr(logger, "init_args", None), "version", None) is not None
        made = claim(self.trainer, None if path is None else Path(path), named)
        self._made += [made] if made is not None else []

    before_fit = before_validate = before_test = before_predict = prepare

    def _parse_ckpt_path(self) -> None:
        """The configuration is complete already: see `ebm_zoo.cli.options`."""

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
        Stopped: on Ctrl-C or a signal, after the Trainer has shut down.
    """
    _quiet()
    if arguments[0] != "fit":
        # What the callbacks of a training remembered is of no use to other commands.
        warnings.filterwarnings("ignore", message=".*callbacks used to create the checkpoint.*")
    expanded, trained = expand(list(arguments))
    # The processes of the other ranks inherit it.
    launched = os.environ.setdefault(LAUNCHED, str(os.getpid())) != str(os.getpid())
    try:
        ZooCLI(expanded, trained)
    except (Stopped, DivergenceError) as error:
        # All ranks agreed to end, and the first one says so. It would be killed if one that it launched failed before.
        if not later_rank():
            raise
        return 0 if launched else 128 + error.number if isinstance(error, Stopped) else 1
    except MisconfigurationException as error:
        raise ConfigError(f"{' '.join(str(error).split())}") from error
    except Exception as error:
        if isinstance(error, ZooError) or not (clear := explained(error)):
            raise
        raise clear from error
    finally:
        if not launched:
            for name in (LAUNCHED, FOLDER):
                os.environ.pop(name, None)
    return 0


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
    # Nothing in it is replaced: see ebm_zoo.cli.runs.claim, and ebm_zoo.callbacks.Last.
    warnings.filterwarnings("ignore", message=".*Experiment logs directory .* exists and is not empty.*")
    warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
    # Lightning 2.6 asks torch >= 2.10 for a class that is on its way out.
    warnings.filterwarnings("ignore", message=".*LeafSpec.*", category=FutureWarning)


__all__ = ["ZooCLI", "run_training"]
