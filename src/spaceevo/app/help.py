"""The help texts: from the registry of steps, the config folder and the defaults in it."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spaceevo.app.config import compose
from spaceevo.paths import conf_dir
from spaceevo.steps import STEPS

WIDTH = 118
#: What is chosen by name, and what for.
GROUPS = {
    "stage": "what to train",
    "device": "the device models are made for",
    "latency": "the latency limits; or say them: latency.limits_ms=[0.3,0.5,0.8]",
    "hyperspace": "the search spaces to choose among: stages, widths, depths, resolutions",
    "blocks": "the block types a stage may be made of (default: those named like the hyperspace)",
    "data": "the images",
    "teacher": "the network that block-wise distillation learns from",
    "trainer": "where to train",
    "logger": "where training curves go",
    "search": "how search spaces are searched",
    "subnet_search": "how subnets are searched",
    "experiment": "a whole run: many of the above at once",
}
COMMON_KEYS = {
    "name": "names the run",
    "run_dir": "where its artifacts lie",
    "seed": "of every random number",
    "threads": "CPU threads of PyTorch; 0: all; weights are the same bit for bit only at 1",
    "start_over": "make a step again, and what follows from it; of the pipeline: all, the old run kept aside until then",
    "debug": "show the Python traceback of an error",
}
SPACE_KEY = {"space": "a search space to use in place of the found one, e.g. demo-012-123"}
BASELINES_KEY = {"baselines": "the standard networks to train, one or more of these"}
ALSO_KEY = {"also": "optional steps to run too: baseline, fig8_qt"}
LUT_KEY = {"lut": "an accuracy table to use in place of lut.parquet: such a file, or a folder of the authors' CSV files"}
#: The entrypoints' most used keys beside the common ones and those of their own section.
SECTIONS = {
    "lut": ("tabulate",),
    "train": ("teacher", "bkd", "supernet", "qat"),
    "pipeline": ("bkd", "supernet", "qat", "search_space", "search_subnet"),
}
#: Of the commands that are not one step.
EXAMPLES = {
    "train": ("stage=bkd device=host", "stage=supernet supernet.epochs=4", "stage=qat trainer=gpu logger=tensorboard"),
    "verify": ("path=runs/demo/models/host-0.300ms", "path=host-0.300ms data.root=/mnt/images out_dir=/tmp"),
    "quantize": ("model=mobilenet_v2 data=cifar10", "model=resnet18 weights=resnet18.pth data=cifar10 calibrate=entropy"),
    "pipeline": (
        "experiment=demo",
        "experiment=demo latency.limits_ms=[0.3,0.5,0.8]",
        "hyperspace=demo blocks=mobile name=mobile",
    ),
}
#: The commands that belong to no run folder: what they do, and their keys.
ALONE: dict[str, tuple[str, dict[str, str]]] = {
    "verify": (
        "reruns the claims of an exported model's card on this machine: accuracy must hold, latency is compared",
        {
            "path": "the folder with card.json and the model files",
            "out_dir": "where verify.json goes; null: beside the card",
            "top1_points": "most that a top-1 may differ from the card's, in percentage points",
            "progress_bar": "show how far it is",
            "debug": COMMON_KEYS["debug"],
        },
    ),
    "quantize": (
        "quantizes a classifier of torchvision after training, with accuracy and latency beside FP32",
        {
            "model": "its name, e.g. mobilenet_v2",
            "weights": "a file of its state dict; null: random weights",
            "calibrate": "how the activations' ranges are found: minmax, entropy or percentile",
            "calibration_images": "training images for that",
            "resolution": "of the images, pixels; null: the data's own",
            "out_dir": "where the files and the card go",
            "seed": "of random weights",
            "threads": "CPU threads of onnxruntime",
            "rounds": "of timed calls",
            "runs": "calls a round",
            "spread_s": "seconds that the rounds are spread over",
            "debug": COMMON_KEYS["debug"],
        },
    ),
}


def overview() -> str:
    """What ``python -m spaceevo`` prints: every entrypoint with what it reads and writes."""
    lines = ["SpaceEvo: images, a device and latency limits in, verified INT8 models out.", ""]
    lines += [
        "python -m spaceevo.pipeline [key=value ...]",
        "    runs all of the following in order but the optional ones, what is not up to date",
        "",
    ]
    for step in STEPS.values():
        lines += [
            f"python -m spaceevo.{step.command}",
            f"    {step.summary}",
            *_wrapped("    reads  ", ", ".join(step.inputs) or ("images" if "data.name" in step.keys else "no file")),
            *_wrapped("    writes ", ", ".join(step.outputs)),
            "",
        ]
    for name, (what, _) in ALONE.items():
        lines += [f"python -m spaceevo.{name}", *_wrapped("    ", what), ""]
    lines.append("Files lie in the run folder, runs/<name>. Any of them with --help explains its keys.")
    return "\n".join(lines)


def entrypoint_help(config_name: str) -> str:
    """What ``python -m spaceevo.<entrypoint> --help`` prints."""
    if config_name in ALONE:
        return _alone(config_name)
    steps = [step for step in STEPS.values() if step.command.split()[0] == config_name]
    lines = [f"python -m spaceevo.{config_name} [key=value ...]", ""]
    if config_name == "pipeline":
        lines += ["Runs every step that is not up to date, in order, from where a killed run stopped:"]
        lines += _wrapped("  ", ", ".join(step.name for step in STEPS.values() if not step.optional))
        lines += ["", "Reads images; writes everything below the run folder, report.html last."]
    for step in steps:
        title = f"stage={step.name}: " if config_name == "train" else ""
        lines += _wrapped("", f"{title}{step.summary[0].upper()}{step.summary[1:]}.")
        lines += _wrapped("  reads  ", ", ".join(step.inputs) or ("images" if "data.name" in step.keys else "no file"))
        lines += _wrapped("  writes ", ", ".join(step.outputs))
    lines += ["", "Chosen by name (group=option; * is the default):"]
    for group, what in GROUPS.items():
        if group != "stage" or config_name == "train":
            lines += ["", f"  {group}: {what}", *_options(group, _default_of(group))]
    lines += ["", "Keys (key=value):"]
    defaults = asdict(compose(config_name))
    keys = {**COMMON_KEYS, **(SPACE_KEY if config_name in ("train", "search_subnet", "pipeline") else {})}
    keys |= BASELINES_KEY if config_name == "baseline" else {}
    keys |= ALSO_KEY if config_name == "pipeline" else {}
    keys |= LUT_KEY if config_name in ("search_space", "pipeline") else {}
    for key, what in keys.items():
        lines += _wrapped(f"  {f'{key}={_value(defaults[key])}':<28} ", what)
    for section in SECTIONS.get(config_name, (config_name,)):
        if section in defaults:
            values = [f"{section}.{key}={_value(value)}" for key, value in defaults[section].items() if key != "name"]
            lines += _wrapped("  ", " ".join(values))
    lines += ["", "Examples:"]
    examples = EXAMPLES.get(config_name) or (steps[0].examples if steps else ("experiment=demo",))
    lines += [f"  python -m spaceevo.{config_name} {text}" for text in examples]
    lines += [
        "",
        "-m runs every combination of comma-separated values, each in a folder of its own, and sums them up; again, what is",
    ]
    lines += ["missing. hydra/launcher=joblib, ray, submitit_local or submitit_slurm runs them side by side."]
    return "\n".join(lines)


def _alone(config_name: str) -> str:
    """The help of a command that belongs to no run folder."""
    import yaml

    what, keys = ALONE[config_name]
    defaults = yaml.safe_load((conf_dir() / f"{config_name}.yaml").read_text())
    chosen = next(entry["data"] for entry in defaults["defaults"] if "data" in entry and isinstance(entry, dict))
    lines = [f"python -m spaceevo.{config_name} [key=value ...]", "", *_wrapped("", f"{what[0].upper()}{what[1:]}."), ""]
    lines += ["Keys (key=value):"]
    for key, text in keys.items():
        lines += _wrapped(f"  {f'{key}={_value(defaults[key])}':<28} ", text)
    lines += [
        "",
        f"  data: {GROUPS['data']}{' (default: as the card says)' if chosen is None else ''}",
        *_options("data", chosen),
        "",
        "Examples:",
    ]
    return "\n".join([*lines, *(f"  python -m spaceevo.{config_name} {text}" for text in EXAMPLES[config_name])])


def group_options(group: str) -> list[str]:
    """The names a group offers."""
    return sorted(path.stem for path in (conf_dir() / group).glob("*.yaml"))


def description(path: Path) -> str:
    """An option's own words: the first comment of its file."""
    for line in path.read_text().splitlines():
        if line.startswith("#") and "@package" not in line:
            return line.lstrip("# ").strip()
    return ""


def _options(group: str, default: str | None) -> list[str]:
    options = group_options(group)
    width = max((len(name) for name in options), default=0)
    lines = []
    for name in options:
        mark = "*" if name == default else " "
        lines += _wrapped(f"  {mark} {name:<{width}}  ", description(conf_dir() / group / f"{name}.yaml"))
    return lines


def _default_of(group: str) -> str | None:
    import yaml

    defaults: list[Any] = yaml.safe_load((conf_dir() / "base.yaml").read_text())["defaults"]
    return next((entry[group] for entry in defaults if isinstance(entry, dict) and group in entry), None)


def _value(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value).replace(" ", "")


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False, break_long_words=False
    )
