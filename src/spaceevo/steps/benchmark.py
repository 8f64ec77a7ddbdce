"""``python -m spaceevo.benchmark``: measure the exported models and random subnets of the found space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from spaceevo.provenance import PREDICTOR
from spaceevo.settings import COUNT, SECONDS, setting
from spaceevo.steps.folder import Folder, say
from spaceevo.steps.needs import InASpace, OnADevice, hyperspace
from spaceevo.steps.step import SPACE, Step

if TYPE_CHECKING:
    import pandas as pd

WITHIN = 0.10


@dataclass
class BenchmarkConfig:
    """The measurements of exported models, with random subnets beside them."""

    random_subnets: int = setting("how many random subnets are measured too", least=0, most=COUNT)
    rounds: int = setting("of timed calls, every model in each", most=COUNT)
    runs: int = setting("calls of a model a round", most=COUNT)
    spread_s: float = setting("over how many seconds the rounds are spread", least=0, most=SECONDS)


class Needs(InASpace, OnADevice, Protocol):
    """What it reads of the config."""

    seed: int
    benchmark: BenchmarkConfig


def run(folder: Folder, cfg: Needs) -> None:
    """Predicted against measured ms, one row a model."""
    import json

    import numpy as np
    import pandas as pd

    from spaceevo.atomic import write_parquet
    from spaceevo.deploy.runtimes.registry import runtime_called
    from spaceevo.deploy.runtimes.timing import timing_writer
    from spaceevo.latency.machines.machine import machine_of
    from spaceevo.latency.measure import latency, quantiles
    from spaceevo.latency.predictor import Predictor
    from spaceevo.space import Subnet, subnet_graph
    from spaceevo.steps.common import found_space, quantizer

    space = found_space(folder, cfg, hyperspace(cfg))
    predictor = Predictor.load(folder.input(PREDICTOR))
    runtime, models, rows = runtime_called(cfg.device.runtime), {}, []
    for path in folder.inputs("models/*/card.json"):
        card = json.loads(path.read_text())
        models[f"{card['name']}/int8"] = (path.parent / runtime.int8).read_bytes()
        models[f"{card['name']}/fp32"] = (path.parent / runtime.fp32).read_bytes()
        accuracy = {key: card[key] for key in ("limit_ms", "top1_runtime", "top1_fake_quant")}
        rows.append(dict(name=card["name"], kind="exported", subnet=card["encoding"], **accuracy))
    rng = np.random.default_rng([cfg.seed, 0xBE7C])
    write = timing_writer(quantizer(cfg), cfg.device.padding, runtime.name)
    for i in range(cfg.benchmark.random_subnets):
        subnet = Subnet.sample(space, rng)
        models[f"random-{i}/int8"], models[f"random-{i}/fp32"] = write(subnet_graph(subnet))
        rows.append(dict(name=f"random-{i}", kind="random", subnet=str(subnet), limit_ms=None))
    b = cfg.benchmark
    times = machine_of(cfg.device).measure(runtime.name, models, b.rounds, b.runs, cfg.device.threads, b.spread_s)
    for row in rows:
        subnet = Subnet.parse(space, row["subnet"])
        int8, fp32 = times[f"{row['name']}/int8"], times[f"{row['name']}/fp32"]
        row |= dict(resolution=subnet.resolution, mmacs=subnet.cost().mmacs, params=subnet.cost().params)
        row |= dict(predicted_ms=predictor.subnet_ms(subnet), measured_ms=latency(int8))
        row |= {f"{place}_ms": ms for place, ms in quantiles(int8).items() if place != "min"}
        row |= dict(fp32_ms=latency(fp32))
    frame = pd.DataFrame(rows)
    write_parquet(folder.output("benchmark.parquet"), frame)
    _tell(frame, predictor.interval)


def _tell(frame: pd.DataFrame, interval: tuple[float, float] | None) -> None:
    """How near the predictions are, and which models keep their limits."""
    random = frame[frame.kind == "random"]
    if len(random):
        close = ((random.predicted_ms / random.measured_ms - 1).abs() <= WITHIN).sum()
        say(f"benchmark: predicted within 10 % of measured for {close} of {len(random)} random subnets")
    if len(random) and interval is not None:
        held = (random.measured_ms / random.predicted_ms).between(*interval).sum()
        say(f"benchmark: measured within the interval that holds nine of ten: {held} of {len(random)} random subnets")
    exported = frame[frame.kind == "exported"]
    kept = (exported.measured_ms <= exported.limit_ms.astype(float)).sum()
    say(f"benchmark: {kept} of {len(exported)} exported models measured within their latency limit")


STEP = Step(
    "benchmark",
    "benchmark",
    "measures the exported models and random subnets on the device",
    (*SPACE, "space", "device", "benchmark"),
    ("models/*/model.onnx", "models/*/model.tflite", "models/*/fp32.*", "models/*/card.json", "space.yaml", PREDICTOR),
    ("benchmark.parquet",),
    run,
    needs_latency=True,
    needs_device=True,
    version=2,
)
