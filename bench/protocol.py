"""Can the race be believed? The same graph against itself, and one that is 10 % slower, beside a busy neighbour.

    python bench/protocol.py            writes bench/results/protocol.jsonl (two to three minutes) and prints the table
    python bench/protocol.py --table    prints the table of the results that are there
    python bench/protocol.py --check    exit 1 when one of them misses its bar

    spread   the ratio of a graph to itself, measured 30 times: blocks one after the other (mean wall time, as most
             scripts do it), and our race        bar: standard deviation > 5 % and <= 1 %
    same     100 races of a graph against itself            bar: at most 5 called faster or slower
    slower   20 races against a graph of 44 convolutions instead of 40, without the neighbour     bar: 20 found

The neighbour is a process for each CPU that computes and sleeps in random spells and sweeps the cache. Everything runs
on one thread; two sessions are opened anew for each race, so that where their memory happens to lie is part of it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtimes import machine
from runtimes.files import write_atomic
from runtimes.latency import Call, Race, race
from runtimes.session import open_session
from runtimes.timing import noise

RESULTS = Path(__file__).parent / "results" / "protocol.jsonl"
CHANNELS, SIZE = 16, 16
ROUNDS, SPREADS, SAME, SLOWER = 300, 30, 100, 20
SPREAD_LIMIT, DRIFT, MOST_FALSE = 0.01, 0.05, 5


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--neighbour", type=int, metavar="SEED", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.neighbour is not None:
        disturb(options.neighbour)
    if not (options.table or options.check):
        rows = [spread(), same(), slower()]
        write_atomic(RESULTS, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode())
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    print(table(rows))
    missed = check(rows)
    print("\n".join(missed), file=sys.stderr)
    return 1 if missed else 0


# ------------------------------------------------------------------------------------------------------ what is raced
def stack(convolutions: int) -> bytes:
    """So many 3x3 convolutions in a row, as a model: the time grows with their number."""
    rng = np.random.default_rng(0)
    shape = (CHANNELS, CHANNELS, 3, 3)
    weights = [rng.standard_normal(shape, np.float32) / (9 * CHANNELS) ** 0.5 for _ in range(convolutions)]
    nodes = [helper.make_node("Conv", [f"t{i}", f"w{i}"], [f"t{i + 1}"], pads=[1] * 4) for i in range(convolutions)]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, CHANNELS, SIZE, SIZE])
            for name in ("t0", f"t{convolutions}")]  # fmt: skip
    tensors = [numpy_helper.from_array(value, f"w{i}") for i, value in enumerate(weights)]
    graph = helper.make_graph(nodes, "stack", ends[:1], ends[1:], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def call(model: bytes) -> Call:
    """One run in a session of its own."""
    return open_session(model, threads=1).prepare({"t0": np.ones((1, CHANNELS, SIZE, SIZE), np.float32)})


# -------------------------------------------------------------------------------------------------------- measurements
def spread(repeats: int = SPREADS, rounds: int = ROUNDS) -> dict[str, Any]:
    """Standard deviations of log(time / time) of two sessions of one graph, in two ways that take turns."""
    model = stack(10)
    a, b = call(model), call(model)
    blocks, races = [], []
    with neighbours(), watched() as seen:
        for repeat in range(repeats):
            blocks.append(np.log(block(b, rounds) / block(a, rounds)))
            races.append(np.log(contest(a, b, rounds, repeat).ratio("a", "b").ratio))
    found = {"sequential": statistics.stdev(blocks), "interleaved": statistics.stdev(races)}
    return {"what": "spread", "repeats": repeats, "rounds": rounds, **found, **about(seen)}


def same(repeats: int = SAME, rounds: int = ROUNDS) -> dict[str, Any]:
    """Verdicts of races between two new sessions of one graph."""
    model = stack(10)
    with neighbours(), watched() as seen:
        words = [contest(call(model), call(model), rounds, seed).ratio("a", "b").verdict for seed in range(repeats)]
    return {"what": "same", "repeats": repeats, "rounds": rounds, "verdicts": count(words), **about(seen)}


def slower(repeats: int = SLOWER, rounds: int = ROUNDS) -> dict[str, Any]:
    """Verdicts on a graph with a tenth more convolutions, nobody disturbing on purpose."""
    quick, slow = stack(40), stack(44)
    with watched() as seen:
        found = [contest(call(slow), call(quick), rounds, seed).ratio("a", "b") for seed in range(repeats)]
    ratio = statistics.median(1 / r.ratio for r in found)
    words = count([r.verdict for r in found])
    return {"what": "slower", "repeats": repeats, "rounds": rounds, "verdicts": words, "times": ratio, **about(seen)}


def contest(a: Call, b: Call, rounds: int, seed: int) -> Race:
    return race({"a": a, "b": b}, rounds, warmup=5, seed=seed, threads=1)


def block(run: Call, rounds: int) -> float:
    """Mean seconds of wall time of one run, all runs in a row."""
    for _ in range(5):
        run()
    begin = time.perf_counter()
    for _ in range(rounds):
        run()
    return (time.perf_counter() - begin) / rounds


def count(words: Sequence[str]) -> dict[str, int]:
    return dict(collections.Counter(words))


# ------------------------------------------------------------------------------------------------------ the neighbours
@contextlib.contextmanager
def neighbours() -> Iterator[None]:
    """One busy process for each CPU that we may use, while inside."""
    command = [sys.executable, __file__, "--neighbour"]
    started = [subprocess.Popen([*command, str(seed)]) for seed in range(machine.affinity())]
    try:
        time.sleep(1.5)  # until they have imported what they need
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


def disturb(seed: int) -> None:
    """Compute and sleep in spells of 20 to 500 ms, for ever; 4 MB go through the cache meanwhile."""
    spells = random.Random(seed)
    ballast = bytearray(4_000_000)
    while True:
        end = time.perf_counter() + spells.uniform(0.02, 0.5)
        while time.perf_counter() < end:
            ballast[::64] = bytes(len(ballast[::64]))
        time.sleep(spells.uniform(0.02, 0.5))


@contextlib.contextmanager
def watched() -> Iterator[list[noise.Noise]]:
    """What the system's counters say about the time inside, in a list that is filled at the end."""
    seen: list[noise.Noise] = []
    before = noise.look()
    yield seen
    seen.append(noise.between(before, noise.look()))


