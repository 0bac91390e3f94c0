"""int8 against float on this machine: every network on the real road, raced interleaved on one thread in CPU time.

    python bench/latency.py [NETWORK ...] [--rounds 200]      writes bench/results/latency-<cpu>.jsonl
    python bench/latency.py --table                           prints the tables of docs/bench.md, one for each machine
    python bench/latency.py --check                           exit 1 when ResNet-18 missed its 2.5x on a VNNI CPU

Four graphs run in one race: ONNX Runtime's float32 at its highest optimization level, our int8, and ONNX Runtime's own
`quantize_static` on the same 32 images, once with its defaults and once at its best (U8S8, per channel). Weights are
seeded, pictures are seeded textures (edgecnn/data/textures.py): what is measured is time, and SNR as a sanity check.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgecnn.data.textures import textures
from edgecnn.networks.sources import resolve
from edgecnn.stages import INPUT_NAME, float_road
from exporters.quantization.quantize import QuantRecipe, quantize_model
from runtimes import machine
from runtimes.base import Tensors
from runtimes.census import census, kernels_dict
from runtimes.files import write_atomic
from runtimes.latency import race
from runtimes.parity import compare
from runtimes.session import open_session

RESULTS = Path(__file__).parent / "results"
NETWORKS = ("resnet18", "resnet50", "mobilenet_v2", "resnet8_w32", "resnet8", "lenet5")
IMAGES = 32
TARGET = ("resnet18", 2.5)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=40.0, help="at most so long for one race")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    if options.table:
        print(tables())
        return 0
    if options.check:
        return max(check(rows) for rows in results())
    logging.disable(logging.WARNING)  # quantize_static recommends its own preprocessing, aloud
    rows = [measure(name, options.rounds, options.seconds) for name in options.networks]
    path = RESULTS / f"latency-{slug(machine.describe())}.jsonl"
    write_atomic(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode())
    print(table(rows), f"\nwritten: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path.name}")
    return 0


def measure(name: str, rounds: int, seconds: float) -> dict[str, Any]:
    """One row: sizes, median CPU milliseconds, ratios over float with their 95 % intervals, SNR, kernels that ran."""
    network = resolve(name)
    model, _, _ = float_road(network)
    rng = np.random.default_rng(1)
    feeds: list[Tensors] = [{INPUT_NAME: textures(network.ready, 1, rng)} for _ in range(2 * IMAGES)]
    seen, unseen = feeds[:IMAGES], feeds[IMAGES:]
    graphs: dict[str, Any] = {"float": model, "int8": quantize_model(model, seen, QuantRecipe()).model}
    graphs |= dict(theirs(model, seen))
    sessions = {key: open_session(graph, threads=1) for key, graph in graphs.items()}
    calls = {key: (lambda session=session: session(unseen[0])) for key, session in sessions.items()}
    run = race(calls, rounds=rounds, seconds=seconds, threads=1)
    row: dict[str, Any] = {
        "network": name,
        "machine": machine.describe().to_dict(),
        "clock": run.clock,
        "rounds": run.rounds,
        "threads": 1,
        "kernels": kernels_dict(census(graphs["int8"], unseen[0])),
    }
    for key in graphs:
        ratio = run.ratio(key, "float").to_dict() if key != "float" else None
        snr = compare(sessions["float"], sessions[key], unseen).snr_db if key != "float" else None
        entry = {"ms": float(np.median(run.times_ms(key))), "size_bytes": sessions[key].size_bytes}
        row[key] = {**entry, "ratio": ratio, "snr_db": snr}
    print(f"{name}: int8 {row['int8']['ratio']['ratio']:.2f}x of float", file=sys.stderr)
    return row


def theirs(model: onnx.ModelProto, feeds: Sequence[Tensors]) -> Iterator[tuple[str, bytes]]:
    """ONNX Runtime's static quantizer: its defaults (S8S8 per tensor), and its best for CPUs (U8S8 per channel)."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> Tensors | None:
            return next(self.left, None)

    best = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, source)
        for key, options in (("ort_default", {}), ("ort_best", best)):
            quantize_static(source, target, Reader(), **options)
            yield key, target.read_bytes()


def slug(described: machine.Machine) -> str:
    """`intel-xeon-processor-avx512-vnni` and the like: a file name that says which CPU."""
    text = f"{described.cpu} {' '.join(described.isa)}".lower().replace("(r)", "")
    return re.sub(r"[^a-z0-9]+", "-", text).strip("-")


def results() -> list[list[dict[str, Any]]]:
    """The rows of every machine that was measured."""
    files = sorted(RESULTS.glob("latency-*.jsonl"))
    if not files:
        sys.exit("no results yet: run python bench/latency.py")
    return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]


def tables() -> str:
    return "\n\n".join(table(rows) for rows in results())


def table(rows: Sequence[dict[str, Any]]) -> str:
    """One table (Markdown), headed by the machine that it was measured on."""
    about = rows[0]["machine"]
    head = f"{about['cpu']} ({', '.join(about['isa'])}), ONNX Runtime {about['onnxruntime']}, one thread, batch 1"
    lines = [
        head + ":",
        "",
        "| network | float ms | int8 ms | speed-up (95 %) | `quantize_static`: default / best | SNR: ours / best |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        own, default, best = (row[key]["ratio"] for key in ("int8", "ort_default", "ort_best"))
        cells = [
            f"`{row['network']}`",
            f"{row['float']['ms']:.3g}",
            f"{row['int8']['ms']:.3g}",
            f"**{own['ratio']:.2f}x** ({own['low']:.2f} to {own['high']:.2f})",
            f"{default['ratio']:.2f}x / {best['ratio']:.2f}x",
            f"{row['int8']['snr_db']:.1f} / {row['ort_best']['snr_db']:.1f} dB",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def check(rows: Sequence[dict[str, Any]]) -> int:
    """0 when the target holds on a CPU with VNNI; other CPUs have no target."""
    name, least = TARGET
    row = next((row for row in rows if row["network"] == name), None)
    if row is None or "vnni" not in row["machine"]["isa"]:
        print(f"no {name} on a VNNI CPU in the newest results: nothing to check")
        return 0
    ratio = row["int8"]["ratio"]["low"]
    print(f"{name}: int8 at least {ratio:.2f}x of float (lower end of the interval), wanted {least}x")
    return 0 if ratio >= least else 1


if __name__ == "__main__":
    sys.exit(main())
