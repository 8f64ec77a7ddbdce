"""Timing real models, and a profile that goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest

from spaceevo.deploy.runtimes.registry import Runtime, runtimes_in
from spaceevo.deploy.runtimes.timing import timing_writer
from spaceevo.latency.host import versions
from spaceevo.latency.measure import COLD_CALLS, PATIENCE, cold_ms, latency, measure, quantiles
from spaceevo.latency.measure import GROUP as SESSIONS
from spaceevo.latency.profile import GROUP, profile
from spaceevo.latency.runtimes.call import opener
from spaceevo.latency.sampling import Sample, graph_of, sample_models
from spaceevo.nn.elastic import Quantizer
from spaceevo.space import Graph, SearchSpace, Subnet, load_hyperspace, subnet_graph
from spaceevo.space.graph import PADDINGS

HS = load_hyperspace("tiny")


def graph(sample: Sample) -> Graph:
    return graph_of(sample.kind, sample.spec, HS)


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    """The INT8 and the FP32 model of one tiny subnet."""
    net = Subnet.smallest(SearchSpace.parse("tiny-0120-0000"))
    int8, fp32 = timing_writer(Quantizer(7), "symmetric")(subnet_graph(net))
    return {"int8": int8, "fp32": fp32}


def test_every_call_of_every_model_is_timed(models: dict[str, bytes], tmp_path: Path) -> None:
    path = tmp_path / "fp32.onnx"
    path.write_bytes(models["fp32"])
    done: list[int] = []
    times = measure({"int8": models["int8"], "file": path}, rounds=3, runs=4, progress=done.append)
    assert list(times) == ["int8", "file"] and done == [2]
    for taken in times.values():
        assert len(taken) in (12, 16, 20, 24, 28, 32, 36) and np.all(taken > 0) and np.all(np.isfinite(taken))


class Clock:
    """Time that passes in calls alone, so that no test depends on the machine's."""

    def __init__(self, ms: Callable[[int], float]) -> None:
        """``ms``: of the n-th call, from 1."""
        self.now, self.calls, self.ms = 0, 0, ms

    def call(self) -> None:
        self.calls += 1
        self.now += round(self.ms(self.calls) * 1e6)

    def perf_counter_ns(self) -> int:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)

    def open(self, content: bytes | Path, threads: int) -> Callable[[], object]:
        return self.call


def test_a_disturbance_that_meets_all_rounds_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(lambda n: 5.0 if 4 < n <= 26 else 1.0)  # of two rounds of ten calls, and warm-up, all but the first timed
    monkeypatch.setattr("spaceevo.latency.measure.time", clock)
    times = measure({"model": b""}, 2, 10, open_call=clock.open)["model"]
    assert len(times) > 20 and latency(times) == 1.0 and np.median(times[:20]) == 5.0


def test_patience_with_a_disturbance_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(lambda n: 0.5 if n == 4 else 2.0)
    monkeypatch.setattr("spaceevo.latency.measure.time", clock)
    times = measure({"model": b""}, 2, 10, open_call=clock.open)["model"]
    assert len(times) == PATIENCE * 20


def test_a_cold_latency_is_the_median_call_after_other_traffic(
    monkeypatch: pytest.MonkeyPatch, models: dict[str, bytes]
) -> None:
    warm = measure(models, rounds=2, runs=10)
    cold = cold_ms(models)
    assert list(cold) == ["int8", "fp32"]
    assert all(ms > warm[name].min() for name, ms in cold.items())  # L1 and L2 are empty on any machine
    clock = Clock(lambda n: float(n))
    monkeypatch.setattr("spaceevo.latency.measure.time", clock)
    assert cold_ms({"model": b""}, open_call=clock.open) == {"model": 1 + (COLD_CALLS + 1) / 2}


def test_more_models_than_sessions_are_measured_in_groups(models: dict[str, bytes]) -> None:
    done: list[int] = []
    times = measure({str(i): models["fp32"] for i in range(SESSIONS + 1)}, rounds=1, runs=1, progress=done.append)
    assert done == [SESSIONS, SESSIONS + 1] and len(times) == SESSIONS + 1
    assert all(len(taken) == 1 for taken in times.values())


def test_same_graph_is_written_as_the_same_models() -> None:
    net = Subnet.largest(SearchSpace.parse("tiny-0120-0000"))
    int8, fp32 = timing_writer(Quantizer(), "symmetric")(subnet_graph(net))
    assert timing_writer(Quantizer(), "symmetric")(subnet_graph(net)) == (int8, fp32)
    assert len(int8) < len(fp32)  # a byte a weight, not four


def test_latency_is_a_low_quantile_that_disturbances_do_not_move() -> None:
    quiet, disturbed = np.linspace(1.0, 1.1, 100), np.concatenate([np.linspace(1.0, 1.1, 70), np.full(30, 50.0)])
    assert 1.0 <= latency(quiet) <= 1.05 and abs(latency(disturbed) - latency(quiet)) < 0.02
    spread = quantiles(disturbed)
    assert spread["min"] == 1.0 <= spread["p10"] <= latency(disturbed) <= spread["p50"] <= spread["p90"] == 50.0


def test_timed_models_pad_as_the_device_does() -> None:
    graph = subnet_graph(Subnet.smallest(SearchSpace.parse("tiny-0120-0000")))
    op = next(op for op in graph.ops if op.pads("same") != op.pads("symmetric"))
    for padding in PADDINGS:
        before, after = op.pads(padding)
        for content in timing_writer(Quantizer(), padding)(graph):
            (node,) = (node for node in onnx.load_from_string(content).graph.node if node.name == op.name)
            pads = next(list(attribute.ints) for attribute in node.attribute if attribute.name == "pads")
            assert pads == [before, before, after, after]


@pytest.mark.parametrize("runtime", runtimes_in(versions()), ids=lambda runtime: runtime.name)
def test_every_runtime_has_files_to_time_in_both_precisions(runtime: Runtime) -> None:
    net = Subnet.largest(SearchSpace.parse("demo-001-111", load_hyperspace("demo")))
    files = dict(zip(("int8", "fp32"), timing_writer(Quantizer(), "symmetric", runtime.name)(subnet_graph(net)), strict=True))
    assert len(files["int8"]) < len(files["fp32"])
    times = measure(files, rounds=2, runs=2, open_call=opener(runtime.name))
    assert all(np.all(taken > 0) for taken in times.values())


class Writer:
    """Writes models and counts them."""

    def __init__(self) -> None:
        self.graphs: list[Graph] = []

    def __call__(self, graph: Graph) -> tuple[bytes, bytes]:
        self.graphs.append(graph)
        return timing_writer(Quantizer(), "symmetric")(graph)


def run_profile(samples: Sequence[Sample], write: Writer, part: Path, progress=lambda done: None) -> pd.DataFrame:  # type: ignore[no-untyped-def]
    return profile(samples, graph, write, lambda models: measure(models, 2, 2), part=part, progress=progress)


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
