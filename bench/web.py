"""int8 against float in WebAssembly, as browsers run them (onnxruntime-web): one race a network, one thread, CPU time.

    npm install --prefix FOLDER onnxruntime-web
    python bench/web.py FOLDER [NETWORK ...]    adds to bench/results/web-<cpu>.jsonl and prints the table
    python bench/web.py --table                 prints the tables of the results that are there

Needs Node.js 20. "int8" is what `quantize --target vnni` makes: WebAssembly sums 8-bit products exactly too; "dense" is
that with the depthwise convolutions in float. Ratios are of interleaved rounds; SNR is against float in the same
WebAssembly, on a seeded picture that did not calibrate; 32 did. Weights are random: times are real, answers are not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import int8
import numpy as np
import onnx
from latency import RESULTS, slug

from edgecnn.data.textures import textures
from edgecnn.networks.sources import resolve
from edgecnn.stages import INPUT_NAME, float_road
from exporters.graph import attributes
from exporters.quantization.quantize import QuantRecipe, quantize_model
from runtimes import machine
from runtimes.comparing.kinds import snr_db
from runtimes.latency import LatencyReport, Race

NETWORKS = ("resnet18", "vgg16", "squeezenet1_1", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_lite0", "resnet8")
CALIBRATED = 32
SCRIPT = Path(__file__).with_suffix(".mjs")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, help="where onnxruntime-web is installed")
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(argv)
    if not options.table:
        if options.folder is None:
            parser.error("give the FOLDER of `npm install --prefix FOLDER onnxruntime-web`")
        for name in options.networks:
            row = measure(name, options.folder, options.rounds)
            int8.keep(RESULTS / f"web-{slug(machine.describe())}.jsonl", row, NETWORKS)
    print(tables())
    return 0


def measure(name: str, folder: Path, rounds: int) -> dict[str, Any]:
    """One row: median of float, and of each int8 graph speed over float, SNR (dB) and bytes."""
    network = resolve(name)
    model = float_road(network)[0]
    rng = np.random.default_rng(1)
    feeds = [{INPUT_NAME: textures(network.ready, 1, rng)} for _ in range(CALIBRATED + 1)]
    graphs = {"float": model, "int8": quantized(model, feeds[:CALIBRATED], ())}
    depthwise = [node.name for node in model.graph.node if attributes(node).get("group", 1) > 1]
    if depthwise:
        graphs["dense"] = quantized(model, feeds[:CALIBRATED], depthwise)
    ended = in_webassembly(folder, graphs, feeds[-1][INPUT_NAME], rounds)
    reports = {key: LatencyReport(tuple(one["cpu_ms"]), tuple(one["cpu_ms"])) for key, one in ended["models"].items()}
    race = Race(reports, "cpu")
    outputs = {key: np.array(one["output"], np.float32) for key, one in ended["models"].items()}
    int8_graphs = {
        key: {
            "ratio": race.ratio(key, "float").to_dict(),
            "snr_db": round(snr_db(*power(outputs["float"], outputs[key])), 1),
            "bytes": graphs[key].ByteSize(),
        }
        for key in graphs
        if key != "float"
    }
    first = {"network": name, "float_ms": race.median_ms("float"), "float_bytes": model.ByteSize()}
    return {**first, "int8": int8_graphs, "version": ended["version"], "machine": machine.describe().to_dict()}


def power(want: np.ndarray, have: np.ndarray) -> tuple[float, float]:
    return float((want**2).sum()), float(((have - want) ** 2).sum())


def quantized(model: onnx.ModelProto, feeds: Sequence[Any], exclude: Sequence[str]) -> onnx.ModelProto:
    return quantize_model(model, feeds, QuantRecipe(target="vnni", exclude=tuple(exclude))).model


def in_webassembly(
    folder: Path, graphs: Mapping[str, onnx.ModelProto], feed: np.ndarray, rounds: int
) -> dict[str, Any]:
    """What bench/web.mjs says of `graphs`, by their names."""
    with tempfile.TemporaryDirectory() as made:
        for name, graph in graphs.items():
            onnx.save(graph, Path(made) / name)
        feed.tofile(Path(made) / "feed.f32")
        files = [str(Path(made) / name) for name in ("feed.f32", *graphs)]
        args = ["node", str(SCRIPT), str(rounds), "5", *files]
        found = json.loads(subprocess.run(args, cwd=folder, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return {**found, "models": {Path(file).name: one for file, one in found["models"].items()}}


def tables() -> str:
    return "\n\n".join(table(int8.read(file)) for file in sorted(RESULTS.glob("web-*.jsonl")))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    about = rows[0]["machine"]
    lines = [
        f"{about['cpu']}, onnxruntime-web {rows[0]['version']} on WebAssembly, one thread:",
        "",
        "| network | float ms | int8 | int8 but for depthwise convolutions | size: float / int8 | SNR of int8 |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        whole = row["int8"]["int8"]
        cells = [speed(row["int8"][key]) if key in row["int8"] else "" for key in ("int8", "dense")]
        size = f"{row['float_bytes'] / 1e6:.1f} / {whole['bytes'] / 1e6:.1f} MB"
        cells = [int8.milliseconds(row["float_ms"]), *cells, size, f"{whole['snr_db']} dB"]
        lines.append(f"| `{row['network']}` | {' | '.join(cells)} |")
    return "\n".join(lines)


def speed(graph: Mapping[str, Any]) -> str:
    ratio = graph["ratio"]
    return f"{ratio['ratio']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f})"


if __name__ == "__main__":
    sys.exit(main())
