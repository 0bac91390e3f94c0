"""ONNX Runtime on a GPU against PyTorch, in one run: parity of the zoo, latency, a batch sweep, and percent of peak.

    python bench/cuda.py [--quick] [--minutes 8]        writes bench/results/cuda.jsonl and prints the README's table
    python bench/cuda.py --only parity                  one part alone: latency, parity or sweep
    python bench/cuda.py --table                        prints the table of the committed results
    python bench/cuda.py --check                        exit 1 when a bar is missed in them
    python bench/cuda.py --allow-cpu --output FILE      the same steps on a CPU, to see that they work

Needs torch, onnx, numpy and onnxruntime-gpu, from a bare checkout; exit 4 with the cause where there is no GPU.
The rows come in the order of their importance, and the file has all rows so far after each: the first network, the
parity of all classifiers (prepared by several processes), the sweep, the other networks. No torch.compile runs longer
than `--compile-seconds`, settings that no bar needs wait for time that nothing more important wants, and what is not
begun within `--minutes` is left out and says so. `--table` and `--check` read `--output` where it is given.
Everything is timed as wall time around one synchronised call, inputs and outputs on the GPU, all competitors of a row
interleaved (runtimes/latency.py). ONNX Runtime synchronises at the end of a bound run, PyTorch by
`torch.cuda.synchronize()`. Peaks are measured in the same run: a matrix product per arithmetic, and a copy of 1 GiB
(bytes read and written). One multiply-add is 2 operations. Weights are seeded: times are real, answers are not.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import functools
import gc
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnx
import torch

from edgecnn.data.textures import textures
from edgecnn.networks import zoo
from exporters.fp16.half_probe import convert
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.searching.rewriting import rewrite
from exporters.targets.cuda_pads import even_pads
from runtimes import machine
from runtimes.base import Tensors, Unavailable
from runtimes.census import Kernel, census, dequantized
from runtimes.comparing.precision import LIMITS, coarse_limit_db
from runtimes.execution import provider_options
from runtimes.execution.binding import METHOD, Binding, device_times
from runtimes.execution.residence import residence
from runtimes.files import write_atomic
from runtimes.latency import measure, race
from runtimes.parity import compare, json_number
from runtimes.session import open_session

RESULTS = Path(__file__).parent / "results" / "cuda.jsonl"
NETWORKS, SWEPT = ("resnet50", "resnet18", "mobilenet_v2"), "resnet50"
BATCHES, SWEEP = (1, 64), (1, 2, 4, 8, 16, 32, 64, 128, 256)
FUSED, INT8 = "use_tf32=1,prefer_nhwc=1,fuse_conv_bias=1", "int8"
GRAPH = "use_tf32=1,prefer_nhwc=1,enable_cuda_graph=1"
OURS = {  # name -> (graph, options), in the order of their making; float16 needs TF32: runtimes/providers/cuda.py
    "float32": ("float", ""),
    "float16 NHWC graph": ("half", GRAPH),
    "float16 NHWC graph, fused": ("half", f"{GRAPH},fuse_conv_bias=1"),
    "float16 NHWC graph, float16 in and out": ("half+own_io", GRAPH),
    "float16 NHWC graph, fused, float16 in and out": ("half+own_io", f"{GRAPH},fuse_conv_bias=1"),
    "float16 NHWC graph, fused, float16 in and out, sums": ("merge_add+own_io", f"{GRAPH},fuse_conv_bias=1"),
    "float16 NHWC graph, B": ("half", f"{GRAPH},cudnn_conv_algo_search=EXHAUSTIVE"),
    "float16 NHWC graph, fused, B": ("half", f"{GRAPH},fuse_conv_bias=1,cudnn_conv_algo_search=EXHAUSTIVE"),
    "float16 NHWC graph, blocks": ("space_to_depth", GRAPH),
    "float16 NHWC graph, fused, blocks": ("space_to_depth", f"{GRAPH},fuse_conv_bias=1"),
    "float16 NHWC graph, fused, 4 channels": ("pad_inputs", f"{GRAPH},fuse_conv_bias=1"),
    "float16 graph": ("half", "use_tf32=1,enable_cuda_graph=1"),
    "TF32": ("float", "use_tf32=1"),
    "float16": ("half", "use_tf32=1"),
    "float16 NHWC": ("half", "use_tf32=1,prefer_nhwc=1"),
}
ALONE = {"float16 without tensor cores": ("half", ""), INT8: (INT8, "use_tf32=1")}
"""Not raced: a slow one would take the others' time."""
ON_A_CPU = ("float32", "float16")
EAGER, COMPILED = "torch eager float32", "torch.compile float16"
FIRST_FUSED, SLOW_TO_MAKE_S = "float16 NHWC graph, fused", 15.0
NEEDED = ("float32", "float16 NHWC graph")
"""Made before PyTorch's; the other settings come after them, while there is time to spare."""
PARTS, PARITY_S, RACE_S = ("latency", "parity", "sweep"), 150.0, 30.0
SWEPT_RACERS = ("float16 NHWC graph", FIRST_FUSED, EAGER, "torch CUDA graph float16")
OUR_HALF = tuple(name for name in OURS if name.startswith("float16"))
MATRIX, COPY_BYTES = 8192, 2**30
PICTURES = 16
"""Different ones in a batch; a larger batch has them again."""
MOST_WORKERS, PREPARING_SECONDS = 6, 240
EXIT_UNAVAILABLE, AGAIN_S = 4, 5.0


