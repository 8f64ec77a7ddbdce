"""The docs hold: examples run, command lines compose, links resolve, references are complete and the site builds."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import hydra
import jsonschema
import pytest
import yaml
from conftest import ROOT, forked
from omegaconf import OmegaConf
from own_images import two_classes

from spaceevo.app.commands import COMMANDS
from spaceevo.app.config import Config, schema_of
from spaceevo.app.sweep import LAUNCHERS
from spaceevo.errors import UserError
from spaceevo.paths import conf_dir
from spaceevo.settings import setting
from spaceevo.steps.data import DataCheckConfig
from spaceevo.steps.quantize import QuantizeConfig
from spaceevo.steps.verify import VerifyConfig

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "experiments/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: A Python block, and the comment before it that says why it is not run.
BLOCK = re.compile(r"(?:<!-- not run: (?P<why>.+?) -->\n)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
#: A command line in a block or in backticks, as far as its options and keys go.
LINE = re.compile(
    r"python -m spaceevo(?:\.(?P<command>\w+))?(?P<arguments>(?:\s+check)?(?:\s+(?:-{1,2}[a-z]+|[+\w./]+=[^\s`]+))*)"
)
FREE = re.compile(r"^```(?:text|yaml)\n.*?^```$", re.MULTILINE | re.DOTALL)  # of names that a reader makes
LINK = re.compile(r"\]\((?!https?:)(?P<target>[^)#\s]+)(?:#[^)]*)?\)")


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def generate() -> ModuleType:
    """``docs/generate.py``, which is no package's."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in page.read_text()], ids=page_id)
def test_python_examples_run(page: Path, tmp_path: Path) -> None:
    blocks = list(BLOCK.finditer(page.read_text()))
    assert len(blocks) == page.read_text().count("```python")
    code = "\n".join(block["code"] for block in blocks if block["why"] is None)
    if not code:
        pytest.skip("; ".join(block["why"] for block in blocks))
    (tmp_path / "examples.py").write_text(code)
    done = forked([sys.executable, "-m", "examples"], tmp_path)
    assert done.returncode == 0, done.stderr


def command_lines(text: str) -> Iterator[tuple[str | None, list[str]]]:
    for found in LINE.finditer(FREE.sub("", text)):
        yield found["command"], [word for word in found["arguments"].split() if word != "check"]


#: Folders of one's own images, as the pages call them.
OWN = ("data.root=photos", "data.root=shoes", "data.root=flowers")


@functools.cache
def composed(command: str, *arguments: str) -> Any:
    """The config of a command line; of a sweep's values the first; without what a reader fills in (``<folder>``, ``...``)."""
    overrides = []
    for argument in arguments:
        key, _, value = argument.partition("=")
        key = "from_" if key == "from" else key  # as the command line has it
        if key == "hydra/launcher":
            assert value in LAUNCHERS
        elif not (key.startswith(("-", "hydra.", "+hydra.")) or "<" in value or "..." in value):
            sweeps = "-m" in arguments and value[0] not in "[{"
            overrides.append(f"{key}={value.split(',')[0] if sweeps else value}")
    _, read = schema_of(command)
    if any(override.startswith(OWN) for override in overrides):
        photos = two_classes(Path(tempfile.mkdtemp()) / "photos")
        overrides = [f"data.root={photos}" if override.startswith(OWN) else override for override in overrides]
    with hydra.initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return read(hydra.compose(command, overrides))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_command_lines_name_what_there_is(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for command, arguments in command_lines(page.read_text()):
        if command is None:
            assert arguments == []
            continue
        assert command in COMMANDS, command
        needed = {"verify": "path=models/x", "quantize": "model=resnet18", "data": "do=check"}.get(command)
        given = {argument.partition("=")[0] for argument in arguments}
        composed(command, *arguments, *([needed] if needed and needed.partition("=")[0] not in given else []))


def test_command_lines_are_found_and_wrong_ones_told_apart() -> None:
    text = "`python -m spaceevo.train stage=bkd\nbkd.images=8` and\n```\npython -m spaceevo.tau -m seed=0,1 # x\n```\n"
    assert list(command_lines(text)) == [("train", ["stage=bkd", "bkd.images=8"]), ("tau", ["-m", "seed=0,1"])]
    assert composed("tau", "-m", "seed=3,4").seed == 3
    for wrong in ("bkd.picture=8", "stage=nothing", "bkd.images=0"):
        with pytest.raises((hydra.errors.HydraException, UserError)):
            composed("train", wrong)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page: Path) -> None:
    in_site = page.is_relative_to(ROOT / "docs")
    made = {(ROOT / "docs" / path).resolve() for path in generate().PAGES} if in_site else set()
    targets = [(page.parent / found["target"]).resolve() for found in LINK.finditer(page.read_text())]
    assert [str(target) for target in targets if not target.exists() and target not in made] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_files_of_the_code_that_are_named_are_there(page: Path) -> None:
    named = re.findall(r"`((?:\w+/)+\w+\.py)(?:::\w+)?`", page.read_text())
    assert [path for path in named if not (ROOT / path).is_file() and not (ROOT / "src/spaceevo" / path).is_file()] == []


