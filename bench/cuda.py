"""ONNX Runtime on a GPU against PyTorch, in one run: parity of the zoo, latency, a batch sweep, and percent of peak.

    python bench/cuda.py [--quick] [--minutes 9]        writes bench/results/cuda.jsonl and prints the README's table
    python bench/cuda.py --table                        prints the table of the committed results
    python bench/cuda.py --check                        exit 1 when a bar is missed in them
    python bench/cuda.py --allow-cpu --output FILE      the same steps on a CPU, to see that they work

Needs torch, onnx, numpy and onnxruntime-gpu, from a bare checkout; exit 4 with the cause where there is no GPU.
Everything is timed as wall time around one synchronised call, inputs and outputs on the GPU, all competitors of a row
interleaved (runtimes/latency.py). ONNX Runtime synchronises at the end of a bound run, PyTorch by
`torch.cuda.synchronize()`. Peaks are measured in the same run: a matrix product per arithmetic, and a copy of 1 GiB
(bytes read and written). One multiply-add is 2 operations. Weights are seeded: times are real, answers are not.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import onnx
import torch

from edgecnn.data.textures import textures
from edgecnn.networks import zoo
from exporters.fp16.half_probe import convert
from runtimes import machine, provider_options
from runtimes.base import Tensors, Unavailable
from runtimes.binding import METHOD
from runtimes.files import write_atomic
from runtimes.latency import measure, race
from runtimes.parity import compare, json_number
from runtimes.precision import LIMITS, coarse_limit_db
from runtimes.residence import residence
from runtimes.session import open_session

RESULTS = Path(__file__).parent / "results" / "cuda.jsonl"
NETWORKS, SWEPT = ("resnet50", "resnet18", "mobilenet_v2"), "resnet50"
BATCHES, SWEEP = (1, 64), (1, 2, 4, 8, 16, 32, 64, 128, 256)
OURS = {  # name -> (graph, options)
    "float32": ("float", ""),
    "TF32": ("float", "use_tf32=1"),
    "float16": ("half", ""),
    "float16 NHWC": ("half", "prefer_nhwc=1"),
    "float16 graph": ("half", "enable_cuda_graph=1"),
    "float16 NHWC graph": ("half", "prefer_nhwc=1,enable_cuda_graph=1"),
    "float16 NHWC graph, timed": ("half", "prefer_nhwc=1,enable_cuda_graph=1,cudnn_conv_algo_search=EXHAUSTIVE"),
    "float16 NHWC graph, fused": ("half", "prefer_nhwc=1,enable_cuda_graph=1,fuse_conv_bias=1"),
}
EAGER, COMPILED = "torch eager float32", "torch.compile float16"
OUR_HALF = tuple(name for name in OURS if name.startswith("float16"))
MATRIX, COPY_BYTES = 8192, 2**30
EXIT_UNAVAILABLE = 4


@dataclass(frozen=True)
class Place:
    """Where it runs: `provider` for ONNX Runtime, `device` for torch; `cpu` is only for trying the steps out."""

    provider: str
    device: str
    deadline: float

    @property
    def gpu(self) -> bool:
        return self.device == "cuda"

    def options(self, text: str) -> str:
        return f"{self.provider}:{text}" if self.gpu and text else self.provider

    def sync(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()

    @property
    def late(self) -> bool:
        return time.monotonic() > self.deadline


@dataclass(frozen=True)
class Network:
    """A network of the zoo, seeded, its float and float16 graphs, and its multiply-adds for one image."""

    name: str
    module: torch.nn.Module
    graphs: dict[str, onnx.ModelProto]
    macs: int
    ready: Any

    def feed(self, batch: int, seed: int = 1) -> dict[str, np.ndarray]:
        return {"input": textures(self.ready, batch, np.random.default_rng(seed))}


def main(argv: Sequence[str] | None = None) -> int:
    options = arguments().parse_args(argv)
    if options.table or options.check:
        rows = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
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
    place = Place(name, name, time.monotonic() + 60 * options.minutes)
    rows = []
    for row in run(options, place):
        rows.append(row)
        text = "".join(json.dumps(entry, sort_keys=True, allow_nan=False) + "\n" for entry in rows)
        write_atomic(options.output or RESULTS, text.encode())  # what was measured stays, whatever comes after
    print(table(rows))
    return 0


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--quick", action="store_true", help="one network and a short sweep")
    parser.add_argument("--minutes", type=float, default=9.0, help="what is not begun by then is left out, and says so")
    parser.add_argument("--seconds", type=float, default=10.0, help="at most so long for one race")
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
    names = options.networks[:1] if options.quick else options.networks
    for name in names:
        network = load(name)
        for batch in BATCHES if place.gpu else (1, 2):
            yield latency(network, batch, place, options, peak)
    if not place.late:
        yield from sweep(load(SWEPT if place.gpu else names[0]), place, options, peak)
    classifiers = [row.name for row in zoo.list_models() if row.task == "classification"]
    for name in classifiers if place.gpu else names:
        yield {"kind": "parity", "network": name, "left out": "no time"} if place.late else parity(name, place)


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
    half = convert(model, [{"input": textures(ready, 1, np.random.default_rng(0))}]).model
    return Network(name, module, {"float": model, "half": half}, int(row.macs or 0), ready)


def latency(
    network: Network, batch: int, place: Place, options: argparse.Namespace, peak: dict[str, float]
) -> dict[str, Any]:
    """All competitors of one network and batch in one race."""
    feed = network.feed(batch)
    calls, failed = competitors(network, feed, place)
    run = race(calls, 200 if place.gpu else 8, 20 if place.gpu else 1, seconds=options.seconds, clock="wall")
    times = {name: run.reports[name].p50_ms for name in run.names}
    ours = [name for name in times if name in (OUR_HALF if place.gpu else OURS)]
    best = min(ours, key=times.__getitem__, default=None)
    against = [name for name in times if best and name != best]
    return {
        "kind": "latency", "network": network.name, "batch": batch, "rounds": run.rounds, "method": METHOD,
        "p50_ms": times, "failed": failed, "best": best,
        "images_per_s": {name: 1000 * batch / ms for name, ms in times.items()},
        "ratios": {name: run.ratio(best, name).to_dict() for name in against if best},
        "percent_of_peak": {name: percent(network, batch, times[name], name, peak) for name in times},
    }  # fmt: skip


def percent(network: Network, batch: int, ms: float, name: str, peak: dict[str, float]) -> float:
    """Operations of the network's multiply-adds over what a matrix product reached in the same arithmetic."""
    arithmetic = "fp16" if "float16" in name else "tf32" if "TF32" in name else "fp32"
    return 100 * 2 * network.macs * batch / (ms / 1000) / 1e12 / peak[f"{arithmetic}_tops"]