class TooLong(BaseException):
    """Time is up; not an `Exception`, which torch.compile would take for a kernel that does not fit."""


@dataclass(frozen=True)
class Place:
    """Where it runs: `provider` for ONNX Runtime, `device` for torch; `cpu` is only for trying the steps out."""

    provider: str
    device: str
    deadline: float
    compile_seconds: float = 150.0
    workers: int = 0
    """Processes that prepare networks for the parity; 0: none, this one does it."""
    made: dict[str, float] = field(default_factory=dict)
    """Seconds to the first answer of what was made last under each name."""

    @property
    def gpu(self) -> bool:
        return self.device == "cuda"

    def options(self, text: str) -> str:
        return f"{self.provider}:{text}" if self.gpu and text else self.provider

    def sync(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()

    def clean(self) -> None:
        """Give back what the last row held on the GPU."""
        gc.collect()
        if self.gpu:
            torch._dynamo.reset()
            torch.cuda.empty_cache()

    @property
    def left_s(self) -> float:
        return self.deadline - time.monotonic()

    @property
    def late(self) -> bool:
        return self.left_s < 0


@dataclass(frozen=True)
class Later:
    """What follows a race and is more important than its settings that no bar needs."""

    batches: int
    other_s: float

    def wants(self, made: Mapping[str, float]) -> float:
        """Seconds: another batch takes as long as this one's needed competitors, whose seconds are in `made`."""
        needed = sum(seconds for name, seconds in made.items() if name in (*NEEDED, *THEIRS))
        return self.other_s + self.batches * (1.3 * needed + RACE_S)


@dataclass(frozen=True)
class Network:
    """A network of the zoo, seeded, its float and float16 graphs, and its multiply-adds for one image."""

    name: str
    module: torch.nn.Module
    graphs: dict[str, onnx.ModelProto]
    macs: int
    ready: Any

    def graph(self, name: str) -> onnx.ModelProto:
        """`float`, `half`, `int8`, or float16 after a rewrite `name`; `NAME+own_io` as `own_io` makes it."""
        if name not in self.graphs:
            base, _, own = name.partition("+")
            made = own_io(self.graph(base)) if own else in_int8(self) if name == INT8 else rewritten(self, name)
            self.graphs[name] = made
        return self.graphs[name]

    def feed(self, batch: int, seed: int = 1) -> dict[str, np.ndarray]:
        some = textures(self.ready, min(batch, PICTURES), np.random.default_rng(seed))
        return {"input": np.resize(some, (batch, *some.shape[1:]))}


@dataclass(frozen=True)
class Prepared:
    """What the parity of a network needs: graphs, inputs, the module's answers, and its own noise in float32."""

    graphs: Mapping[str, onnx.ModelProto | Path]
    feeds: Sequence[Tensors]
    logits: Sequence[np.ndarray]
    noise_db: float


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    if options.prepare:
        save(prepare(*options.networks), options.prepare)
        return 0
    if options.table or options.check:
        path = options.output or RESULTS
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        print(table(rows) if rows and options.table else "" if rows else "no results yet: run python bench/cuda.py")
        return check(rows) if options.check else 0
    try:
        provider_options.require("cpu" if options.allow_cpu else "cuda")
    except Unavailable as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_UNAVAILABLE
    if options.allow_cpu and options.output is None:
        print("error: --allow-cpu: its times are no results; give --output", file=sys.stderr)
        return 2
    name = "cpu" if options.allow_cpu else "cuda"
    begin = time.monotonic()
    place = Place(name, name, begin + 60 * options.minutes, options.compile_seconds, workers_of(options))
    rows = []
    for row in run(options, place):
        rows.append(row)
        print(f"{time.monotonic() - begin:5.0f} s  {in_short(row)}", file=sys.stderr, flush=True)
        text = "".join(json.dumps(entry, sort_keys=True, allow_nan=False) + "\n" for entry in rows)
        write_atomic(options.output or RESULTS, text.encode())  # what was measured stays, whatever comes after
    print(table(rows))
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--quick", action="store_true", help="one network and a short sweep")
    parser.add_argument("--only", choices=PARTS, help="this part of the rows alone")
    parser.add_argument("--minutes", type=float, default=8.0, help="what is not begun by then is left out, and says so")
    parser.add_argument("--seconds", type=float, default=10.0, help="at most so long for one race")
    parser.add_argument("--compile-seconds", type=float, default=150.0, help="at most for one torch.compile; 0: none")
    parser.add_argument("--workers", type=int, help="processes that prepare the parity (0: none; half of the cores)")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--allow-cpu", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--check", action="store_true")
    return parser


