"""Apply a choice of rewrites to a float model and prove that it is the same function before anything is quantized.

    model -> ORDER[i] -> ORDER[j] -> ... -> both models on the feeds, on three images, on odd sizes -> equal or error

`rewrite(model, ["fold_columns", "pad_depthwise"], feeds)` gives the model for `quantize_model`. Both models run as they
are in the file (ORT_DISABLE_ALL), so that nothing is proven of ONNX Runtime's optimizer. They must agree to 90 dB, or
to the noise that the given model has itself between two orders of summation, less a margin.
Test: tests/test_rewriting.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from exporters import rewrites
from exporters.base import Change, Kept, PassResult
from exporters.graph import copy_model
from exporters.rewrites import ORDER
from runtimes import plugins
from runtimes.base import Array, BadInput, CheckFailed, Tensors
from runtimes.parity import ParityReport, compare
from runtimes.session import Session, open_session, random_feeds

LIMIT_DB = 90.0
NOISE_MARGIN_DB = 10.0
"""Another order of summation is another draw of the same noise."""


@dataclass(frozen=True)
class Step:
    """What one rewrite did to the model that it was given."""

    name: str
    changes: tuple[Change, ...]
    kept: tuple[Kept, ...]


@dataclass(frozen=True)
class Rewritten:
    """The rewritten model, what each rewrite did in the order of their running, and the proof (None: nothing done)."""

    model: onnx.ModelProto
    steps: tuple[Step, ...]
    parity: ParityReport | None

    @property
    def modified(self) -> bool:
        return any(step.changes for step in self.steps)

    @property
    def bound(self) -> float:
        """The largest relative difference that a change can make to its node's output."""
        return max((change.bound for step in self.steps for change in step.changes), default=0.0)


def rewrite(model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Tensors], *, seed: int = 0) -> Rewritten:
    """`model` after the rewrites `names`, each once and in the order of `ORDER`, compared with `model` on `feeds`.

    Raises `BadInput` for a name that is no rewrite or for no feeds, `CheckFailed` when the function is another.
    """
    if not len(feeds):
        raise BadInput("rewrite: no images to compare on; give at least one")
    current, steps = copy_model(model), []
    for name in ordered(names):
        result = plugins.load(rewrites, name, "rewrite").run(current)
        current = result.model
        steps.append(Step(name, result.changes, result.kept))
    parity = prove(model, current, feeds, seed=seed) if any(step.changes for step in steps) else None
    return Rewritten(current, tuple(steps), parity)


def ordered(names: Sequence[str]) -> list[str]:
    """`names`, each once, in the order in which they run."""
    for name in names:
        if name not in ORDER:
            raise BadInput(plugins.unknown(name, ORDER, "rewrite"))
    return [name for name in ORDER if name in names]


def attempt(name: str, model: onnx.ModelProto) -> PassResult | str:
    """`model` after the rewrite `name`; or, where the rewrite itself fails, what is wrong with it."""
    run: Callable[[onnx.ModelProto], PassResult] = plugins.load(rewrites, name, "rewrite").run
    try:
        return run(model)
    except MemoryError:
        raise
    except Exception as error:  # no rewrite is needed: a broken one must not end a command
        return defect(error)


def attempt_proven(name: str, model: onnx.ModelProto, feeds: Sequence[Tensors]) -> PassResult | str:
    """As `attempt`, and what changed was proven on `feeds`; or why it must not be used."""
    result = attempt(name, model)
    if isinstance(result, str) or not result.modified:
        return result
    try:
        prove(model, result.model, feeds)
    except CheckFailed as error:
        return str(error)
    except MemoryError:
        raise
    except Exception as error:  # it does not open, or does not run
        return defect(error)
    return result


def defect(error: Exception) -> str:
    """Why a rewrite that fails with `error` is not used, for the report."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}; a defect of edgecnn, please report it"


def prove(before: onnx.ModelProto, after: onnx.ModelProto, feeds: Sequence[Tensors], *, seed: int = 0) -> ParityReport:
    """Both on `feeds`, on three images where the batch is open and on sizes one larger where those are.

    Raises `CheckFailed` below `LIMIT_DB`, or below the noise of `before` itself less `NOISE_MARGIN_DB`.
    """
    reference, candidate = (open_session(model, optimize=False, threads=1) for model in (before, after))
    batches = [*feeds, *_more(reference, feeds[0], seed)]
    report = compare(reference, candidate, batches)
    if report.snr_db < LIMIT_DB:
        noise = compare(reference, open_session(before, threads=1), batches).snr_db
        report.require(snr_db=min(LIMIT_DB, noise - NOISE_MARGIN_DB))
    return report


def _more(session: Session, like: Tensors, seed: int) -> Iterator[Tensors]:
    """Random inputs of other sizes than `like`: those that the model leaves open, if it takes them."""
    tries: list[dict[str, tuple[int, ...]]] = [{}, {}]
    for info in session.inputs:
        given = like[info.name].shape
        fixed = [isinstance(size, int) for size in info.shape]
        tries[0][info.name] = tuple(3 if i == 0 and not fixed[0] else d for i, d in enumerate(given))
        tries[1][info.name] = tuple(d + (i > 0 and not fixed[i]) for i, d in enumerate(given))
    shapes = {info.name: like[info.name].shape for info in session.inputs}
    for sizes in tries:
        if sizes == shapes:
            continue
        with contextlib.suppress(BadInput):  # the given model does not take it either: nothing to compare
            more = random_feeds(session.inputs, seed=seed, sizes=sizes)
            if all(_finite(value) for value in session(more).values()):
                yield more


def _finite(value: Array) -> bool:
    return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())
