"""Do two models give the same outputs? PyTorch networks, .onnx files and bundles, in any pair.

    feeds (real images, or seeded noise) ──> reference ──┐
                                        └──> candidate ──┴──> max |difference|, SNR, top-1 agreement, against limits

Without a limit the SNR must reach `FLOAT_SNR_DB`, or `INT8_SNR_DB` when a side holds integer operators. float32
round-off leaves 80 to 140 dB, float16 50 to 70; a wrong layer leaves less than 20. 40 dB is 1 % of the signal's
amplitude. int8 leaves 13 dB (MobileNetV2) to 40 dB, so that 10 dB only tells working from broken: judge it with
`--data` and `--top1`. With a `--provider` the candidate runs there and the reference on the CPU; the limit is then the
one of the arithmetic it runs in (runtimes/precision.py).
Test: tests/test_compare.py.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn.opened import is_model_file, whereabouts
from edgecnn.runners import Subject, open_subject
from edgecnn.shapes import ShapeText, parse_shapes
from runtimes import provider_options
from runtimes.base import BadInput, CheckFailed, Runner, Tensors, Track, silent
from runtimes.parity import ParityReport, compare
from runtimes.precision import limit_of
from runtimes.residence import Residence
from runtimes.session import random_feeds

FLOAT_SNR_DB = 40.0
INT8_SNR_DB = 10.0
RANDOM_BATCHES = 8
DEQUANTIZED = "int8 computed dequantized, in float"
"""What becomes of an int8 graph on the CUDA provider, which has no integer convolution."""


@dataclass(frozen=True)
class CheckReport:
    """What was compared, on what, against which limits (`max_abs` by output name), and what does not hold.

    `seeded` names the PyTorch networks that no weights were given for.
    """

    reference: str
    candidate: str
    data: str
    snr_db: float | None
    top1: float | None
    max_abs: dict[str, float]
    default_limit: bool
    parity: ParityReport
    failures: tuple[str, ...]
    seeded: tuple[str, ...] = ()
    provider: str = "cpu"
    precision: str | None = None
    """The arithmetic that set the default limit; None on the CPU, and for limits that were given."""
    residence: Residence | None = None
    """Where the candidate's nodes ran, with `require_all`."""

    @property
    def passed(self) -> bool:
        return not self.failures

    @property
    def failure(self) -> CheckFailed | None:
        """What the command line exits with: None when every limit holds."""
        more = f" (and {len(self.failures) - 1} more)" if len(self.failures) > 1 else ""
        return None if self.passed else CheckFailed(f"{self.candidate}: {self.failures[0]}{more}")

    @property
    def verdict(self) -> str:
        limits = [f"SNR >= {self.snr_db:g} dB"] if self.snr_db is not None else []
        limits += [f"top-1 >= {self.top1:g}"] if self.top1 is not None else []
        limits += [f"|difference| of {name} <= {value:g}" for name, value in self.max_abs.items()]
        why = f" (the default{f' for {self.precision}' if self.precision else ''})" if self.default_limit else ""
        where = "" if self.provider == "cpu" else f" on {self.provider}"
        word = "agrees with" if self.passed else "does NOT agree with"
        on = f"{self.parity.images} images of {self.data}"
        return f"{self.candidate}{where} {word} {self.reference}: {', '.join(limits)}{why}, {on}."

    def to_dict(self) -> dict[str, Any]:
        limits = {
            "snr_db": self.snr_db,
            "top1": self.top1,
            "max_abs": self.max_abs or None,
            "default": self.default_limit,
        }
        return {
            "passed": self.passed,
            "reference": self.reference,
            "candidate": self.candidate,
            "seeded_weights": bool(self.seeded),
            "data": self.data,
            "limits": limits,
            "provider": self.provider,
            "precision": self.precision,
            "residence": self.residence.to_dict() if self.residence else None,
            **self.parity.to_dict(),
            "failures": list(self.failures),
        }


def check(
    reference: str | os.PathLike[str],
    candidate: str | os.PathLike[str],
    *,
    data: str | None = None,
    limit: int | None = None,
    atol: Sequence[str | float] = (),
    snr_db: float | None = None,
    top1: float | None = None,
    seed: int = 0,
    input_shape: ShapeText | None = None,
    weights: Path | None = None,
    batch: int = 1,
    threads: int | None = None,
    provider: str = "cpu",
    require_all: bool = False,
    track: Track = silent,
) -> CheckReport:
    """Compare `candidate` with `reference` on `data`, or on seeded random inputs; the report says whether limits hold.

    `atol` holds numbers, or `OUTPUT:number`. `candidate` runs on `provider`, the reference on the CPU; `require_all`:
    all of its nodes must run there. Raises `BadInput` for models or data that cannot be used together.
    """
    asked = provider_options.require(provider)  # before anything that takes time
    given = [parse_limit(text) for text in atol]
    if weights is not None and all(is_model_file(str(source)) for source in (reference, candidate)):
        raise BadInput(f"--weights {weights}: neither model is a PyTorch network; leave it out")
    _check_limits([value for _, value in given], snr_db)
    sources = ((str(reference), "cpu"), (str(candidate), asked.text))
    subjects = [open_subject(source, weights, input_shape, threads, where) for source, where in sources]
    feeds, words = make_feeds(subjects, data, limit, seed, input_shape, batch)
    candidate_runner = renamed(
        subjects[1].runner, [i.name for i in subjects[0].inputs], [i.name for i in subjects[1].inputs]
    )
    parity = compare(subjects[0].runner, candidate_runner, feeds, track)
    default, precision = snr_db is None and top1 is None and not given, None
    if default:
        snr_db, top1, precision = default_limits(subjects, asked.text, parity)
    max_abs = _by_output(given, parity)
    failures = parity.failures(snr_db=snr_db, max_abs=max_abs or None, top1=top1)
    where = None
    if require_all:
        names = [info.name for info in subjects[1].inputs]
        first = dict(zip(names, feeds[0].values(), strict=True)) if set(feeds[0]) != set(names) else feeds[0]
        where = whereabouts(Path(candidate), first, asked.text, threads).require_all(str(candidate))
    reference_name, candidate_name = (subject.name for subject in subjects)
    seeded = tuple(dict.fromkeys(subject.name for subject in subjects if subject.seeded))
    return CheckReport(
        reference_name, candidate_name, words, snr_db, top1, max_abs, default, parity, failures, seeded, asked.text,
        precision, where,
    )  # fmt: skip


