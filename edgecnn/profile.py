"""Where the time of a model goes, node by node and module by module, and why: `edgecnn profile`. Never imports torch.

    peaks of this machine            exporters/peaks.py       before and after the runs, on the same threads
    plain run | profiled run         interleaved, medians     the profiler's own cost is their difference
    kernel -> node of the file       exporters/executed.py    -> layer, MACs, PyTorch module
    what costs too much              slow_spots.py            islands, layout, slow int8 kernels: cost and remedy

Test: tests/test_profile.py.
"""

from __future__ import annotations

import functools
import os
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from edgecnn.benchmark import refuse_source
from edgecnn.fresh_process import Job, probe
from edgecnn.inspection import Sizes
from edgecnn.layer_table import layer_name
from edgecnn.onnx_numbers import Numbers, node_macs
from edgecnn.onnx_table import part_of
from edgecnn.opened import external_of, is_bundle, read_model
from edgecnn.profile_report import ProfileReport, as_csv
from edgecnn.profiled import GROUPINGS, By, Measured, Piece, Timing
from edgecnn.shapes import ShapeText, parse_shapes
from edgecnn.slow_spots import spots
from exporters.executed import QUANTIZERS, Executed, executed, named
from exporters.graph import MODULE_KEY, get_meta, label
from exporters.peaks import Peaks, measure_peaks
from runtimes import plugins
from runtimes.base import BadInput, Track, silent
from runtimes.census import Pass, tracing
from runtimes.files import check_output, write_atomic
from runtimes.latency import Race, race
from runtimes.machine import describe
from runtimes.session import open_session, random_feeds

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
) -> ProfileReport:
    """Profile an .onnx file or a bundle on the CPU, on seeded random inputs; `against` another one, layer by layer.

    `by` says what the report's rows and the `csv` file are: nodes, PyTorch modules or kernels' operators; `depth` cuts
    the paths of modules. `plot` is where the roofline goes. Raises `BadInput`.
    """
    if by not in GROUPINGS:
        raise BadInput(plugins.unknown(by, GROUPINGS, "grouping"))
    if batch < 1 or (iterations is not None and iterations < 1):
        raise BadInput(f"profile: batch {batch}, {iterations} iterations; at least 1 is needed")
    plot_path, csv_path = _check_outputs(plot, csv, force)
    texts = (input_shape,) if isinstance(input_shape, str) else tuple(input_shape or ())
    names = [os.fspath(name) for name in (model, against) if name is not None]
    for name in names:
        refuse_source(name)
        is_bundle(Path(name))
        probe(Job(name, "cpu", threads, batch, seed, texts))  # a model that crashes ONNX Runtime dies there
    peaks = measure_peaks(threads)
    found = [measure(name, peaks, batch, iterations, seed, texts, track) for name in names]
    peaks = peaks.best(measure_peaks(threads))
    one, *others = (replace(measured, peaks=peaks) for measured, _ in found)
    report = ProfileReport(describe(), one, spots(one, found[0][1].graph), others[0] if others else None, by, depth)
    if plot_path is not None:
        from edgecnn.plots.roofline import roofline

        write_atomic(plot_path, roofline(report, plot_path.suffix))
    if csv_path is not None:
        write_atomic(csv_path, as_csv(report).encode())
    return report


def _check_outputs(
    plot: str | os.PathLike[str] | None, csv: str | os.PathLike[str] | None, force: bool
) -> tuple[Path | None, Path | None]:
    from edgecnn.plots._canvas import check_plot

    plot_path = None if plot is None else check_plot(Path(plot), force)
    return plot_path, None if csv is None else check_output(Path(csv), force)


def measure(
    name: str, peaks: Peaks, batch: int, iterations: int | None, seed: int, texts: Sequence[str], track: Track = silent
) -> tuple[Measured, Numbers]:
    """Profile the model in file `name` beside the same model without profiler; its counts come with it."""
    model, external = named(read_model(Path(name))[0]), external_of(Path(name))
    with tracing(model, "cpu", peaks.threads, external=external, keep_graph=True) as tracer:
        inputs = tracer.session.inputs
        feeds = random_feeds(inputs, batch, seed, parse_shapes(texts, [info.name for info in inputs]))
        plain = open_session(model, "cpu", peaks.threads, external=external, subject=name)
        calls = {"plain": functools.partial(plain, feeds), "profiled": functools.partial(tracer, feeds)}
        seconds = None if iterations else SECONDS
        result = race(calls, iterations or ITERATIONS, WARMUP, seed, seconds, track, threads=peaks.threads)
        runs = tracer.end()[-result.rounds :]
        ran = onnx.ModelProto.FromString(tracer.graph())
    numbers = Numbers(model, {key: tuple(value.shape) for key, value in feeds.items()})
    return Measured(name, pieces(executed(runs, ran, numbers.graph), numbers), _timing(result, runs), peaks), numbers


def _timing(result: Race, runs: Sequence[Pass]) -> Timing:
    plain, profiled = (statistics.median(result.times_ms(name)) * 1e3 for name in ("plain", "profiled"))
    between = statistics.median(run.time_us - sum(node.time_us for node in run.nodes) for run in runs)
    return Timing(result.rounds, result.clock, plain, profiled, result.reports["plain"].p50_ms * 1e3, between)


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
    module = get_meta(node).get(MODULE_KEY, "") or ("" if node.op_type in QUANTIZERS else _path(node.name))
    macs = _macs(kernel, node, numbers, output) if counts else 0
    return Piece(kernel, module, node.op_type, " ".join(filter(None, words)), macs)


def _macs(kernel: Executed, node: onnx.NodeProto, numbers: Numbers, output: Sizes | None) -> int | None:
    """From the shapes in the file; where they are open, from those that ran."""
    given = [numbers.sizes(name) for name in node.input]
    if given and given[0] is None and kernel.inputs:
        weight = given[1] if node.op_type == "MatMul" else None
        given[0] = weight[-2:-1] if weight else kernel.inputs[0][1]  # a MatMul may have a Transpose of its input in it
    return node_macs(node.op_type, given, output)


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
