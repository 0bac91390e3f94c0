"""The table of a network as textbooks print it: layer, activations and their memory, weights, multiply-adds.

    conv3-64     224x224x64     3.2M     (3x3x3)x64 = 1,728            86,704,128
    pool2        112x112x64     800K     0                                      0
    fc           1x1x4096       4096     7x7x512x4096 = 102,760,448   102,760,448

Only what multiplies, and pooling, has a row; norms, activations, sums and concatenations are left out, and
weights are counted without biases. So a PyTorch network and every ONNX file made from it, folded or not, float or int8,
have one and the same table. Kinds: `conv3-64` is 64 kernels of 3x3, `conv3x5-64` not square, `dw3-64` depthwise,
`conv3-64/g4` in four groups, `upconv2-64` transposed; `pool2` takes the maximum of 2x2, `avgpool2` the mean,
`globalpool` the mean of all; `gru-32` has a state of 32, `bigru-32` one for each direction; `local3-8` has weights of
its own at every position (`local-8` where only their matrices are known), `tiled3-8` some that take turns; `matmul` is
a product of two activations, as in attention.

`Part` is what a counter says of one layer; PyTorch: torch_numbers.py, ONNX: onnx_numbers.py. Test:
tests/test_layer_table.py (the numbers of the lectures typed in).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

Sizes = tuple[int, ...]
BYTES = 4
"""Of one float32; an int8 graph keeps a quarter of it."""
OF_OUTPUTS = ("local", "tiled", "gru", "bigru", "lstm", "bilstm", "rnn", "birnn")
"""Kinds whose name ends in the number of their outputs, or of their state."""


@dataclass(frozen=True)
class Part:
    """One layer that ran. `kind`: "conv", "upconv", "fc", "pool", "avgpool", "globalpool", "local", "tiled", "matmul",
    or a recurrent one: "gru", "bigru", "lstm", "bilstm", "rnn", "birnn".

    `kernel`: (k, ...) of a window, else (). `inputs`, `outputs`: channels or features. `output`: (N, C, H, W), (N, F).
    `weights`: how they come about and how many, where that does not follow from the rest.
    """

    kind: str
    module: str
    kernel: Sizes = ()
    inputs: int = 0
    outputs: int = 0
    groups: int = 1
    output: Sizes | None = None
    macs: int | None = 0
    weights: tuple[str, int] | None = None


def local_part(
    module: str, positions: int, kernel: Sizes, inputs: int, outputs: int, output: Sizes | None, macs: int | None
) -> Part:
    """Weights of its own at each of `positions`: `inputs` of them (channels, where `kernel` is known) for an output."""
    window = f"({'x'.join(map(str, (*kernel, inputs)))})" if kernel else f"{inputs}"
    count = positions * math.prod(kernel) * inputs * outputs
    said = (f"{positions}x{window}x{outputs}", count)
    return Part("local", module, kernel, inputs, outputs, 1, output, macs, said)


def recurrent_part(
    kind: str, module: str, directions: int, rows: int, inputs: int, state: int, output: Sizes | None, macs: int | None
) -> Part:
    """`rows`: of the matrices that input and state meet, a `state` for each gate. `output`: (N, features, steps)."""
    count = directions * rows * (inputs + state)
    both, prefix = ("bi", f"{directions}x") if directions > 1 else ("", "")
    said = (f"{prefix}({inputs}+{state})x{rows}", count)
    return Part(f"{both}{kind}", module, (), inputs, state, 1, output, macs, said)


def pooled_to(module: str, maximum: bool, given: Sizes, output: Sizes) -> Part | None:
    """Pooling to a size: no line where it changes nothing, or where its windows differ from place to place."""
    if given == output or any(a % b for a, b in zip(given[2:], output[2:], strict=True)):
        return None
    if not maximum and all(n == 1 for n in output[2:]):
        return Part("globalpool", module, output=output)
    window = tuple(a // b for a, b in zip(given[2:], output[2:], strict=True))
    return Part("pool" if maximum else "avgpool", module, window, output=output)


@dataclass(frozen=True)
class Row:
    """One line of the table. `activations` are elements of `output`, `activation_bytes` theirs in float32."""

    layer: str
    module: str
    output: Sizes | None
    activations: int | None
    activation_bytes: int | None
    formula: str
    weights: int
    macs: int | None

    @property
    def shape(self) -> str:
        """Height x width x channels for one image, as `224x224x64`; `?` where it is open."""
        if self.output is None:
            return "?"
        if len(self.output) < 2:  # no batch of anything
            return "x".join(map(str, self.output)) or "1"
        batch, channels, *space = self.output
        return ("" if batch == 1 else f"{batch} of ") + "x".join(map(str, (*(space or (1, 1)), channels)))


@dataclass(frozen=True)
class Table:
    """Rows in the order of the forward pass; sums are None where one of their terms is unknown."""

    rows: tuple[Row, ...]

    @property
    def activations(self) -> int | None:
        return _sum(row.activations for row in self.rows)

    @property
    def weights(self) -> int:
        return sum(row.weights for row in self.rows)

    @property
    def macs(self) -> int | None:
        return _sum(row.macs for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        elements = self.activations
        return {
            "rows": [asdict(row) for row in self.rows],
            "activations": elements,
            "activation_bytes": None if elements is None else BYTES * elements,
            "weights": self.weights,
            "macs": self.macs,
        }


def layer_table(image: Sizes | None, parts: Iterable[Part]) -> Table:
    """The table of a network that takes `image` (N, C, H, W) and then runs `parts`."""
    rows = [_row("input", "", image, "", 0, 0)]
    for part in parts:
        formula, weights = _weights(part, rows[-1].output)
        rows.append(_row(layer_name(part), part.module, part.output, formula, weights, part.macs))
    return Table(tuple(rows))


def _row(layer: str, module: str, output: Sizes | None, formula: str, weights: int, macs: int | None) -> Row:
    elements = None if output is None else math.prod(output)
    return Row(layer, module, output, elements, None if elements is None else BYTES * elements, formula, weights, macs)


def layer_name(part: Part) -> str:
    """The kind of a layer as textbooks write it: `conv3-64`, `dw3-64`, `pool2`."""
    window = f"{part.kernel[0]}" if len(set(part.kernel)) == 1 else "x".join(map(str, part.kernel))
    if part.kind in OF_OUTPUTS:
        return f"{part.kind}{window}-{part.outputs}"
    if part.kind not in ("conv", "upconv"):
        return f"{part.kind}{window}"
    if part.groups == part.inputs == part.outputs > 1 and part.kind == "conv":
        return f"dw{window}-{part.outputs}"
    return f"{part.kind}{window}-{part.outputs}" + (f"/g{part.groups}" if part.groups > 1 else "")


def _weights(part: Part, before: Sizes | None) -> tuple[str, int]:
    """(how the weights come about, how many). A fully connected layer names the map that it was flattened from."""
    if part.weights is not None:
        return part.weights
    if part.kind == "fc":
        mapped = before is not None and math.prod(before[1:]) == part.inputs
        given = (*before[2:], before[1]) if before is not None and mapped else (part.inputs,)
        return "x".join(map(str, (*given, part.outputs))), part.inputs * part.outputs
    if part.kind in ("conv", "upconv"):
        window = (*part.kernel, part.inputs // part.groups)
        return f"({'x'.join(map(str, window))})x{part.outputs}", math.prod(window) * part.outputs
    return "", 0


def _sum(terms: Iterable[int | None]) -> int | None:
    known = list(terms)
    return None if None in known else sum(term for term in known if term is not None)
