"""Block-wise distillation and the accuracy look-up table that is read off its students."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from spaceevo.app.config import Config, compose
from spaceevo.data import Images, ImagesModule, Normalized, normalize
from spaceevo.nn.elastic import Quantizer, resize
from spaceevo.nn.evaluate import calibrate
from spaceevo.nn.nsr import nsr_at, nsr_loss
from spaceevo.space import ElasticStage, Hyperspace, Stage, extreme_stage, parse_stage, stage_cost, stage_graph
from spaceevo.steps.needs import hyperspace
from spaceevo.training import features
from spaceevo.training.bkd import BKDModule, Student, StudentSpec, student_specs
from spaceevo.training.features import BoundaryFeatures
from spaceevo.training.fit import fit
from spaceevo.training.lut import Examiner, tabulate
from spaceevo.training.teacher import Teacher, boundary_moments, cnn_teacher

CPU = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
WIDTHS = (8, 8, 12, 12, 16)
QUANT = Quantizer(8)
RECIPE = SimpleNamespace(lr=1e-2, lsq_lr=1e-3, random_paths=1, targets="full")
#: A student of every stage, each of another block type where there are enough.
CHOSEN = (("stage1", "mbv1"), ("stage2", "mbv3"), ("stage4", "fused_mb_se"))


@cache
def tiny() -> tuple[Config, Hyperspace]:
    cfg = compose("train", ["experiment=tiny"])
    return cfg, hyperspace(cfg)


@cache
def images() -> Images:
    """Blobs: smooth images, so that the teacher's features have structure."""
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(256, 1, 4, 4, generator=rng)
    smooth = torch.nn.functional.interpolate(coarse, size=(16, 16), mode="bilinear")
    pixels = (smooth * 255).to(torch.uint8)
    labels = torch.arange(256) % 10
    return Images(pixels[:192], labels[:192], pixels[192:], labels[192:])


def pixels() -> Tensor:
    return normalize(images().train, tiny()[0].data)


@cache
def teacher() -> Teacher:
    """Untrained, but with BatchNorm statistics of the images."""
    torch.manual_seed(0)
    net = cnn_teacher(1, 10, 2, [s.stride for s in tiny()[1].stages], WIDTHS, 1)
    with torch.no_grad():
        for _ in range(60):
            net(pixels())
    return net.eval().requires_grad_(False)


@cache
def moments() -> list[tuple[Tensor, Tensor]]:
    return boundary_moments(teacher(), [pixels()])


def variances() -> list[Tensor]:
    return [variance for _, variance in moments()]


def new_students() -> list[Student]:
    torch.manual_seed(1)
    specs = [s for s in student_specs(tiny()[1]) if (s.elastic.name, s.elastic.block.type) in CHOSEN]
    students = [Student(spec, WIDTHS[spec.stage - 1], WIDTHS[spec.stage]) for spec in specs]
    for student in students:
        student.standardize(moments()[student.spec.stage - 1], moments()[student.spec.stage])
    return students


def distil(
    students: list[Student],
    folder: Path,
    epochs: int,
    quantizer: Quantizer | None = None,
    targets: str = "full",
    resolutions: tuple[int, ...] = (12, 16),
) -> None:
    cfg, _ = tiny()
    data = ImagesModule(images(), cfg.data, 32, 0)
    steps = epochs * data.steps_per_epoch
    recipe = SimpleNamespace(**{**vars(RECIPE), "targets": targets})
    module = BKDModule(students, teacher(), variances(), recipe, resolutions, steps, 0, quantizer)
    fit(module, data, CPU, False, folder, epochs)


