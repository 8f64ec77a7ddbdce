"""The steps of the pipeline, a file each: its config section, what it reads and writes, and its recipe."""

from spaceevo.steps import (
    baseline,
    benchmark,
    bkd,
    export,
    fig8_qt,
    finish,
    lut,
    predictor,
    profile,
    qat,
    report,
    search_space,
    search_subnet,
    supernet,
    tau,
    teacher,
)
from spaceevo.steps.step import Step

#: In the order in which they are run.
STEPS: dict[str, Step] = {
    module.STEP.name: module.STEP
    for module in (
        profile, predictor, teacher, bkd, lut, search_space, supernet, qat, tau, search_subnet, finish, export, benchmark,
        baseline, fig8_qt, report,
    )
}  # fmt: skip
