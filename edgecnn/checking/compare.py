"""Do two models give the same outputs? PyTorch networks, .onnx files and bundles, in any pair.

    feeds (real images, or seeded noise) ──> reference ──┐
                                        └──> candidate ──┴──> max |difference|, SNR, top-1 agreement, against limits

Without a limit every output must be as near as the reference's own float noise allows (see `tolerance`), and 10 dB
where a side is int8, which only tells working from broken: judge that with `--data` and `--top1`. Without data, sizes
that both models leave open are tried, too. Detections and lists of indices are paired first, wherever they stand. With
a `--provider` the candidate runs there and the reference on the CPU; the limit is then that of its arithmetic
(runtimes/comparing/precision.py).
Test: tests/test_compare.py.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn import doubts
from edgecnn.checking.check_report import CheckReport
from edgecnn.checking.output_names import called_alike, classes_known, require_classes
from edgecnn.checking.tolerance import MOST_FEEDS, Tolerance, tolerance
from edgecnn.compared_models import all_heard, with_pixels
from edgecnn.data.adapting import adapter
from edgecnn.data.data_argument import Data, Spec, maybe_given, spelled
from edgecnn.data.feeding import make_feeds, own_names, shapes_for, with_other_sizes
from edgecnn.data.samples import Feeds
from edgecnn.given_model import called, is_file, shape_text, source_of
from edgecnn.runners import Subject, of_threads, open_subject, refuse_for_files
from runtimes.base import Array, BadInput, Runner, Tensors, Track, silent
from runtimes.comparing.precision import limit_of
from runtimes.execution import provider_options
from runtimes.execution.model_file import whereabouts
from runtimes.execution.residence import Residence
from runtimes.execution.shapes import ShapeText, texts_of
from runtimes.parity import ParityReport, compare

if TYPE_CHECKING:
    from edgecnn.given_model import Given, Source
    from edgecnn.networks.forward import InputShape

Limits = float | str | Sequence[str | float]
DEQUANTIZED = "int8 computed dequantized, in float"
"""What becomes of an int8 graph on the CUDA provider, which has no integer convolution."""


def check(
    reference: Given,
    candidate: Given,
    *,
    data: Data | None = None,
    limit: int | None = None,
    atol: Limits = (),
    snr_db: Limits | None = None,
    top1: float | None = None,
    seed: int = 0,
    input_shape: InputShape | None = None,
    weights: Path | None = None,
    batch: int = 1,
    threads: int | None = None,
    preprocess: str | None = None,
    decode: str | None = None,
    answer: str | int | None = None,
    provider: str = "cpu",
    require_all: bool = False,
    skip_unreadable: bool = False,
    track: Track = silent,
    tell: doubts.Tell = doubts.unheard,
) -> CheckReport:
    """Compare `candidate` with `reference` on `data`, or on seeded random inputs; the report says whether limits hold.

    `data` names a set or a file, or is an array. `skip_unreadable` leaves out pictures of `data` that cannot be read.
    `atol` and `snr_db` hold numbers, or `OUTPUT:number`. `candidate` runs on `provider`, the reference on the CPU;
    `require_all`: all of its nodes must run there. `preprocess`: how pixels become the input of both.
    `decode`: the raw head that a PyTorch network answers with; `answer`: which of its outputs counts. Raises
    `BadInput` for models or data that do not fit.
    """
    sources, input_shape = [source_of(reference), source_of(candidate)], shape_text(input_shape)
    asked, spec = provider_options.require(provider), maybe_given(data)  # before anything that takes time
    given, wanted = [[parse_limit(t, o) for t in _many(v)] for v, o in ((atol, "--atol"), (snr_db, "--snr-db"))]
    refuse_for_files(sources, decode, answer, weights)
    if require_all and not is_file(sources[1]):
        raise BadInput(f"--require-all: {called(sources[1])} is a PyTorch network; export it, or leave that out")
    _check_limits([value for _, value in given], [value for _, value in wanted])
    sides = zip(sources, shapes_for(sources, input_shape), ("cpu", asked.text), strict=True)
    subjects = [open_subject(s, weights, shape, threads, where, decode, answer=answer) for s, shape, where in sides]
    subjects = called_alike(require_classes(with_pixels(subjects, preprocess), top1))
    feeds, words = make_feeds(subjects, spec, limit, seed, input_shape, batch, track if skip_unreadable else None)
    runners = subjects[0].runner, fed_as(subjects[1], subjects[0])
    heard = doubts.aloud(tell, doubts.told(*all_heard(subjects, feeds, spec, preprocess), of_threads(sources, threads)))
    feeds, others = (feeds, []) if data is not None else with_other_sizes(subjects, feeds, seed, limit)
    more, refused = _tried(runners, others, subjects)
    edges = subjects[0].edges | subjects[1].edges
    parity = compare(*runners, [*feeds, *more] if more else feeds, track, edges)
    bounds, precision = Tolerance(_by_output(wanted, parity), {}, ""), None
    if not wanted and top1 is None and not given:
        few = [*(feeds[i] for i in range(min(len(feeds), MOST_FEEDS))), *more]
        bounds, top1, precision = default_limits(subjects, asked.text, few, parity)
    max_abs = _by_output(given, parity)
    failures = (*refused, *parity.failures(snr_db=bounds.snr_db or None, max_abs=max_abs or None, top1=top1),
                *_different(parity, bounds.same))  # fmt: skip
    return CheckReport(
        reference=subjects[0].name,
        candidate=subjects[1].name,
        data=words,
        snr_db=bounds.snr_db,
        top1=top1,
        max_abs=max_abs,
        same=bounds.same,
        why=bounds.why,
        parity=parity,
        failures=failures,
        sizes=_shapes([feeds[0], *more]),
        seeded=tuple(dict.fromkeys(subject.name for subject in subjects if subject.seeded)),
        next_command=next_command(sources, weights, spec, input_shape, wanted, preprocess, decode, answer),
        provider=asked.text,
        precision=precision,
        warnings=heard,
        unreadable=feeds.samples.unreadable if isinstance(feeds, Feeds) else (),
        classes=classes_known(subjects),
        residence=_residence(subjects, Path(subjects[1].name), feeds[0], asked.text, threads) if require_all else None,
    )


def default_limits(
    subjects: Sequence[Subject], provider: str, feeds: Sequence[Tensors], parity: ParityReport
) -> tuple[Tolerance, float | None, str | None]:
    """(limits by output, share of equal answers or None, the arithmetic that says so or None) where none was given."""
    quantized = any(subject.quantized for subject in subjects)
    if provider == "cpu" or quantized:
        return tolerance(subjects, feeds, parity), None, None if provider == "cpu" else DEQUANTIZED
    limit = limit_of(provider, any(subject.half for subject in subjects))
    names = dict.fromkeys((out.name for out in parity.outputs), limit.snr_db)
    top1 = limit.top1_for(parity) if classes_known(subjects) else None
    return Tolerance(names, {}, f"the default for {limit.precision}"), top1, limit.precision


def _residence(subjects: Sequence[Subject], path: Path, feed: Tensors, provider: str, threads: int | None) -> Residence:
    """Where the candidate's nodes ran; raises `CheckFailed` when one ran elsewhere than on `provider`."""
    names, adapt = [info.name for info in subjects[1].inputs], adapter(*subjects)
    own = dict(zip(names, feed.values(), strict=True)) if set(feed) != set(names) else feed
    own = own if adapt is None else {name: adapt(value) for name, value in own.items()}
    return whereabouts(path, own, provider, threads).require_all(str(path))