def competitors(
    network: Network, feed: Tensors, place: Place
) -> tuple[dict[str, Callable[[], object]], dict[str, str]]:
    """(name -> a synchronised call, name -> why it is not there)."""
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        name: (lambda graph=graph, text=text: open_session(network.graphs[graph], place.options(text), 1).bind(feed))
        for name, (graph, text) in OURS.items()
        if place.gpu or not text
    }
    makers |= {name: (lambda make=make: make(network.module, feed["input"], place)) for name, make in THEIRS.items()}
    calls, failed = {}, {}
    for name, make in makers.items():
        try:
            calls[name] = make()
            calls[name]()
        except Exception as error:  # a competitor that does not run here is a result, too
            calls.pop(name, None)
            failed[name] = " ".join(str(error).split())[:200] or type(error).__name__
    return calls, failed


def eager(dtype: torch.dtype, layout: torch.memory_format, tf32: bool = False) -> Callable[..., Callable[[], object]]:
    def make(module: torch.nn.Module, images: np.ndarray, place: Place) -> Callable[[], object]:
        moved = copy.deepcopy(module).to(place.device, dtype, memory_format=layout).eval()
        x = torch.from_numpy(images).to(place.device, dtype, memory_format=layout)

        def call() -> None:
            torch.backends.cudnn.allow_tf32 = tf32
            with torch.inference_mode():
                moved(x)
            place.sync()

        return call

    return make


def compiled(module: torch.nn.Module, images: np.ndarray, place: Place) -> Callable[[], object]:
    if not place.gpu or place.late:
        raise Unavailable("torch.compile: compiled for a GPU only, and within the time")
    moved = copy.deepcopy(module).to("cuda", torch.float16, memory_format=torch.channels_last).eval()
    x = torch.from_numpy(images).to("cuda", torch.float16, memory_format=torch.channels_last)
    torch._dynamo.reset()  # else another batch is compiled for any batch, which is slower
    fast = torch.compile(moved, mode="max-autotune", dynamic=False)

    def call() -> None:
        with torch.inference_mode():
            fast(x)
        place.sync()

    for _ in range(3):  # compiles, records its own CUDA graph, replays it
        call()
    return call


def recorded(module: torch.nn.Module, images: np.ndarray, place: Place) -> Callable[[], object]:
    """Eager float16 channels-last, recorded once and replayed."""
    if not place.gpu:
        raise Unavailable("CUDA graphs: need a GPU")
    moved = copy.deepcopy(module).to("cuda", torch.float16, memory_format=torch.channels_last).eval()
    x = torch.from_numpy(images).to("cuda", torch.float16, memory_format=torch.channels_last)
    side = torch.cuda.Stream()
    with torch.inference_mode(), torch.cuda.stream(side):
        for _ in range(3):
            moved(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph):
        moved(x)
    return synchronised(graph.replay, place)


THEIRS: dict[str, Callable[..., Callable[[], object]]] = {
    EAGER: eager(torch.float32, torch.contiguous_format),
    "torch eager TF32": eager(torch.float32, torch.contiguous_format, tf32=True),
    "torch eager float16 channels-last": eager(torch.float16, torch.channels_last),
    "torch CUDA graph float16": recorded,
    COMPILED: compiled,
}


