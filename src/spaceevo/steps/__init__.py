"""The steps of the pipeline, a file each: its config section, what it reads and writes, and its recipe; and the commands that
are no steps."""

from spaceevo.steps import (
    baseline,
    benchmark,
    bkd,
    data,
    describe,
    export,
    fig8_qt,
    finetune,
    finish,
    lut,
    predict,
    predictor,
    profile,
    qat,
    quantize,
    release,
    report,
    search_space,
    search_subnet,
    study_quantization,
    supernet,
    tau,
    teacher,
    verify,
)
from spaceevo.steps.step import Command, Step

#: In the order in which they are run.
STEPS: dict[str, Step] = {
    module.STEP.name: module.STEP
    for module in (
        profile, predictor, teacher, bkd, lut, search_space, supernet, qat, tau, search_subnet, finish, export, benchmark,
        baseline, fig8_qt, study_quantization, finetune, release, report,
    )
}  # fmt: skip

#: The commands that are no steps.
COMMANDS: dict[str, Command] = {
    command.name: command for command in (data.COMMAND, verify.COMMAND, predict.COMMAND, quantize.COMMAND, describe.COMMAND)
}
