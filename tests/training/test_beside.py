"""Networks trained side by side in processes of their own: they share the threads, fail as one, and end with their parent."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from beside_works import die, refuse, write
from conftest import TINY

from spaceevo.app.config import compose
from spaceevo.app.run import folder_of
from spaceevo.errors import UserError
from spaceevo.steps import STEPS
from spaceevo.steps.beside import PEAKS, at_once, side_by_side
from spaceevo.training.checkpoint import load_checkpoint


def test_works_share_the_threads_and_each_has_its_process(tmp_path: Path) -> None:
    PEAKS.clear()
    side_by_side(write, [(tmp_path, name) for name in "abc"], 2)
    told = [(tmp_path / name).read_text().split() for name in "abc"]
    assert {threads for threads, _ in told} == {str(max(1, torch.get_num_threads() // 2))}
    assert len({pid for _, pid in told} | {str(os.getpid())}) == 4
    assert len(PEAKS) == 2 and min(PEAKS) > 1  # of three, two at once


def test_the_first_that_fails_ends_the_others(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(UserError, match=r"^bad=1: must be 0$"):
        side_by_side(refuse, [(tmp_path, "good"), (tmp_path, "bad")], 2)
    assert time.monotonic() - began < 300


def test_one_that_is_killed_is_told_of() -> None:
    with pytest.raises(UserError, match="ended from outside"):
        side_by_side(die, [()], 1)


def test_they_end_with_their_parent(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from spaceevo.steps.beside import side_by_side
from beside_works import sleep
if __name__ == "__main__":
    side_by_side(sleep, [(Path({str(tmp_path / "pid")!r}),)], 1)
"""
    (tmp_path / "parent.py").write_text(code)
    parent = subprocess.Popen([sys.executable, tmp_path / "parent.py"])
    child = tmp_path / "pid"
    _until(lambda: child.exists() and child.read_text() != "", 60)
    pid = int(child.read_text())
    parent.kill()
    parent.wait()
    _until(lambda: not _alive(pid), 20)


def _until(condition, seconds: float) -> None:  # type: ignore[no-untyped-def]
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def threads_as_before() -> Iterator[None]:
    """A process with several threads is not to be forked, as other tests do."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads_as_before")
def test_as_many_at_once_as_there_are_threads_and_one_on_a_gpu() -> None:
    cfg = compose("train", [*TINY, "threads=2"])
    torch.set_num_threads(2)
    assert [at_once(cfg, works) for works in (0, 1, 2, 3)] == [1, 1, 2, 2]
    assert at_once(compose("train", [*TINY, "threads=4", "trainer=ddp", "trainer.accelerator=cpu"]), 3) == 1
    torch.set_num_threads(1)
    assert at_once(compose("train", [*TINY, "threads=1"]), 3) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("threads_as_before")
def test_subnets_finished_side_by_side_are_those_finished_one_after_the_other(tiny_run: Path, tmp_path: Path) -> None:
    weights = []
    for threads in (1, 2):
        folder = tmp_path / str(threads)
        shutil.copytree(tiny_run, folder, ignore=shutil.ignore_patterns("finished", "partial", "models"))
        found = yaml.safe_load((folder / "pareto.yaml").read_text())
        one = found["chosen"][0]
        other = next(row for row in found["front"] if row["subnet"] != one["subnet"])
        found["chosen"] = [one | {"name": "one"}, one | {"name": "other", "subnet": other["subnet"]}]
        (folder / "pareto.yaml").write_text(yaml.safe_dump(found))
        cfg = compose("train", [*TINY, f"run_dir={folder}", f"threads={threads}", "finish.distill=0", "finish.epochs=1"])
        STEPS["finish"].run(folder_of(STEPS["finish"], cfg), cfg)
        weights.append([load_checkpoint(folder / f"finished/{name}.ckpt")["state_dict"] for name in ("one", "other")])
    for alone, beside in zip(*weights, strict=True):
        assert alone.keys() == beside.keys() and all(torch.equal(alone[key], beside[key]) for key in alone)
