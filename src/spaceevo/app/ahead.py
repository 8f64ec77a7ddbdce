"""What can be known before the work, for all steps that are to run: seen before any of them begins."""

from __future__ import annotations

import difflib
import shutil
from collections.abc import Sequence
from itertools import accumulate
from operator import mul
from pathlib import Path

from spaceevo.app.config import Config, check_images, check_input, check_judges
from spaceevo.app.place import check_folder
from spaceevo.app.plan import check_device, given_sha256
from spaceevo.errors import UserError, bad_value
from spaceevo.provenance import matches
from spaceevo.space import SearchSpace
from spaceevo.steps.asked import asked_subnet, subnet_called
from spaceevo.steps.needs import hyperspace
from spaceevo.steps.step import DATA, Step
from spaceevo.training.config import check_widths

MIB = 2**20
#: Of the disk space that steps are reckoned to take, that has to be free; and what the rest of a run takes, bytes.
MARGIN, REST = 1.5, 32 * MIB
#: Steps that run files in this machine's runtimes, and that only time them in the device's.
EXPORTING, TIMING = {"export", "baseline", "finetune"}, {"profile", "search_subnet", "benchmark"}
B5 = 120e6  # bytes of EfficientNet-B5's weights


def check_config(steps: Sequence[Step], cfg: Config) -> None:
    """What the config alone tells, at once.

    Raises:
        UserError: what stands in the way of one of ``steps``: its key, the value and what is allowed.
    """
    apart = cfg.out_dir != cfg.run_dir  # else out_dir is nothing that anybody typed
    check_folder("run_dir", cfg.run_dir, writes=not apart)
    if apart:
        check_folder("out_dir", cfg.out_dir)
    for step in steps:
        reason = check_device(step, cfg)
        if reason is not None:
            raise UserError(reason)
        given_sha256(step, cfg)
        if "data.image_size" in step.keys and cfg.from_ is None:  # a model's resolution is its own
            check_images(cfg)
        if "export" in step.keys:
            check_input(cfg)
        if {"search_subnet", "search_subnet.validation_images", "search_subnet.judge_images"} & set(step.keys):
            check_judges(cfg)
        if {"teacher", "bkd"} & {key.split(".")[0] for key in step.keys} and cfg.teacher.name == "cnn":
            check_widths(cfg.teacher.widths, len(hyperspace(cfg).stages))
    if cfg.model is not None and cfg.space is None and any(not step.lenient for step in steps):
        raise UserError(
            f"model={cfg.model}: only describe reads it, and with space= the search; here every model is made that the run "
            f"finds{_found(cfg)}"
        )
    if cfg.model is not None and cfg.space is not None and any(step.name == "search_subnet" for step in steps):
        space, limits = SearchSpace.parse(cfg.space, hyperspace(cfg)), cfg.latency.limits_ms
        if limits is None:
            subnet_called(cfg.model, space)
        else:
            asked_subnet(cfg.model, space, limits)


def check_machine(steps: Sequence[Step], cfg: Config) -> None:
    """What the machine has to have for ``steps``: a GPU, the runtimes, room on the disk, and the images; a step alone reads
    these first thing.

    Raises:
        UserError: what is missing.
    """
    names = {step.name for step in steps}
    images = any(set(DATA) <= set(step.keys) for step in steps)
    if images:
        _check_trainer(cfg)
    _check_runtimes(names, cfg)
    if any("export" in step.keys for step in steps):
        _check_emulated(cfg)
    if cfg.released is not None and "supernet" in names and len(steps) > 1:
        from spaceevo.training.imported import checked

        checked(Path(cfg.released), SearchSpace.parse(str(cfg.space), hyperspace(cfg)))
    if images and len(steps) > 1:
        from spaceevo.data import load_data

        load_data(cfg.data, test=any("data.test_limit" in step.keys for step in steps))
    _check_disk(steps, cfg)


