"""What others make of the same float graph and the same images: runners for `bench/int8.py`, absent ones with a reason.

    python bench/peers.py     says which of them are installed

    ort_default    onnxruntime.quantization.quantize_static, its defaults (S8S8, per tensor)
    ort_best       the same at its best on CPUs: U8S8, per channel
    optimum        optimum-onnx's static recipe for this CPU (its ranges and types, run by quantize_static)
    openvino_nncf  OpenVINO running what NNCF quantizes
    openvino_qdq   OpenVINO running ort_best's file

The last three are optional: `pip install openvino nncf optimum-onnx`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from runtimes.base import Array, Tensors
from runtimes.session import open_session

Call = Callable[[], list[Array]]
Peer = tuple[str, Callable[[Tensors], list[Array]], int]
"""(name, feed -> outputs in the order of the float model, bytes of the file)"""
ABSENT: dict[str, str] = {}
"""Peers that are not installed, or could not quantize this network, with the reason."""


def peers(model: onnx.ModelProto, feeds: Sequence[Tensors], isa: Sequence[str]) -> Iterator[Peer]:
    """Every peer that is installed and takes the network, quantized on `feeds`."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "float.onnx"
        onnx.save(model, source)
        for make in (ort_default, ort_best, optimum, openvino_nncf, openvino_qdq):
            try:
                yield make.__name__, *make(source, feeds, isa)
            except Exception as error:  # a peer that fails must not end the race of the others
                reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
                ABSENT[make.__name__] = reason[:160]


# ------------------------------------------------------------------------------------------------------ ONNX Runtime
def ort_default(source: Path, feeds: Sequence[Tensors], isa: Sequence[str]) -> tuple[Any, int]:
    return _on_ort(static(source, source.with_name("ort_default.onnx"), feeds))


def ort_best(source: Path, feeds: Sequence[Tensors], isa: Sequence[str]) -> tuple[Any, int]:
    from onnxruntime.quantization import QuantType

    options = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    return _on_ort(static(source, source.with_name("ort_best.onnx"), feeds, **options))


def optimum(source: Path, feeds: Sequence[Tensors], isa: Sequence[str]) -> tuple[Any, int]:
    configuration = importlib.import_module("optimum.onnxruntime.configuration").AutoQuantizationConfig
    recipe = configuration.avx512_vnni if "vnni" in isa else configuration.avx2
    found = recipe(is_static=True, per_channel=True)
    symmetric = {"ActivationSymmetric": found.activations_symmetric, "WeightSymmetric": found.weights_symmetric}
    options = {
        "per_channel": found.per_channel, "reduce_range": found.reduce_range, "quant_format": found.format,
        "activation_type": found.activations_dtype, "weight_type": found.weights_dtype,
        "op_types_to_quantize": found.operators_to_quantize,
        "extra_options": symmetric,
    }  # fmt: skip
    return _on_ort(static(source, source.with_name("optimum.onnx"), feeds, **options))


def static(source: Path, target: Path, feeds: Sequence[Tensors], **options: Any) -> Path:
    """`source` through `quantize_static` on `feeds`."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(feeds)

        def get_next(self) -> Tensors | None:
            return next(self.left, None)

    quantize_static(source, target, Reader(), **options)
    return target


def _on_ort(path: Path) -> tuple[Any, int]:
    session = open_session(path.read_bytes(), threads=1)
    return (lambda feed: list(session(feed).values())), path.stat().st_size


# ---------------------------------------------------------------------------------------------------------- OpenVINO
def openvino_nncf(source: Path, feeds: Sequence[Tensors], isa: Sequence[str]) -> tuple[Any, int]:
    import nncf
    import openvino

    data = nncf.Dataset(list(feeds), lambda feed: {name: np.asarray(value) for name, value in feed.items()})
    model = nncf.quantize(openvino.Core().read_model(source), data, subset_size=len(feeds))
    path = source.with_name("nncf.xml")
    openvino.save_model(model, path, compress_to_fp16=False)
    return _on_openvino(model), path.with_suffix(".bin").stat().st_size


def openvino_qdq(source: Path, feeds: Sequence[Tensors], isa: Sequence[str]) -> tuple[Any, int]:
    import openvino

    path = source.with_name("ort_best.onnx")
    return _on_openvino(openvino.Core().read_model(path)), path.stat().st_size


def _on_openvino(model: Any) -> Any:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda feed: [np.asarray(value) for value in request.infer(feed, share_inputs=True).values()]


def main() -> int:
    """Print what is installed; always 0."""
    for name in ("onnxruntime", "openvino", "nncf", "optimum"):
        print(f"{name}: {'installed' if importlib.util.find_spec(name) else 'not installed'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
