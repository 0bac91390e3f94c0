"""Where the nodes of a run really ran: on the provider that was asked for, or away from it, which costs copies.

    profile of one run ──> on it | shape nodes (CPU by design) | away from it | copies between the two

A session that was given the GPU still runs every node that has no kernel there on the CPU, without a word. Nodes that
only compute with shapes (Shape, Gather of a size, Concat of sizes ...) are on the CPU on purpose: they hold a handful
of integers that the CPU needs itself, and stand apart. Source: ONNX Runtime, `GetCpuPreferredNodes`.
Test: tests/test_residence.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runtimes.base import CheckFailed, Tensors, counted
from runtimes.census import NodeRun, profile
from runtimes.session import Model

COPIES = ("MemcpyFromHost", "MemcpyToHost")
SHAPE_OPS = frozenset([
    "Shape", "Size", "Gather", "Concat", "Slice", "Squeeze", "Unsqueeze", "Cast", "Add", "Sub", "Mul", "Div", "Mod",
    "Neg", "Equal", "Greater", "Less", "Where", "Range", "Reshape", "Expand", "ConstantOfShape", "ReduceProd",
    "ReduceMin", "ReduceMax", "Min", "Max", "Identity", "Not", "And", "Or", "Constant",
])  # fmt: skip
FLOATS = frozenset(["float", "float16", "double", "bfloat16"])
MOST_NAMED = 3


@dataclass(frozen=True)
class Residence:
    """Every executed node in exactly one of the four; `provider` is the name without options."""

    provider: str
    here: tuple[NodeRun, ...]
    shapes: tuple[NodeRun, ...] = ()
    away: tuple[NodeRun, ...] = ()
    copies: tuple[NodeRun, ...] = ()

    def require_all(self, subject: str) -> Residence:
        """This record, when nothing but shape nodes left the provider; raises `CheckFailed` with the first that did."""
        if self.away:
            count = counted(len(self.here) + len(self.away), "node")
            where = " and ".join(sorted({run.provider for run in self.away}))
            names = ", ".join(f"{run.op} ({run.node})" for run in self.away[:MOST_NAMED])
            more = f" and {len(self.away) - MOST_NAMED} more" if len(self.away) > MOST_NAMED else ""
            raise CheckFailed(
                f"{subject}: {len(self.away)} of {count} ran on {where}, not on {self.provider}: {names}{more}; "
                "leave out --require-all to allow it"
            )
        return self

    @property
    def words(self) -> str:
        """`98 nodes ran on cuda, 3 shape nodes on cpu: Shape (s), Gather (g), Concat (c)`."""
        text = f"{counted(len(self.here), 'node')} ran on {self.provider}"
        for what, runs in (("shape node", self.shapes), ("node", self.away)):
            if runs:
                where = " and ".join(sorted({run.provider for run in runs}))
                named = ", ".join(f"{run.op} ({run.node})" for run in runs)
                text += f", {counted(len(runs), what)} on {where}: {named}"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Nodes by name and operator for what is not on the provider, and how many are."""
        listed = {
            name: [{"node": run.node, "op": run.op, "provider": run.provider} for run in getattr(self, name)]
            for name in ("shapes", "away", "copies")
        }
        return {"provider": self.provider, "here": len(self.here), **listed}


def residence(
    model: Model,
    feeds: Tensors,
    provider: str,
    threads: int = 1,
    *,
    external: Mapping[str, bytes] | None = None,
) -> Residence:
    """Run `model` on `feeds` and say where its nodes ran; arguments and errors are those of `open_session`."""
    return sorted_out(profile(model, feeds, provider, threads, external=external), provider)


def sorted_out(runs: Iterable[NodeRun], provider: str) -> Residence:
    """`runs` by where they ran, in their order, for the provider that was asked for (its options do not matter)."""
    name = provider.partition(":")[0]
    found: dict[str, list[NodeRun]] = {"here": [], "shapes": [], "away": [], "copies": []}
    for run in runs:
        found[_place(run, name)].append(run)
    return Residence(name, **{place: tuple(nodes) for place, nodes in found.items()})


def _place(run: NodeRun, provider: str) -> str:
    if run.op in COPIES:
        return "copies"
    if run.provider == provider:
        return "here"
    only_integers = bool(run.outputs) and not FLOATS & {kind for kind, _ in run.outputs}
    return "shapes" if run.op in SHAPE_OPS and only_integers else "away"