def next_command(
    sources: Sequence[Source], weights: Path | None, data: Spec | None, input_shape: ShapeText | None,
    snr_db: Sequence[tuple[str | None, float]] = (), preprocess: str | None = None, decode: str | None = None,
    answer: str | int | None = None,
) -> str:  # fmt: skip
    """The `edgecnn diff` that goes on where `check` says no; it knows one limit for all outputs."""
    words = ["edgecnn", "diff", *map(called, sources)]
    least = next((f"{value:g}" for name, value in snr_db if name is None), None)
    for option, value in (("--weights", weights), ("--data", spelled(data)), ("--snr-db", least),
                          ("--preprocess", preprocess), ("--decode", decode), ("--answer", answer)):  # fmt: skip
        words += [option, str(value)] if value is not None else []
    for shape in texts_of(input_shape):
        words += ["--input-shape", shape]
    return shlex.join(words)


def _tried(
    runners: tuple[Runner, Runner], feeds: Sequence[Tensors], subjects: Sequence[Subject]
) -> tuple[list[Tensors], list[str]]:
    """(those of `feeds` that both take, a line for each that only the reference takes)."""
    taken, refused = [], []
    for given in feeds:
        shape = " ".join("x".join(map(str, value.shape)) for value in given.values())
        if not _takes(runners[0], given):
            continue
        if _takes(runners[1], given):
            taken.append(given)
        else:
            refused.append(f"input {shape}: {subjects[0].name} takes it and this model does not")
    return taken, refused