def default_limits(
    subjects: Sequence[Subject], provider: str, parity: ParityReport
) -> tuple[float, float | None, str | None]:
    """(SNR in dB, share of equal answers or None, the arithmetic that says so or None) where no limit was given."""
    if any(subject.quantized for subject in subjects):
        return INT8_SNR_DB, None, None if provider == "cpu" else DEQUANTIZED
    if provider == "cpu":
        return FLOAT_SNR_DB, None, None
    limit = limit_of(provider, any(subject.half for subject in subjects))
    return limit.snr_db, limit.top1_for(parity), limit.precision


def parse_limit(text: str | float) -> tuple[str | None, float]:
    """`1e-3` or `OUTPUT:1e-3` as (output name or None, limit).

    >>> parse_limit("1e-3"), parse_limit("a:b:0.5")
    ((None, 0.001), ('a:b', 0.5))
    """
    name, _, value = str(text).rpartition(":")
    try:
        return name or None, float(value)
    except ValueError as error:
        raise BadInput(f"--atol {text}: not a number; write 1e-3 or OUTPUT:1e-3") from error


def make_feeds(
    subjects: Sequence[Subject],
    data: str | None,
    limit: int | None,
    seed: int,
    input_shape: ShapeText | None,
    batch: int,
) -> tuple[Sequence[Tensors], str]:
    """(batches for the first of `subjects`, what they are in words)."""
    inputs = subjects[0].inputs
    if data is not None:
        from edgecnn.data import load_data

        preprocess = next((s.preprocess for s in subjects if s.preprocess is not None), None)
        if preprocess is None or len(inputs) != 1:
            raise BadInput(f"{subjects[0].name}: images fit a model with one input (N, 1 or 3, H, W); leave out --data")
        samples = load_data(data, preprocess, limit=limit, seed=seed)
        return samples.feeds(inputs[0].name, batch), samples.name
    sizes = _shapes(subjects, input_shape)
    shapes = {info.name: _tightest(subjects, i) for i, info in enumerate(inputs)}
    fitted = tuple(type(info)(info.name, info.dtype, shapes[info.name]) for info in inputs)
    feeds = [random_feeds(fitted, batch, seed + i, sizes) for i in range(limit or RANDOM_BATCHES)]
    return feeds, f"random inputs (seed {seed})"


def renamed(runner: Runner, given: Sequence[str], wanted: Sequence[str]) -> Runner:
    """`runner` fed with names `given` where it wants `wanted`: the same names, else the same positions."""
    if set(given) == set(wanted):
        return runner
    if len(given) != len(wanted):
        raise BadInput(f"inputs: {', '.join(given)} against {', '.join(wanted)}; the two models eat different things")
    return lambda feeds: runner({new: feeds[old] for old, new in zip(given, wanted, strict=True)})


def _shapes(subjects: Sequence[Subject], input_shape: ShapeText | None) -> dict[str, tuple[int, ...]]:
    """Sizes by the first subject's input names; an input may also be called what another subject calls it."""
    names = [info.name for info in subjects[0].inputs]
    alias = {info.name: name for s in subjects[1:] for info, name in zip(s.inputs, names, strict=False)}
    alias |= {name: name for name in names}  # two models may use one name at different places: the first decides
    found = parse_shapes(input_shape, [*names, *(name for name in alias if name not in names)])
    return {alias[name]: sizes for name, sizes in found.items()}


def _tightest(subjects: Sequence[Subject], index: int) -> tuple[int | str | None, ...]:
    """The shape of input `index` with every size that any of the subjects fixes."""
    shapes = [s.inputs[index].shape for s in subjects if index < len(s.inputs)]
    if len({len(shape) for shape in shapes}) > 1:
        return shapes[0]
    return tuple(next((d for d in dims if isinstance(d, int)), dims[0]) for dims in zip(*shapes, strict=True))


def _check_limits(atol: Sequence[float], snr_db: float | None) -> None:
    for value in atol:
        if not value >= 0 or math.isinf(value):
            raise BadInput(f"--atol {value}: must be a number of 0 or more")
    if snr_db is not None and not math.isfinite(snr_db):
        raise BadInput(f"--snr-db {snr_db}: must be a finite number of decibels")


def _by_output(given: Sequence[tuple[str | None, float]], parity: ParityReport) -> dict[str, float]:
    """Largest difference by output name: a limit without a name holds for every output that has none of its own."""
    common = {output.name: value for name, value in given if name is None for output in parity.outputs}
    return common | {name: value for name, value in given if name is not None}