def disk_bytes(steps: Sequence[Step], cfg: Config) -> dict[str, float]:
    """About how many bytes each of ``steps`` has on the disk at its most: weights with their optimizers' state, features."""
    from spaceevo.space import Subnet
    from spaceevo.space.searchspace import one_of_each

    hs = hyperspace(cfg)
    nets = [4.0 * Subnet.largest(space).cost().params for space in one_of_each(hs)]
    limits = len(cfg.latency.limits_ms or cfg.latency.quantiles or ())
    taken = dict(
        teacher=2 * B5 if cfg.teacher.name == "efficientnet_b5" else 4 * nets[0],
        bkd=5 * sum(nets),
        lut=_feature_bytes(cfg),
        supernet=5 * max(nets),
        qat=5 * max(nets),
        finish=(limits + 4) * max(nets),
        export=4 * limits * max(nets),
        baseline=8 * limits * max(nets),
        fig8_qt=10 * max(nets),
    )
    return {step.name: taken.get(step.name, 0.0) for step in steps}


def _feature_bytes(cfg: Config) -> float:
    """Of the teacher's boundary features of the images that the table is made with."""
    hs = hyperspace(cfg)
    strides = [stage.stride for stage in hs.stages]
    widths = cfg.teacher.widths or accumulate([32, *strides], mul)
    images = cfg.tabulate.calibration_images + cfg.tabulate.validation_images
    total = 0.0
    for resolution in {*hs.lut_resolutions, cfg.data.image_size}:
        side = resolution / hs.stem.reduction
        for width, stride in zip(widths, [*strides, 1], strict=False):
            total += 4.0 * width * side**2
            side /= stride
    return images * total


def _check_disk(steps: Sequence[Step], cfg: Config) -> None:
    out = Path(cfg.out_dir).absolute()
    there = next(place for place in (out, *out.parents) if place.exists())
    taken = disk_bytes(steps, cfg)
    passing = taken.pop("lut", 0.0)  # features, which go when their step ends
    free, needed = shutil.disk_usage(there).free, MARGIN * max(passing, sum(taken.values())) + REST
    if free < needed:
        raise UserError(
            f"run_dir={cfg.run_dir}: {free / MIB:,.0f} MiB are free on its disk, and the steps that are to run may take "
            f"{needed / MIB:,.0f} MiB; free some space, or give another run_dir"
        )


def _check_trainer(cfg: Config) -> None:
    if cfg.trainer.accelerator != "gpu":
        return
    import torch

    there = torch.cuda.device_count()
    if there == 0:
        raise bad_value("trainer.accelerator", "gpu", "cpu or auto: there is no GPU that PyTorch can use here")
    asked = str(cfg.trainer.devices)
    if asked.isdigit() and int(asked) > there:
        raise bad_value("trainer.devices", asked, f"at most {there}, the GPUs that are here")


def _check_runtimes(names: set[str], cfg: Config) -> None:
    """Exported files are run in all that they are written for and in the device's; others are measured in the device's."""
    from spaceevo.deploy.runtimes.registry import RUNTIMES
    from spaceevo.latency.runtimes.call import runtime_module

    runs, times = names & EXPORTING, names & TIMING and cfg.device.at == "here"
    for runtime in RUNTIMES.values():
        if (runs and runtime.owns) or ((runs or times) and runtime.name == cfg.device.runtime):
            runtime_module(runtime.name)


def _check_emulated(cfg: Config) -> None:
    """What files are to be run on is set up where it is not: for that the network is needed."""
    from spaceevo.latency.machines.machine import emulated

    for cpu in cfg.export.emulate:
        emulated(cpu).facts()


def _found(cfg: Config) -> str:
    """The models that the run has, those called nearly as ``model`` before the others."""
    names = [path.split("/")[1] for path in matches(Path(cfg.run_dir), ["models/*/card.json"])]
    near = difflib.get_close_matches(str(cfg.model), names)
    return f": {', '.join(dict.fromkeys([*near, *names]))}" if names else ""
