"""The graph that `edgecnn quantize` ships against float and against other quantizers: one race a network, one thread.

    python bench/int8.py [NETWORK ...] [--search-budget 30]     adds to bench/results/int8-<cpu>.jsonl
    python bench/int8.py --table                                prints the README's tables, one for each machine
    python bench/int8.py --check                                exit 1 where a target of VNNI CPUs is missed

Every graph was calibrated on the same 32 seeded pictures (edgecnn/data/textures.py) and races interleaved in CPU time
on one it has not seen; SNR is against the float graph on 32 unseen ones. Weights are seeded with live BatchNorm
statistics: times are real, answers are not; detectors end with their last convolutions (`without_tail`). Peers that
are not installed are named as absent (bench/peers.py).
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import peers
from latency import slug

from edgecnn.choosing.quantizing import quantize
from edgecnn.data.textures import textures
from edgecnn.networks.sources import resolve
from edgecnn.outcomes import QuantizeReport
from edgecnn.stages import INPUT_NAME, float_road
from exporters.graph import Graph, attributes, copy_model, label
from exporters.quantization.kernels import COMPUTE
from exporters.quantization.tail import tail_of
from runtimes import machine
from runtimes.base import Array, Tensors
from runtimes.files import write_atomic
from runtimes.latency import race
from runtimes.parity import compare
from runtimes.session import open_session

RESULTS = Path(__file__).parent / "results"
IMAGES = 32
TARGETS = {
    "resnet18": 3.0, "resnet50": 3.0, "vgg16": 3.5, "mobilenet_v2": 2.05, "mobilenet_v3_large": 1.45,
    "unet": 3.15, "ssd_mobilenet_v1": 2.65, "ssdlite_mobilenet_v2": 2.05, "yolov3_tiny": 1.75, "lenet5": 1.0,
}  # fmt: skip
"""Least speed-up over float on a CPU with AVX512-VNNI; SSDLite's is that of the MobileNetV2 it stands on."""
COLUMNS = {"ours": "edgecnn", "ort_default": "ORT default", "ort_best": "ORT best", "optimum": "optimum",
           "openvino_nncf": "OpenVINO + NNCF", "openvino_qdq": "OpenVINO, ORT's file"}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", nargs="*", default=list(TARGETS))
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=30.0, help="at most so long for one race")
    parser.add_argument("--search-budget", type=float, default=30.0)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(argv)
    if options.table or options.check:
        print(tables() if options.table else "\n".join(map(missed, results())))
        return int(options.check and any(map(missed, results())))
    logging.disable(logging.WARNING)  # quantizers recommend their own preprocessing, aloud
    path = RESULTS / f"int8-{slug(machine.describe())}.jsonl"
    for name in options.networks:
        row = measure(name, options.rounds, options.seconds, options.search_budget)
        keep(path, row, list(TARGETS))
        print(table([row]), file=sys.stderr)
    return 0


def measure(
    name: str, rounds: int, seconds: float, budget: float, images: int = IMAGES, beside: bool = True
) -> dict[str, Any]:
    """One row: CPU milliseconds, ratio over float with its 95 % interval, SNR on unseen pictures, for every graph.

    `images` are calibrated on, as many unseen; peers race as well where `beside` is true.
    """
    network = resolve(name)
    model = without_tail(float_road(network)[0])
    rng = np.random.default_rng(1)
    feeds: list[Tensors] = [{INPUT_NAME: textures(network.ready, 1, rng)} for _ in range(2 * images)]
    seen, unseen = feeds[:images], feeds[images:]
    report, shipped = ours(model, seen, budget)
    base, mine = open_session(model, threads=1), open_session(shipped, threads=1)
    runners: dict[str, Callable[[Tensors], Sequence[Array]]] = {
        "float": lambda feed: list(base(feed).values()),
        "ours": lambda feed: list(mine(feed).values()),
    }
    sizes = {"float": base.size_bytes, "ours": shipped.ByteSize()}
    peers.ABSENT.clear()
    about = machine.describe()
    for key, call, size in peers.peers(model, seen, about.isa) if beside else ():
        runners[key], sizes[key] = call, size
    run = race({key: (lambda call=call: call(unseen[0])) for key, call in runners.items()},
               rounds=rounds, seconds=seconds, threads=1)  # fmt: skip
    names = [info.name for info in base.outputs]
    row: dict[str, Any] = {
        "network": name, "machine": about.to_dict(), "clock": run.clock, "rounds": run.rounds,
        "absent": dict(peers.ABSENT), "chosen": report.chosen, "verdict": report.verdict,
        "int8_nodes": report.quantized.int8_nodes,
        "rewrites": list(report.contest.found.design.rewrites), "slow": slow_layers(report),
        "images": images, "kinds": kinds(report, model),
        "search_s": round(report.contest.seconds, 1),
    }  # fmt: skip
    for key, call in runners.items():
        entry: dict[str, Any] = {"ms": float(np.median(run.times_ms(key))), "size_bytes": sizes[key]}
        if key != "float":
            entry["ratio"] = run.ratio(key, "float").to_dict()
            entry["snr_db"] = compare(
                base, lambda feed, call=call: dict(zip(names, call(feed), strict=True)), unseen
            ).snr_db
        row[key] = entry
    return row


