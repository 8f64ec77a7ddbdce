"""No key takes what it may not be: one line that names key, value and what is allowed, before anything is written."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from spaceevo.app.config import Config, schema_of
from spaceevo.errors import UserError
from spaceevo.paths import conf_dir
from spaceevo.settings import check_section

#: By command: what is typed, and what is said of it.
BAD = {
    "pipeline": """
seed=-1: must be 0 or more
seed=4294967296: must be 4294967295 or less
threads=-1: must be 0 or more
threads=123456789012: must be 4096 or less
also=[lut] also=lut: no such also; there are: baseline, fig8_qt, study_quantization, finetune, release
stage.name=export: no such name; there are: teacher, bkd, supernet, qat, finish
baselines=[vgg] baselines=vgg: no such baselines; there are: plain4, plain5, plain, resnet,
baselines=[] baselines=[]: must be a list of one or more of plain4, plain5, plain, resnet,
device.threads=0: must be 1 or more
device.threads=123456789012: must be 4096 or less
device.runtime=tvm: no such runtime; there are: onnxruntime, litert, openvino, none
device.weight_bits=5: no such weight_bits; there are: auto, 7, 8
device.padding=valid: no such padding; there are: symmetric, same
device.activations=signed: no such activations; there are: affine, symmetric
latency.limits_ms=[nan] latency.limits_ms=[nan]: must be null or a list of numbers above 0 and at most 1000000
latency.limits_ms=[inf] latency.limits_ms=[inf]: must be null or a list of numbers above 0 and at most 1000000
latency.limits_ms=[1,1] latency.limits_ms=[1.0, 1.0]: must be null or a list of numbers above 0 and at most 1000000, at least
latency.limits_ms=[] latency.limits_ms=[]: must be null or a list of numbers above 0 and at most 1000000, at least one
latency.limits_ms=[-2] latency.limits_ms=[-2.0]: must be null or a list of numbers above 0 and at most 1000000, at least one
latency.quantiles=[1] latency.quantiles=[1.0]: must be null or a list of numbers above 0 and below 1, at least one
latency.quantiles=[nan] latency.quantiles=[nan]: must be null or a list of numbers above 0 and below 1, at least one
hyperspace.stem.widths=[-16] hyperspace.stem.widths=[-16]: must be a list of numbers above 0 and at most 65536
hyperspace.stem.widths=[999999999] hyperspace.stem.widths=[999999999]: must be a list of numbers above 0 and at most 65536
hyperspace.stem.stride=3: must be 2 or less
hyperspace.stem.kernel=-3: must be more than 0
hyperspace.stages.0.widths=[8,-16] hyperspace.stages.0.widths=[8, -16]: must be a list of numbers above 0 and at most 65536
hyperspace.stages.0.depths=[1,123456] hyperspace.stages.0.depths=[1, 123456]: must be a list of numbers above 0 and at most 1000
hyperspace.stages.0.types=[-1] hyperspace.stages.0.types=[-1]: must be null or a list of numbers from 0 on and at most 1000
hyperspace.head.feature_mix=0: must be null or more than 0
hyperspace.resolutions=[-28] hyperspace.resolutions=[-28]: must be a list of numbers above 0 and at most 16384
hyperspace.lut_resolutions=[99999] hyperspace.lut_resolutions=[99999]: must be a list of numbers above 0 and at most 16384
blocks.blocks.0.kernels=[-3] blocks.blocks.0.kernels=[-3]: must be a list of numbers above 0 and at most 255
blocks.blocks.2.expands=[nan] blocks.blocks.2.expands=[nan]: must be null or a list of numbers above 0 and at most 65536
blocks.blocks.2.expands=[inf] blocks.blocks.2.expands=[inf]: must be null or a list of numbers above 0 and at most 65536
data.name=mnist: no such name; there are: fashion_mnist, digits, cifar10, imagenet
data.channels=0: must be more than 0
data.classes=-10: must be more than 0
data.image_size=100000: must be 16384 or less
data.mean=[nan] data.mean=[nan]: must be a list of numbers from -100 on and at most 100
data.std=[0] data.std=[0.0]: must be a list of numbers above 0 and at most 100
data.std=[inf] data.std=[inf]: must be a list of numbers above 0 and at most 100
data.shift=-1: must be 0 or more
data.validation=-5: must be 0 or more
data.split_seed=-1: must be 0 or more
data.train_limit=-7: must be null or more than 0
data.train_limit=0: must be null or more than 0
data.test_limit=-7: must be null or more than 0
data.test_limit=10000000000: must be null or 1000000000 or less
data.workers=-1: must be 0 or more
data.workers=100000: must be 1024 or less
teacher.widths=[8,16,-1] teacher.widths=[8, 16, -1]: must be null or a list of numbers above 0 and at most 65536
teacher.widths=[0] teacher.widths=[0]: must be null or a list of numbers above 0 and at most 65536
teacher.depth=-1: must be 0 or more
teacher.epochs=1000000: must be 100000 or less
teacher.batch=0: must be more than 0
teacher.lr=nan: must be a number, more than 0
teacher.lr=1e30 teacher.lr=1e+30: must be 10 or less
teacher.weight_decay=-0.1: must be 0 or more
teacher.label_smoothing=1 teacher.label_smoothing=1.0: must be less than 1
trainer.accelerator=tpu: no such accelerator; there are: auto, cpu, gpu
trainer.devices=0: must be more than 0
trainer.devices=few: must be a whole number more than 0, numbers of devices as text, or auto
trainer.precision=int8: no such precision; there are: 32-true, bf16-mixed, auto
logger.name=paper: no such name; there are: csv, tensorboard, wandb
profile.blocks=0: must be more than 0
profile.subnets=100000000: must be 1000000 or less
profile.rounds=-6: must be more than 0
profile.runs=0: must be more than 0
predictor.held_out=0 predictor.held_out=0.0: must be more than 0
predictor.held_out=1 predictor.held_out=1.0: must be less than 1
predictor.held_out=nan: must be a number, more than 0
bkd.epochs=-1: must be 0 or more
bkd.lsq_epochs=999999: must be 100000 or less
bkd.images=0: must be null or more than 0
bkd.batch=-32: must be more than 0
bkd.lr=inf: must be 10 or less
bkd.lsq_lr=-inf: must be more than 0
bkd.random_paths=-1: must be 0 or more
bkd.targets=none: no such targets; there are: full, own
tabulate.samples=0: must be more than 0
tabulate.calibration_images=-1: must be more than 0
tabulate.validation_images=0: must be more than 0
search_space.draws=999999999: must be 1000000 or less
search_space.top=0: must be more than 0
search_space.population=-1: must be more than 0
search_space.sample=900000: must be at most search_space.population=
search_space.evaluations=9999999999: must be 100000000 or less
search_space.mode=rough: no such mode; there are: sampled, exact
search_space.dimensions=depth: no such dimensions; there are: both, op, width
supernet.clip_norm=nan: must be a number, more than 0
supernet.clip_norm=inf: must be 1000000 or less
supernet.momentum=1 supernet.momentum=1.0: must be less than 1
supernet.muon_lr=nan: must be null or a number, more than 0
supernet.warmup=-inf: must be 0 or more
supernet.largest_first=nan: must be a number, 0 or more
supernet.dropout=1 supernet.dropout=1.0: must be less than 1
supernet.schedule=step: no such schedule; there are: linear, cosine
qat.lr=1e30 qat.lr=1e+30: must be 10 or less
qat.images=-1: must be null or more than 0
qat.muon_decay=nan: must be a number, 0 or more
tau.subnets=-1: must be 10 or more, which a tau needs, or 0 for none
tau.subnets=9: must be 10 or more, which a tau needs, or 0 for none
tau.resamples=0: must be 1 or more
search_subnet.population=0: must be more than 0
search_subnet.parents=900000: must be at most search_subnet.population=
search_subnet.generations=-1: must be 0 or more
search_subnet.mutate_probability=nan: must be a number, 0 or more
search_subnet.validation_images=-1: must be more than 0
search_subnet.measure_top=0: must be more than 0
finish.seconds=inf: must be null or 100000000 or less
finish.seconds=nan: must be null or a number, 0 or more
finish.distill=1 finish.distill=1.0: must be less than 1
finish.first=0 finish.first=0.0: must be more than 0
finish.sure=1.5: must be 1 or less
finish.easy=nan: must be a number, more than 0
export.tolerance=100.1: must be 100 or less
export.tolerance=nan: must be a number, 0 or more
export.mean_difference=inf: must be 255 or less
export.calibrate=mean: no such calibrate; there are: null, minmax, entropy, percentile
fig8_qt.spaces=3: must be 4 or more
fig8_qt.supernet_images=0: must be null or more than 0
""",
    "benchmark": """
