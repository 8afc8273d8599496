"""End a training in order when its process is told to."""

import signal
import threading
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from ebm_zoo.callbacks.checkpoints import Last, kept
from ebm_zoo.errors import Stopped

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What tells a process to end: Ctrl-C, a scheduler or container, a terminal that closes."""
AGAIN = 0.5
"""Seconds after which a second Ctrl-C is meant as such: launchers repeat a signal at once."""


class OrderlyEnd(Callback):
    """On Ctrl-C or SIGTERM write a checkpoint of the step that is reached and stop, on all ranks after the same step.

    Other loops than training stop after the batch that runs. A second Ctrl-C stops at once. Signals that were ignored
    when the run began stay so (``nohup``).

    Raises:
        Stopped: when the step that runs is done.
    """

    def __init__(self) -> None:
        self._told, self._when, self._averaged = 0, 0.0, False
        self._before: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin anew."""
        self._told, self._averaged = 0, False

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen; Lightning has set handlers of its own just before."""
        self._listen()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listen()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listen()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listen()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen."""
        self._listen()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if told to, unless an update or an epoch waits for its end."""
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready % trainer.accumulate_grad_batches == 0
        if done and not trainer.is_last_batch:
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if told to."""
        self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop if told to: what would come after a training is not to come."""
        # Its last checkpoint is written; by now averages may stand in the place of the weights that learn.
        if told := self._told_to_any(trainer):
            raise Stopped(told, f"training was done. {kept(trainer)}".rstrip("."))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Know that averaged weights stand in the place of those that learn."""
        self._averaged = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Know that they do no more."""
        self._averaged = False

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any, **_: Any) -> None:
        """Stop if told to; the rest of the validation is left out."""
        self._stop(trainer)

    def on_test_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any, **_: Any) -> None:
        """Stop if told to."""
        self._stop(trainer)

    def on_predict_batch_end(self, trainer: Trainer, pl_module: LightningModule, *batch: Any, **_: Any) -> None:
        """Stop if told to."""
        self._stop(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the weights that learn back before a checkpoint is made of them."""
        self._unaverage(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen no more."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        if self._told:
            raise Stopped(self._told, "all was done")

    def _listen(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, self._on_signal):
                self._before.setdefault(number, before)
                signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: Any) -> None:
        now = time.monotonic()
        if self._told and number == signal.SIGINT and now - self._when > AGAIN:
            raise Stopped(number, "told twice, it did not wait for the step that ran")
        if not self._told:
            self._told, self._when = number, now

    def _told_to_any(self, trainer: Trainer) -> int:
        told, self._told = self._told, 0
        # Ranks that predict need not have as many batches: one would wait for the others for ever.
        if trainer.world_size == 1 or trainer.predicting:
            return told
        # Ranks are told at different moments; all have to end after the same step.
        mine = torch.tensor(told, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(mine, reduce_op="max"))

    def _stop(self, trainer: Trainer) -> None:
        told = self._told_to_any(trainer)
        if not told:
            return
        self._unaverage(trainer)
        if trainer.state.fn != "fit":
            raise Stopped(told)
        last = [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Last)]
        if trainer.sanity_checking or not trainer.fit_loop.epoch_loop.global_step or not last:
            raise Stopped(told, "no checkpoint was written")
        step = trainer.global_step
        raise Stopped(told, f"the checkpoint of step {step} is {last[0].keep(trainer)}, go on with --ckpt_path")

    def _unaverage(self, trainer: Any) -> None:
        if self._averaged:
            self._averaged = False
            for callback in trainer.callbacks:
                if isinstance(callback, WeightAveraging):
                    callback.on_validation_epoch_end(trainer, trainer.lightning_module)


__all__ = ["SIGNALS", "OrderlyEnd"]
