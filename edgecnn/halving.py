"""float16 in any ONNX file: `edgecnn half`, and what `export --fp16` does behind the float road. Never imports torch.

    plan, measure, write (exporters/half_probe) -> parity, rounding emulated or on the GPU -> race -> written or refused

float16 is for GPUs: ONNX Runtime's CPU provider computes it in float32, so that it can only lose there. What does not
win the race on the provider asked for is refused, unless the user allows it, say for a GPU elsewhere.

The limit is that of float16, less for a network that amplifies its own rounding (runtimes/comparing/precision.py).
Test: tests/test_halving.py.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgecnn.compared_models import all_heard, with_pixels
from edgecnn.data.data_argument import Data, maybe_given
from edgecnn.data.feeding import make_feeds
from edgecnn.opened import check_model_output, refuse_bundle
from edgecnn.runners import open_subject
from runtimes.base import BadInput, CheckFailed, Runner, Tensors, Track, one_line, silent
from runtimes.comparing.precision import LIMITS, coarse_limit_db
from runtimes.execution import provider_options
from runtimes.execution.shapes import ShapeText
from runtimes.latency import ClockName, Ratio, race
from runtimes.parity import JSON_SNR_LIMIT, ParityReport, compare, json_number
from runtimes.session import Session, open_session

if TYPE_CHECKING:
    import onnx

    from exporters.artifact import Stage
    from exporters.fp16.half import Half

IMAGES = 8
ROUNDS, SECONDS = 300, 5.0
PathText = str | os.PathLike[str]


@dataclass(frozen=True)
class Halved:
    """A float16 model that is near enough, and its speed over the float32 one; `speedup` None: nothing was converted.

    `parity` is against the float32 model in `export`'s sense: the PyTorch module where there is one.
    """

    half: Half
    parity: ParityReport
    limit_db: float
    provider: str
    seconds: float
    speedup: Ratio | None

    @property
    def verdict(self) -> str:
        near = f"{self.half.words}; SNR {self.parity.worst_db:.1f} dB (limit {self.limit_db:.0f})"
        return near if self.speedup is None else f"{near}; {self.speedup} on {self.provider}"

    def to_dict(self) -> dict[str, Any]:
        half, parity = self.half, self.parity
        return {
            "half_nodes": half.nodes,
            "float_nodes": [{"node": node, "reason": reason} for node, reason in half.kept],
            "weights": {"rounded": half.weights, "subnormal": half.subnormal, "zeroed": half.zeroed},
            "snr_db": json_number(parity.snr_db, JSON_SNR_LIMIT),
            "limit_db": self.limit_db,
            "max_abs": parity.max_abs,
            "top1": parity.top1,
            "images": parity.images,
            "provider": self.provider,
            "speedup": self.speedup.to_dict() if self.speedup else None,
        }


@dataclass(frozen=True)
class HalfReport:
    """What `half` wrote and why; `data` says in words on what it was measured."""

    output: Path
    halved: Halved
    data: str
    size_bytes: int
    warnings: tuple[str, ...] = ()
    """What a user should hear beside the result (edgecnn/doubts.py)."""

    @property
    def verdict(self) -> str:
        if self.halved.speedup is None:
            return f"{self.output}: nothing to convert, written as it was"
        return f"{self.output}: {self.halved.verdict}."

    def to_dict(self) -> dict[str, Any]:
        about = {"data": self.data, "size_bytes": self.size_bytes, "warnings": list(self.warnings)}
        return {"output": str(self.output), **self.halved.to_dict(), **about}


def half(
    model: PathText,
    output: PathText,
    *,
    calib: Data | None = None,
    limit: int | None = None,
    exclude: Sequence[str] = (),
    input_shape: ShapeText | None = None,
    preprocess: str | None = None,
    provider: str = "cpu",
    allow_slower: bool = False,
    threads: int = 1,
    seed: int = 0,
    force: bool = False,
    track: Track = silent,
) -> HalfReport:
    """Write the float32 `.onnx` file `model` in float16 to `output`, inputs and outputs still float32.

    `calib` (a set, a file or an array; else seeded random inputs) shows which nodes must stay float32. `preprocess`
    says how pixels become its input, and travels with it. Raises `CheckFailed` when the result is not faster on
    `provider` (without `allow_slower`) or not near enough, `Unavailable` where `provider` cannot run.
    """
    from edgecnn.choosing.model_identity import preparing
    from exporters.artifact import read_identity, read_stages, write_identity, write_stages
    from exporters.load import load_model, save_model
    from exporters.quantization.quantize import check_patterns
    from exporters.targets.target import runnable

    asked, spec = provider_options.require(provider), maybe_given(calib, "calib")
    path = check_model_output(Path(output), force, Path(model))
    refuse_bundle(Path(model))
    (subject,) = with_pixels([open_subject(os.fspath(model), None, input_shape, threads)], preprocess)
    if preprocess is not None:
        subject = replace(subject, carried=subject.preprocess)
    original = runnable(load_model(model))
    check_patterns(original, exclude)
    feeds, words = make_feeds([subject], spec, limit or IMAGES, seed, input_shape, 1)
    own = compare(subject.runner, open_session(original, threads=threads, optimize=False), feeds[:2]).worst_db
    halved = halve(
        original, feeds, lambda runner: compare(subject.runner, runner, feeds), own, asked.text, threads,
        allow_slower, exclude, os.fspath(model), track,
    )  # fmt: skip
    result = halved.half.model
    if halved.speedup:
        result = write_stages(result, (*read_stages(original), stage_of(halved)))
    if preprocess is not None:
        known = read_identity(original, os.fspath(model))
        write_identity(result, preparing(known, path.stem, original, subject.preprocess))
    save_model(result, path, force=force)
    return HalfReport(path, halved, words, path.stat().st_size, all_heard([subject], feeds, spec, preprocess))


def halve(
    model: onnx.ModelProto,
    feeds: Sequence[Tensors],
    parity_of: Callable[[Runner], ParityReport],
    noise_db: float,
    provider: str,
    threads: int = 1,
    allow_slower: bool = False,
    exclude: Sequence[str] = (),
    subject: str = "model",
    track: Track = silent,
) -> Halved:
    """`model` in float16, near enough by `parity_of` and faster on `provider`; raises `CheckFailed` where it is not.

    float32 runs as `provider` says, float16 with what that needs besides, which is where the result says it ran.
    """
    from exporters.fp16.half_probe import convert, emulated
    from exporters.targets.cuda_pads import even_pads

    started = time.perf_counter()
    model = even_pads(model)  # float16 is for GPUs
    found = convert(model, feeds, exclude, threads, track)
    seconds = time.perf_counter() - started
    given, provider = provider, provider_options.parse(provider).for_half.text
    session = _opened(found.model, provider, threads, subject)
    parity = parity_of(session if provider != "cpu" else _opened(emulated(found.model), provider, threads, subject))
    least = coarse_limit_db(noise_db)
    if not found.nodes:
        return Halved(found, parity, least, provider, seconds, None)
    try:
        parity.require(snr_db=least, top1=LIMITS["fp16"].top1_for(parity))
    except CheckFailed as error:
        measured = {"output": None, **Halved(found, parity, least, provider, seconds, None).to_dict()}
        raise CheckFailed(f"{subject}: float16 is too coarse for it ({error}); keep float32", measured) from error
    ratio = raced(open_session(model, given, threads, subject=subject), session, feeds[0], threads)
    halved = Halved(found, parity, least, provider, seconds, ratio)
    if ratio.verdict != "faster" and not allow_slower:
        why = f"{subject}: {ratio} on {provider}: kept float; --allow-slower writes it, for a GPU elsewhere"
        raise CheckFailed(why, {"output": None, **halved.to_dict()})
    return halved


def _opened(model: onnx.ModelProto, provider: str, threads: int, subject: str) -> Session:
    """A session of the graph made of `subject`; `CheckFailed` where that does not load: no fault of the file."""
    try:
        return open_session(model, provider, threads)
    except BadInput as error:
        reason = one_line(str(error.__cause__ or error), 160)
        raise CheckFailed(f"{subject}: its float16 graph does not load ({reason}); keep float32") from error


def raced(float32: Session, float16: Session, feed: Tensors, threads: int) -> Ratio:
    """float16 against float32 on their device, inputs and outputs bound to it."""
    clock: ClockName | None = None if float16.provider == "cpu" else "wall"
    calls = {"float16": float16.bind(feed), "float32": float32.bind(feed)}
    return race(calls, ROUNDS, seconds=SECONDS, threads=threads, clock=clock).ratio("float16", "float32")


def stage_of(halved: Halved) -> Stage:
    """The step `half` as the artifact keeps it."""
    from exporters.artifact import describe

    how = "measured there" if halved.provider != "cpu" else "rounding emulated"
    note = f"{halved.half.words}; limit {halved.limit_db:.0f} dB, {how}"
    return describe("half", halved.half.model, halved.seconds, halved.parity, note)