benchmark.random_subnets=-1: must be 0 or more
benchmark.rounds=0: must be more than 0
benchmark.runs=10000000: must be 1000000 or less
benchmark.spread_s=-1 benchmark.spread_s=-1.0: must be 0 or more
benchmark.spread_s=nan: must be a number, 0 or more
""",
    "baseline": """
baseline.widths=[nan] baseline.widths=[nan]: must be null or a list of numbers above 0 and at most 1000, at least one
baseline.widths=[1,1] baseline.widths=[1.0, 1.0]: must be null or a list of numbers above 0 and at most 1000, at least one
baseline.seconds=0 baseline.seconds=0.0: must be null or more than 0
baseline.seconds=inf: must be null or 100000000 or less
baseline.lr=100 baseline.lr=100.0: must be 10 or less
""",
    "study_quantization": """
study.models=[vgg] study.models=vgg: no such models; there are: mobilenet_v2, mobilenet_v3_small, mobilenet_v3_large,
study.models=[] study.models=[]: must be a list
study.models=[resnet18,resnet18] study.models=['resnet18', 'resnet18']: must be a list
study.widths=[0] study.widths=[0]: must be a list of numbers above 0 and at most 65536, at least one, without repeats
study.widths=[] study.widths=[]: must be a list of numbers above 0 and at most 65536, at least one, without repeats
study.resolution=16: must be 32 or more
study.rounds=0: must be more than 0
study.runs=10000000: must be 1000000 or less
study.spread_s=nan: must be a number, 0 or more
""",
    "describe": """
