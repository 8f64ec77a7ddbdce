"""Timing real models, and a profile that goes on where it was stopped."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spaceevo.deploy.timing import timing_writer
from spaceevo.latency.measure import GROUP as SESSIONS
from spaceevo.latency.measure import PATIENCE, latency, measure, quantiles
from spaceevo.latency.profile import GROUP, profile
from spaceevo.latency.sampling import Sample, graph_of, sample_models
from spaceevo.space import Graph, SearchSpace, Subnet, load_hyperspace, subnet_graph

HS = load_hyperspace("tiny")


def graph(sample: Sample) -> Graph:
    return graph_of(sample.kind, sample.spec, HS)


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    """The INT8 and the FP32 model of one tiny subnet."""
    net = Subnet.smallest(SearchSpace.parse("tiny-0120-0000"))
    int8, fp32 = timing_writer(7)(subnet_graph(net))
    return {"int8": int8, "fp32": fp32}


def test_every_call_of_every_model_is_timed(models: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "fp32.onnx"
    path.write_bytes(models["fp32"])
    done: list[int] = []
    times = measure({"int8": models["int8"], "file": path}, rounds=3, runs=4, progress=done.append)
    assert list(times) == ["int8", "file"] and done == [2]
    for taken in times.values():
        assert len(taken) in (12, 16, 20, 24, 28, 32, 36) and np.all(taken > 0) and np.all(np.isfinite(taken))


def wait(ms: float) -> None:
    end = time.perf_counter() + ms / 1e3
    while time.perf_counter() < end:
        pass


def test_a_disturbance_that_meets_all_rounds_is_waited_for() -> None:
    calls = 0

    def disturbed_at_first() -> None:
        nonlocal calls
        calls += 1
        wait(5.0 if 4 < calls <= 26 else 1.0)  # of two rounds of ten calls, and warm-up, all but the first timed

    times = measure({"model": b""}, 2, 10, open_call=lambda content, threads: disturbed_at_first)["model"]
    assert len(times) > 20 and latency(times) < 2 < np.median(times[:20])


def test_patience_with_a_disturbance_ends() -> None:
    calls = 0

    def one_call_is_faster() -> None:
        nonlocal calls
        calls += 1
        wait(0.5 if calls == 4 else 2.0)

    times = measure({"model": b""}, 2, 10, open_call=lambda content, threads: one_call_is_faster)["model"]
    assert len(times) == PATIENCE * 20


def test_more_models_than_sessions_are_measured_in_groups(models: dict[str, bytes]) -> None:
    done: list[int] = []
    times = measure({str(i): models["fp32"] for i in range(SESSIONS + 1)}, rounds=1, runs=1, progress=done.append)
    assert done == [SESSIONS, SESSIONS + 1] and len(times) == SESSIONS + 1
    assert all(len(taken) == 1 for taken in times.values())


def test_same_graph_is_written_as_the_same_models() -> None:
    net = Subnet.largest(SearchSpace.parse("tiny-0120-0000"))
    assert timing_writer(8)(subnet_graph(net)) == timing_writer(8)(subnet_graph(net))
    int8, fp32 = timing_writer(8)(subnet_graph(net))
    assert len(int8) < len(fp32)  # a byte a weight, not four


def test_latency_is_a_low_quantile_that_disturbances_do_not_move() -> None:
    quiet, disturbed = np.linspace(1.0, 1.1, 100), np.concatenate([np.linspace(1.0, 1.1, 70), np.full(30, 50.0)])
    assert 1.0 <= latency(quiet) <= 1.05 and abs(latency(disturbed) - latency(quiet)) < 0.02
    spread = quantiles(disturbed)
    assert spread["min"] == 1.0 <= spread["p10"] <= latency(disturbed) <= spread["p50"] <= spread["p90"] == 50.0


class Writer:
    """Writes models and counts them."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []

    def __call__(self, graph: Graph) -> tuple[bytes, bytes]:
        self.graphs.append(graph)
        return timing_writer(8)(graph)


def run_profile(samples: Sequence[Sample], write: Writer, part: Path, progress=lambda done: None) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    return profile(samples, graph, write, rounds=2, runs=2, threads=1, part=part, progress=progress)


def test_stopped_profile_goes_on_without_measuring_anew(tmp_path: Path) -> None:
    samples = sample_models(HS, GROUP, 2, np.random.default_rng(0))  # one group and a little
    part, first, second, third = tmp_path / "part.parquet", Writer(), Writer(), Writer()

    class Stopped(Exception):
        pass

    def stop(done: int) -> None:
        if done == GROUP:
            raise Stopped

    with pytest.raises(Stopped):
        run_profile(samples, first, part, stop)
    kept = pd.read_parquet(part)
    assert len(first.graphs) == GROUP and len(kept) == 2 * GROUP

    done: list[int] = []
    frame = run_profile(samples, second, part, done.append)
    assert second.graphs == [graph(sample) for sample in samples[GROUP:]] and done == [GROUP, GROUP + 2]
    pd.testing.assert_frame_equal(frame[: 2 * GROUP], kept)
    assert list(frame.name) == [sample.name for sample in samples for _ in range(2)]
    assert list(frame.precision) == ["int8", "fp32"] * len(samples)
    assert [*zip(frame.kind[::2], frame.spec[::2], strict=True)] == [(sample.kind, sample.spec) for sample in samples]
    assert (frame.calls == 4).all()
    assert (frame["min"] > 0).all() and (frame["min"] <= frame.ms).all() and (frame.ms <= frame.p90).all()

    pd.testing.assert_frame_equal(run_profile(samples, third, part), frame)
    assert third.graphs == []
