"""The device that models are made for, and the latencies that they are to keep."""

from __future__ import annotations

from dataclasses import dataclass

from omegaconf import MISSING

from spaceevo.errors import UserError, bad_value
from spaceevo.settings import setting
from spaceevo.space.graph import PADDINGS


@dataclass
class DeviceConfig:
    """The device models are made for."""

    name: str = MISSING
    runtime: str = setting(choices=("onnxruntime", "none"))
    threads: int = setting(least=1)
    weight_bits: int | str = setting(choices=("auto", 7, 8))
    padding: str = setting(choices=PADDINGS)
    predictor: str | None = MISSING

    def check(self) -> None:
        """A number as the command line gives it."""
        if isinstance(self.weight_bits, str) and self.weight_bits != "auto":
            self.weight_bits = int(self.weight_bits)


@dataclass
class LatencyConfig:
    """Latency limits in ms, or as quantiles of the predicted latency of random subnets of the hyperspace."""

    limits_ms: list[float] | None = MISSING
    quantiles: list[float] | None = MISSING

    def check(self) -> None:
        """Raises:
        UserError: neither is given, or a value that cannot be.
        """
        if self.limits_ms is None and self.quantiles is None:
            raise UserError("latency: give limits_ms=[...] or quantiles=[...]")
        for key, values, top in (("limits_ms", self.limits_ms, float("inf")), ("quantiles", self.quantiles, 1.0)):
            if values is None:
                continue
            allowed = "a list of numbers above 0" + ("" if top > 1 else " and below 1")
            if not values or not all(0 < value < top for value in values):
                raise bad_value(f"latency.{key}", values, allowed)
            if len(set(values)) < len(values):
                raise bad_value(f"latency.{key}", values, "without repeats")