def ours(model: onnx.ModelProto, feeds: Sequence[Tensors], budget: float) -> tuple[QuantizeReport, onnx.ModelProto]:
    """(report, shipped graph) of `edgecnn quantize`; random weights have no accuracy to lose, so no budget of it."""
    with tempfile.TemporaryDirectory() as folder:
        source, images, target = (Path(folder) / name for name in ("float.onnx", "images.npy", "int8.onnx"))
        onnx.save(model, source)
        np.save(images, np.concatenate([feed[INPUT_NAME] for feed in feeds]))
        report = quantize(source, target, str(images), max_drop=1.0, search_budget=budget)
        return report, onnx.load(target)


def slow_layers(report: QuantizeReport, most: int = 3) -> list[str]:
    """What int8 gains least on: the layers with the largest int8 times, in words."""
    timed = [layer for layer in report.contest.layers if layer.int8_us is not None and layer.float_us is not None]
    timed.sort(key=lambda layer: (layer.float_us or 0) - (layer.int8_us or 0))
    return [f"{layer.node}: {layer.why}" for layer in timed[:most] if layer.why]


def without_tail(model: onnx.ModelProto) -> onnx.ModelProto:
    """A detector up to its last convolutions; any other model, and one that looks twice (R-CNN), as it is.

    How long the choice of boxes takes depends on the scores, and random weights leave all of them in.
    """
    graph = Graph(copy_model(model))
    tail = tail_of(graph, COMPUTE)
    read = {name for node in graph.proto.node if node.output[0] not in tail for name in node.input}
    tail -= {name for name in tail & read if not graph.producer[name].input}  # a Constant that both read
    body = [node for node in graph.proto.node if node.output and node.output[0] not in tail]
    made = {name for node in body if node.input for name in node.output}
    within = {name for node in graph.proto.node if node.output[0] in tail for name in node.output}
    if not tail or any(name in within for node in body for name in node.input):
        return model
    ends = [name for node in graph.proto.node if node.output[0] in tail for name in node.input if name in made]
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    del graph.proto.output[:], graph.model.metadata_props[:]
    graph.proto.output.extend(known[name] for name in dict.fromkeys(ends))
    graph.set_nodes(body)
    graph.prune()
    return graph.model


def kinds(report: QuantizeReport, model: onnx.ModelProto) -> dict[str, list[float]]:
    """{kind of layer: [microseconds in float, in int8]}, summed over the layers that were timed in both forms."""
    sums: dict[str, list[float]] = {}
    weights = {w.name: tuple(w.dims) for w in model.graph.initializer}
    known = {label(node): kind(node, weights) for node in model.graph.node}
    for layer in report.contest.layers:
        if layer.int8_us is not None and layer.float_us is not None:
            both = sums.setdefault(known.get(layer.node, "rewritten"), [0.0, 0.0])
            both[0] += round(layer.float_us, 1)
            both[1] += round(layer.int8_us, 1)
    return sums


