"""What our `Session` costs over ONNX Runtime's own `InferenceSession.run`, in microseconds a call.

    python bench/overhead.py            writes bench/results/overhead.jsonl (a few seconds) and prints the table
    python bench/overhead.py --check    exit 1 when a committed result is over the 5 microseconds

The graph does nothing (Identity), so that the call is all there is. Batches of calls of the raw session, of ours and of
`Session.prepare` take turns; reported is the median of the differences between neighbours, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx.parser

from runtimes import machine
from runtimes.files import write_atomic
from runtimes.latency import Call, race
from runtimes.session import open_session
from runtimes.timing.ratios import interval

RESULTS = Path(__file__).parent / "results" / "overhead.jsonl"
LIMIT_US = 5.0
CALLS, ROUNDS = 200, 300
SIZES = (1, 4)
"""Numbers of inputs and outputs."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    if not options.check:
        rows = [measure(count) for count in SIZES]
        write_atomic(RESULTS, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode())
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    print(table(rows))
    return check(rows)


def measure(count: int, rounds: int = ROUNDS) -> dict[str, Any]:
    """One row: a graph with `count` inputs and as many outputs."""
    ins, outs = (", ".join(f"float[1,8] {name}{i}" for i in range(count)) for name in "xy")
    body = " ".join(f"y{i} = Identity (x{i})" for i in range(count))
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> g ({ins}) => ({outs}) {{ {body} }}')
    session = open_session(model, threads=1)
    feeds = {f"x{i}": np.zeros((1, 8), np.float32) for i in range(count)}
    raw, names = session.raw, [info.name for info in session.outputs]
    run = race({"raw": many(lambda: raw.run(names, feeds)), "session": many(lambda: session(feeds)),
                "prepared": many(session.prepare(feeds))}, rounds, threads=1)  # fmt: skip
    row = {"tensors": count, "rounds": rounds, "calls": CALLS, "clock": run.clock}
    row["raw_us"] = float(np.median(run.times_ms("raw"))) * 1000 / CALLS
    for name in ("session", "prepared"):
        extra = (np.subtract(run.times_ms(name), run.times_ms("raw")) * 1000 / CALLS).tolist()
        low, high = interval(tuple(extra), 50)
        row[name] = {"extra_us": float(np.median(extra)), "low": low, "high": high}
    return {**row, "machine": machine.describe().to_dict()}


def many(call: Call) -> Call:
    def run() -> None:
        for _ in range(CALLS):
            call()

    return run


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| inputs and outputs | raw `run` | `Session` adds (95 %) | `Session.prepare` adds (95 %) |",
        "|---|---|---|---|",
    ]
    for row in rows:
        cells = (
            f"{c['extra_us']:.2f} us ({c['low']:.2f} to {c['high']:.2f})" for c in (row["session"], row["prepared"])
        )
        lines.append(f"| {row['tensors']} | {row['raw_us']:.1f} us | {' | '.join(cells)} |")
    return "\n".join(lines)


def check(rows: Sequence[dict[str, Any]]) -> int:
    """0 when the upper end of every interval is under the limit."""
    worst = max(row[name]["high"] for row in rows for name in ("session", "prepared"))
    print(f"at most {worst:.2f} us, limit {LIMIT_US} us")
    return 0 if worst < LIMIT_US else 1


if __name__ == "__main__":
    sys.exit(main())