def sweep(
    network: Network, place: Place, options: argparse.Namespace, peak: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """Images a second by batch, of two of ours and two of theirs that need no compiling."""
    batches = (SWEEP[::2] if options.quick else SWEEP) if place.gpu else (1, 2)
    chosen = ("float16 NHWC", "float16 NHWC graph", EAGER, "torch CUDA graph float16")
    for batch in batches:
        if place.late:
            yield {"kind": "sweep", "network": network.name, "batch": batch, "left out": "no time"}
            continue
        feed = network.feed(batch)
        times, failed = {}, {}
        for name in chosen if place.gpu else ("float32", EAGER):
            try:
                graph, text = OURS.get(name, ("", ""))
                theirs = THEIRS.get(name)
                call = theirs(network.module, feed["input"], place) if theirs else (
                    open_session(network.graphs[graph], place.options(text), 1).bind(feed)
                )  # fmt: skip
                times[name] = measure(call, 100, 10, min(2.0, options.seconds)).p50_ms
            except Exception as error:
                failed[name] = " ".join(str(error).split())[:200] or type(error).__name__
        yield {
            "kind": "sweep", "network": network.name, "batch": batch, "p50_ms": times, "failed": failed,
            "images_per_s": {name: 1000 * batch / ms for name, ms in times.items()},
            "percent_of_peak": {name: percent(network, batch, ms, name, peak) for name, ms in times.items()},
        }  # fmt: skip


def parity(name: str, place: Place) -> dict[str, Any]:
    """float32, TF32 and float16 there against the module on the CPU, each with its own limit; which nodes left."""
    try:
        network = load(name)
        feeds: list[Tensors] = [network.feed(1, seed) for seed in range(4)]
        reference = answers(network.module, feeds)
        noise = compare(answers(copy.deepcopy(network.module).double(), feeds), reference, feeds).snr_db
        row: dict[str, Any] = {"kind": "parity", "network": name, "noise_db": json_number(noise, 999.0)}
        for label, graph, text, limit in (
            ("fp32", "float", "", min(LIMITS["fp32"].snr_db, noise - 10)),
            ("tf32", "float", "use_tf32=1", coarse_limit_db(noise)),
            ("fp16", "half", "", coarse_limit_db(noise)),
        ):
            found = compare(reference, open_session(network.graphs[graph], place.options(text), 1), feeds)
            row[label] = {
                "snr_db": json_number(found.snr_db, 999.0), "limit_db": limit, "top1": found.top1,
                "passed": found.snr_db >= limit,
            }  # fmt: skip
        away = residence(network.graphs["half"], feeds[0], place.provider).away
        return {**row, "away": [f"{run.op} {run.node}" for run in away]}
    except Exception as error:  # a network that cannot be exported or run here is a row that says so
        return {"kind": "parity", "network": name, "failed": " ".join(str(error).split())[:200]}


def answers(module: torch.nn.Module, feeds: Sequence[Tensors]) -> Callable[[Tensors], Tensors]:
    """A runner that looks up what `module` answered on the CPU."""
    dtype = next(module.parameters()).dtype
    with torch.inference_mode():
        found = {id(feed): module(torch.from_numpy(feed["input"]).to(dtype)).numpy() for feed in feeds}
    return lambda feed: {"logits": found[id(feed)]}


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
    judged = [row for row in of["parity"] if "fp16" in row]
    good = [row for row in judged if all(row[name]["passed"] for name in LIMITS)]
    lines += ["", f"Parity: {len(good)} of {len(of['parity'])} classifiers within the limits of all three precisions."]
    return "\n".join(lines)


def times_faster(row: dict[str, Any], name: str) -> str:
    ratio = row["ratios"].get(name)
    return f"{ratio['ratio']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else "-"


def check(rows: Sequence[dict[str, Any]]) -> int:
    """0 when every bar holds: torch.compile at 1 and 64, twice eager float32 at 1, and parity of all classifiers."""
    missed = []
    for row in (row for row in rows if row["kind"] == "latency" and row["network"] == SWEPT):
        bars = {COMPILED: 1.0} | ({EAGER: 2.0} if row["batch"] == 1 else {})
        for name, least in bars.items():
            ratio = row["ratios"].get(name, {"ratio": 0.0})["ratio"]
            if ratio < least:
                missed.append(f"{SWEPT} at batch {row['batch']}: {ratio:.2f}x of {name}, wanted {least}x")
    seen = {(row["network"], row["batch"]) for row in rows if row["kind"] == "latency"}
    missed += [f"{SWEPT} at batch {batch}: not measured" for batch in BATCHES if (SWEPT, batch) not in seen]
    for row in (row for row in rows if row["kind"] == "parity"):
        if not all(row.get(name, {}).get("passed") for name in LIMITS):
            missed.append(f"{row['network']}: parity {row.get('failed') or row.get('left out') or 'missed'}")
    print("\n".join(missed) or "every bar holds")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