seed=-1: must be 0 or more
data.classes=0: must be more than 0
""",
    "verify": """
top1_points=-1 top1_points=-1.0: must be 0 or more
top1_points=nan: must be a number, 0 or more
top1_points=101 top1_points=101.0: must be 100 or less
data.test_limit=-7: must be null or more than 0
data.std=[-1] data.std=[-1.0]: must be a list of numbers above 0 and at most 100
data.name=mnist: no such name; there are: fashion_mnist, digits, cifar10, imagenet
""",
    "quantize": """
seed=-1: must be 0 or more
threads=0: must be 1 or more
threads=123456789012: must be 4096 or less
calibrate=mean: no such calibrate; there are: minmax, entropy, percentile
calibration_images=0: must be 1 or more
resolution=0: must be null or 1 or more
resolution=100000: must be null or 16384 or less
rounds=0: must be 1 or more
runs=-1: must be 1 or more
spread_s=-1 spread_s=-1.0: must be 0 or more
spread_s=inf: must be 100000000 or less
data.test_limit=-7: must be null or more than 0
data.mean=[nan] data.mean=[nan]: must be a list of numbers from -100 on and at most 100
""",
}
#: What each command has to be given.
GIVEN = {"verify": ["path=models/x"], "quantize": ["model=resnet18"]}


def rows() -> list[tuple[str, str, str]]:
    """Command, argument and message; where the message begins with the argument it is written once."""
    found = []
    for command, lines in BAD.items():
        for line in lines.strip().splitlines():
            argument, _, said = line.partition(" ")
            found.append((command, argument.rstrip(":"), line if argument.endswith(":") else said))
    return found


@functools.cache
def composed(command: str) -> tuple[DictConfig, Any]:
    """The config of a command as Hydra composes it, of the right types, and as it is read."""
    _, read_it = schema_of(command)
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = hydra.compose(command, GIVEN.get(command, []))
    return cfg, read_it(copy.deepcopy(cfg))


def read(command: str, argument: str) -> Any:
    """The section with one more ``argument``, as the command line reads it; for a key of none, or of a command with a config of
    its own, the whole config."""
    given, (cfg, config) = OverridesParser.create().parse_override(argument), composed(command)
    name, _, key = given.key_or_group.partition(".")
    if key and isinstance(config, Config):
        typed = OmegaConf.structured(getattr(config, name))
        OmegaConf.update(typed, key, given.value())
        section = OmegaConf.to_object(typed)
        check_section(name, section)
        return section
    cfg = copy.deepcopy(cfg)
    OmegaConf.update(cfg, given.key_or_group, given.value())
    return schema_of(command)[1](cfg)


@pytest.mark.parametrize(("command", "argument", "said"), rows())
def test_what_a_key_may_not_be_is_refused(command: str, argument: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        read(command, argument)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_enough_is_tried_and_what_may_be_passes() -> None:
    assert len(rows()) > 130
    assert read("pipeline", "data.test_limit=7").test_limit == 7
    assert read("pipeline", "tau.subnets=0").subnets == 0
    assert read("pipeline", "export.tolerance=100").tolerance == 100
    assert read("pipeline", "trainer.devices=auto").devices == "auto"
    assert read("verify", "top1_points=0").top1_points == 0
    assert read("quantize", "spread_s=0").spread_s == 0


@pytest.mark.parametrize(
    ("command_name", "argument", "said"),
    [
        ("train", "trainer.devices=0", "trainer.devices=0: must be more than 0"),
        ("lut", "data.test_limit=-7", "data.test_limit=-7: must be null or more than 0"),
        ("pipeline", "supernet.clip_norm=nan", "supernet.clip_norm=nan: must be a number, more than 0"),
        ("verify", "top1_points=nan", "top1_points=nan: must be a number, 0 or more"),
        ("quantize", "spread_s=-1", "spread_s=-1.0: must be 0 or more"),
    ],
)
def test_a_real_command_ends_before_anything_is_written(
    command: Callable[..., Any], tmp_path: Path, command_name: str, argument: str, said: str
) -> None:
    done = command(command_name, argument, *GIVEN.get(command_name, []))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {said}\n")
    assert list(tmp_path.iterdir()) == []
