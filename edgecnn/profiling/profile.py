"""Where the time of a model goes, node by node and module by module, and why: `edgecnn profile`. Never imports torch.

    peaks of this machine            exporters/layerwise/peaks.py       before and after the runs, on the same threads
    plain run | profiled run         interleaved, medians     the profiler's own cost is their difference
    kernel -> node of the file       exporters/layerwise/executed.py    -> layer, MACs, PyTorch module
    what costs too much              slow_spots.py            islands, layout, slow int8 kernels: cost and remedy

Test: tests/test_profile.py.
"""

from __future__ import annotations

import contextlib
import functools
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from edgecnn import doubts
from edgecnn.given_model import refuse_module
from edgecnn.latency.assumptions import of_pictures, of_sizes, sized
from edgecnn.latency.fresh_process import probe
from edgecnn.latency.job import Job
from edgecnn.latency.racers import refuse_source
from edgecnn.numbers.inspection import Sizes
from edgecnn.numbers.layer_table import layer_name
from edgecnn.numbers.onnx_numbers import Numbers, macs_of
from edgecnn.numbers.onnx_table import part_of
from edgecnn.opened import read_model
from edgecnn.profiling.profile_report import ProfileReport, as_csv
from edgecnn.profiling.profiled import GROUPINGS, By, Measured, Piece, Timing
from edgecnn.profiling.slow_spots import spots
from exporters.graph import label, own_module
from exporters.layerwise.executed import QUANTIZERS, Executed, executed, named
from exporters.layerwise.peaks import Peaks, measure_peaks
from runtimes import plugins
from runtimes.base import BadInput, Tensors, Track, silent
from runtimes.census import Tracer, tracing
from runtimes.execution.model_file import external_of, is_bundle
from runtimes.execution.shapes import ShapeText, shapes_of, texts_of
from runtimes.files import check_output, require_apart, write_atomic
from runtimes.latency import Call, Race, race
from runtimes.machine import describe
from runtimes.session import Session, open_session
from runtimes.timing.racer import distinct

ITERATIONS, SECONDS = 50, 6.0
"""Without a number of iterations: as many pairs of runs as fit the time, at most so many."""
WARMUP = 3


def profile(
    model: str | os.PathLike[str],
    *,
    against: str | os.PathLike[str] | None = None,
    by: By = "node",
    depth: int | None = None,
    threads: int = 1,
    batch: int = 1,
    iterations: int | None = None,
    seed: int = 0,
    input_shape: ShapeText | None = None,
    plot: str | os.PathLike[str] | None = None,
    csv: str | os.PathLike[str] | None = None,
    force: bool = False,
    track: Track = silent,
    tell: doubts.Tell = doubts.unheard,
) -> ProfileReport:
    """Profile an .onnx file or a bundle on the CPU, on seeded random inputs; `against` another one, layer by layer.

    `by` says what the report's rows and the `csv` file are: nodes, PyTorch modules or kernels' operators; `depth` cuts
    the paths of modules. `plot` is where the roofline goes. `tell` hears what was assumed before the runs; the report's
    `warnings` have it too. Raises `BadInput`.
    """
    for given in (model, against):
        refuse_module(given, "profile", "measures files: export it first")
    if by not in GROUPINGS:
        raise BadInput(plugins.unknown(by, GROUPINGS, "grouping"))
    if batch < 1 or (iterations is not None and iterations < 1):
        raise BadInput(f"profile: batch {batch}, {iterations} iterations; at least 1 is needed")
    if depth is not None and by != "module":
        raise BadInput(f"profile: depth {depth} cuts paths of modules, the rows are of each {by}; add --by module")
    plot_path, csv_path = _check_outputs(plot, csv, force, (model, against))
    texts = tuple(texts_of(input_shape))
    names = [os.fspath(name) for name in (model, against) if name is not None]
    shapes, lines = _looked_at(names, Job("", "cpu", threads, batch, seed, texts))
    heard = doubts.aloud(tell, doubts.told(*lines))
    peaks = measure_peaks(threads)
    found, raced = measure(names, peaks, batch, iterations, seed, shapes, track)
    peaks = peaks.best(measure_peaks(threads))
    one, *others = (replace(measured, peaks=peaks) for measured, _ in found)
    ratio = raced.ratio(one.model, others[0].model) if others else None
    causes = spots(one, found[0][1].graph)
    report = ProfileReport(describe(), one, causes, others[0] if others else None, ratio, by, depth, heard)
    if plot_path is not None:
        from edgecnn.plots.roofline import roofline

        write_atomic(plot_path, roofline(report, plot_path.suffix))
    if csv_path is not None:
        write_atomic(csv_path, as_csv(report).encode())
    return report


def _looked_at(names: Sequence[str], like: Job) -> tuple[list[tuple[str, ...]], list[str]]:
    """(shapes of each model's inputs, after a run in a fresh process: one that crashes ONNX Runtime dies there; lines
    about what they assume).
    """
    for name in names:
        refuse_source(name)
        is_bundle(Path(name))
    asked = {key: replace(like, model=name) for key, name in zip(distinct(names), names, strict=True)}
    (jobs,) = sized([asked])
    for job in jobs.values():
        probe(job)
    graphs = {key: read_model(Path(job.model))[0].graph for key, job in jobs.items()}
    seen = [of_pictures(key, [value.name for value in graph.output]) for key, graph in graphs.items()]
    return [job.input_shape for job in jobs.values()], [*of_sizes(asked, jobs), *seen]


def _check_outputs(
    plot: str | os.PathLike[str] | None,
    csv: str | os.PathLike[str] | None,
    force: bool,
    inputs: Sequence[str | os.PathLike[str] | None],
) -> tuple[Path | None, Path | None]:
    from edgecnn.plots._canvas import check_plot

    drawing, table = (None if name is None else Path(name) for name in (plot, csv))
    require_apart([drawing, table], inputs)
    if drawing is not None:
        check_plot(drawing, force)
    return drawing, None if table is None else check_output(table, force)


