"""SQNR of int8 classifiers of the zoo on images that set no range: ours beside ONNX Runtime's `quantize_static`.

    python bench/sqnr.py [NAME...]      exit 1 where ours is more than 0.5 dB under the better of theirs, or not above
                                        it on average

Both see the same seeded float graph, calibration images and judges; the grids are compared, not the kernels: on a CPU
whose sums saturate all graphs run as twins with unsigned weights, which compute what a CPU with VNNI does.
Appends a line per network to bench/results/sqnr.jsonl.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

RESULTS = Path(__file__).with_name("results") / "sqnr.jsonl"
NAMES = ("resnet18", "mobilenet_v2", "mobilenet_v3_large", "squeezenet1_1")
SHAPE = (3, 96, 96)
CALIBRATION, JUDGES = 12, 4
ALLOWED_DB = 0.5


def measure(name: str) -> dict[str, Any]:
    """SQNR in dB of each recipe."""
    from edgecnn import stages
    from edgecnn.data.textures import textures
    from edgecnn.networks.sources import resolve
    from exporters.quantization.improve import improve
    from exporters.quantization.quantize import QuantRecipe, prepare, quantize_model
    from exporters.targets.weight_forms import exact
    from runtimes.parity import compare
    from runtimes.session import open_session

    network = resolve(name, None, SHAPE)
    model = prepare(stages.float_road(network)[0])
    images = textures(network.ready, CALIBRATION + JUDGES, np.random.default_rng(0))
    feeds = [{"input": image[None]} for image in images]
    fit, judges = feeds[:CALIBRATION], feeds[CALIBRATION:]
    reference = open_session(model, threads=1)

    def snr_db(graph: onnx.ModelProto) -> float:
        return round(compare(reference, open_session(exact(graph), threads=1), judges).snr_db, 2)

    passes = ("equalize", "bias_correction")
    return {
        "name": name,
        "plain": snr_db(quantize_model(model, fit, QuantRecipe(), threads=1).model),
        "ours": snr_db(improve(model, fit, QuantRecipe(), passes=passes, threads=1).quantized.model),
        "quantize_static": snr_db(theirs(model, fit)),
        "quantize_static best": snr_db(theirs(model, fit, best=True)),
    }


def theirs(model: onnx.ModelProto, feeds: Sequence[dict[str, np.ndarray]], best: bool = False) -> onnx.ModelProto:
    """ONNX Runtime's static quantization: its defaults, or uint8 activations with int8 weights per channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.left, None)

    options = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8, "per_channel": True} if best else {}
    with tempfile.TemporaryDirectory() as folder:
        source, ready, target = (Path(folder) / f"{word}.onnx" for word in ("float", "ready", "int8"))
        source.write_bytes(model.SerializeToString())
        quant_pre_process(str(source), str(ready), skip_symbolic_shape=True)
        quantize_static(str(ready), str(target), Reader(), **options)
        return onnx.load(target)


def check(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What misses its bar."""
    gains = {row["name"]: row["ours"] - max(row["quantize_static"], row["quantize_static best"]) for row in rows}
    found = [f"{name}: {-gain:.1f} dB under quantize_static" for name, gain in gains.items() if gain < -ALLOWED_DB]
    mean = sum(gains.values()) / max(1, len(gains))
    return [*found, *([f"on average {-mean:.2f} dB under quantize_static"] if mean <= 0 else [])]


def table(rows: Sequence[dict[str, Any]]) -> str:
    columns = ["name", "quantize_static", "quantize_static best", "plain", "ours"]
    lines = [columns, ["---"] * len(columns), *([str(row[c]) for c in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(names: Sequence[str]) -> int:
    rows = []
    for name in names or NAMES:
        rows.append(measure(name))
        print(json.dumps(rows[-1]), flush=True)
        with RESULTS.open("a") as stream:
            stream.write(json.dumps(rows[-1]) + "\n")
    missed = check(rows)
    print(table(rows), *missed, sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
