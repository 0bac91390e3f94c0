"""The memory and time that quantizing a network takes: whole processes, as a user starts them.

    python bench/memory.py [NETWORK ...]    writes bench/results/memory-<cpu>.jsonl and prints the table
    python bench/memory.py --table          prints the table of the results that are there

`edgecnn quantize MODEL -o OUT --calib shapes:32`, with the default search and with `--search-budget 0`, where the
accuracy budget holds at once (`--max-drop 1`) and where it does not and all is tried (the default: random weights miss
it). Peak: resident memory of the process at its highest, as the system counts it. Time: of all processors, and on the
clock.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import int8
from latency import RESULTS, slug

from runtimes import machine

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ("resnet50", "alexnet", "vgg16")
IMAGES = 32
SEARCHES: Mapping[str, Sequence[str]] = {"default": (), "0": ("--search-budget", "0")}
HELD: Mapping[str, Sequence[str]] = {"held at once": ("--max-drop", "1"), "missed": ()}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(argv)
    if not options.table:
        path = RESULTS / f"memory-{slug(machine.describe())}.jsonl"
        for name in options.networks:
            int8.keep(path, measure(name), list(NETWORKS))
    print(tables())
    return 0


def measure(network: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        model, out = Path(folder) / "model.onnx", Path(folder) / "out.onnx"
        _run("export", network, "-o", str(model))
        asked = ["quantize", str(model), "-o", str(out), "--calib", f"shapes:{IMAGES}", "--force"]
        runs = [
            {"search": search, "budget": held, **_run(*asked, *options, *more)}
            for search, options in SEARCHES.items()
            for held, more in HELD.items()
        ]
        size = sum(file.stat().st_size for file in Path(folder).glob("model.onnx*"))
    return {"network": network, "size_bytes": size, "runs": runs, "machine": machine.describe().to_dict()}


def _run(*words: str) -> dict[str, float]:
    """Peak memory and times of one command, measured by a parent that has no other child."""
    watched = [sys.executable, __file__, "--watched", *words]
    done = subprocess.run(watched, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def watch(words: Sequence[str]) -> None:
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "edgecnn", *words], check=True, capture_output=True)
    clock, used = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = round(used.ru_utime + used.ru_stime, 1)
    print(json.dumps({"peak_mb": round(used.ru_maxrss / 1024), "cpu_s": cpu, "clock_s": round(clock, 1)}))


def tables() -> str:
    return "\n\n".join(table(int8.read(file)) for file in sorted(RESULTS.glob("memory-*.jsonl")))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    about = rows[0]["machine"]
    lines = [
        f"{about['cpu']} ({', '.join(about['isa'])}), {about['cores']} cores, ONNX Runtime {about['onnxruntime']}:",
        "",
        "| network | file | `--search-budget` | accuracy budget | peak | CPU time | on the clock |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        named = f"| `{row['network']}` | {row['size_bytes'] / 1e6:.0f} MB "
        for run in row["runs"]:
            peak, times = f"{run['peak_mb'] / 1000:.1f} GB", f"{run['cpu_s']:.0f} s | {run['clock_s']:.0f} s"
            lines.append(f"{named}| {run['search']} | {run['budget']} | {peak} | {times} |")
            named = "|  |  "
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watched"]:
        watch(sys.argv[2:])
    else:
        sys.exit(main())