def about(seen: list[noise.Noise]) -> dict[str, Any]:
    return {"noise": seen[0].to_dict(), "machine": machine.describe().to_dict()}


# ------------------------------------------------------------------------------------------------------------- results
def table(rows: Sequence[dict[str, Any]]) -> str:
    by = {row["what"]: row for row in rows}
    drift, even, slow = by["spread"], by["same"], by["slower"]
    head = drift["machine"]
    words = ", ".join(f"{n} {word}" for word, n in sorted(even["verdicts"].items()))
    lines = [
        f"{head['cpu']}, {head['cores']} cores, ONNX Runtime {head['onnxruntime']}, one thread, {ROUNDS} rounds:",
        "",
        "| what | beside a busy neighbour | bar |",
        "|---|---|---|",
        f"| a graph against itself in blocks, spread of the ratio | {drift['sequential']:.1%} | > {DRIFT:.0%} |",
        f"| the same interleaved | **{drift['interleaved']:.2%}** | <= {SPREAD_LIMIT:.0%} |",
        f"| {even['repeats']} races of a graph against itself | {words} | <= {MOST_FALSE} faster or slower |",
        f"| {slow['repeats']} races against one {slow['times'] - 1:.0%} slower, no neighbour of ours "
        f"| {slow['verdicts'].get('slower', 0)} found | {slow['repeats']} |",
    ]
    return "\n".join(lines)


def check(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What missed its bar."""
    by = {row["what"]: row for row in rows}
    false = sum(by["same"]["verdicts"].get(word, 0) for word in ("faster", "slower"))
    found = by["slower"]["verdicts"].get("slower", 0)
    bars = {
        f"interleaved: spread {by['spread']['interleaved']:.2%}": by["spread"]["interleaved"] <= SPREAD_LIMIT,
        f"sequential: spread {by['spread']['sequential']:.2%}": by["spread"]["sequential"] > DRIFT,
        f"{false} false verdicts in {by['same']['repeats']} races": false <= MOST_FALSE
        and by["same"]["repeats"] >= 100,
        f"slower graph found {found} times of {by['slower']['repeats']}": found == by["slower"]["repeats"],
    }
    return [f"missed: {what}" for what, holds in bars.items() if not holds]


if __name__ == "__main__":
    sys.exit(main())