def run(options: argparse.Namespace, place: Place) -> Iterator[dict[str, Any]]:
    """All rows in the order of their importance; each is a result of its own."""
    warnings.simplefilter("ignore")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    peak = peaks(place)
    yield {"kind": "machine", **about(place)}
    yield {"kind": "peak", **peak}
    first, *others = options.networks[:1] if options.quick else options.networks
    parts = [options.only] if options.only else PARTS
    if "latency" in parts:
        yield from latencies(first, place, options, peak, PARITY_S if "parity" in parts else 0.0)
    if "parity" in parts:
        rows = sorted(zoo.list_models(), key=lambda row: row.params or 0)  # when time is up, few are missing
        classifiers = [row.name for row in rows if row.task == "classification"]
        yield from parities([first] if options.quick or not place.gpu else classifiers, place)
    if "sweep" in parts:
        yield from sweep(first if options.quick or not place.gpu else SWEPT, place, options, peak)
    for name in others if "latency" in parts else ():
        yield from latencies(name, place, options, peak)


def workers_of(options: argparse.Namespace) -> int:
    if options.workers is not None:
        return int(options.workers)
    return 0 if options.allow_cpu else min(MOST_WORKERS, machine.default_threads() // 2)


def in_short(row: dict[str, Any]) -> str:
    """One line for whoever waits."""
    what = " ".join(str(row[key]) for key in ("kind", "network", "batch") if key in row)
    failed = row.get("failed") or ""
    if isinstance(failed, dict):
        failed = "; ".join(f"{name}: {why}" for name, why in failed.items())
    times = ", ".join(f"{name} {ms:.3g} ms" for name, ms in row.get("p50_ms", {}).items())
    limits = {name: row[name] for name in LIMITS if name in row}
    judged = ", ".join(f"{name} {found['snr_db']:.0f} dB of {found['limit_db']:.0f}" for name, found in limits.items())
    return " | ".join(part for part in (what, times, judged, failed, row.get("left out", "")) if part)


# ------------------------------------------------------------------------------------------------- what is measured
def about(place: Place) -> dict[str, Any]:
    gpu = torch.cuda.get_device_name() if place.gpu else "none"
    return {
        "gpu": gpu, "cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version() if place.gpu else None,
        "torch": torch.__version__, "method": METHOD, **machine.describe().to_dict(),
    }  # fmt: skip


def peaks(place: Place) -> dict[str, float]:
    """Measured tera-operations a second of a square matrix product, and gigabytes a second of a copy."""
    size = MATRIX if place.gpu else 256
    found: dict[str, float] = {}
    for name, dtype, tf32 in (
        ("fp32", torch.float32, False),
        ("tf32", torch.float32, True),
        ("fp16", torch.float16, False),
    ):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(size, size, dtype=dtype, device=place.device) for _ in range(2))
        found[f"{name}_tops"] = 2 * size**3 / best_seconds(lambda a=a, b=b: a @ b, place) / 1e12
    torch.backends.cuda.matmul.allow_tf32 = False
    source = torch.empty(COPY_BYTES if place.gpu else 2**22, dtype=torch.uint8, device=place.device)
    target = torch.empty_like(source)
    found["copy_gb_s"] = 2 * source.numel() / best_seconds(lambda: target.copy_(source), place) / 1e9
    return found


def best_seconds(call: Callable[[], object], place: Place, rounds: int = 20) -> float:
    """The fastest of some synchronised calls: a peak is what can be reached at all."""
    return min(measure(synchronised(call, place), rounds, 3).samples_ms) / 1000


