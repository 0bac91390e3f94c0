"""The first layer at which two models part, by node and PyTorch module, proven by running that layer alone.

    outputs differ ──> bisect over the common tensors ──> the first that differs ──> its layer on right inputs
                                                                                      differs: it is at fault
                                                                                      agrees: look at every layer

A float candidate has diverged where it is farther from the reference than the reference's own noise (see
`comparison`). An int8 candidate of a float reference loses a little in every layer: with `snr_db` it has diverged
where it falls below that; without, at the largest drop on the way, if that layer alone is as bad, and else at the first
layer that stands out from the others. Graphs run as they are in the file, without ONNX Runtime's optimizer; what the
kernels of an int8 graph add to that is looked at apart (see `kernels`).
Test: tests/test_diff.py, tests/test_diff_faults.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn import doubts
from edgecnn.checking.bisection import Found
from edgecnn.checking.calibrated import aligned, beyond, in_range
from edgecnn.checking.common_points import compare_sides, make_samples
from edgecnn.checking.comparison import Comparison, Row
from edgecnn.checking.divergence import DiffReport, Divergence, db
from edgecnn.checking.fault_search import INT8_LAYER_DB, look
from edgecnn.checking.kernels import kernels
from edgecnn.checking.reproducer import check_folder, write_reproducer
from edgecnn.checking.sides import open_side
from edgecnn.checking.tolerance import INT8_SNR_DB
from edgecnn.compared_models import all_heard, with_pixels
from edgecnn.data.data_argument import Data, maybe_given
from edgecnn.data.feeding import shapes_for
from edgecnn.data.samples import Feeds
from edgecnn.given_model import shape_text, source_of
from edgecnn.memory import memory_goes_back
from edgecnn.runners import of_threads, refuse_for_files
from runtimes.base import Track, silent
from runtimes.files import require_apart

if TYPE_CHECKING:
    from edgecnn.given_model import Given
    from edgecnn.networks.forward import InputShape


def diff(
    reference: Given,
    candidate: Given,
    *,
    data: Data | None = None,
    samples: int = 3,
    snr_db: float | None = None,
    layers: bool = False,
    plot: str | os.PathLike[str] | None = None,
    reproducer: str | os.PathLike[str] | None = None,
    force: bool = False,
    seed: int = 0,
    input_shape: InputShape | None = None,
    weights: Path | None = None,
    threads: int | None = None,
    preprocess: str | None = None,
    decode: str | None = None,
    answer: str | int | None = None,
    skip_unreadable: bool = False,
    track: Track = silent,
    tell: doubts.Tell = doubts.unheard,
) -> DiffReport:
    """Find the first layer at which `candidate` parts from `reference`; the report's `first` is None when none does.

    `data` names a set or a file, or is an array. `skip_unreadable` leaves out pictures of `data` that cannot be read.
    `layers` (and `plot`) look at every layer. `reproducer` is a folder to be made for that layer alone. Raises
    `BadInput` for models or data that cannot be used together.
    """
    sources, input_shape = [source_of(reference), source_of(candidate)], shape_text(input_shape)
    refuse_for_files(sources, decode, answer, weights)
    require_apart(
        [Path(each) for each in (plot, reproducer) if each is not None],
        [each for each in (reference, candidate, data, weights) if isinstance(each, str | os.PathLike)],
    )
    if plot is not None:
        from edgecnn.plots._canvas import check_plot

        plot = check_plot(Path(plot), force)
    if reproducer is not None:
        reproducer = check_folder(Path(reproducer), force)
    spec = maybe_given(data)
    shapes = zip(sources, shapes_for(sources, input_shape), strict=True)
    sides = with_pixels(
        [open_side(source, weights, shape, threads, decode, answer) for source, shape in shapes], preprocess
    )
    feeds, words, fed = make_samples(sides, spec, samples, seed, input_shape, track if skip_unreadable else None)
    heard = doubts.aloud(tell, doubts.told(*all_heard(sides, fed, spec, preprocess), of_threads(sources, threads)))
    comparison = compare_sides(sides[0], sides[1], feeds, snr_db)
    made = not isinstance(fed, Feeds)
    report = find(comparison, words, layers or plot is not None, plot, reproducer, force, track, made)
    return replace(report, warnings=heard, unreadable=fed.samples.unreadable if isinstance(fed, Feeds) else ())


@memory_goes_back()
def find(
    comparison: Comparison,
    words: str = "given inputs",
    layers: bool = False,
    plot: Path | None = None,
    reproducer: Path | None = None,
    force: bool = False,
    track: Track = silent,
    made: bool = False,
) -> DiffReport:
    """`diff` for sides at hand. `made`: the inputs are no images that anybody gave or calibrated with."""
    quantized = comparison.candidate.quantized != comparison.reference.quantized
    drops = quantized and comparison.limit_db is None
    if drops:
        comparison.limit_db, comparison.per_layer = INT8_LAYER_DB, True
    looked = look(comparison, layers, drops, track)
    found, first, rows = looked.found, looked.first, looked.rows
    doubt = looked.doubt
    if first is not None and first.at_fault and not first.cause:
        first, doubt = _sure(
            comparison, first, lambda: rows or tuple(comparison.stream(track)), words, made and quantized
        )
    ran, least = kernels(comparison, track), INT8_SNR_DB if drops else comparison.limit_db or INT8_SNR_DB
    report = _report(comparison, words, found, first, rows, looked.notes)
    report = replace(report, kernels=ran, least_db=least, doubt=doubt)
    return _written(comparison, report, plot, reproducer, force)


def _sure(
    comparison: Comparison, first: Divergence, rows: Callable[[], Sequence[Row]], words: str, made: bool
) -> tuple[Divergence | None, str]:
    """(the layer that is at fault for sure, else why none can be blamed). `made`: see `find`."""
    if comparison.other_layout and not aligned(comparison, first.point):
        return None, (
            f"{db(first.snr_db)} at {first.node}, the first tensor that can be compared: one side has channels last, "
            "and the layers before it cannot be aligned"
        )
    if not made or not beyond(comparison, first.point, first.limit_db):
        return first, ""
    other = in_range(comparison, first, rows())
    where = f"{first.node} (module {first.module})" if first.module else first.node
    seen = words.partition(" (")[0]
    return other, "" if other is not None else f"{seen} leave the calibrated range of {where}; give --data"


def _report(
    comparison: Comparison,
    words: str,
    found: Found,
    first: Divergence | None,
    rows: tuple[Row, ...],
    notes: tuple[str, ...],
) -> DiffReport:
    ends = comparison.at_ends(found.readings)
    return DiffReport(
        reference=comparison.reference.name,
        candidate=comparison.candidate.name,
        data=words,
        samples=len(comparison.feeds),
        points=len(comparison.points.names),
        nodes=comparison.nodes,
        partial_runs=comparison.spent["partial"],
        first=first,
        layers=rows,
        notes=notes,
        output_db=min(reading.snr_db for reading in ends),
        limit_db=min(reading.limit_db for reading in ends),
    )


def _written(
    comparison: Comparison, report: DiffReport, plot: Path | None, folder: Path | None, force: bool
) -> DiffReport:
    """`report`, with the files that were asked for written."""
    if plot is not None:
        from edgecnn.plots.sqnr import draw

        draw(report, plot)
        report = replace(report, plot=str(plot))
    if folder is not None and report.first is None:
        report = replace(report, notes=(*report.notes, f"{folder}: not made, for no layer is to blame"))
    elif folder is not None and report.first is not None:
        write_reproducer(comparison, report.first, folder, force)
        report = replace(report, reproducer=str(folder))
    return report