def kind(node: onnx.NodeProto, weights: Mapping[str, Sequence[int]]) -> str:
    """`Conv 3x3`, `depthwise 5x5`, `grouped 3x3`, or the operator's name."""
    dims = weights.get(node.input[1], ()) if node.op_type == "Conv" else ()
    if len(dims) < 3:
        return str(node.op_type)
    groups = int(attributes(node).get("group", 1))
    word = "Conv" if groups == 1 else "depthwise" if dims[1] == 1 else "grouped"
    return f"{word} {'x'.join(map(str, dims[2:]))}"


# ------------------------------------------------------------------------------------------------------------- results
def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def keep(path: Path, row: Mapping[str, Any], order: Sequence[str]) -> None:
    """Write `row` into the results at `path` instead of its network's old one; networks not in `order` are last."""
    rows = [old for old in (read(path) if path.exists() else []) if old["network"] != row["network"]]
    places = {name: place for place, name in enumerate(order)}
    rows = sorted([*rows, row], key=lambda r: places.get(r["network"], len(places)))
    write_atomic(path, "".join(json.dumps(r, sort_keys=True) + "\n" for r in rows).encode())


def results() -> list[list[dict[str, Any]]]:
    """The rows of every machine that was measured."""
    return [read(file) for file in sorted(RESULTS.glob("int8-*.jsonl"))]


def tables() -> str:
    return "\n\n".join(map(table, results()))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One table (Markdown), headed by the machine; the last row has geometric means over the networks all took."""
    about = rows[0]["machine"]
    keys = [key for key in COLUMNS if any(key in row for row in rows)]
    lines = [
        f"{about['cpu']} ({', '.join(about['isa'])}), ONNX Runtime {about['onnxruntime']}, one thread, batch 1:", "",
        f"| network | float ms | {' | '.join(COLUMNS[key] for key in keys)} | SNR: edgecnn / ORT best |",
        "|---|---|" + "---|" * (len(keys) + 1),
    ]  # fmt: skip
    for row in rows:
        cells = [
            f"`{row['network']}`",
            milliseconds(row["float"]["ms"]),
            *(cell(row, key) for key in keys),
        ]
        snr = [f"{row[key]['snr_db']:.1f}" if key in row else "-" for key in ("ours", "ort_best")]
        lines.append("| " + " | ".join([*cells, f"{' / '.join(snr)} dB"]) + " |")
    whole = [row for row in rows if all(key in row for key in keys)]
    if len(whole) > 1:
        means = [f"{np.exp(np.mean([np.log(speed(row, key)) for row in whole])):.2f}x" for key in keys]
        lines.append("| " + " | ".join([f"geometric mean of {len(whole)}", "", *means, ""]) + " |")
    return "\n".join(lines)


def milliseconds(value: float) -> str:
    """Three digits: `0.0396`, `33.8`, `1,350`."""
    return f"{value:.3g}" if value < 999.5 else f"{float(f'{value:.3g}'):,.0f}"


def cell(row: Mapping[str, Any], key: str) -> str:
    """`**2.98x** (2.95 to 3.01)`; a dash where the peer could not take the network."""
    if key not in row:
        return "-"
    ratio = row[key]["ratio"]
    if key != "ours":
        return f"{ratio['ratio']:.2f}x"
    interval = "float" if row["chosen"] == "float" else f"{ratio['low']:.2f} to {ratio['high']:.2f}"
    return f"**{speed(row, key):.2f}x** ({interval})"


def speed(row: Mapping[str, Any], key: str) -> float:
    """Of float; 1 where the float graph itself was shipped, whatever noise its race against itself had."""
    return 1.0 if key == "ours" and row["chosen"] == "float" else float(row[key]["ratio"]["ratio"])


def missed(rows: Sequence[Mapping[str, Any]]) -> str:
    """The targets that the rows of a machine with VNNI miss, one a line; empty when none."""
    if "vnni" not in rows[0]["machine"]["isa"]:
        return ""
    found = [(row["network"], speed(row, "ours"), TARGETS.get(row["network"], 1.0)) for row in rows]
    return "\n".join(f"{name}: {ratio:.2f}x, wanted {least}x" for name, ratio, least in found if ratio < least)


if __name__ == "__main__":
    sys.exit(main())
