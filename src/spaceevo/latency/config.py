"""The device that models are made for, and the latencies that they are to keep."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from spaceevo.errors import UserError, bad_value
from spaceevo.settings import COUNT, THREADS, setting
from spaceevo.space.graph import PADDINGS, SCHEMES

SHIPPED = "shipped"  # ``device.predictor``: the one that comes with the package
#: Whose latency can be a model's: those of ``latency/runtimes``, which are only loaded where they are needed.
RUNTIMES = ("onnxruntime", "litert", "openvino")


@dataclass
class DeviceConfig:
    """The device models are made for."""

    name: str = setting("names it, and its models")
    runtime: str = setting(
        "what latencies are measured in, and limits hold for; none: the device is not here",
        choices=(*RUNTIMES, "none"),
    )
    at: str = setting("where it is: this machine, or one behind ssh or adb", choices=("here", "ssh", "adb"))
    host: str | None = setting("for ssh: whom it connects to, e.g. pi@raspberrypi")
    python: str = setting("for ssh: the interpreter there, with numpy and the runtime")
    serial: str | None = setting("for adb: the phone's serial; null: the only one")
    benchmark_model: str = setting("for adb: TFLite's benchmark_model, a file here or its path on the phone")
    threads: int = setting("CPU threads of the runtime", least=1, most=THREADS)
    weight_bits: int | str = setting(
        "of a weight; auto: 8 where this CPU has VNNI or is no x86, else 7", choices=("auto", 7, 8)
    )
    padding: str = setting("how convolutions of stride 2 pad, in training and in every file", choices=PADDINGS)
    activations: str = setting(
        "affine: 8 bits with a learned zero point; symmetric: int8 with zero point 0, as TensorRT needs them", choices=SCHEMES
    )
    predictor: str | None = setting(
        "its latency predictor: shipped, a predictor's JSON file, or a folder of published tables; null: fitted to the profile"
    )

    def check(self) -> None:
        """A number as the command line gives it.

        Raises:
            UserError: bits of this CPU for another one.
        """
        if self.at != "here" and self.weight_bits == "auto":
            raise bad_value("device.weight_bits", "auto", f"7 or 8 for device.at={self.at}: auto looks at this machine's CPU")
        if isinstance(self.weight_bits, str) and self.weight_bits not in ("auto", MISSING):
            self.weight_bits = int(self.weight_bits)


@dataclass
class LatencyConfig:
    """The latency limits; or say them: latency.limits_ms=[0.3,0.5,0.8]."""

    limits_ms: list[float] | None = setting("the limits, ms; null: quantiles says them", most=COUNT, distinct=True)
    quantiles: list[float] | None = setting(
        "the limits as quantiles of the predicted latency of random subnets of the hyperspace", below=1, distinct=True
    )

    def check(self) -> None:
        """Raises:
        UserError: neither is given.
        """
        if self.limits_ms is None and self.quantiles is None:
            raise UserError("latency: give limits_ms=[...] or quantiles=[...]")
