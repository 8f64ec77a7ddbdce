"""``python -m spaceevo.release``: a run's supernet in the format in which the paper's authors released theirs."""

from __future__ import annotations

from typing import Protocol

from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import InASpace, OnADevice, Seeded, hyperspace
from spaceevo.steps.step import DATA, SCHEME, SPACE, Step


class Needs(Seeded, InASpace, OnADevice, Protocol):
    """What it reads of the config."""


def run(folder: Folder, cfg: Needs) -> None:
    """Write ``lsq.pth``, with the BatchNorm statistics of all ops at their largest on training images.

    Raises:
        UserError: a block type or a stem that the authors' supernets do not have.
    """
    from spaceevo.steps.common import calibrating, quantizer, start
    from spaceevo.training.checkpoint import load_supernet, save_checkpoint
    from spaceevo.training.imported import as_released
    from spaceevo.training.released import state_of

    start(cfg)
    quant = quantizer(cfg)
    net, space = load_supernet(folder.input("qat.ckpt"), hyperspace(cfg), folder.maker("qat.ckpt"), quantizer=quant)
    images = folder.images(cfg.data, False)
    state = state_of(as_released(net, space, quant, calibrating(images, cfg.data)))
    path = folder.output("lsq.pth")
    save_checkpoint(path, {"state_dict": state})
    say(f"release: {len(state)} tensors of {space}, {sum(value.numel() for value in state.values()):,} values: {path}")


STEP = Step(
    "release",
    "release",
    "writes the supernet in the format in which the paper's authors released theirs (not in the pipeline)",
    (*DATA, *SPACE, "space", *SCHEME),
    ("qat.ckpt",),
    ("lsq.pth",),
    run,
    free=("latency",),
    optional=True,
    examples=("run_dir=runs/paper experiment=paper_vnni",),
)