def _takes(runner: Runner, given: Tensors) -> bool:
    try:
        runner(given)
    except (BadInput, RuntimeError, ValueError):  # the last two are PyTorch's
        return False
    return True


def _shapes(feeds: Sequence[Tensors]) -> tuple[tuple[int, ...], ...]:
    return tuple(dict.fromkeys(tuple(next(iter(given.values())).shape) for given in feeds if given))


def _different(parity: ParityReport, same: dict[str, float]) -> list[str]:
    """A line for every integer output of which too few values are equal."""
    return [
        f"output {out.name}: {out.same:.4f} of its integers are equal, below the limit of {same[out.name]:.4f}"
        for out in parity.outputs
        if out.name in same and out.same is not None and out.same < same[out.name]
    ]


def _many(values: Limits | None) -> Sequence[str | float]:
    if values is None:
        return ()
    return [values] if isinstance(values, (str, float, int)) else values


def parse_limit(text: str | float, option: str = "--atol") -> tuple[str | None, float]:
    """`1e-3` or `OUTPUT:1e-3` as (output name or None, limit).

    >>> parse_limit("1e-3"), parse_limit("a:b:0.5")
    ((None, 0.001), ('a:b', 0.5))
    """
    name, _, value = str(text).rpartition(":")
    example = "1e-3" if option == "--atol" else "40"
    try:
        return name or None, float(value)
    except ValueError as error:
        raise BadInput(f"{option} {text}: not a number; write {example} or OUTPUT:{example}") from error


def fed_as(candidate: Subject, reference: Subject) -> Runner:
    """The runner of `candidate`, given what the `reference` is given: other names, and pixels made ready otherwise."""
    names, adapt = own_names(reference, candidate), adapter(reference, candidate)
    own: Callable[[Array], Array] = adapt or (lambda value: value)
    return lambda feeds: candidate.runner({theirs: own(feeds[ours]) for ours, theirs in names.items()})


def _check_limits(atol: Sequence[float], snr_db: Sequence[float]) -> None:
    for value in atol:
        if not value >= 0 or math.isinf(value):
            raise BadInput(f"--atol {value}: must be a number of 0 or more; write 1e-3")
    for value in snr_db:
        if not math.isfinite(value):
            raise BadInput(f"--snr-db {value}: must be a finite number of decibels; write 40")


def _by_output(given: Sequence[tuple[str | None, float]], parity: ParityReport) -> dict[str, float]:
    """Limits by output name: a limit without a name holds for every output that has none of its own."""
    common = {output.name: value for name, value in given if name is None for output in parity.outputs}
    return common | {name: value for name, value in given if name is not None}
