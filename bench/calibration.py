"""What calibrating ResNet-50 with a histogram costs: peak memory and CPU time, ours and ONNX Runtime's, child by child.

    python bench/calibration.py         exit 1 unless 5x less memory and 2x less CPU time than ONNX Runtime's at 32
                                        images, and at most 700 MB at 32 and at 512 images

Each measurement is a process of its own that loads the same file, sees the same seeded images on one thread and answers
with its ranges: peak resident memory of the whole process, CPU time from the model's file to the ranges. Appends a line
to bench/results/calibration.jsonl.
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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results") / "calibration.jsonl"
MEMORY_RATIO, CPU_RATIO, PEAK_MB = 5.0, 2.0, 700.0
CASES = [("ours mse", 32), ("ours entropy", 32), ("ours percentile", 32), ("ours minmax", 32), ("ours mse", 512),
         ("onnxruntime percentile", 32), ("onnxruntime entropy", 32)]  # fmt: skip


class Images:
    """Seeded images with the spread of photographs after normalization, made when they are asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        for i in range(self.count):
            yield {"input": np.random.default_rng(i).standard_normal((1, 3, 224, 224), np.float32)}


def ours(model: Path, calibrator: str, count: int) -> None:
    import onnx

    from exporters.quantization import placement
    from exporters.quantization.calibration import observe

    loaded = onnx.load(model)
    observe(loaded, placement.plan(loaded).observed, Images(count), calibrator, threads=1)  # type: ignore[arg-type]


def onnxruntimes(model: Path, method: str, count: int, folder: Path) -> None:
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(Images(count))

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.images, None)

    calibrator = create_calibrator(
        str(model), augmented_model_path=str(folder / "augmented.onnx"), calibrate_method=CalibrationMethod[method]
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    calibrator.infer_session = onnxruntime.InferenceSession(
        str(folder / "augmented.onnx"), options, providers=["CPUExecutionProvider"]
    )
    calibrator.collect_data(Reader())
    calibrator.compute_data()


def child(model: Path, who: str, count: int) -> None:
    """Measure one case; the last line on stdout is the answer."""
    side, method = who.split()
    import onnx  # noqa: F401  (imports are not what is measured)
    import onnxruntime.quantization  # noqa: F401

    started = time.process_time()
    if side == "ours":
        ours(model, method, count)
    else:
        with tempfile.TemporaryDirectory() as folder:
            onnxruntimes(model, method.capitalize(), count, Path(folder))
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"case": who, "images": count, "cpu_s": round(seconds, 2), "peak_mb": round(peak)}))


def export(path: Path) -> None:
    import onnx

    from edgecnn import stages
    from edgecnn.networks.sources import resolve

    onnx.save(stages.float_road(resolve("resnet50"))[0], path)


def main() -> int:
    from runtimes import machine

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "resnet50.onnx"
        command = [sys.executable, __file__, "--child"]
        subprocess.run([sys.executable, __file__, "--export", str(model)], env=environment, check=True)
        rows: list[dict[str, Any]] = []
        for who, count in CASES:
            done = subprocess.run(
                [*command, str(model), who, str(count)], env=environment, check=True, capture_output=True, text=True
            )
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print("{case:24} {images:4} images {cpu_s:7.2f} s CPU {peak_mb:6} MB peak".format(**rows[-1]), flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"machine": machine.describe().to_dict(), "rows": rows}, sort_keys=True) + "\n")
    return verdict(rows)


def verdict(rows: list[dict[str, Any]]) -> int:
    own = [row for row in rows if row["case"].startswith("ours")]
    histograms = [row for row in own if row["images"] == 32 and "minmax" not in row["case"]]
    theirs = [row for row in rows if row["case"].startswith("onnxruntime")]
    memory = min(row["peak_mb"] for row in theirs) / max(row["peak_mb"] for row in histograms)
    cpu = min(row["cpu_s"] for row in theirs) / max(row["cpu_s"] for row in histograms)
    peak = max(row["peak_mb"] for row in own)
    print(f"at least {memory:.1f}x less memory and {cpu:.1f}x less CPU time; own peak {peak} MB")
    return 0 if memory >= MEMORY_RATIO and cpu >= CPU_RATIO and peak <= PEAK_MB else 1


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:2] == ["--child"]:
        child(Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1:2] == ["--export"]:
        export(Path(sys.argv[2]))
    else:
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
        sys.exit(main())