def synchronised(call: Callable[[], object], place: Place) -> Callable[[], None]:
    def timed() -> None:
        call()
        place.sync()

    return timed


@functools.lru_cache(2)
def load(name: str) -> Network:
    """The seeded network with live BatchNorm statistics, exported by torch's older exporter, which needs onnx alone."""
    torch.manual_seed(0)
    row = next(row for row in zoo.list_models() if row.name == name)
    module = zoo.find(name).build()
    ready = row.input_shape
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    module.train()
    for part in module.modules():
        if isinstance(part, torch.nn.modules.dropout._DropoutNd):
            part.eval()
    with torch.no_grad():
        module(torch.from_numpy(textures(ready, 4, np.random.default_rng(0))))
    module.eval()
    stream = io.BytesIO()
    torch.onnx.export(
        module, (torch.zeros(2, *ready),), stream, dynamo=False, opset_version=17, input_names=["input"],
        output_names=["logits"], dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
    )  # fmt: skip
    model = onnx.load_from_string(stream.getvalue())
    feeds = [{"input": textures(ready, 1, np.random.default_rng(0))}]
    half = convert(model, feeds, threads=torch.get_num_threads()).model
    return Network(name, module, {"float": model, "half": half}, int(row.macs or 0), ready)


def latencies(
    name: str, place: Place, options: argparse.Namespace, peak: dict[str, float], later_s: float = 0.0
) -> Iterator[dict[str, Any]]:
    """One race for each batch; `later_s` is wanted by what comes after them."""
    batches = BATCHES if place.gpu else (1, 2)
    if place.late:
        yield from ({"kind": "left out", "network": name, "batch": batch, "left out": "no time"} for batch in batches)
        return
    network = load(name)
    for i, batch in enumerate(batches, 1):
        yield latency(network, batch, place, options, peak, Later(len(batches) - i, later_s))
        place.clean()


def latency(
    network: Network,
    batch: int,
    place: Place,
    options: argparse.Namespace,
    peak: dict[str, float],
    later: Later,
) -> dict[str, Any]:
    """All competitors of one network and batch in one race."""
    feed = network.feed(batch)
    calls, failed, made = competitors(network, feed, place, later)
    run = race(calls, 200 if place.gpu else 8, 20 if place.gpu else 1, seconds=options.seconds, clock="wall")
    times = {name: run.reports[name].p50_ms for name in run.names}
    ours = [name for name in times if name in (OUR_HALF if place.gpu else ON_A_CPU)]
    best = min(ours, key=times.__getitem__, default=None)
    against = [name for name in times if best and name != best]
    alone = measured_alone(network, feed, place, later.wants(made))
    return {
        "kind": "latency", "network": network.name, "batch": batch, "rounds": run.rounds, "method": METHOD,
        "p50_ms": times, "failed": failed, "best": best, "made_s": made,
        "images_per_s": {name: 1000 * batch / ms for name, ms in times.items()},
        "ratios": {name: run.ratio(best, name).to_dict() for name in against if best},
        "percent_of_peak": {name: percent(network, batch, times[name], name, peak) for name in times},
        "copies_ms": copies(calls[best], fed(OURS[best][0], feed), options.seconds) if best else None, **alone,
    }  # fmt: skip


def measured_alone(network: Network, feed: Tensors, place: Place, later_s: float) -> dict[str, Any]:
    """Times of what is not raced, and whether int8 ran dequantized, in float."""
    times: dict[str, float] = {}
    failed: dict[str, str] = {}
    kernels: tuple[Kernel, ...] = ()
    for name, (graph, text) in ALONE.items():
        try:
            refuse_late(place, later_s)
            model = network.graph(graph)
            call = open_session(model, place.options(text), 1).bind(feed)
            times[name] = measure(call, 20, 3, 2.0).p50_ms
            if graph == INT8:
                kernels = census(model, feed, place.provider)
        except Exception as error:
            failed[name] = reason(error)
    found = {f"{kernel.op} on {kernel.provider}": kernel.count for kernel in kernels}
    return {
        "alone_ms": times, "alone_failed": failed, "int8_dequantized": dequantized(kernels), "int8_kernels": found,
    }  # fmt: skip


def in_int8(network: Network) -> onnx.ModelProto:
    """Pairs of QuantizeLinear and DequantizeLinear around its layers, as for a CPU; its times are real."""
    return quantize_model(network.graphs["float"], [network.feed(1)], QuantRecipe(), threads=1).model