@torch.no_grad()
def largest_nsr(student: Student, quantizer: Quantizer | None = None) -> float:
    """Of the largest path at the full resolution, on images it has not seen."""
    spec = student.spec
    variance = variances()[spec.stage]
    boundaries = teacher().features(normalize(images().val, tiny()[0].data))
    source, target = boundaries[spec.stage - 1], boundaries[spec.stage]
    graph = student.graph(max(spec.input_widths), extreme_stage(spec.elastic, largest=True), source.shape[-1])
    return float(nsr_loss(student(source, graph, quantizer), target, variance))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Student], list[float], list[float], list[float]]:
    """Students after FP32 and LSQ+ distillation; NSR before, after FP32, and quantized after LSQ+."""
    students = new_students()
    before = [largest_nsr(s) for s in students]
    distil(students, tmp_path_factory.mktemp("fp32"), 8)
    after = [largest_nsr(s) for s in students]
    for student in students:
        student.init_quantizers(teacher().features(pixels())[student.spec.stage - 1], QUANT)
    distil(students, tmp_path_factory.mktemp("lsq"), 2, QUANT)
    return students, before, after, [largest_nsr(s, QUANT) for s in students]


def test_the_teacher_s_scale_is_not_the_student_s() -> None:
    """Of a teacher whose channels have other means and deviations, a student makes the same but for those."""
    student = new_students()[0]
    torch.nn.init.normal_(student.leave)
    stage, rng = student.spec.stage, torch.Generator().manual_seed(3)
    features = teacher().features(pixels()[:16])
    source, target = features[stage - 1], moments()[stage]
    graph = student.graph(student.spec.input_widths[0], extreme_stage(student.spec.elastic, largest=True), source.shape[-1])
    with torch.no_grad():
        before = student(source, graph)
        (a, c), (b, d) = (
            (torch.rand(width, generator=rng) * 50 + 1, torch.randn(width, generator=rng) * 20)
            for width in (source.shape[1], len(target[0]))
        )
        mean, variance = moments()[stage - 1]
        student.standardize((a * mean + c, a**2 * variance), (b * target[0] + d, b**2 * target[1]))
        after = student(a[:, None, None] * source + c[:, None, None], graph)
    torch.testing.assert_close(after, b[:, None, None] * before + d[:, None, None], rtol=1e-3, atol=1e-2)


def test_students_begin_at_the_teacher_s_mean_and_learn_to_be_better_than_predicting_the_mean(trained: tuple) -> None:
    _, before, after, _ = trained
    for old, new in zip(before, after, strict=True):
        assert new < 1 and new < old and old == pytest.approx(1, abs=0.1)


def test_quantized_students_stay_close_to_full_precision(trained: tuple) -> None:
    _, _, after, quantized = trained
    for full, low in zip(after, quantized, strict=True):
        assert low < full + 0.05


def test_the_input_s_quantizer_learns_with_the_projection_before_it(tmp_path: Path) -> None:
    students = new_students()
    for student in students:
        student.init_quantizers(teacher().features(pixels())[student.spec.stage - 1], QUANT)
    before = [student.body.input.state_dict() for student in students]
    before = [{name: value.clone() for name, value in state.items()} for state in before]
    distil(students, tmp_path, 1, QUANT)
    for student, old in zip(students, before, strict=True):
        assert not torch.equal(student.body.input.scale.ratio, old["scale.ratio"])
        assert not torch.equal(student.body.input.zero, old["zero"])


def test_a_small_image_s_student_mimics_the_features_of_the_full_one(tmp_path: Path) -> None:
    """Trained at 12 pixels alone: on the grid of the full resolution's features, full targets teach more than its own."""
    features = {r: teacher().features(resize(normalize(images().val, tiny()[0].data), r)) for r in (12, 16)}
    noise = {}
    for targets in ("own", "full"):
        students = new_students()
        distil(students, tmp_path / targets, 8, targets=targets, resolutions=(12,))
        noise[targets] = []
        for student in students:
            spec, source = student.spec, features[12][student.spec.stage - 1]
            graph = student.graph(max(spec.input_widths), extreme_stage(spec.elastic, largest=True), source.shape[-1])
            with torch.no_grad():
                noise[targets].append(float(nsr_at(student(source, graph), features[16][spec.stage], variances()[spec.stage])))
    assert all(full < own for full, own in zip(noise["full"], noise["own"], strict=True)), noise


