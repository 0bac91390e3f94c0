"""What `edgecnn diff` needs: partial runs, seconds and memory, for a fault planted in the middle of a network.

    python bench/diff.py [NAME ...]     writes bench/results/diff.jsonl and prints the table; exit 1 for a missed bar
    python bench/diff.py --check        the same of the committed results

The bars: the right layer, at most `ceil(log2(nodes)) + 2` partial runs, and `growth` below `bound`. Each network runs
in a process of its own. `growth` is the peak of resident memory during the search above what the process held with both
models open; `bound` is the size of the model plus twice its largest activation.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
RESULTS = ROOT / "bench" / "results" / "diff.jsonl"
NAMES = ("resnet18", "mobilenet_v2", "unet")
MB = 2**20
SMALL = """<ir_version: 9, opset_import: ["" : 20]>
g (float[1, 8, 32, 32] x, float[8, 8, 3, 3] w, float[8, 1, 3, 3] d, float[8, 8, 2, 2] t, float[1800, 4] m)
=> (float[1, 4] y) {
    c = Conv (x, w) r = Relu (c) s = Conv <group = 8, pads = [1, 1, 1, 1]> (r, d)
    p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (s) u = ConvTranspose <strides = [2, 2]> (p, t)
    a = Add (u, r) o = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a) f = Flatten (o) y = MatMul (f, m)
}"""
"""Touches the kernels, so that the pages of their code are no growth."""


def rss_mb(key: str) -> float:
    """VmRSS or VmHWM of this process."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 1024


def measure(model: str, faulty: str, largest: int) -> dict[str, float | str]:
    """What runs in the child process."""
    import time

    from onnx import parser

    from edgecnn.checking.common_points import compare_sides
    from edgecnn.checking.diff import find
    from edgecnn.checking.sides import graph_side
    from edgecnn.opened import lenient_model
    from runtimes.session import random_feeds

    sides = [graph_side(lenient_model(Path(path)), path, threads=1) for path in (model, faulty)]
    feeds = [random_feeds(sides[0].inputs, 1, seed) for seed in range(3)]
    small, other = (graph_side(parser.parse_model(SMALL.replace("Add", op)), op, threads=1) for op in ("Add", "Sub"))
    find(compare_sides(small, other, [random_feeds(small.inputs, 1, 0)]))  # libraries are loaded
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed before is no room for what comes
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, started = rss_mb("VmRSS"), time.perf_counter()
    report = find(compare_sides(sides[0], sides[1], feeds))
    seconds = time.perf_counter() - started
    return {
        "first": report.first.node if report.first else "",
        "nodes": report.nodes,
        "partial_runs": report.partial_runs,
        "runs_bound": math.ceil(math.log2(report.nodes)) + 2,
        "seconds": round(seconds, 2),
        "growth_mb": round(rss_mb("VmHWM") - before, 1),
        "bound_mb": round((Path(model).stat().st_size + 2 * largest) / MB, 1),
        "model_mb": round(Path(model).stat().st_size / MB, 1),
        "activation_mb": round(largest / MB, 1),
    }


def largest_bytes(path: Path) -> int:
    """Of the largest tensor that a node makes, for one image."""
    from edgecnn.checking.sides import graph_side
    from edgecnn.opened import lenient_model
    from exporters.fix_shapes import fix_shapes
    from exporters.shape_inference import static_shape, tensor_types
    from runtimes.session import random_feeds

    model = lenient_model(path)
    feed = random_feeds(graph_side(model, str(path)).inputs)
    fixed = fix_shapes(model, {name: value.shape for name, value in feed.items()})
    made = {name for node in fixed.graph.node for name in node.output}
    shapes = [static_shape(kind) for name, kind in tensor_types(fixed).items() if name in made]
    return max(4 * math.prod(shape) for shape in shapes if shape is not None)


def planted(name: str, folder: Path) -> tuple[Path, Path, str]:
    """(the network as a file, the same with one kernel flipped, the node that it is in)."""
    import numpy as np
    import onnx
    from onnx import numpy_helper

    from edgecnn import api

    good = folder / f"{name}.onnx"
    api.export(name, good)
    model = onnx.load(good)
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    node = convs[2 * len(convs) // 3]
    tensor = next(t for t in model.graph.initializer if t.name == node.input[1])
    value = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value[::-1]), tensor.name))
    bad = folder / f"{name}_bad.onnx"
    onnx.save(model, bad)
    return good, bad, node.name


def row_of(name: str) -> dict[str, Any]:
    """One network, searched in a child process."""
    from runtimes import machine

    with tempfile.TemporaryDirectory() as folder:
        good, bad, node = planted(name, Path(folder))
        command = [sys.executable, __file__, "--child", str(good), str(bad), str(largest_bytes(good))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    row = json.loads(done.stdout.splitlines()[-1])
    return {"network": name, "planted": node, **row, "machine": machine.describe().to_dict()}


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| network | nodes | partial runs: taken / bar | memory: growth / bar | seconds |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        runs, memory = f"{row['partial_runs']} / {row['runs_bound']}", f"{row['growth_mb']} / {row['bound_mb']} MiB"
        lines.append(f"| `{row['network']}` | {row['nodes']} | {runs} | {memory} | {row['seconds']} |")
    return "\n".join(lines)


def check(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What misses its bar, one line each."""
    missed = []
    for row in rows:
        name = row["network"]
        if row["first"] != row["planted"]:
            missed.append(f"{name}: named {row['first']}, the fault is in {row['planted']}")
        if row["partial_runs"] > row["runs_bound"]:
            missed.append(f"{name}: {row['partial_runs']} partial runs, at most {row['runs_bound']}")
        if row["growth_mb"] > row["bound_mb"]:
            missed.append(f"{name}: {row['growth_mb']} MiB more memory, at most {row['bound_mb']} MiB")
    return missed


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"networks of the zoo; none: {', '.join(NAMES)}, kept")
    parser.add_argument("--check", action="store_true", help="measure nothing, judge the committed results")
    options = parser.parse_args(argv)
    rows = [] if options.check else [row_of(name) for name in options.names or NAMES]
    if rows and not options.names:
        from runtimes.files import write_atomic

        write_atomic(RESULTS, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode())
    rows = rows or [json.loads(line) for line in RESULTS.read_text().splitlines()]
    missed = check(rows)
    print("\n".join([table(rows), *missed]))
    return 1 if missed else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        print(json.dumps(measure(*sys.argv[2:4], int(sys.argv[4]))))
    else:
        sys.exit(main())
