"""One pass over any ONNX file: read, run the pass, prove that the outputs stayed, write. `edgecnn fold`, `simplify`.

Both graphs run without ONNX Runtime's own optimizer on seeded inputs. float32 graphs must agree to 60 dB, others to
30 dB: reordered float32 sums leave 80 to 140 dB (a network of 300 layers 80), float16 rounds at 66 dB, and a wrong
fold leaves less than 20. Test: tests/test_single.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.shapes import ShapeText, parse_shapes
from exporters.base import Kept, PassResult
from exporters.load import load_model, save_model
from runtimes.base import BadInput, CheckFailed, Inconclusive
from runtimes.files import check_output
from runtimes.parity import ParityReport, compare
from runtimes.session import open_session, random_feeds

if TYPE_CHECKING:
    import onnx

FLOAT32_SNR_DB = 60.0
OTHER_SNR_DB = 30.0
IMAGES = 3
PathText = str | os.PathLike[str]


@dataclass(frozen=True)
class FoldReport:
    """`max_abs` is the largest difference of any output on `images` seeded inputs."""

    output: Path
    folded: int
    kept: tuple[Kept, ...]
    max_abs: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "kept": [asdict(entry) for entry in self.kept]}


@dataclass(frozen=True)
class SimplifyReport:
    """As `FoldReport`; `kept` says why a pass left the graph as it was."""

    output: Path
    nodes_before: int
    nodes_after: int
    kept: tuple[Kept, ...]
    max_abs: float
    images: int

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "kept": [asdict(entry) for entry in self.kept]}


def fold(
    model: PathText, output: PathText, *, force: bool = False, input_shape: ShapeText | None = None, seed: int = 0
) -> FoldReport:
    """Fold BatchNorm in the ONNX file `model` and write `output`; raises `BadInput`, `CheckFailed`, `Inconclusive`."""
    from exporters.passes import fold_batchnorm
    from exporters.probe import probe

    def run(proto: onnx.ModelProto) -> PassResult:
        names = [value.name for value in proto.graph.input]
        shapes = parse_shapes(input_shape, names) or None
        probe(proto, os.fspath(model), input_shapes=shapes, seed=seed, finite=False)  # a crash must not be ours
        try:
            return fold_batchnorm.run(proto)
        except BadInput as error:  # it knows the node, not the file
            raise BadInput(f"{os.fspath(model)}: {error}") from error

    result, _, parity = _apply(model, output, run, force, input_shape, seed)
    return FoldReport(Path(output), len(result.changes), result.kept, parity.max_abs, parity.images)


def simplify(
    model: PathText,
    output: PathText,
    *,
    force: bool = False,
    timeout_s: float = 120,
    input_shape: ShapeText | None = None,
    seed: int = 0,
) -> SimplifyReport:
    """Simplify the ONNX file `model` and write `output`; raises `BadInput`, `CheckFailed`, `Inconclusive`."""
    from exporters.passes import simplify as onnxsim_pass

    def run(proto: onnx.ModelProto) -> PassResult:
        names = [value.name for value in proto.graph.input]
        shapes = parse_shapes(input_shape, names) or None
        return onnxsim_pass.run(proto, timeout_s=timeout_s, input_shapes=shapes, seed=seed, name=os.fspath(model))

    result, before, parity = _apply(model, output, run, force, input_shape, seed)
    nodes = len(result.model.graph.node)
    return SimplifyReport(Path(output), before, nodes, result.kept, parity.max_abs, parity.images)


def _apply(
    model: PathText,
    output: PathText,
    run: Callable[[onnx.ModelProto], PassResult],
    force: bool,
    input_shape: ShapeText | None,
    seed: int,
) -> tuple[PassResult, int, ParityReport]:
    """(the pass's result, nodes before, parity with the original); the output is written when the parity holds."""
    path = check_output(Path(output), force)
    if path.exists() and path.samefile(model):
        raise BadInput(f"{path}: is the input itself; give another name")
    before = load_model(model)
    result = run(before)
    parity = prove(before, result.model, os.fspath(model), input_shape, seed)
    save_model(result.model, path, force)
    return result, len(before.graph.node), parity


def prove(
    before: onnx.ModelProto, after: onnx.ModelProto, name: str, input_shape: ShapeText | None = None, seed: int = 0
) -> ParityReport:
    """The parity of both graphs on seeded inputs; raises `CheckFailed` below the limit, `Inconclusive` on NaN."""
    sessions = [open_session(model, optimize=False) for model in (before, after)]
    inputs = sessions[0].inputs
    sizes = parse_shapes(input_shape, [info.name for info in inputs])
    feeds = [random_feeds(inputs, 1, seed + i, sizes) for i in range(IMAGES)]
    parity = compare(sessions[0], sessions[1], feeds)
    if parity.nonfinite and compare(sessions[0], sessions[0], feeds).nonfinite:
        raise Inconclusive(
            f"{name}: gives NaN or Inf on random inputs, so nothing can be proven; use real data with `edgecnn check`"
        )
    single = all(info.dtype == "float32" for info in sessions[0].outputs)
    limit = FLOAT32_SNR_DB if single else OTHER_SNR_DB
    try:
        return parity.require(snr_db=limit)
    except CheckFailed as error:
        raise CheckFailed(f"{name}: the result computes something else, nothing was written ({error})") from error
