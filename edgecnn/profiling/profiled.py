"""What `profile` finds: one model's time, kernel by kernel, and the same rolled up to nodes, modules and operators.

    share of peak = (MACs / peak of their number type) / time         intensity = MACs / bytes moved

MACs are of the file's node (edgecnn/numbers/onnx_numbers.py), bytes are activations and weights that a kernel reads
or writes once, from the shapes that ran. What no node of the file stands for is in rows in brackets.
Test: tests/test_profile.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from exporters.layerwise.executed import Executed
from exporters.layerwise.peaks import Peaks
from runtimes.latency import ClockName

By = Literal["node", "module", "op"]
GROUPINGS: tuple[str, ...] = get_args(By)
PUT_IN = {"layout": "(layout)", "quantize": "(quantize)"}
NO_MODULE = "(no module)"


@dataclass(frozen=True)
class Piece:
    """One kernel that ran, and what the file says of its node. `layer` as in a textbook: `conv3-64 56x56`."""

    ran: Executed
    module: str = ""
    op: str = ""
    layer: str = ""
    macs: int | None = 0

    @property
    def node(self) -> str:
        """The node of the file, or in brackets what was put in."""
        return self.ran.origin or PUT_IN.get(self.ran.kind, f"({self.ran.op})")


@dataclass(frozen=True)
class Row:
    """Kernels summed up. `ideal_us` is what `macs` take at the measured peak; None where the MACs are unknown."""

    name: str
    layer: str
    module: str
    kernels: tuple[str, ...]
    kinds: tuple[str, ...]
    count: int
    time_us: float
    macs: int | None
    moved_bytes: int
    ideal_us: float | None

    @property
    def intensity(self) -> float | None:
        """MACs a byte."""
        return self.macs / self.moved_bytes if self.macs and self.moved_bytes else None

    @property
    def gmacs(self) -> float | None:
        """10**9 multiply-adds a second."""
        return self.macs / self.time_us / 1e3 if self.macs and self.time_us else None

    @property
    def gb_s(self) -> float | None:
        """10**9 bytes moved a second."""
        return self.moved_bytes / self.time_us / 1e3 if self.time_us else None

    @property
    def of_peak(self) -> float | None:
        return self.ideal_us / self.time_us if self.ideal_us and self.time_us else None

    def to_dict(self, total_us: float) -> dict[str, Any]:
        return {
            "name": self.name, "layer": self.layer, "module": self.module, "kernels": list(self.kernels),
            "kinds": list(self.kinds), "count": self.count, "time_us": self.time_us,
            "share": self.time_us / total_us if total_us else None, "macs": self.macs,
            "moved_bytes": self.moved_bytes, "macs_per_byte": self.intensity, "gmacs": self.gmacs,
            "gb_s": self.gb_s, "of_peak": self.of_peak,
        }  # fmt: skip


@dataclass(frozen=True)
class Timing:
    """Medians over `runs` interleaved pairs of runs, plain and with the profiler on, in the time of `clock`.

    `wall_us` is the plain run on the wall; more than its CPU time on one thread, it waited for others. `between_us` is
    what lies between the kernels of a profiled run: scheduling, and the profiler's own notes.
    """

    runs: int
    clock: ClockName
    plain_us: float
    profiled_us: float
    wall_us: float
    between_us: float

    @property
    def waited(self) -> float:
        """Wall time over the time that the work took."""
        return self.wall_us / self.plain_us if self.plain_us else 1.0


@dataclass(frozen=True)
class Measured:
    """One model, profiled. `timing` is of whole runs, `pieces` are the kernels in the order they ran."""

    model: str
    pieces: tuple[Piece, ...]
    timing: Timing
    peaks: Peaks

    @property
    def nodes_us(self) -> float:
        """Sum of the kernels' medians."""
        return sum(piece.ran.time_us for piece in self.pieces)

    @property
    def integer(self) -> bool:
        """Whether some of it runs in int8."""
        return any(piece.ran.kind == "int8" for piece in self.pieces)

    def rows(self, by: By = "node", depth: int | None = None) -> tuple[Row, ...]:
        """The kernels summed up, the slowest first; `depth` cuts module paths to so many names."""
        keys: Mapping[str, Callable[[Piece], str]] = {
            "node": lambda piece: piece.node,
            "module": lambda piece: module_of(piece, depth),
            "op": lambda piece: piece.ran.op,
        }
        groups: dict[str, list[Piece]] = {}
        for piece in self.pieces:
            groups.setdefault(keys[by](piece), []).append(piece)
        rows = (self.row(name, pieces) for name, pieces in groups.items())
        return tuple(sorted(rows, key=lambda row: -row.time_us))

    def row(self, name: str, pieces: Iterable[Piece]) -> Row:
        """`pieces` as one row called `name`."""
        pieces = list(pieces)
        macs = [piece.macs for piece in pieces]
        known = [count for count in macs if count is not None]
        whole = len(known) == len(macs)
        ideal = sum((p.macs or 0) / self.peaks.gmacs(p.ran.kind == "int8") / 1e3 for p in pieces)
        return Row(
            name, _common(p.layer for p in pieces if p.layer), _common(p.module for p in pieces),
            tuple(dict.fromkeys(p.ran.op for p in pieces)), tuple(dict.fromkeys(p.ran.kind for p in pieces)),
            len(pieces), sum(p.ran.time_us for p in pieces), sum(known) if whole else None,
            sum(p.ran.moved_bytes for p in pieces), ideal if whole else None,
        )  # fmt: skip

    def to_dict(self) -> dict[str, Any]:
        timing = self.timing
        return {
            "model": self.model,
            "threads": self.peaks.threads,
            "nodes_us": self.nodes_us,
            **asdict(timing),
            **{f"by_{by}": [row.to_dict(self.nodes_us) for row in self.rows(by)] for by in get_args(By)},
        }


def _common(words: Iterable[str]) -> str:
    """The one word that all are, else nothing."""
    found = set(words)
    return found.pop() if len(found) == 1 else ""


def module_of(piece: Piece, depth: int | None = None) -> str:
    """The first `depth` names of its module, or in brackets what was put in or has none."""
    return _cut(piece.module or PUT_IN.get(piece.ran.kind, NO_MODULE), depth)


def _cut(path: str, depth: int | None) -> str:
    """The first `depth` names of a module's path.

    >>> _cut("layer1.0.conv1", 2), _cut("(layout)", 1)
    ('layer1.0', '(layout)')
    """
    return path if depth is None or path.startswith("(") else ".".join(path.split(".")[:depth])
