"""Does another machine give the same answers? Outputs of ONNX files on seeded input, kept on one, compared on another.

    python bench/machines.py keep answers.npz float.onnx int8.onnx       on the one
    python bench/machines.py compare answers.npz float.onnx int8.onnx    on the other, of the same files

Needs numpy and ONNX Runtime alone. `compare --note TEXT` appends what it prints to bench/results/machines.jsonl and
says what a machine cannot know of itself ("emulated by QEMU 7.2"); `table` prints what is there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtimes import machine
from runtimes.base import Array
from runtimes.comparing.distance import json_number
from runtimes.comparing.kinds import snr_db
from runtimes.files import write_atomic
from runtimes.parity import JSON_SNR_LIMIT
from runtimes.session import open_session

RESULTS = Path(__file__).parent / "results" / "machines.jsonl"
NAME = "machine"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("keep", "compare", "table"))
    parser.add_argument("answers", type=Path, nargs="?")
    parser.add_argument("models", type=Path, nargs="*")
    parser.add_argument("--note", help="append to the results, with this beside the machine's name")
    options = parser.parse_args(argv)
    if options.what == "table":
        print(table([json.loads(line) for line in RESULTS.read_text().splitlines()]))
        return 0
    if not options.models:
        parser.error(f"{options.what}: give a file for the answers, and models")
    found = {path.name: answers(path) for path in options.models}
    if options.what == "keep":
        flat = {f"{model}|{output}": value for model, values in found.items() for output, value in values.items()}
        np.savez(options.answers, **{NAME: np.array(named()), **flat})
        return 0
    with np.load(options.answers) as kept:
        rows = compared(kept, found, options.note or "")
    if options.note:
        before = RESULTS.read_bytes() if RESULTS.exists() else b""
        write_atomic(RESULTS, before + "".join(f"{json.dumps(row, sort_keys=True)}\n" for row in rows).encode())
    print(table(rows))
    return 0


def answers(path: Path) -> dict[str, Array]:
    """What the model answers to one seeded sample, on one thread."""
    session = open_session(path, threads=1)
    return dict(session(session.random_feeds()))


def compared(
    kept: Mapping[str, Array], found: Mapping[str, Mapping[str, Array]], note: str = ""
) -> list[dict[str, Any]]:
    """A row for each model: the least share of equal numbers in an output, and the lowest SNR."""
    rows = []
    for model, values in found.items():
        pairs = [(kept[f"{model}|{output}"], value) for output, value in values.items()]
        if any(there.shape != here.shape for there, here in pairs):
            equal, noise = 0.0, -JSON_SNR_LIMIT
        else:
            equal = min(float(np.mean(there == here)) for there, here in pairs)
            noise = min(snr_db(_energy(there), _energy(there.astype(float) - here)) for there, here in pairs)
        row = {"model": model, "equal": equal, "snr_db": json_number(noise, JSON_SNR_LIMIT)}
        rows.append({**row, "kept_on": str(kept[NAME]), "compared_on": named(note)})
    return rows


def _energy(values: Array) -> float:
    return float(np.square(values, dtype=float).sum())


def named(note: str = "") -> str:
    """`AMD EPYC (avx2, avx512, vnni), ONNX Runtime 1.31.1`, and the `note`."""
    told = machine.describe()
    return ", ".join(filter(None, (f"{told.cpu} ({', '.join(told.isa)})", f"ONNX Runtime {told.onnxruntime}", note)))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, a table for each pair of machines."""
    lines = []
    for pair in dict.fromkeys((row["kept_on"], row["compared_on"]) for row in rows):
        lines += [f"{pair[1]}, against {pair[0]}:", "", "| model | equal numbers | SNR |", "|---|---|---|"]
        for row in rows:
            if (row["kept_on"], row["compared_on"]) == pair:
                noise = "inf" if row["snr_db"] == JSON_SNR_LIMIT else f"{row['snr_db']:.1f} dB"
                lines.append(f"| `{row['model']}` | {row['equal']:.1%} | {noise} |")
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
