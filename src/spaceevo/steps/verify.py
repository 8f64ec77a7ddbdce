"""``python -m spaceevo.verify``: whether what a model's card claims holds on this machine."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, DictConfig

from spaceevo.data.config import DataConfig
from spaceevo.errors import ClaimError, UserError, bad_choice
from spaceevo.paths import conf_dir
from spaceevo.progress import progress
from spaceevo.settings import check_section, plain, setting
from spaceevo.steps.folder import say
from spaceevo.steps.step import Command


@dataclass
class VerifyConfig:
    """``python -m spaceevo.verify``."""

    path: str = setting("the folder with card.json and the model files")
    out_dir: str | None = setting("where verify.json goes; null: beside the card")
    on: str = setting("the machine that the files are run on: here, ssh:<host>, or emulated:<cpu>, e.g. emulated:cortex-a76")
    python: str = setting("the interpreter there, with numpy and the runtimes")
    top1_points: float = setting("most that a top-1 may differ from the card's, in percentage points", least=0, most=100)
    progress_bar: bool = setting("show how far it is")
    debug: bool = setting("show the Python traceback of an error")
    data: DataConfig = field(default_factory=DataConfig)


def read(cfg: DictConfig) -> VerifyConfig:
    """The composed config, checked; keys of ``data`` that were not given stay missing.

    Raises:
        UserError: an impossible value, with its key.
    """
    given = plain(cfg)
    config = VerifyConfig(**{**given, "data": DataConfig(**given["data"])})
    if config.path == MISSING:
        raise UserError("path: has no value; give a model's folder, e.g. path=runs/demo/models/host-0.300ms")
    check_section("", config)
    return config


def run(cfg: VerifyConfig) -> None:
    """Run the card's files over its test images, print claim by claim what holds, and keep it as ``verify.json``.

    Raises:
        UserError: the card or a file is missing, truncated or changed.
        ClaimError: an accuracy does not hold here, or the card is not as it was written.
    """
    from spaceevo.atomic import write_json
    from spaceevo.data import load_data
    from spaceevo.data.folder import settled
    from spaceevo.deploy.claims import verify
    from spaceevo.deploy.claims.latencies import latency_claims
    from spaceevo.deploy.claims.ran import ran
    from spaceevo.deploy.file_input import FileInput
    from spaceevo.deploy.inputs import shown
    from spaceevo.latency.machines.machine import machine_at

    folder, machine = Path(cfg.path), machine_at(cfg.on, cfg.python)
    card = verify.read_card(folder)
    files = verify.read_files(folder, card)
    data = settled(claimed_data(cfg.data, card["data"], str(folder / "card.json")))
    images = load_data(data, test=True)
    assert images.test is not None and images.test_labels is not None
    seen, count = shown(images.test, data, FileInput.read(card["input"])), len(images.test)
    facts, where = machine.facts(), "" if machine.here else f", on {cfg.on}"
    say(f"verify: {card['name']} over {count} test images of {data.name}{where}")
    with progress(total=len(ran(card)) * count, desc="verify", show=cfg.progress_bar, leave=False) as bar:
        done: dict[str, int] = {}

        def show(name: str, count: int) -> None:
            bar.update(count - done.get(name, 0))
            done[name] = count

        labels = images.test_labels.numpy()
        claims, able = verify.run_claims(card, files, folder, seen, labels, cfg.top1_points, show, machine)
    claims += latency_claims(card, files, able, machine) if machine.timed else []
    claims, left = [*verify.machine_claims(card, facts), *claims], verify.not_checked(card, claims)
    broken = [claim for claim in claims if claim.must and not claim.holds]
    say(verify.table(claims))
    told = dict(claims=[asdict(claim) for claim in claims], not_checked=left, host=facts["host"], versions=facts["versions"])
    record = dict(holds=not broken, **told)
    path = Path(cfg.out_dir or cfg.path) / "verify.json"
    try:
        say(f"verify: {write_json(path, record)}")
    except OSError as error:
        say(f"verify: {path} could not be written ({error.strerror}); out_dir=<folder> keeps it elsewhere")
    if broken:
        words = [f"{claim.of}: {claim.what} is {claim.here} here, {claim.card} on the card" for claim in broken]
        raise ClaimError(f"verify: {card['name']} is not what its card claims; {'; '.join(words)}{_hint(card, facts['host'])}")
    say(f"verify: {card['name']} holds what its card claims about accuracy; not checked here: {', '.join(left)}")


def claimed_data(given: DataConfig, claimed: dict[str, Any], card: str) -> DataConfig:
    """The images a card's figures hold for: ``claimed`` by it, the rest ``given`` or by default.

    Raises:
        UserError: other images are given than the card's, or there is no such data set.
    """
    asked = {key: value for key, value in vars(given).items() if value != MISSING}
    for key, value in asked.items():
        if key in claimed and value != claimed[key]:
            raise UserError(f"data.{key}={_word(value)}: {card} claims its figures for data.{key}={_word(claimed[key])}")
    known = {key: value for key, value in claimed.items() if key in vars(given)}
    name = known.get("name", asked.get("name"))
    path = conf_dir() / "data" / f"{name}.yaml"
    if not path.is_file():
        choices = sorted(option.stem for option in path.parent.glob("*.yaml"))
        raise UserError(f"{card}: {bad_choice('data.name', name, choices)}")
    return DataConfig(**{**yaml.safe_load(path.read_text()), **known, **asked})


def _word(value: Any) -> str:
    return "null" if value is None else str(value)


def _hint(card: dict[str, Any], machine: dict[str, Any]) -> str:
    """Why an INT8 file may be less accurate on a machine."""
    from spaceevo.latency.host import saturates
    from spaceevo.space.graph import SYMMETRIC

    if card.get("weight_bits") == 8 and card.get("activations") != SYMMETRIC and saturates(machine):
        return " (8-bit weights saturate in onnxruntime on a CPU without VNNI: session.x64quantprecision=1 makes them exact)"
    return ""


COMMAND = Command(
    "verify",
    "reruns the claims of an exported model's card on this machine: accuracy must hold, latency is compared",
    run,
    (
        "path=runs/demo/models/host-0.300ms",
        "path=host-0.300ms data.root=/mnt/images out_dir=/tmp",
        "path=host-0.300ms on=ssh:pi@raspberrypi",
        "path=host-0.300ms on=emulated:cortex-a76",
    ),
    config=VerifyConfig,
    read=read,
)
