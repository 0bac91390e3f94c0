"""simplify and fold against onnxsim alone, and what the fold of the largest network takes.

    python bench/passes.py [--rounds 7]     writes bench/results/passes.jsonl
    python bench/passes.py --table          prints the numbers as Markdown

Three rows. `work`: what both do to the graph of ResNet-50, in one process: our onnxsim (which is shown the graph
without its weights) and every small pass, then the fold, against `onnxsim.simplify(model)` with its default settings.
Simplifying takes less than half of onnxsim's time; the fold takes more than the rest, because it multiplies in float64,
rounds once and checks a bound for every channel. `commands`: whole processes, `edgecnn simplify` + `edgecnn fold`
against `onnxsim IN OUT`. There ours is slower, and this is why: our commands run the given graph and their own, in
child processes, on 24 images in all, and start four Pythons; onnxsim starts one and proves nothing. `fold`: the fold of
VGG-19-BN, its time and the most memory that it needs beyond the model itself. Times are CPU time, interleaved; weights
are seeded.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgecnn.float_passes import SMALL_PASSES
from edgecnn.networks.sources import resolve
from edgecnn.stages import INPUT_NAME
from exporters import passes
from exporters.graph import op_counts
from exporters.isolation.apart import apart, attach, read_graph
from exporters.passes import fold_batchnorm, simplify
from exporters.torch_export import export_module
from runtimes import machine, plugins
from runtimes.files import write_atomic

RESULTS = Path(__file__).parent / "results" / "passes.jsonl"
ROOT = Path(__file__).resolve().parent.parent
FOLD_S, FOLD_MEMORY = 3.0, 1.5
"""The most that the fold of VGG-19 may take: seconds, and extra memory as a multiple of the file."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(argv)
    if not options.table:
        with tempfile.TemporaryDirectory() as folder:
            model = raw_export("resnet50")
            rows = [race_work(model, options.rounds), race_commands(model, Path(folder), options.rounds)]
            rows.append(fold_cost("vgg19_bn", options.rounds))
        text = "".join(
            json.dumps({**row, "machine": machine.describe().to_dict()}, sort_keys=True) + "\n" for row in rows
        )
        write_atomic(RESULTS, text.encode())
    print(table([json.loads(line) for line in RESULTS.read_text().splitlines()]))
    return 0


def raw_export(name: str) -> onnx.ModelProto:
    """The network as torch exports it: nothing folded, nothing simplified."""
    network = resolve(name)
    return export_module(
        network.module, network.input_shape, opset_version=20, dynamic_batch=True, input_name=INPUT_NAME,
        output_names=("logits",),
    )  # fmt: skip


def race_work(model: onnx.ModelProto, rounds: int) -> dict[str, Any]:
    """Seconds of CPU for the graph work alone, and their ratio."""
    tool = simplify.preload()

    def ours_simplify() -> onnx.ModelProto:
        with apart(model, "model") as (folder, _):
            made = simplify._simplified(read_graph(folder))
        attach(made, model.graph.initializer)
        for name in SMALL_PASSES:
            made = plugins.load(passes, name, "pass").run(made).model
        return made

    simple = ours_simplify()
    assert op_counts(fold_batchnorm.run(simple).model).get("BatchNormalization", 0) == 0
    calls: dict[str, Callable[[], Any]] = {
        "simplify": ours_simplify,
        "fold": lambda: fold_batchnorm.run(simple),
        "onnxsim": lambda: tool.simplify(model),
    }
    seen: dict[str, list[float]] = {key: [] for key in calls}
    for i in range(rounds + 1):  # the first imports
        for key, call in calls.items():
            started = time.process_time()
            call()
            seen[key] += [time.process_time() - started] if i else []
    seen["ours"] = [a + b for a, b in zip(seen["simplify"], seen["fold"], strict=True)]
    return {"what": "work", "network": "resnet50", "rounds": rounds, **ratio_of(seen)}