@dataclass(frozen=True)
class _Subject:
    """A model that is opened twice, and what it is fed."""

    name: str
    numbers: Numbers
    feeds: Tensors
    plain: Session
    tracer: Tracer


def measure(
    names: Sequence[str],
    peaks: Peaks,
    batch: int = 1,
    iterations: int | None = None,
    seed: int = 0,
    texts: Sequence[Sequence[str]] | None = None,
    track: Track = silent,
) -> tuple[list[tuple[Measured, Numbers]], Race]:
    """Profile the models in files `names`, each with its counts; all runs are interleaved, also those of the profiler.

    `texts` are the shapes of each one's inputs. In the race the plain runs have the models' names.
    """
    with contextlib.ExitStack() as stack:
        shapes = texts or [()] * len(names)
        subjects = [_open(stack, name, path, peaks.threads, batch, seed, own)
                    for name, path, own in zip(distinct(names), names, shapes, strict=True)]  # fmt: skip
        calls: dict[str, Call] = {}
        for subject in subjects:
            calls[subject.name] = functools.partial(subject.plain, subject.feeds)
            calls[_profiled(subject.name)] = functools.partial(subject.tracer, subject.feeds)
        seconds = None if iterations else SECONDS * len(names)
        result = race(calls, iterations or ITERATIONS, WARMUP, seed, seconds, track, threads=peaks.threads)
        return [(_measured(subject, result, peaks), subject.numbers) for subject in subjects], result


def _open(
    stack: contextlib.ExitStack, name: str, path: str, threads: int, batch: int, seed: int, texts: Sequence[str]
) -> _Subject:
    model, external = named(read_model(Path(path))[0]), external_of(Path(path))
    tracer = stack.enter_context(tracing(model, "cpu", threads, external=external, keep_graph=True, subject=path))
    plain = open_session(model, "cpu", threads, external=external, subject=path)
    feeds = plain.random_feeds(batch, seed, shapes_of(texts, plain.inputs, batch))
    return _Subject(name, Numbers(model, {key: tuple(x.shape) for key, x in feeds.items()}), feeds, plain, tracer)


def _profiled(name: str) -> str:
    return f"{name} (profiled)"


def _measured(subject: _Subject, result: Race, peaks: Peaks) -> Measured:
    runs = subject.tracer.end()[-result.rounds :]
    ran = onnx.ModelProto.FromString(subject.tracer.graph())
    kernels = executed(runs, ran, subject.numbers.graph)
    plain, profiled = (statistics.median(result.times_ms(n)) * 1e3 for n in (subject.name, _profiled(subject.name)))
    between = statistics.median(run.time_us - sum(node.time_us for node in run.nodes) for run in runs)
    wall = result.reports[subject.name].p50_ms * 1e3
    timing = Timing(result.rounds, result.clock, plain, profiled, wall, between)
    return Measured(subject.name, pieces(kernels, subject.numbers), timing, peaks)


def pieces(kernels: Sequence[Executed], numbers: Numbers) -> tuple[Piece, ...]:
    """Each kernel with its node's module, layer and MACs; of several kernels of one node the slowest has the MACs."""
    nodes = {label(node): node for node in numbers.graph.proto.node}
    slowest: dict[str, Executed] = {}
    for kernel in kernels:
        best = slowest.get(kernel.origin)
        slowest[kernel.origin] = kernel if best is None or kernel.time_us > best.time_us else best
    return tuple(
        _piece(kernel, nodes.get(kernel.origin), numbers, slowest[kernel.origin] is kernel) for kernel in kernels
    )


def _piece(kernel: Executed, node: onnx.NodeProto | None, numbers: Numbers, counts: bool) -> Piece:
    if node is None:
        inside = bool(kernel.origin)  # in the body of an If or a Loop: it may run any number of times
        return Piece(kernel, op=kernel.op, macs=None if inside and _multiplies(kernel) else 0)
    part = part_of(numbers, node)
    output = numbers.sizes(node.output[0]) or (kernel.outputs[0][1] if kernel.outputs else None)
    words = (layer_name(part) if part is not None else "", "x".join(map(str, (output or ())[2:])))
    module = own_module(node) or ("" if node.op_type in QUANTIZERS else _path(node.name))
    macs = _macs(kernel, node, numbers, output) if counts else 0
    return Piece(kernel, module, node.op_type, " ".join(filter(None, words)), macs)


def _macs(kernel: Executed, node: onnx.NodeProto, numbers: Numbers, output: Sizes | None) -> int | None:
    """From the shapes in the file; where they are open, from those that ran."""
    given = [numbers.sizes(name) for name in node.input]
    if given and given[0] is None and kernel.inputs:
        weight = given[1] if node.op_type == "MatMul" else None
        given[0] = weight[-2:-1] if weight else kernel.inputs[0][1]  # a MatMul may have a Transpose of its input in it
    return macs_of(node, given, output)


def _multiplies(kernel: Executed) -> bool:
    return any(word in kernel.op for word in ("Conv", "Gemm", "MatMul"))


def _path(name: str) -> str:
    """The module in a node's name as PyTorch's older exporter writes it: a child in a list repeats the list's name.

    >>> _path("/layer1/layer1.0/conv1/Conv"), _path("Conv_3")
    ('layer1.0.conv1', '')
    """
    path: list[str] = []
    for word in [word for word in name.split("/") if word][:-1]:
        if path and word.startswith(f"{path[-1]}."):
            path.pop()
        path.append(word)
    return ".".join(path)
