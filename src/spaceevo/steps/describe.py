"""``python -m spaceevo.describe``: what a hyperspace, a search space or a model is, as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from spaceevo.errors import UserError
from spaceevo.steps.folder import say
from spaceevo.steps.needs import InASpace, OnADevice, hyperspace
from spaceevo.steps.step import Command

if TYPE_CHECKING:
    from spaceevo.latency.predictor import Predictor
    from spaceevo.space import Hyperspace


class Needs(InASpace, OnADevice, Protocol):
    """``model``: a published name, or a subnet's encoding; ``out_dir``: where the picture goes."""

    seed: int
    model: str | None
    out_dir: str


def run(cfg: Needs) -> None:
    """``model=`` (a published name, or with ``space=`` a subnet's encoding), else ``space=``, else ``hyperspace=``.

    Raises:
        UserError: a name or encoding that cannot be, with the field.
    """
    from spaceevo.atomic import atomic_write
    from spaceevo.report import describe
    from spaceevo.space import SearchSpace, Subnet, published_model

    model = None
    if cfg.model is not None and not (cfg.space is not None and cfg.model.startswith("d")):
        if cfg.model.startswith("d") and "_" in cfg.model:
            raise UserError(f"model={cfg.model}: a subnet's encoding needs the space that it is of; give space=... too")
        model = published_model(cfg.model)
    encoding = model.space if model is not None else cfg.space
    if encoding is None:
        hs = hyperspace(cfg)
        text, picture, name = describe.hyperspace_text(hs), describe.hyperspace_svg(hs), hs.name
    else:
        own = SearchSpace.parse(encoding)
        space = SearchSpace.parse(str(own), own.hyperspace.with_task(cfg.data.channels, cfg.data.classes))
        predictor, device = _predictor(cfg, space.hyperspace)
        if cfg.model is None:
            text, picture, name = describe.space_text(space, predictor, device), describe.space_svg(space), str(space)
        else:
            net = Subnet.parse(space, model.subnet if model is not None else cfg.model)
            name = model.name if model is not None else f"{space}-subnet"
            text = describe.model_text(net, model, predictor, device)
            picture = describe.model_svg(net, name, predictor)
        if predictor is None:
            text += f"\nno ms: device={device} has no predictor here; name one with device.predictor=runs/.../predictor.json"
    say(text)
    say(f"\npicture: {atomic_write(Path(cfg.out_dir) / f'{name}.svg', picture)}")


def _predictor(cfg: Needs, hs: Hyperspace) -> tuple[Predictor | None, str]:
    """The predictor of the device asked for, else of the one the hyperspace is made for; None where nobody knows."""
    from hydra.core.hydra_config import HydraConfig

    from spaceevo.latency.config import SHIPPED
    from spaceevo.latency.published import given

    asked = any(text.split("=")[0].split(".")[0] == "device" for text in HydraConfig.get().overrides.task)
    device, setting = (cfg.device.name, cfg.device.predictor) if asked else (hs.device, SHIPPED)
    if setting is None or (device, setting) == ("host", SHIPPED):
        return None, device
    return given(setting, device, hs, cfg.seed)[0], device


COMMAND = Command(
    "describe",
    "tells what a hyperspace, a search space or a model is, as a table and a picture",
    run,
    ("model=SEQnet@vnni-A0", "space=onnxw-151122-023231", "hyperspace=mobilew"),
    ("space", "model", "out_dir"),
)
