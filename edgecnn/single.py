"""One pass over any ONNX file: read, run the pass, prove that the outputs stayed, write. `edgecnn fold`, `simplify`.

Both graphs run without ONNX Runtime's own optimizer on seeded inputs. float32 graphs must agree to 60 dB, others to
30 dB: reordered float32 sums leave 80 to 140 dB (a network of 300 layers 80), float16 rounds at 66 dB, and a wrong
fold leaves less than 20. The step is added to the stages that the file carries. Test: tests/test_single.py.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.opened import check_model_output, refuse_bundle
from edgecnn.runners import graph_inputs, require_numbers
from exporters.base import Change, Kept, PassResult
from exporters.graph import opset
from exporters.load import load_model, save_model
from exporters.tensors import require_tensors
from runtimes.base import BadInput, CheckFailed, Inconclusive, Runner, Tensors, counted, one_line
from runtimes.device.process import plain as json_ready
from runtimes.execution.shapes import ShapeText, shapes_of
from runtimes.parity import ParityReport, compare
from runtimes.session import open_session

if TYPE_CHECKING:
    import onnx

    from exporters.targets.target import Target

FLOAT32_SNR_DB = 60.0
NOISE_MARGIN_DB = 10.0
OTHER_SNR_DB = 30.0
IMAGES = 3
PathText = str | os.PathLike[str]
Shapes = dict[str, tuple[int, ...]]
Wrap = Callable[[Runner], Runner]


@dataclass(frozen=True)
class FoldReport:
    """`max_abs` is the largest difference of any output on `images` seeded inputs.

    Each of `changes` has a bound on what it can move its layer's output by, relative to that output's size.
    """

    output: Path
    folded: int
    kept: tuple[Kept, ...]
    max_abs: float
    images: int
    changes: tuple[Change, ...] = ()

    @property
    def bound(self) -> float:
        """The largest bound of all folds."""
        return max((change.bound for change in self.changes), default=0.0)

    def to_dict(self) -> dict[str, Any]:
        return {**json_ready(asdict(self)), "bound": self.bound}


@dataclass(frozen=True)
class SimplifyReport:
    """As `FoldReport`; `kept` says why a pass left the graph as it was.

    `opset` and `ir_version` are those of the file written, `lowered` what a target lowered: {name: (from, to)}.
    `batch`: (images at a time before, and now), where that was changed. `frozen`: how many inputs with a value are
    constants now.
    """

    output: Path
    nodes_before: int
    nodes_after: int
    kept: tuple[Kept, ...]
    max_abs: float
    images: int
    opset: int
    ir_version: int
    target: str | None = None
    lowered: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    batch: tuple[int, int] | None = None
    frozen: int = 0

    @property
    def words(self) -> str:
        """What a target, another batch and freezing changed, as the end of a sentence; empty where nothing was."""
        old, new = self.batch or (0, 0)
        taken = f"; takes {new} at a time instead of {old}, with the same answers" if self.batch else ""
        constant = f"; {counted(self.frozen, 'input')} with a value became constant" if self.frozen else ""
        return constant + taken + self._lowered_words

    @property
    def _lowered_words(self) -> str:
        if self.target is None:
            return ""
        changed = ", ".join(f"{name} {old} -> {new}" for name, (old, new) in self.lowered.items())
        return f"; for {self.target}: {changed or f'nothing to lower, opset {self.opset}, IR {self.ir_version}'}"

    def to_dict(self) -> dict[str, Any]:
        return dict(json_ready(asdict(self)))


def fold(
    model: PathText, output: PathText, *, force: bool = False, input_shape: ShapeText | None = None, seed: int = 0
) -> FoldReport:
    """Fold BatchNorm in the ONNX file `model` and write `output`; raises `BadInput`, `CheckFailed`, `Inconclusive`."""
    from exporters.isolation.probe import probe
    from exporters.passes import fold_batchnorm

    def run(proto: onnx.ModelProto, shapes: Shapes) -> PassResult:
        probe(proto, os.fspath(model), input_shapes=shapes, seed=seed, finite=False)  # a crash must not be ours
        try:
            return fold_batchnorm.run(proto)
        except BadInput as error:  # it knows the node, not the file
            raise BadInput(f"{os.fspath(model)}: {error}") from error

    result, _, parity = _apply("fold", model, output, run, force, input_shape, seed)
    changes = result.changes
    return FoldReport(Path(output), len(changes), result.kept, parity.max_abs, parity.images, changes)


def simplify(
    model: PathText,
    output: PathText,
    *,
    force: bool = False,
    timeout_s: float = 120,
    input_shape: ShapeText | None = None,
    target: str | None = None,
    freeze: bool = False,
    seed: int = 0,
) -> SimplifyReport:
    """Simplify the ONNX file `model` and write `output`; raises `BadInput`, `CheckFailed`, `Inconclusive`.

    `input_shape` is written into the file; another batch than a fixed one, where each image is shown to get its answer
    alone. `target` (`ort==1.17`) lowers operator set and IR version to what that release of ONNX Runtime loads.
    `freeze` makes weights that are inputs too, which a caller may override, constants.
    """
    from edgecnn.float_passes import simplified
    from exporters import frozen
    from exporters.fix_shapes import fix_shapes
    from exporters.rebatch import another_batch
    from exporters.targets.target import convert, parse_target

    name, wanted = os.fspath(model), parse_target(target) if target else None

    def run(proto: onnx.ModelProto, shapes: Shapes) -> PassResult:
        if (batches := another_batch(proto, shapes)) is not None:
            proto = _taking(proto, *batches, shapes, name, seed)
        proto = frozen.frozen(proto) if freeze else proto
        proto = fix_shapes(proto, shapes, name) if shapes else proto
        result = simplified(proto, timeout_s=timeout_s, input_shapes=shapes, seed=seed, name=name)
        return replace(result, model=convert(result.model, wanted, name)) if wanted else result

    result, before, parity = _apply("simplify", model, output, run, force, input_shape, seed, wanted)
    versions = {what: (old, new) for what, old, new in zip(("opset", "IR"), _versions(before), _versions(result.model),
                                                           strict=True)}  # fmt: skip
    defaults = frozen.overridable(before)
    kept = () if freeze or not defaults else (Kept(defaults[0], frozen.why_kept(len(defaults))),)
    return SimplifyReport(
        Path(output), len(before.graph.node), len(result.model.graph.node), (*result.kept, *kept), parity.max_abs,
        parity.images, *_versions(result.model), target,
        {what: pair for what, pair in versions.items() if pair[0] > pair[1]},
        another_batch(before, shapes_of(input_shape, graph_inputs(before))), len(defaults) if freeze else 0,
    )  # fmt: skip


def _taking(model: onnx.ModelProto, old: int, new: int, shapes: Shapes, name: str, seed: int) -> onnx.ModelProto:
    """`model` for a batch of `new`, which runs, and answers each image as in its batch of `old`; else `BadInput`."""
    from exporters.isolation.probe import probe
    from exporters.rebatch import REMEDY, rebatched

    probe(model, name, seed=seed, finite=False)
    made = rebatched(model, old, new, name)
    try:
        probe(made, name, input_shapes=shapes, seed=seed, finite=False)
    except BadInput as error:
        why = one_line(str(error).removeprefix(f"{name}: "), 80)
        raise BadInput(f"{name}: is built for {old} images at a time, with {new} it fails ({why}); {REMEDY}") from error
    try:
        prove(model, made, name, seed=seed, batches=(old, new))
    except CheckFailed as error:
        mixed = (
            f"an image's answer in a batch of {new} is not its answer in one of {old}: it depends on its place there"
        )
        raise BadInput(f"{name}: {mixed}; {REMEDY}") from error
    return made


def _versions(model: onnx.ModelProto) -> tuple[int, int]:
    """(operator set, IR version) of `model`."""
    return opset(model), model.ir_version


def _apply(
    name: str,
    model: PathText,
    output: PathText,
    run: Callable[[onnx.ModelProto, Shapes], PassResult],
    force: bool,
    input_shape: ShapeText | None,
    seed: int,
    wanted: Target | None = None,
) -> tuple[PassResult, onnx.ModelProto, ParityReport]:
    """(the pass's result, the model before, parity with the original); the output is written when the parity holds."""
    from exporters.rebatch import another_batch
    from exporters.targets.target import runnable

    path = check_model_output(Path(output), force, Path(model))
    refuse_bundle(Path(model))
    before = load_model(model)
    require_tensors(before, os.fspath(model))
    shapes = shapes_of(input_shape, graph_inputs(before))
    given = runnable(before, wanted, os.fspath(model))
    started = time.perf_counter()
    result = run(given, shapes)
    seconds = time.perf_counter() - started
    batches = another_batch(before, shapes)
    parity = prove(given, result.model, os.fspath(model), None if batches else input_shape, seed, batches)
    save_model(_with_stage(name, before, result, seconds, parity), path, force)
    return result, before, parity


def _with_stage(
    name: str, before: onnx.ModelProto, result: PassResult, seconds: float, parity: ParityReport
) -> onnx.ModelProto:
    """The result's model with the step `name` after the stages of `before`.

    A stage's own SNR is against the original network, which is not here; the one against `before` goes into the note.
    """
    from edgecnn.float_passes import note_of
    from exporters.artifact import describe, read_stages, write_stages

    kept = "identical" if math.isinf(parity.snr_db) else f"{parity.snr_db:.1f} dB"
    stage = describe(name, result.model, seconds, note=f"{note_of(result)}; {kept} to the file before")
    return write_stages(result.model, (*read_stages(before), stage))


def prove(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    name: str,
    input_shape: ShapeText | None = None,
    seed: int = 0,
    batches: tuple[int, int] | None = None,
) -> ParityReport:
    """The parity of both graphs on seeded inputs; raises `CheckFailed` below the limit, `Inconclusive` on NaN,
    and `BadInput` where `before` itself gives another answer each time.

    `batches`: how many images each of them takes, where that is not the same.
    """
    feeds, answers, (batched, other) = _answers(before, name, input_shape, seed, batches)
    if any(value.dtype.kind == "f" and not np.isfinite(value).all() for out in answers for value in out.values()):
        raise Inconclusive(
            f"{name}: gives NaN or Inf on random inputs, so nothing can be proven; use real data with `edgecnn check`"
        )
    known = iter(answers)
    candidate = other(open_session(after, optimize=False))
    parity = compare(lambda _: next(known), candidate, feeds)
    single = all(value.dtype == np.float32 for value in answers[0].values())
    limit = FLOAT32_SNR_DB if single else OTHER_SNR_DB
    if parity.snr_db >= limit > parity.worst_db:  # one kind of numbers, which may be nothing but rounding
        known = iter(answers)
        noise = compare(lambda _: next(known), batched(open_session(before)), feeds).worst_db
        limit = min(limit, noise - NOISE_MARGIN_DB)
    try:
        return parity.require(snr_db=limit)
    except CheckFailed as error:
        _require_steady(before, name, input_shape, seed)
        raise CheckFailed(f"{name}: the result computes something else, nothing was written ({error})") from error


def _answers(
    model: onnx.ModelProto, name: str, input_shape: ShapeText | None, seed: int, batches: tuple[int, int] | None
) -> tuple[list[Tensors], list[Tensors], tuple[Wrap, Wrap]]:
    """(`IMAGES` seeded feeds, what `model` makes of each, how the graphs before and after are given such feeds).

    Its session is gone before another one is opened.
    """
    session = open_session(model, optimize=False, subject=name)
    sizes = shapes_of(input_shape, session.inputs)
    require_numbers(session.inputs)
    if batches is None:
        feeds: list[Tensors] = [session.random_feeds(1, seed + i, sizes) for i in range(IMAGES)]
        return feeds, [session(feed) for feed in feeds], (_plain, _plain)
    from exporters.rebatch import images_for, in_batches, joined

    images = images_for(*batches)
    each = {info.name for info in session.inputs if info.shape[:1] == (batches[0],)}
    calls = images // batches[0]
    drawn = [session.random_feeds(1, seed + i, sizes) for i in range(IMAGES * calls)]
    feeds = [joined(drawn[i : i + calls], each) for i in range(0, len(drawn), calls)]
    old = partial(in_batches, batch=batches[0], images=images, each=each)
    new = partial(in_batches, batch=batches[1], images=images, each=each, mixed=True)
    return feeds, [old(session)(feed) for feed in feeds], (old, new)


def _require_steady(model: onnx.ModelProto, name: str, input_shape: ShapeText | None, seed: int) -> None:
    """Raise `BadInput` unless `model` gives the same numbers twice, without which no result can be blamed."""
    from exporters.isolation.probe import check_outputs

    session = open_session(model, optimize=False, subject=name)
    feeds = session.random_feeds(1, seed, shapes_of(input_shape, session.inputs))
    try:
        check_outputs(session(feeds), session(feeds), finite=False)
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error


def _plain(session: Runner) -> Runner:
    return session
