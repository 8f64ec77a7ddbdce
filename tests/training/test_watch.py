"""A training that diverges goes back once, goes on at lower rates, and ends with the step, the epoch and the cause."""

from __future__ import annotations

import math
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from spaceevo.errors import UserError
from spaceevo.steps.common import check_learned
from spaceevo.training.fit import fit, set_lr
from spaceevo.training.watch import SLOWER, Bar, Diverged, Watch

CPU = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
EPOCHS, STEPS = 4, 10
BAR = Bar(math.log(2), 20)


class Linear(L.LightningModule):
    """Logistic regression that notes its rates; ``bad``: what happens in a step, at the full rate or ``always``."""

    def __init__(self, lr: float = 0.5, bad: dict[int, str] | None = None, always: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net, self.lr, self.bad, self.always = nn.Linear(3, 2), lr, bad or {}, always
        self.rates: list[tuple[int, float]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": [*self.net.parameters()], "base_lr": self.lr}], self.lr, momentum=0.5)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        optimizer, step = self.optimizers(), self.global_step
        assert isinstance(optimizer, torch.optim.Optimizer)
        set_lr(optimizer, 1.0)
        rate = optimizer.param_groups[0]["lr"]
        self.rates.append((step, rate))
        what = self.bad.get(step) if self.always or rate == self.lr else None
        if what == "divides":
            raise ZeroDivisionError("division by zero")
        if what == "breaks":
            raise OSError("disk full")
        if what == "weights":
            with torch.no_grad():
                self.net.bias.fill_(math.inf)
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        return loss * math.nan if what == "loss" else loss + 5 if what == "high" else loss


class Batches(L.LightningDataModule):
    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        x = torch.randn(STEPS * 8, 3, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(x, (x[:, 0] > 0).long()), 8)


def train(module: L.LightningModule, folder: Path, bar: Bar | None = BAR) -> list[str]:
    """What is told."""
    told: list[str] = []
    fit(module, Batches(), CPU, False, folder, EPOCHS, bar=bar, tell=told.append)
    return told


def test_a_sound_training_is_the_same_watched_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watched, alone = Linear(), Linear()
    assert train(watched, tmp_path / "watched") == []
    for hook in ("on_train_start", "on_train_batch_end", "on_train_epoch_end"):
        monkeypatch.delattr(Watch, hook)
    assert train(alone, tmp_path / "alone") == []
    assert all(torch.equal(value, alone.state_dict()[name]) for name, value in watched.state_dict().items())
    assert {path.name for path in (tmp_path / "watched").iterdir()} == {"epoch.ckpt", "last.ckpt"}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({15: "loss"}, "diverged in step 16, epoch 2: the loss is nan"),
        ({12: "weights"}, "diverged in step 16, epoch 2: the loss is nan"),
        ({19: "weights"}, "diverged in step 20, epoch 2: 2 of 2 tensors are not finite"),
        ({13: "divides"}, "diverged in step 13, epoch 2: ZeroDivisionError('division by zero')"),
        ({step: "high" for step in range(11, 20)}, "diverged in step 20, epoch 2: the loss is "),
    ],
)
def test_it_goes_back_to_the_epoch_before_and_on_at_a_lower_rate_or_ends(
    bad: dict[int, str], said: str, tmp_path: Path
) -> None:
    module = Linear(bad=bad)
    (told,) = train(module, tmp_path / "once")
    assert told.startswith(said) and told.endswith("; back to the end of the epoch before, and on at 0.1 of the rates")
    (again,) = (i for i, (step, rate) in enumerate(module.rates) if rate < 0.5 and step == 10)
    assert {rate for _, rate in module.rates[:again]} == {0.5}
    assert module.rates[again:] == [(step, 0.5 * SLOWER) for step in range(10, EPOCHS * STEPS)]
    assert all(bool(value.isfinite().all()) for value in module.state_dict().values())
    with pytest.raises(Diverged, match=said.split("(")[0].removesuffix("is ")):
        train(Linear(bad=bad, always=True), tmp_path / "twice")


def test_one_that_diverges_at_once_goes_back_to_its_start(tmp_path: Path) -> None:
    module = Linear(bad={0: "loss"})
    (told,) = train(module, tmp_path)
    assert "step 1, epoch 1" in told and "back to its start" in told
    slow = Linear(lr=0.5 * SLOWER)
    train(slow, tmp_path / "slow")
    assert all(torch.equal(value, slow.state_dict()[name]) for name, value in module.state_dict().items())


def test_one_that_has_learned_nothing_by_its_end_goes_back_to_its_start(tmp_path: Path) -> None:
    (told,) = train(module := Linear(bad=dict.fromkeys(range(40), "high")), tmp_path / "long")
    assert "step 40, epoch 4: the loss is" in told and "back to its start" in told
    assert module.rates[40:] == [(step, 0.5 * SLOWER) for step in range(40)]
    too_early = Bar(BAR.nothing, 41)
    assert train(Linear(bad=dict.fromkeys(range(40), "high")), tmp_path / "short", too_early) == []
    assert train(Linear(bad=dict.fromkeys(range(40), "high")), tmp_path / "unjudged", None) == []


def test_killed_after_it_went_back_it_goes_on_at_the_lower_rate(tmp_path: Path) -> None:
    whole = Linear(bad={15: "loss"})
    train(whole, tmp_path / "whole")

    class Killed(Linear):
        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            if self.global_step == 25:
                raise OSError("disk full")
            return super().training_step(batch, index)

    with pytest.raises(OSError, match="disk full"):
        train(Killed(bad={15: "loss"}), tmp_path / "killed")
    resumed = Linear(bad={15: "loss"})
    assert train(resumed, tmp_path / "killed") == []
    assert resumed.rates == [(step, 0.5 * SLOWER) for step in range(20, 40)]
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_what_breaks_otherwise_is_no_divergence(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk full"):
        train(Linear(bad={15: "breaks"}), tmp_path)
    assert not list(tmp_path.glob("diverged*"))


@pytest.mark.parametrize(
    ("top1", "before", "fine"),
    [(10.5, 96.0, False), (15.0, 96.0, True), (10.5, None, False), (12.0, None, True), (10.5, 20.0, True)],
)
def test_chance_is_refused_of_what_knew_more_before(top1: float, before: float | None, fine: bool) -> None:
    if fine:
        check_learned("qat", "qat.lr=100", top1, 10, 5000, before)
        return
    with pytest.raises(UserError, match=r"^qat\.lr=100: likely too high: qat ends at 10\.50 % .*, chance of 10 classes"):
        check_learned("qat", "qat.lr=100", top1, 10, 5000, before)