def all_keys(cls: type[Any], prefix: str = "") -> Iterator[str]:
    """Every key of a section and of those within it, as the reference writes them."""
    kinds = get_type_hints(cls)
    for key in fields(cls):
        inner = generate().inner_class(kinds[key.name])
        if inner is None or not is_dataclass(kinds[key.name]):
            yield f"{prefix}{key.name}"
        if inner is not None:
            many = "[]" if "list[" in str(kinds[key.name]) else ""
            yield from all_keys(inner, f"{prefix}{key.name}{many}.")


def test_the_reference_has_every_key() -> None:
    rows = set(re.findall(r"^\| `([^`]+)` \|", generate().config_page(), re.MULTILINE))
    keys = {key for cls in (Config, VerifyConfig, QuantizeConfig, DataCheckConfig) for key in all_keys(cls)}
    assert len(keys) > 200 and keys - rows == set()


def test_the_reference_knows_every_bound_of_a_setting() -> None:
    assert set(inspect.signature(setting).parameters) <= {
        "text",
        "least",
        "below",
        "most",
        "choices",
        "distinct",
        "zero",
        "default",
    }


def test_the_reference_says_what_a_key_may_be() -> None:
    page = generate().config_page()
    for row in (
        "| `seed` | whole number | `0` | at least 0, at most 4294967295 | of every random number |",
        "| `supernet.warmup` | number | `0.03` | at least 0, less than 1 | share of the steps over which the ",
        "| `bkd.images` | whole number or null | `1024` | more than 0, at most 1000000000 | an epoch's training images, ",
        "| `latency.limits_ms` | list of numbers or null | `null` | more than 0, at most 1000000 | the limits, ms; ",
        "| `export.calibrate` | text or null | `null` | `null`, `minmax`, `entropy`, `percentile` |",
        "| `hyperspace.stages[].types` | list of whole numbers or null | `null` | at least 0, at most 1000 | indices",
    ):
        assert row in page, row


def test_the_schema_is_current() -> None:
    schema = (ROOT / "docs" / "config.schema.json").read_text()
    assert schema == generate().schema_text(), "write it anew: python docs/generate.py"


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    written = json.loads((ROOT / "docs" / "config.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(written)
    return jsonschema.Draft202012Validator(written)


@pytest.mark.parametrize("path", [*sorted((ROOT / "experiments").glob("*.yaml")), ROOT / "conf/base.yaml"], ids=page_id)
def test_the_schema_takes_what_there_is(path: Path, schema: jsonschema.Draft202012Validator) -> None:
    schema.validate(OmegaConf.to_container(OmegaConf.load(path)))


@pytest.mark.parametrize(
    "wrong",
    [
        "seed: -1",
        "supernet: {warmup: 1}",
        "bkd: {images: 0}",
        "bkd: {picture: 8}",
        "device: {padding: none}",
        "threads: two",
        "threads: 999999999999",
        "data: {mean: [.inf]}",
        "latency: {quantiles: [0.5, 1]}",
        "also: [lut]",
        "baselines: []",
    ],
)
def test_the_schema_refuses(wrong: str, schema: jsonschema.Draft202012Validator) -> None:
    assert not schema.is_valid(yaml.safe_load(wrong))


def test_readme_is_short_and_says_which_baselines_win() -> None:
    readme = (ROOT / "README.md").read_text()
    told = readme.replace("\n", " ")
    assert len(readme.splitlines()) <= 120
    assert "None beats a model** in onnxruntime" in told and "In LiteRT, for which it was not searched, five layers" in told


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    # not --quiet: MkDocs then counts no warnings, and --strict ends at none
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in generate().PAGES:
        assert (tmp_path / "site" / page).with_suffix(".html").is_file()
    assert "finish.distill" in (tmp_path / "site" / "reference" / "config.html").read_text()
    commands = (tmp_path / "site" / "reference" / "commands.html").read_text()
    assert re.findall(r'<h2 id="(\w+)">', commands) == list(COMMANDS)
