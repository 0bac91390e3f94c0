"""The passes that every float graph goes through before it is deployed or quantized, and how exact they must be.

    simplify -> fold_batchnorm -> merge_branches (and fold) -> global_pool -> pool_before_conv -> drop_noops

Each result is compared with the graph that came in. 90 dB is what float32 leaves: one rounding of a weight or a product
is -144 dB, a fold rounds each weight once more, and tens of layers of reordered sums add up. No torch here:
`edgecnn quantize` starts on any ONNX file at once.
Test: tests/test_road.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx

from exporters import artifact, passes
from exporters.artifact import Stage
from exporters.base import Change, PassResult
from exporters.suppression import edges_of
from runtimes import plugins
from runtimes.base import Tensors, Track, silent
from runtimes.parity import ParityReport, compare
from runtimes.session import open_session

Sizes = Mapping[str, tuple[int, ...]]
FLOAT_PASSES = ("simplify", "fold_batchnorm", "merge_branches", "global_pool", "pool_before_conv", "drop_noops")
"""In this order: simplifying first brings a Conv and its BatchNorm together; what they leave behind goes last."""
SHARING = "share_initializers"
SMALL_PASSES = (
    "drop_noops", "cast_constants", "clip_of_bounds", "scatter_to_concat", "whole_windows", "fold_pad", "norm_of_parts",
    "move_squeezes", "merge_transposes", "move_transposes", "rows_in_order", "merge_reshapes", "gemm_of_parts",
    "hard_of_parts", "prelu_of_parts", "products_of_prelu", SHARING,
)  # fmt: skip
"""What the step `simplify` does after onnxsim; first what lies between two nodes that belong together."""
ROUNDS = 8
"""onnxsim is asked this often at most: each time what the small passes left made new constants, or equal nodes."""
FLOAT_LIMIT_DB = 90.0
NOISE_MARGIN_DB = 10.0
"""Another order of summation is another draw of the same noise; the largest gap seen is 6.5 dB."""


def ready_for_int8(
    model: onnx.ModelProto, feeds: Sequence[Tensors], sizes: Sizes, track: Track = silent
) -> tuple[onnx.ModelProto, tuple[Stage, ...]]:
    """Simplify and fold a float `model` from anywhere, except for what its stages say was done; compared on `feeds`.

    Raises `CheckFailed` when a pass changed the function by more than the model's own float noise.
    """
    original, edges = open_session(model), edges_of(model)
    before = {stage.name for stage in artifact.read_stages(model)}
    stages: list[Stage] = []
    parity: ParityReport | None = None
    for name in track([name for name in FLOAT_PASSES if name not in before], "preparing"):
        started = time.perf_counter()
        given = model
        model, note = run_pass(name, given, sizes)
        seconds = time.perf_counter() - started
        changed = model != given
        if not changed:
            model = given  # and not a copy of all its weights
        del given
        if parity is None or changed:
            parity = compare(original, open_session(model), feeds, edges=edges)
        stages.append(artifact.describe(name, model, seconds, parity, note))
        if parity.worst_db < FLOAT_LIMIT_DB:
            plain = open_session(model, optimize=False)
            noise = compare(original, plain, feeds, edges=edges).worst_db
            parity.require(snr_db=min(FLOAT_LIMIT_DB, noise - NOISE_MARGIN_DB))
    return model, tuple(stages)


def run_pass(
    name: str, model: onnx.ModelProto, sizes: Sizes | None = None, fold: bool = True
) -> tuple[onnx.ModelProto, str]:
    """The model after the step `name`, and a note; `sizes` are input shapes to try a model of open size with.

    Without `fold`, what stands behind merged branches stays there too.
    """
    if name == "simplify":
        result = simplified(model, input_shapes=sizes)
    else:
        result = one_branch(model) if name == "merge_branches" and fold else _run(name, model)
    return result.model, note_of(result)


def simplified(model: onnx.ModelProto, **options: Any) -> PassResult:
    """`model` after onnxsim (`options`: those of `exporters.passes.simplify.run`) and `SMALL_PASSES`, until it settles.

    A CastLike that a small pass replaced leaves an Expand of constants behind, which is work for onnxsim again. What a
    small pass leaves alone is no news to the user, who asked for less, and not for these: only onnxsim's reasons are
    kept.
    """
    changes: list[Change] = []
    for _ in range(ROUNDS):
        result = _run("simplify", model, **options)
        model, kept = result.model, result.kept  # and not the result, which holds all weights
        changes += result.changes
        again = False
        for name in SMALL_PASSES:
            result = _run(name, model)
            model = result.model
            changes += result.changes
            again |= result.modified and (name != SHARING or _has_equal_nodes(model))
        if not again or kept:
            break
    return PassResult(model, tuple(changes), kept)


def _has_equal_nodes(model: onnx.ModelProto) -> bool:
    """Whether two nodes compute the same of the same tensors, as they may once equal tensors are one."""
    seen = [
        (node.domain, node.op_type, *node.input, *sorted(a.SerializeToString() for a in node.attribute))
        for node in model.graph.node
        if node.input
    ]
    return len(set(seen)) < len(seen)


def one_branch(model: onnx.ModelProto) -> PassResult:
    """`model` after `merge_branches` and the fold of what then stands behind one convolution, until nothing moves.

    RepViT normalizes its sum of branches; FastViT scales one and adds it to a further branch.
    """
    changes: list[Change] = []
    while (result := _run("merge_branches", model)).modified:
        folded = _run("fold_batchnorm", result.model)
        changes += [*result.changes, *folded.changes]
        model = folded.model
    return PassResult(result.model, tuple(changes), result.kept)


def _run(step: str, model: onnx.ModelProto, /, **options: Any) -> PassResult:
    run: Callable[..., PassResult] = plugins.load(passes, step, "pass").run
    return run(model, **options)


def note_of(result: PassResult) -> str:
    """`20 changed`, `20 changed, 1 kept: bn3 (is also an output of the model)` or `nothing to do`."""
    parts = [f"{len(result.changes)} changed"] if result.changes else []
    if result.kept:
        parts.append(f"{len(result.kept)} kept: {result.kept[0].node} ({result.kept[0].reason})")
    return ", ".join(parts) or "nothing to do"
