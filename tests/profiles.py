"""Profiles made by hand, for tests that must not depend on a clock."""

from __future__ import annotations

from collections.abc import Sequence

from edgecnn.profiling.profiled import Measured, Piece, Timing
from exporters.layerwise.executed import Executed
from exporters.layerwise.peaks import Peaks

PEAKS = Peaks(threads=1, fp32_gmacs=50.0, int8_gmacs=100.0, memory_gb_s=10.0, cache_gb_s=80.0)
TIMING = Timing(runs=10, clock="cpu", plain_us=100.0, profiled_us=130.0, wall_us=101.0, between_us=20.0)


def piece(
    op: str, time_us: float = 10.0, *, origin: str = "", made: str = "float", reads: str = "", makes: str = "",
    macs: int | None = 0, layer: str = "", module: str = "", file_op: str = "", moved: int = 1000, took: str = "uint8",
) -> Piece:  # fmt: skip
    """A kernel `op` for node `origin` that reads and makes the tensors named (words) and makes type `made`."""
    ran = Executed(f"{op}_{origin or makes}", op, "cpu", origin, (time_us,), ((took, (1,)),), ((made, (1,)),), moved,
                   tuple(reads.split()), tuple(makes.split()))  # fmt: skip
    return Piece(ran, module, file_op or op.removeprefix("QLinear"), layer, macs)


def measured(pieces: Sequence[Piece], model: str = "net.onnx", timing: Timing = TIMING) -> Measured:
    return Measured(model, tuple(pieces), timing, PEAKS)
