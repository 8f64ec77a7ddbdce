"""What a step says of itself, and the names that several steps share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

#: The images that are learned from and searched on; ``data.test_limit`` matters to the export alone.
DATA = (
    "data.name", "data.channels", "data.classes", "data.image_size", "data.mean", "data.std", "data.flip", "data.shift",
    "data.augment", "data.erase", "data.mix", "data.balanced", "data.validation", "data.split_seed", "data.train_limit",
    "data.names", "data.background", "data.files",
)  # fmt: skip
SPACE = ("hyperspace", "blocks")
TIMING = ("benchmark.rounds", "benchmark.runs", "benchmark.spread_s")
JUDGED = ("search_subnet.calibration_images", "search_subnet.judge_images")
STEERED = ("search_subnet.calibration_images", "search_subnet.validation_images")
SCHEME = ("device.name", "device.runtime", "device.weight_bits", "device.padding", "device.activations")
EXAMPLES, MISTAKES = "examples.png", "mistakes.png"
MODEL_FILES = (
    "model.onnx", "model.tflite", "model.safetensors", "fp32.*", "parity.json", MISTAKES, "README.md", "card.json",
)  # fmt: skip
#: Where a run is searched at the latencies of its baselines: a folder like a multirun's job's.
AT_BASELINES = "baselines/at"
REFUSED = "refused"  # the folder, within a model's, of what the gate has kept back


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        command: the entrypoint and its fixed overrides, as typed after ``python -m spaceevo.``.
        keys: config subtrees whose change makes the step's artifacts old (the seed is always one).
        inputs, outputs: paths or globs relative to the run folder.
        run: the recipe, which is called with the run folder and the config.
        shows: paths or globs of what it shows as it is, whoever made it and of whichever config, where there is any.
        free: config subtrees that the makers of its inputs may differ in.
        needs_latency: reads predicted or measured latencies of the device.
        needs_device: measures, so that the device has to be here.
        lenient: shows whatever the run folder holds, of any config.
        optional: no part of the pipeline unless ``also`` names it, and nothing is built on it: it is run by its own command.
        version: of what the step makes of its inputs and config; raise it by one whenever a change of the code makes that
            something else (a fault mended, another meaning of a column), and not where only its speed or form changes.
            What an older version made is made again, and no step reads it.
        examples: arguments that its command may be given.
        takes: keys of the top, beside those in ``keys``, that name what it reads instead of an input.
    """

    name: str
    command: str
    summary: str
    keys: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[Any, Any], None]
    free: tuple[str, ...] = ()
    needs_latency: bool = False
    needs_device: bool = False
    lenient: bool = False
    optional: bool = False
    version: int = 1
    examples: tuple[str, ...] = ("experiment=demo",)
    takes: tuple[str, ...] = ()
    shows: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """A command that is no step: it leaves no record, and no step reads what it writes.

    Attributes:
        run: what it does, called with its config.
        config: its own config; None: the run's, of which it ``takes`` these keys of the top.
        read: makes that, checked, of the composed one.
        examples: arguments that it may be given.
    """

    name: str
    summary: str
    run: Callable[[Any], None]
    examples: tuple[str, ...]
    takes: tuple[str, ...] = ()
    config: type[Any] | None = None
    read: Callable[[Any], Any] | None = None
