"""Block-wise knowledge distillation (paper section 4.5, figure 4): every elastic stage learns the teacher's stage.

All (stage, block type) students train side by side on one teacher pass a batch; they share no weights, so this is
the same as training each alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaceevo.nn.elastic import Elastic, Quantizer, Stats, pass_on, resize
from spaceevo.nn.lsq import least_squares_range, sample
from spaceevo.nn.nsr import nsr_at
from spaceevo.nn.parallel import parallel
from spaceevo.space import ElasticStage, Graph, Hyperspace, Stage, extreme_stage, stage_graph
from spaceevo.training.fit import average_gradients, cosine, set_lr, step_rng
from spaceevo.training.optimizer import parameter_groups
from spaceevo.training.sandwich import sandwich_stages
from spaceevo.training.teacher import Teacher


@dataclass(frozen=True)
class StudentSpec:
    """One elastic stage with its full width range: ``stage`` counts from 1, ``block`` indexes the block list."""

    stage: int
    block: int
    elastic: ElasticStage
    input_widths: tuple[int, ...]

    @property
    def name(self) -> str:
        """Of its files and weights: ``stage<S>_<block type>``."""
        return f"{self.elastic.name}_{self.elastic.block.type}"


def student_specs(hs: Hyperspace) -> list[StudentSpec]:
    """Every (stage, block type) of the hyperspace."""
    return [StudentSpec(i + 1, t, hs.elastic(i, t), hs.input_widths(i)) for i, spec in enumerate(hs.stages) for t in spec.types]


class Student(nn.Module):
    """An elastic stage between two learnable 1x1 projections that match the teacher's feature widths."""

    source_mean: Tensor
    source_std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, spec: StudentSpec, teacher_in: int, teacher_out: int, padding: str = "symmetric") -> None:
        super().__init__()
        self.spec = spec
        widest = extreme_stage(spec.elastic, largest=True)
        self.enter = nn.Parameter(torch.empty(max(spec.input_widths), teacher_in, 1, 1))
        self.leave = nn.Parameter(torch.zeros(teacher_out, max(spec.elastic.widths), 1, 1))  # begins at an NSR of about 1
        self.bias = nn.Parameter(torch.zeros(teacher_out))
        for name, width in (("source", teacher_in), ("target", teacher_out)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_std", torch.ones(width))
        nn.init.kaiming_normal_(self.enter, nonlinearity="linear")
        superset = stage_graph(spec.elastic, widest, max(spec.input_widths), 8, superset=True)
        self.body = pass_on(Elastic(superset, padding=padding), superset)
        self.body.input.requires_grad_()  # what enters changes as its projection learns

    def graph(self, cin: int, blocks: Stage, hw: int) -> Graph:
        """The sub-stage ``blocks`` alone, on an input ``[B, cin, hw, hw]``."""
        return stage_graph(self.spec.elastic, blocks, cin, hw)

    def standardize(self, source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> None:
        """Let the projections work on the teacher's features less their mean, over their standard deviation, given the
        means and variances ``[C_t]`` of the stage's input and output: their scale is the teacher's, not the student's."""
        for name, (mean, variance) in (("source", source), ("target", target)):
            self.get_buffer(f"{name}_mean").copy_(mean)
            self.get_buffer(f"{name}_std").copy_(variance.sqrt())

    def enter_stage(self, feature: Tensor, cin: int) -> Tensor:
        """The teacher's feature ``[B, C_t, H, W]`` as the stage's input ``[B, cin, H, W]``."""
        weight = self.enter[:cin] / self.source_std.clamp(min=1e-3)[:, None, None]
        return F.conv2d(feature, weight, -weight[:, :, 0, 0] @ self.source_mean)

    def leave_stage(self, y: Tensor) -> Tensor:
        """The stage's output as the teacher's: as wide, and of its mean and deviation."""
        weight = self.leave[:, : y.shape[1]] * self.target_std[:, None, None, None]
        return F.conv2d(y, weight, self.bias * self.target_std + self.target_mean)

    def forward(self, feature: Tensor, graph: Graph, quantizer: Quantizer | None = None, stats: Stats | None = None) -> Tensor:
        x = self.enter_stage(feature, graph.input.channels)
        return self.leave_stage(self.body(x, graph, quantizer=quantizer, stats=stats))

    @torch.no_grad()
    def init_quantizers(self, feature: Tensor, quantizer: Quantizer) -> None:
        """LSQ+ initial values from one batch of teacher features, over the largest, smallest and superset graphs."""
        hw = feature.shape[-1]
        cin = max(self.spec.input_widths)
        x = self.enter_stage(feature, cin)
        low, high = (float(v) for v in torch.aminmax(x))
        held = least_squares_range(sample(x), min(low, 0.0), max(high, 0.0), quantizer.symmetric)
        self.body.input.set_range(*held)
        blocks = [extreme_stage(self.spec.elastic, largest) for largest in (True, False)]
        graphs = [stage_graph(self.spec.elastic, b, cin, hw) for b in blocks]
        superset = stage_graph(self.spec.elastic, blocks[0], cin, hw, superset=True)
        self.body.init_quantizers(x, graphs, superset, quantizer)


class BKDModule(L.LightningModule):
    """Sandwich-rule distillation of all students with the NSR loss; ``quantizer`` makes it the LSQ+ phase.

    The students see the teacher's features of an image at a resolution drawn anew each step. With the recipe's ``targets`` of
    ``full`` they mimic its features of the image as it is, brought to that grid: features of a small image are easier to
    mimic, and compared with those a small resolution looks better than a large one.
    """

    def __init__(
        self,
        students: Sequence[Student],
        teacher: Teacher,
        variance: Sequence[Tensor],
        recipe: Any,
        resolutions: Sequence[int],
        steps: int,
        seed: int,
        quantizer: Quantizer | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.students = nn.ModuleList(students)
        self._frozen = (teacher.eval().requires_grad_(False), list(variance))  # a tuple: not part of the checkpoint
        self.recipe, self.resolutions, self.steps, self.seed = recipe, tuple(resolutions), steps, seed
        self.quantizer = quantizer

    def configure_optimizers(self) -> torch.optim.Optimizer:
        lr = self.recipe.lr if self.quantizer is None else self.recipe.lsq_lr
        groups = parameter_groups(self.students, lr, 0.0)
        return torch.optim.Adam(groups, lr, fused=True)

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        teacher, variance = self._frozen
        optimizer = cast(torch.optim.Optimizer, self.optimizers())
        step = self.global_step
        rng = step_rng(self.seed, "bkd" if self.quantizer is None else "bkd-lsq", step)
        images = batch[0]
        x = resize(images, int(rng.choice(self.resolutions)))
        with torch.no_grad():
            sources = targets = teacher.to(x.device).features(x)
            if self.recipe.targets == "full" and x.shape != images.shape:
                targets = teacher.features(images)
        jobs = []
        for student in cast("list[Student]", list(self.students)):
            spec = student.spec
            paths = sandwich_stages(spec.elastic, spec.input_widths, self.recipe.random_paths, rng)
            jobs.append((student, paths, sources[spec.stage - 1], targets[spec.stage], variance[spec.stage].to(x.device)))
        losses = list(parallel(self._distil, jobs))
        average_gradients(self.students)
        set_lr(optimizer, cosine(step, self.steps, self.steps // 10))
        optimizer.step()
        optimizer.zero_grad()
        nsr = sum(losses) / len(losses)
        self.log("nsr", nsr, prog_bar=True)
        return torch.tensor(nsr)

    def _distil(self, job: tuple[Student, list[tuple[int, Stage]], Tensor, Tensor, Tensor]) -> float:
        """Gradients of one student's paths; returns their mean NSR."""
        student, paths, source, target, variance = job
        total = 0.0
        for cin, blocks in paths:
            loss = nsr_at(student(source, student.graph(cin, blocks, source.shape[-1]), self.quantizer), target, variance)
            self.manual_backward(loss)
            total += float(loss.detach())
        return total / len(paths)