def race_commands(model: onnx.ModelProto, folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of CPU of both command lines with their children, and their ratio."""
    source = folder / "raw.onnx"
    source.write_bytes(model.SerializeToString())
    simple, folded, other = (str(folder / f"{word}.onnx") for word in ("simple", "folded", "other"))
    python = [sys.executable, "-m"]
    ours = [
        [*python, "edgecnn", "simplify", str(source), "-o", simple, "--force"],
        [*python, "edgecnn", "fold", simple, "-o", folded, "--force"],
    ]
    calls = {"ours": ours, "onnxsim": [[*python, "onnxsim", str(source), other]]}
    seen: dict[str, list[float]] = {key: [] for key in calls}
    for i in range(rounds + 1):  # the first warms the disk's cache
        for key, commands in calls.items():
            took = run(commands)
            seen[key] += [took] if i else []
    return {"what": "commands", "network": "resnet50", "rounds": rounds, **ratio_of(seen)}


def ratio_of(seen: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Medians, and the ratio onnxsim / ours with its quartiles."""
    ratios = [theirs / ours for ours, theirs in zip(seen["ours"], seen["onnxsim"], strict=True)]
    low, middle, high = (float(value) for value in np.percentile(ratios, [25, 50, 75]))
    medians = {key: float(np.median(values)) for key, values in seen.items()}
    return {"cpu_s": medians, "ratio": {"ratio": middle, "low": low, "high": high}}


def run(commands: Sequence[Sequence[str]]) -> float:
    """CPU seconds of commands, one after the other, with their children."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        subprocess.run(command, check=True, capture_output=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def fold_cost(name: str, rounds: int) -> dict[str, Any]:
    """Seconds of CPU of the fold pass, and the growth of this process's peak over what it held before the first."""
    model = raw_export(name)
    size, before = model.ByteSize(), _peak_bytes(reset=True)
    took, folded = [], 0
    for _ in range(rounds):
        started = time.process_time()
        folded = len(fold_batchnorm.run(model).changes)
        took.append(time.process_time() - started)
    extra = _peak_bytes() - before
    row = {"network": name, "what": "fold", "rounds": rounds, "folded": folded, "size_bytes": size}
    return {**row, "cpu_s": float(np.median(took)), "slowest_s": max(took), "extra_bytes": extra}


def _peak_bytes(reset: bool = False) -> int:
    """The resident set's peak; with `reset` the count starts anew (Linux), at what is held now."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def check(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What does not hold of the bars; empty when all do."""
    by = {row["what"]: row for row in rows}
    fold, work = by["fold"], by["work"]["cpu_s"]
    return [
        *(["fold is too slow"] if fold["cpu_s"] > FOLD_S else []),
        *(["fold takes too much memory"] if fold["extra_bytes"] > FOLD_MEMORY * fold["size_bytes"] else []),
        *(["simplify is slower than onnxsim"] if work["simplify"] > work["onnxsim"] else []),
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    by = {row["what"]: row for row in rows}
    fold, work = by["fold"], by["work"]["cpu_s"]
    return "\n".join(
        [
            "| what, in CPU seconds | ours | onnxsim alone | ratio |",
            "|---|---|---|---|",
            race_line(f"ResNet-50: simplify ({work['simplify']:.2f}) and fold ({work['fold']:.2f})", by["work"]),
            race_line("ResNet-50: the commands, ours with proof", by["commands"]),
            f"| VGG-19-BN: fold of {fold['folded']} BatchNorms | {fold['cpu_s']:.2f} | | |",
            f"| its extra memory, as a share of the file | {fold['extra_bytes'] / fold['size_bytes']:.2f} | | |",
        ]
    )


def race_line(what: str, row: Mapping[str, Any]) -> str:
    seconds, ratio = row["cpu_s"], row["ratio"]
    spread = f"{ratio['low']:.2f} to {ratio['high']:.2f}"
    return f"| {what} | {seconds['ours']:.2f} | {seconds['onnxsim']:.2f} | **{ratio['ratio']:.2f}x** ({spread}) |"


if __name__ == "__main__":
    sys.exit(main())
