"""Whether all that a graph takes and gives is a tensor: sequences, maps and optionals are neither compared nor stored.

    features -> TreeEnsembleClassifier -> ZipMap -> probabilities: sequence of maps        skl2onnx's own ending

Test: tests/test_tensors.py.
"""

from __future__ import annotations

import onnx

from runtimes.base import BadInput

TENSOR = "tensor"


def kind_of(value: onnx.ValueInfoProto) -> str:
    """`tensor`, `sequence`, `map`, `optional` or `sparse_tensor`; empty where a graph does not say."""
    return (value.type.WhichOneof("value") or "").removesuffix("_type")


def require_tensors(model: onnx.ModelProto, name: str) -> None:
    """Raise `BadInput` naming `name` for the first input or output of `model` that is said to be no tensor."""
    zipped = {output for node in model.graph.node if node.op_type == "ZipMap" for output in node.output}
    for what, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            kind = kind_of(value)
            if kind not in ("", TENSOR):
                way = "convert the model with zipmap=False, or " if value.name in zipped else ""
                a_kind = f"{'an' if kind == 'optional' else 'a'} {kind}"
                wrong = f"its {what} {value.name} is {a_kind}, not a tensor"
                raise BadInput(f"{name}: {wrong}; {way}cut it off (onnx.utils.extract_model)")
