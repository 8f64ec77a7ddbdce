"""One way to train: a Lightning trainer that shows progress, checkpoints every epoch and goes on after a kill."""

from __future__ import annotations

import copy
import math
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.optim import Optimizer

from spaceevo.progress import EVERY_S, on_terminal
from spaceevo.training.watch import SLOWER, Bar, Watch, diverged

warnings.filterwarnings("ignore", message=".*does not have many workers.*")
warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists.*")
warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")


class OneProcessADevice(DDPStrategy):
    """Distributed training without the wrapper around the model: its reducer expects one backward pass a step over all
    weights, where the sandwich rule has several over some. ``average_gradients`` takes its place."""

    def __init__(self) -> None:
        super().__init__(start_method="spawn")

    def configure_ddp(self) -> None:
        """Nothing to wrap; every rank has the same weights already."""


def average_gradients(module: nn.Module) -> None:
    """Every rank's mean gradients, to call between the last backward pass and the optimizer's step."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


class Told(Callback):
    """How far the training ``name`` of ``steps`` (-1: all of its epochs) is, a line every ``EVERY_S`` seconds: a bar for
    where no terminal is, or not one's own."""

    def __init__(self, name: str, steps: int) -> None:
        self.name, self.steps = name, steps

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The first line is due ``EVERY_S`` after this."""
        self._told = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """A line, if it is due."""
        if trainer.is_global_zero and time.monotonic() >= self._told + EVERY_S:
            self._told = time.monotonic()
            epoch, steps = trainer.current_epoch + 1, self.steps if self.steps > 0 else trainer.estimated_stepping_batches
            words = f"epoch {epoch} of {trainer.max_epochs}, step {trainer.global_step:,} of {steps:,.0f}"
            print(f"{self.name}: {words}", file=sys.stderr, flush=True)


def fit(
    module: L.LightningModule,
    data: L.LightningDataModule,
    trainer: dict[str, Any],
    logger: Any,
    folder: Path,
    epochs: int,
    steps: int = -1,
    bar: Bar | None = None,
    tell: Callable[[str], object] = print,
    more: Sequence[Callback] = (),
) -> None:
    """Train ``module`` for ``epochs`` (or, sooner, ``steps``), going on from ``folder/last.ckpt`` where there is one. If it
    diverges (``bar``: also if its loss comes to that), it goes back to the last checkpoint, once, and on at lower rates.

    ``trainer``: arguments of ``lightning.Trainer`` (accelerator, devices, strategy, precision, ...); ``tell``: is given a line;
    ``more`` callbacks.

    Raises:
        Diverged: it does so again.
    """
    if epochs == 0:
        return
    module.train()
    start = copy.deepcopy(module.state_dict())
    once, again = folder / "diverged.json", folder / "diverged_again.json"
    if not once.exists():  # else it diverged before it was killed
        try:
            _fit(module, data, trainer, logger, folder, epochs, steps, [Watch(once, bar), *more])
            return
        except Exception:  # a spawned process' own is lost, but not what it wrote
            if not once.exists():
                raise
        back = "the end of the epoch before" if (folder / "last.ckpt").exists() else "its start"
        tell(f"{diverged(once)}; back to {back}, and on at {SLOWER:g} of the rates")
        module.load_state_dict(start)
    again.unlink(missing_ok=True)
    try:
        _fit(module, data, trainer, logger, folder, epochs, steps, [Watch(again, bar, SLOWER), *more])
    except Exception:
        if not again.exists():
            raise
        raise diverged(again) from None


class Ends(Callback):
    """Ends a training after ``steps``. (Lightning's ``max_steps`` ends one that was resumed after the next step.)"""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Whether this step was the last."""
        if trainer.global_step >= self.steps:
            trainer.should_stop = True


def _fit(
    module: L.LightningModule,
    data: L.LightningDataModule,
    trainer: dict[str, Any],
    logger: Any,
    folder: Path,
    epochs: int,
    steps: int,
    callbacks: Sequence[Callback],
) -> None:
    trainer = dict(trainer)
    progress = bool(trainer.pop("enable_progress_bar", True))
    if trainer.get("strategy") == "ddp":
        trainer["strategy"] = OneProcessADevice()
    saver = ModelCheckpoint(folder, filename="epoch", save_top_k=1, save_last="link", enable_version_counter=False)
    callbacks = [*callbacks, saver, *([Ends(steps)] if steps > 0 else [])]
    bars = on_terminal() and multiprocessing.parent_process() is None
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=5) if bars else Told(folder.name, steps))
    last = folder / "last.ckpt"
    lightning = L.Trainer(
        max_epochs=epochs,
        min_epochs=0,  # else it does not end within the first
        logger=logger,
        callbacks=callbacks,
        enable_progress_bar=progress and bars,
        enable_model_summary=False,
        log_every_n_steps=5,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        **trainer,
    )
    try:
        lightning.fit(module, datamodule=data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    except SystemExit as left:  # Lightning's answer to Ctrl-C, which is not its to answer
        if isinstance(left.__context__, KeyboardInterrupt):
            raise left.__context__ from None
        raise


def device_of(accelerator: str) -> torch.device:
    """Where evaluation runs: on the trainer's device (``auto``: a GPU where there is one)."""
    gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if gpu else "cpu")


def cosine(step: int, total: int, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def falling(step: int, total: int, warmup: float) -> float:
    """Learning-rate factor: linear warm-up over the share ``warmup`` of the steps, on a line that falls to 0."""
    return (1 - step / total) * min(1.0, (step + 1) / max(1.0, warmup * total))


def set_lr(optimizer: Optimizer, factor: float) -> None:
    """Scale every group's own base rate; that of a training that diverged once (``watch``) is a slower one."""
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * group.get("slower", 1.0) * factor


def step_rng(seed: int, tag: str, step: int) -> np.random.Generator:
    """The random numbers of one training step: a function of seed, stage and step alone, so that a resumed run and
    every rank of a distributed one draw the same paths."""
    rng = np.random.default_rng([seed, *tag.encode(), step])
    drawn = int(rng.integers(2**31))
    # torch.manual_seed would queue a stack trace a step, 2 ms, for a GPU that is not used yet
    torch.default_generator.manual_seed(drawn)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(drawn)
    return rng
