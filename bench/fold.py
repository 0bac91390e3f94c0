"""What the fold of VGG-19-BN costs: seconds, and memory beyond the model that is folded, in a process of its own.

    python bench/fold.py [ROUNDS]

The limits are 3 s of CPU time and 1.5 times the size of the file (the result is one of them: it is a new model). Peak
memory is the kernel's high-water mark, set back before the fold; Linux only. The network has random weights.
Source: Simonyan and Zisserman 2015, "Very Deep Convolutional Networks", table 1, column E, with BatchNormalization.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parent.parent
CHANNELS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0)
"""Outputs of each convolution; 0 is a pooling."""
SECONDS_LIMIT, MEMORY_LIMIT = 3.0, 1.5


@dataclass(frozen=True)
class Cost:
    """`extra_ratio` is the peak of memory during the fold, less what the loaded model took, over the file's size."""

    cpu_seconds: float
    extra_ratio: float
    size_bytes: int
    folded: int


def vgg19_bn(seed: int = 0) -> onnx.ModelProto:
    """VGG-19 with a BatchNormalization behind every convolution, 1,000 classes, 575 MB."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def add(kind: str, name: str, *reads: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, reads, [name], name, **attributes))
        return name

    def constant(name: str, *shape: int) -> str:
        value = rng.standard_normal(shape, np.float32) * np.float32(np.prod(shape[1:]) ** -0.5)
        tensors.append(numpy_helper.from_array(np.abs(value) + np.float32(0.1) if name[-1] == "v" else value, name))
        return name

    x, reads = "x", 3
    for i, makes in enumerate(CHANNELS):
        if makes == 0:
            x = add("MaxPool", f"p{i}", x, kernel_shape=[2, 2], strides=[2, 2])
            continue
        c = add("Conv", f"c{i}", x, constant(f"c{i}.w", makes, reads, 3, 3), constant(f"c{i}.b", makes), pads=[1] * 4)
        n = add("BatchNormalization", f"n{i}", c, *(constant(f"n{i}.{key}", makes) for key in "shmv"))
        x, reads = add("Relu", f"r{i}", n), makes
    x, reads = add("Flatten", "f", x), 7 * 7 * 512
    for i, makes in enumerate((4096, 4096, 1000)):
        y = add("Gemm", f"g{i}", x, constant(f"g{i}.w", makes, reads), constant(f"g{i}.b", makes), transB=1)
        x, reads = (add("Relu", f"q{i}", y) if i < 2 else y), makes
    ends = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", *s]) for n, s in (("x", (3, 224, 224)), (x, (1000,)))
    ]
    graph = helper.make_graph(nodes, "vgg19_bn", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def cost(path: Path) -> Cost:
    """What the fold of the file costs in this process, which should be a new one."""
    from exporters.load import parse_model
    from exporters.passes import fold_batchnorm

    model = parse_model(path.read_bytes(), str(path))
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to what is used now
    before, started = _memory("VmRSS"), time.process_time()
    result = fold_batchnorm.run(model)
    seconds = time.process_time() - started
    extra = _memory("VmHWM") - before
    return Cost(seconds, extra / path.stat().st_size, path.stat().st_size, len(result.changes))


def _memory(key: str) -> int:
    """Bytes, from /proc/self/status."""
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found
    return int(found[1]) * 1024


def measure(rounds: int = 3) -> list[Cost]:
    """`rounds` times the fold of VGG-19-BN, each in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vgg19_bn.onnx"
        path.write_bytes(vgg19_bn().SerializeToString())
        command = [sys.executable, __file__, "--one", str(path)]
        done = [subprocess.run(command, check=True, capture_output=True, cwd=ROOT) for _ in range(rounds)]
    return [Cost(**json.loads(process.stdout)) for process in done]


def main() -> int:
    sys.path.insert(0, str(ROOT))
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(asdict(cost(Path(sys.argv[2])))))
        return 0
    costs = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    for one in costs:
        print(
            f"{one.folded} folded, {one.cpu_seconds:.2f} s CPU, {one.extra_ratio:.2f} x {one.size_bytes / 1e6:.0f} MB"
        )
    seconds, extra = min(c.cpu_seconds for c in costs), max(c.extra_ratio for c in costs)
    good = seconds < SECONDS_LIMIT and extra < MEMORY_LIMIT
    print(
        f"{seconds:.2f} s of {SECONDS_LIMIT} s, {extra:.2f} of {MEMORY_LIMIT}: {'holds' if good else 'DOES NOT HOLD'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