def rewritten(network: Network, name: str) -> onnx.ModelProto:
    """Another form of the same graph: see `edgecnn.choosing.device_search.FORMS`."""
    feeds = [network.feed(1, 0)]
    result = rewrite(network.graphs["float"], [name], feeds)
    if not result.modified:
        raise Unavailable(f"{name}: changes nothing in it")
    return convert(even_pads(result.model), feeds, threads=torch.get_num_threads()).model


def own_io(half: onnx.ModelProto) -> onnx.ModelProto:
    """`half` with float16 in and out, images channels-last, as PyTorch has them in this race: no Cast, no Transpose."""
    model = onnx.ModelProto()
    model.CopyFrom(half)
    graph = model.graph
    del graph.value_info[:]
    (given,), (made,) = graph.input, graph.output
    first, last = ([n for n in graph.node if v.name in (*n.input, *n.output)] for v in (given, made))
    if [node.op_type for node in (*first, *last)] != ["Cast", "Cast"]:
        raise Unavailable("float16 in and out: its input or output is of a node in float32")
    for value in (given, made):
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    shape = given.type.tensor_type.shape
    batch, channels, *sizes = [copy.deepcopy(size) for size in shape.dim]
    del shape.dim[:]
    shape.dim.extend([batch, *sizes, channels])
    first[0].CopyFrom(onnx.helper.make_node("Transpose", [given.name], list(first[0].output), perm=[0, 3, 1, 2]))
    maker = next(node for node in graph.node if last[0].input[0] in node.output)
    maker.output[:] = [made.name]
    graph.node.remove(last[0])
    return model


def fed(graph: str, feed: Tensors) -> Tensors:
    """`feed` as `graph` takes it."""
    if not graph.endswith("+own_io"):
        return feed
    return {"input": np.ascontiguousarray(feed["input"].transpose(0, 2, 3, 1).astype(np.float16))}


def copies(binding: Callable[[], object], feed: Tensors, seconds: float) -> dict[str, float]:
    """What a caller pays besides, with ordinary memory on the host: the inputs to the GPU, the outputs from it."""
    assert isinstance(binding, Binding)
    found = device_times(binding, feed, 20, 3, min(2.0, seconds)).to_dict()
    return {"in": found["copy_in_ms"], "out": found["copy_out_ms"]}


def percent(network: Network, batch: int, ms: float, name: str, peak: dict[str, float]) -> float:
    """Operations of the network's multiply-adds over what a matrix product reached in the same arithmetic."""
    arithmetic = "fp16" if "float16" in name else "tf32" if "TF32" in name else "fp32"
    return 100 * 2 * network.macs * batch / (ms / 1000) / 1e12 / peak[f"{arithmetic}_tops"]


def competitors(
    network: Network, feed: Tensors, place: Place, later: Later
) -> tuple[dict[str, Callable[[], object]], dict[str, str], dict[str, float]]:
    """(name -> a synchronised call, name -> why it is not there, name -> seconds to its first answer).

    What no bar needs is made last, and not begun where `later` wants the time.
    """
    ours: dict[str, Callable[[], Callable[[], object]]] = {
        name: (lambda graph=graph, text=text: opened(network, graph, text, feed, place))
        for name, (graph, text) in OURS.items()
        if place.gpu or name in ON_A_CPU
    }
    makers = {name: ours[name] for name in NEEDED if name in ours}
    makers |= {name: (lambda make=make: make(network.module, feed["input"], place)) for name, make in THEIRS.items()}
    calls, failed, made = {}, {}, {}
    for name, make in {**makers, **ours}.items():
        begin = time.monotonic()
        try:
            if name not in makers:
                refuse_slow(name, made)
                refuse_late(place, later.wants(made))
            call = make()
            call()
            calls[name] = call
        except (Exception, TooLong) as error:  # a competitor that does not run here is a result, too
            failed[name] = reason(error)
        made[name] = place.made[name] = round(time.monotonic() - begin, 2)
    return calls, failed, made


def opened(network: Network, graph: str, text: str, feed: Tensors, place: Place) -> Binding:
    return open_session(network.graph(graph), place.options(text), 1).bind(fed(graph, feed))


def refuse_slow(name: str, made: Mapping[str, float]) -> None:
    """Raise `Unavailable` for one more network of fused kernels where those of the first took long to compile."""
    took = made.get(FIRST_FUSED, 0.0)
    if took > SLOW_TO_MAKE_S and name.startswith(FIRST_FUSED):
        raise Unavailable(f"not tried: cuDNN compiled for {took:.0f} s for {FIRST_FUSED}")


