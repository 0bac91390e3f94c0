"""What `edgecnn quantize` ships for every network of the zoo, against float, and what holds the slow ones back.

    python bench/zoo.py [NETWORK ...]     adds to bench/results/zoo-<cpu>.jsonl; all of the zoo when none is named
    python bench/zoo.py --table           prints the tables of docs/zoo.md, one for each machine

Measured as `bench/int8.py` does, without peers: 32 seeded pictures to calibrate on (8 for networks of more than 10
GMAC), one race a network, interleaved, in CPU time, one thread. Weights are random: times are real, answers are not.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import int8
from latency import slug

from edgecnn.networks.zoo import list_models
from runtimes import machine

RESULTS = Path(__file__).parent / "results"
LARGE_MACS, FEW_IMAGES = 10e9, 8
SLOW = 1.5
"""Below this speed-up the table names a reason."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    zoo = {row.name: row.macs for row in sorted(list_models(), key=lambda row: row.macs)}
    parser.add_argument("networks", nargs="*", default=list(zoo))
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=15.0, help="at most so long for one race")
    parser.add_argument("--search-budget", type=float, default=30.0)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(argv)
    if options.table:
        print(tables())
        return 0
    logging.disable(logging.WARNING)
    path = RESULTS / f"zoo-{slug(machine.describe())}.jsonl"
    for name in options.networks:
        images = FEW_IMAGES if zoo[name] > LARGE_MACS else int8.IMAGES
        row = int8.measure(name, options.rounds, options.seconds, options.search_budget, images, beside=False)
        int8.keep(path, row, list(zoo))
        print(line(row), file=sys.stderr)
    return 0


def results() -> list[list[dict[str, Any]]]:
    """The rows of every machine that was measured."""
    return [int8.read(file) for file in sorted(RESULTS.glob("zoo-*.jsonl"))]


def tables() -> str:
    return "\n\n".join(map(table, results()))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    about = rows[0]["machine"]
    head = f"{about['cpu']} ({', '.join(about['isa'])}), ONNX Runtime {about['onnxruntime']}, one thread, batch 1:"
    columns = f"| network | float ms | shipped | speed-up (95 %) | SNR | under {SLOW}x because of |"
    return "\n".join([head, "", columns, "|---|---|---|---|---|---|", *map(line, rows)])


def line(row: Mapping[str, Any]) -> str:
    chosen, snr = row["chosen"], row["ours"]["snr_db"]
    loss = "-" if chosen == "float" else f"{snr:.1f} dB"
    slow = reason(row["kinds"]) if int8.speed(row, "ours") < SLOW else ""
    ms = int8.milliseconds(row["float"]["ms"])
    return f"| `{row['network']}` | {ms} | {chosen} | {int8.cell(row, 'ours')} | {loss} | {slow} |"


def reason(kinds: Mapping[str, Sequence[float]], most: int = 2) -> str:
    """The kinds of layer that take the most time over what would make the network `SLOW` times as fast."""
    over = {kind: int8_us - float_us / SLOW for kind, (float_us, int8_us) in kinds.items()}
    worst = sorted((kind for kind in over if over[kind] > 0), key=lambda kind: -over[kind])[:most]
    named = [f"{kind}: float {kinds[kind][0]:.0f} us, int8 {kinds[kind][1]:.0f} us" for kind in worst]
    return "; ".join(named) or "no kind of layer alone; what stands between them"


if __name__ == "__main__":
    sys.exit(main())