def test_there_is_a_student_for_every_stage_and_block_type() -> None:
    hs = tiny()[1]
    specs = student_specs(hs)
    assert len({s.name for s in specs}) == len(specs) == len(hs.stages) * len(hs.blocks)
    for spec in specs:
        stage = hs.stages[spec.stage - 1]
        assert spec.elastic.widths == stage.widths and spec.elastic.stride == stage.stride
        assert spec.elastic.block == hs.blocks[spec.block]
        assert spec.input_widths == (hs.stem.widths if spec.stage == 1 else hs.stages[spec.stage - 2].widths)


def test_a_student_alone_trains_as_it_does_beside_others(tmp_path: Path) -> None:
    """The students share no weights, and a stage's random paths come from one generator in their order."""
    together, alone = new_students(), new_students()[:1]
    distil(together, tmp_path / "together", 1)
    distil(alone, tmp_path / "alone", 1)
    for name, value in alone[0].state_dict().items():
        assert torch.equal(value, together[0].state_dict()[name]), name


def test_one_thread_and_two_train_the_same_bits(tmp_path: Path) -> None:
    threads, states = torch.get_num_threads(), []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            students = new_students()[:2]
            for student in students:
                student.init_quantizers(teacher().features(pixels())[student.spec.stage - 1], QUANT)
            distil(students, tmp_path / str(count), 1, QUANT)
            states.append([s.state_dict() for s in students])
    finally:
        torch.set_num_threads(threads)
    for one, two in zip(*states, strict=True):
        assert all(torch.equal(value, two[name]) for name, value in one.items())


def test_the_teacher_is_not_trained_and_not_in_the_checkpoint(trained: tuple) -> None:
    module = BKDModule(trained[0], teacher(), [], RECIPE, (16,), 1, 0)
    assert not any(p.requires_grad for p in teacher().parameters())
    assert {name.split(".")[0] for name in module.state_dict()} == {"students"}


# -- the look-up table ----------------------------------------------------------------------------------------------


SAMPLES = 3


def examiner(folder: Path, targets: str = "full") -> Examiner:
    cfg, hs = tiny()
    calibration = BoundaryFeatures(teacher(), pixels()[:32], hs.lut_resolutions, targets, folder / "calibration")
    validation = BoundaryFeatures(
        teacher(), Normalized(images().val, cfg.data), hs.lut_resolutions, targets, folder / "validation"
    )
    return Examiner(calibration, validation, variances(), QUANT)


def rows_of(student: Student, folder: Path, seed: int = 0, targets: str = "full") -> list[dict]:
    def milliseconds(stage: ElasticStage, blocks: Stage, cin: int, hw: int) -> float:
        return len(stage_graph(stage, blocks, cin, hw).ops) / 100

    spec = tiny()[1].stages[student.spec.stage - 1]
    return tabulate(student, spec, SAMPLES, examiner(folder, targets), milliseconds, seed)


def test_lut_has_distinct_sub_stages_of_every_window_and_resolution(trained: tuple, tmp_path: Path) -> None:
    _, hs = tiny()
    for student in trained[0]:
        rows, spec = rows_of(student, tmp_path), hs.stages[student.spec.stage - 1]
        groups: dict[tuple[int, int], list[dict]] = {}
        for row in rows:
            assert (row["stage"], row["type"]) == (student.spec.stage, student.spec.block)
            groups.setdefault((row["window"], row["resolution"]), []).append(row)
        assert set(groups) == {(w, r) for w in range(spec.windows) for r in hs.lut_resolutions}
        for (window, resolution), group in groups.items():
            windowed = replace(student.spec.elastic, widths=spec.window_widths(window))
            there_are = windowed.subnets * len(student.spec.input_widths)
            assert len(group) == min(SAMPLES, there_are) == len({(row["cin"], row["config"]) for row in group})
            assert {row["hw"] for row in group} == {boundary_hw(student.spec, resolution)}
            for row in group:
                assert row["cin"] in student.spec.input_widths
                assert {b.width for b in parse_stage(row["config"])} <= set(spec.window_widths(window))