def refuse_late(place: Place, later_s: float) -> None:
    """Raise `Unavailable` for what no bar needs, where something more important wants the time."""
    if place.gpu and place.left_s < later_s:
        raise Unavailable("not tried: the time is for what comes after it")


def reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises `TooLong` inside, where the system has an alarm (not on Windows), once `seconds` are over."""

    def ring(*_: object) -> None:
        raise TooLong(f"not ready after {seconds:.0f} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)  # what is raised in a `__del__` is lost
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def eager(dtype: torch.dtype, layout: torch.memory_format, tf32: bool = False) -> Callable[..., Callable[[], object]]:
    def make(module: torch.nn.Module, images: np.ndarray, place: Place) -> Callable[[], object]:
        moved = copy.deepcopy(module).to(place.device, dtype, memory_format=layout).eval()
        x = torch.from_numpy(images).to(place.device, dtype, memory_format=layout)

        def call() -> None:  # of cuDNN alone: torch.compile compiles anew when the matrix product's setting changes
            torch.backends.cudnn.allow_tf32 = tf32
            with torch.inference_mode():
                moved(x)
            place.sync()

        return call

    return make


def compiled(module: torch.nn.Module, images: np.ndarray, place: Place) -> Callable[[], object]:
    seconds = min(place.compile_seconds, place.left_s)
    if not place.gpu or seconds <= 0:
        raise Unavailable("torch.compile: compiled for a GPU only, and within the time")
    moved, x = half_on_gpu(module, images)
    torch._dynamo.reset()  # else another batch is compiled for any batch, which is slower
    fast = torch.compile(moved, mode="max-autotune", dynamic=False)

    def call() -> None:
        with torch.inference_mode():
            fast(x)
        place.sync()

    with at_most(seconds):
        for _ in range(3):  # compiles, records its own CUDA graph, replays it
            call()
    return call


def recorded(module: torch.nn.Module, images: np.ndarray, place: Place) -> Callable[[], object]:
    """Eager float16 channels-last, recorded once and replayed."""
    if not place.gpu:
        raise Unavailable("CUDA graphs: need a GPU")
    moved, x = half_on_gpu(module, images)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(3):
            moved(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        answer = moved(x)

    def call(held: object = (moved, x, answer)) -> None:  # a recording knows their addresses and does not own them
        graph.replay()
        place.sync()

    return call


def half_on_gpu(module: torch.nn.Module, images: np.ndarray) -> tuple[torch.nn.Module, torch.Tensor]:
    moved = copy.deepcopy(module).to("cuda", torch.float16, memory_format=torch.channels_last).eval()
    return moved, torch.from_numpy(images).to("cuda", torch.float16, memory_format=torch.channels_last)


THEIRS: dict[str, Callable[..., Callable[[], object]]] = {
    EAGER: eager(torch.float32, torch.contiguous_format),
    "torch eager TF32": eager(torch.float32, torch.contiguous_format, tf32=True),
    "torch eager float16 channels-last": eager(torch.float16, torch.channels_last),
    "torch CUDA graph float16": recorded,
    COMPILED: compiled,
}


def sweep(name: str, place: Place, options: argparse.Namespace, peak: dict[str, float]) -> Iterator[dict[str, Any]]:
    """Images a second by batch, of two of ours and two of theirs that need no compiling."""
    batches = (SWEEP[::2] if options.quick else SWEEP) if place.gpu else (1, 2)
    for batch in batches:
        if place.late:
            yield {"kind": "sweep", "network": name, "batch": batch, "left out": "no time"}
            continue
        network = load(name)
        feed = network.feed(batch)
        times, failed = {}, {}
        for racer in SWEPT_RACERS if place.gpu else ("float32", EAGER):
            try:
                refuse_slow(racer, place.made)
                theirs = THEIRS.get(racer)
                call = (
                    theirs(network.module, feed["input"], place)
                    if theirs
                    else opened(network, *OURS[racer], feed, place)
                )
                times[racer] = measure(call, 100, 10, min(2.0, options.seconds)).p50_ms
            except Exception as error:
                failed[racer] = reason(error)
        yield {
            "kind": "sweep", "network": network.name, "batch": batch, "p50_ms": times, "failed": failed,
            "images_per_s": {name: 1000 * batch / ms for name, ms in times.items()},
            "percent_of_peak": {name: percent(network, batch, ms, name, peak) for name, ms in times.items()},
        }  # fmt: skip
        place.clean()


def parities(names: Sequence[str], place: Place) -> Iterator[dict[str, Any]]:
    """A row for each network; `place.workers` processes prepare the next ones meanwhile, the graphs in files."""
    if not place.workers:
        for name in names:
            yield late_row(name) if place.late else parity(name, lambda name=name: prepare(name), place)
        return
    with tempfile.TemporaryDirectory(prefix="edgecnn-bench-") as work, ThreadPoolExecutor(place.workers) as pool:
        folders = [Path(work) / name for name in names]
        begun = [pool.submit(prepare_apart, name, folder, place) for name, folder in zip(names, folders, strict=True)]
        for name, folder, done in zip(names, folders, begun, strict=True):
            if place.late:
                done.cancel()
                yield late_row(name)
                continue
            yield parity(name, lambda done=done, folder=folder: read(done.result(), folder), place)


def late_row(name: str) -> dict[str, Any]:
    return {"kind": "parity", "network": name, "left out": "no time"}


def parity(name: str, prepared: Callable[[], Prepared], place: Place) -> dict[str, Any]:
    """float32, TF32 and float16 there against the module on the CPU, each with its own limit; which nodes left.

    What is raced is looked at in channels-last with fused bias, too: kernels of its own, compiled on the spot.
    """
    try:
        given = prepared()
        noise = given.noise_db
        row: dict[str, Any] = {"kind": "parity", "network": name, "noise_db": json_number(noise, 999.0)}
        for label, graph, text, limit in (
            ("fp32", "float", "", min(LIMITS["fp32"].snr_db, noise - 10)),
            ("tf32", "float", "use_tf32=1", coarse_limit_db(noise)),
            ("fp16", "half", "use_tf32=1", coarse_limit_db(noise)),
        ):
            row[label] = held(given, graph, place.options(text), limit)
        try:
            if name in NETWORKS or not place.gpu:
                row["fused"] = held(given, "half", place.options(FUSED), coarse_limit_db(noise))
        except Exception as error:  # no bar is on it
            row["fused"] = {"failed": reason(error)}
        away = residence(given.graphs["half"], given.feeds[0], place.provider).away
        return {**row, "away": [f"{run.op} {run.node}" for run in away]}
    except Exception as error:  # a network that cannot be exported or run here is a row that says so
        return {"kind": "parity", "network": name, "failed": reason(error)}


def held(given: Prepared, graph: str, provider: str, limit: float) -> dict[str, Any]:
    """How near a graph comes there to the module, and whether that is within `limit`."""
    session = open_session(given.graphs[graph], provider, 1)
    found = compare(looked_up(given.feeds, given.logits), session, given.feeds)
    return {
        "snr_db": json_number(found.snr_db, 999.0), "limit_db": limit, "top1": found.top1,
        "passed": found.snr_db >= limit,
    }  # fmt: skip


def prepare(name: str) -> Prepared:
    """The part of a parity that needs no GPU."""
    network = load(name)
    feeds: list[Tensors] = [network.feed(1, seed) for seed in range(4)]
    logits = answers(network.module, feeds)
    exact = answers(copy.deepcopy(network.module).double(), feeds)
    noise = compare(looked_up(feeds, exact), looked_up(feeds, logits), feeds).snr_db
    return Prepared(network.graphs, feeds, logits, noise)


def prepare_apart(name: str, folder: Path, place: Place) -> None:
    """`prepare` in a process of its own, without the GPU, into `folder`."""
    if place.late:
        return
    folder.mkdir()
    threads = str(max(1, machine.default_threads() // place.workers))
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads}
    done = subprocess.run(
        [sys.executable, __file__, name, "--prepare", str(folder)], env=hidden, capture_output=True, text=True,
        timeout=max(1.0, min(PREPARING_SECONDS, place.left_s)), check=False,
    )  # fmt: skip
    if done.returncode:
        raise Unavailable(f"{name}: cannot be prepared ({(done.stderr.strip().splitlines() or ['no message'])[-1]})")


def save(prepared: Prepared, folder: Path) -> None:
    for name, model in prepared.graphs.items():
        onnx.save(model, folder / f"{name}.onnx")
    inputs = [feed["input"] for feed in prepared.feeds]
    np.savez(folder / "answers.npz", inputs=inputs, logits=prepared.logits, noise_db=prepared.noise_db)


def read(_: None, folder: Path) -> Prepared:
    """What `save` wrote."""
    with np.load(folder / "answers.npz") as found:
        feeds = [{"input": each} for each in found["inputs"]]
        graphs = {name: folder / f"{name}.onnx" for name in ("float", "half")}
        return Prepared(graphs, feeds, list(found["logits"]), float(found["noise_db"]))


def answers(module: torch.nn.Module, feeds: Sequence[Tensors]) -> list[np.ndarray]:
    """What `module` answers on the CPU."""
    dtype = next(module.parameters()).dtype
    with torch.inference_mode():
        return [module(torch.from_numpy(feed["input"]).to(dtype)).numpy() for feed in feeds]


def looked_up(feeds: Sequence[Tensors], logits: Sequence[np.ndarray]) -> Callable[[Tensors], Tensors]:
    """A runner that knows the answers to `feeds`."""
    known = {id(feed): {"logits": answer} for feed, answer in zip(feeds, logits, strict=True)}
    return lambda feed: known[id(feed)]


# ---------------------------------------------------------------------------------------------------- what it came to
def table(rows: Sequence[dict[str, Any]]) -> str:
    """The README's table (Markdown), headed by the machine."""
    of = {
        kind: [row for row in rows if row["kind"] == kind] for kind in ("machine", "peak", "latency", "parity", "sweep")
    }
    about, peak = of["machine"][0], of["peak"][0]
    lines = [
        f"{about['gpu']}, CUDA {about['cuda']}, ONNX Runtime {about['onnxruntime']}, torch {about['torch']}; peak "
        f"(measured): {peak['fp16_tops']:.3g} TFLOP/s in float16, {peak['fp32_tops']:.3g} in float32, "
        f"{peak['copy_gb_s']:.4g} GB/s:",
        "",
        "| network, batch | float32 ms | best ms (which) | % of peak | over torch eager float32 | over torch.compile |",
        "|---|---|---|---|---|---|",
    ]
    for row in of["latency"]:
        best = row["best"]
        cells = (
            f"`{row['network']}`, {row['batch']}",
            f"{row['p50_ms']['float32']:.3g}" if "float32" in row["p50_ms"] else "-",
            f"**{row['p50_ms'][best]:.3g}** ({best})" if best else "-",
            f"{row['percent_of_peak'][best]:.0f}" if best else "-",
            *(times_faster(row, name) for name in (EAGER, COMPILED)),
        )
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", *int8_lines(of["latency"])]
    judged = [row for row in of["parity"] if "fp16" in row]
    good = [row for row in judged if all(row[name]["passed"] for name in LIMITS)]
    lines += [f"Parity: {len(good)} of {len(of['parity'])} classifiers within the limits of all three precisions."]
    return "\n".join(lines)


