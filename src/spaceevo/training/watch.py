"""A training that diverges is noticed, before a checkpoint of it is saved."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from torch import nn

from spaceevo.atomic import write_json

EVERY = 5  # steps from one loss that is looked at to the next
SLOWER = 0.1  # of its rates, at which a training goes on that diverged once
FAR = 0.9  # of the loss of knowing nothing: what had less had learned something
SEEN = 100  # images a class, after which a training from nothing is expected to know something


@dataclass(frozen=True)
class Bar:
    """The loss of a network that knows ``nothing``, and after how many ``steps`` less of it is expected of any."""

    nothing: float
    steps: int

    @staticmethod
    def of(classes: int, batch: int) -> Bar:
        """Of a classifier: all classes are as likely."""
        return Bar(math.log(classes), math.ceil(SEEN * classes / batch))


class Diverged(Exception):
    """In which step and epoch of a training, from 1, and what showed it."""

    def __init__(self, step: int, epoch: int, why: str) -> None:
        super().__init__(f"diverged in step {step}, epoch {epoch}: {why}")
        self.step, self.epoch, self.why = step, epoch, why


class Watch(Callback):
    """Stops a training whose loss or weights are not finite, or whose loss comes to that of knowing nothing (``bar``): it
    leaves ``record``, since what a spawned process raises is lost. ``slower``: a factor of all rates (``fit.set_lr``).

    Raises:
        Diverged: from the hooks.
    """

    def __init__(self, record: Path, bar: Bar | None, slower: float = 1.0) -> None:
        self.record, self.bar, self.slower = record, bar, slower
        self.best = math.inf  # loss of the start, or of an epoch's second half
        self.losses: list[float] = []  # of this epoch

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training has to know."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Of a checkpoint."""
        self.best = state_dict["best"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Slows a training down that is to be slower."""
        for group in trainer.optimizers[0].param_groups if self.slower != 1 else ():
            group["slower"] = self.slower

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Looks at a loss of ``EVERY``."""
        if batch_idx % EVERY or not isinstance(outputs, Mapping) or "loss" not in outputs:
            return
        loss = float(outputs["loss"])
        if not math.isfinite(loss):
            self._stop(trainer, f"the loss is {loss}")
        self.losses.append(loss)
        if trainer.global_step == 1:
            self.best = loss

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Looks at all weights, before a checkpoint of them is saved, and at how the losses went."""
        bad = not_finite(pl_module)
        if bad is not None:
            self._stop(trainer, bad)
        half, self.losses = self.losses[len(self.losses) // 2 :], []
        if not half or self.bar is None:
            return
        late, last = sum(half) / len(half), trainer.current_epoch + 1 == trainer.max_epochs
        had_learned = self.best < FAR * self.bar.nothing
        if late >= self.bar.nothing and trainer.global_step >= self.bar.steps and (had_learned or last):
            if not had_learned:
                (self.record.parent / "last.ckpt").unlink(missing_ok=True)  # no better than this one
            self._stop(trainer, f"the loss is {late:.4g}, and that of knowing nothing {self.bar.nothing:.4g}")
        self.best = min(self.best, late)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """A step may fail of what it diverged to, as of a scale that is 0, before anything else shows it."""
        if isinstance(exception, Exception) and not isinstance(exception, Diverged):
            bad = not_finite(pl_module) or (repr(exception) if isinstance(exception, ArithmeticError) else None)
            if bad is not None:
                self._leave(trainer, bad)

    def _stop(self, trainer: L.Trainer, why: str) -> None:
        raise self._leave(trainer, why)

    def _leave(self, trainer: L.Trainer, why: str) -> Diverged:
        error = Diverged(trainer.global_step, trainer.current_epoch + 1, why)
        write_json(self.record, vars(error))
        return error


def not_finite(module: nn.Module) -> str | None:
    """How many tensors of a module are not, None if all are finite."""
    tensors = [value for value in module.state_dict().values() if value.is_floating_point()]
    bad = sum(not bool(value.isfinite().all()) for value in tensors)
    return f"{bad} of {len(tensors)} tensors are not finite" if bad else None


def diverged(record: Path) -> Diverged:
    """What ``Watch`` left."""
    return Diverged(**json.loads(record.read_text()))