def boundary_hw(spec: StudentSpec, resolution: int) -> int:
    """The input size of a stage: the stem's stride and those of the stages before, each rounding up."""
    hw = math.ceil(resolution / 2)
    for stage in tiny()[1].stages[: spec.stage - 1]:
        hw = math.ceil(hw / stage.stride)
    return hw


def test_lut_costs_are_the_sub_stages(trained: tuple, tmp_path: Path) -> None:
    _, hs = tiny()
    for student in trained[0]:
        for row in rows_of(student, tmp_path):
            blocks = [(b.kernel, b.width, b.expand) for b in parse_stage(row["config"])]
            cost = stage_cost(hs, row["stage"], row["type"], row["cin"], row["hw"], blocks)
            assert (row["mmacs"], row["params"]) == (cost.mmacs, cost.params)
            assert row["ms"] > 0


def test_lut_is_the_same_batch_by_batch(trained: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    student = trained[0][0]
    whole = rows_of(student, tmp_path / "whole")
    monkeypatch.setattr(features, "BATCH", 16)
    for row, other in zip(whole, rows_of(student, tmp_path / "parts"), strict=True):
        assert other == row | {"nsr": pytest.approx(row["nsr"], rel=1e-4)}


def test_lut_nsr_is_finite_and_repeatable_and_other_sub_stages_with_another_seed(trained: tuple, tmp_path: Path) -> None:
    for student in trained[0]:
        rows = rows_of(student, tmp_path)
        assert rows == rows_of(student, tmp_path)
        assert [r["config"] for r in rows] != [r["config"] for r in rows_of(student, tmp_path, seed=1)]
        nsr = np.array([row["nsr"] for row in rows])
        assert np.isfinite(nsr).all() and (nsr > 0).all() and np.median(nsr) < 1


@pytest.mark.parametrize("targets", ["full", "own"])
def test_lut_nsr_is_what_the_student_has(trained: tuple, tmp_path: Path, targets: str) -> None:
    """Beside the teacher's features of the image as it is, or of the student's own resolution, on their grid."""
    cfg, hs = tiny()
    val = normalize(images().val, cfg.data)
    for student in trained[0]:
        for resolution in hs.lut_resolutions:
            row = next(row for row in rows_of(student, tmp_path, targets=targets) if row["resolution"] == resolution)
            graph, stage = student.graph(row["cin"], parse_stage(row["config"]), row["hw"]), student.spec.stage
            with torch.no_grad():
                entered = student.enter_stage(teacher().features(resize(pixels()[:32], resolution))[stage - 1], row["cin"])
                stats = calibrate(student.body, graph, [entered], QUANT)
                y = student(teacher().features(resize(val, resolution))[stage - 1], graph, QUANT, stats)
                target = teacher().features(val if targets == "full" else resize(val, resolution))[stage]
                y = torch.nn.functional.interpolate(y, target.shape[-2:], mode="bilinear")
            noise = (y - target).square().mean((0, 2, 3)) / variances()[stage]
            assert row["nsr"] == pytest.approx(float(noise.mean()), rel=1e-4)


def test_the_teacher_sees_every_batch_once_at_every_resolution(
    trained: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many students, sub-stages and windows read its features, and after a kill what it has not yet seen."""
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(features, "BATCH", 24)
    monkeypatch.setattr(Teacher, "features", counted(Teacher.features, seen))
    for student in trained[0]:
        rows_of(student, tmp_path)
    images_of = {"calibration": [24, 8], "validation": [24, 24, 16]}
    assert sorted(seen) == sorted((count, r) for counts in images_of.values() for count in counts for r in (12, 16))
    seen.clear()
    for path in (tmp_path / "validation").glob("12-48-*"):
        path.unlink()
    rows_of(trained[0][0], tmp_path)
    assert seen == [(16, 12)]


def counted(method: Callable, seen: list[tuple[int, int]]) -> Callable:
    def features_of(self: Teacher, x: Tensor) -> list[Tensor]:
        seen.append((len(x), x.shape[-1]))
        return method(self, x)

    return features_of