def int8_lines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What int8 is there, where it was measured."""
    for row in rows:
        best, ms = row["best"], row.get("alone_ms", {}).get(INT8)
        if best and ms:
            how = "dequantized, in float" if row["int8_dequantized"] else "in integers"
            ratio = f"{ms / row['p50_ms'][best]:.1f}x the best float16's time"
            yield f"int8 of `{row['network']}`, {row['batch']} ran {how}: {ms:.3g} ms, {ratio}."


def times_faster(row: dict[str, Any], name: str) -> str:
    ratio = row["ratios"].get(name)
    return f"{ratio['ratio']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else "-"


def check(rows: Sequence[dict[str, Any]]) -> int:
    """0 when every bar holds: torch.compile at 1 and 64, twice eager float32 at 1, and parity of all classifiers."""
    missed = []
    for row in (row for row in rows if row["kind"] == "latency" and row["network"] == SWEPT):
        bars = {COMPILED: 1.0} | ({EAGER: 2.0} if row["batch"] == 1 else {})
        for name, least in bars.items():
            found, where = row["ratios"].get(name), f"{SWEPT} at batch {row['batch']}"
            if found is None:
                missed.append(f"{where}: {name} not measured: {row['failed'].get(name, 'float16 did not run')}")
            elif found["ratio"] < least:
                missed.append(f"{where}: {found['ratio']:.2f}x of {name}, wanted {least}x")
    seen = {(row["network"], row["batch"]) for row in rows if row["kind"] == "latency"}
    missed += [f"{SWEPT} at batch {batch}: not measured" for batch in BATCHES if (SWEPT, batch) not in seen]
    judged = [row for row in rows if row["kind"] == "parity"]
    missed += [] if judged else ["parity: not measured"]
    for row in judged:
        if not all(row.get(name, {}).get("passed") for name in LIMITS):
            missed.append(f"{row['network']}: parity {row.get('failed') or row.get('left out') or 'missed'}")
    print("\n".join(missed) or "every bar holds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
