"""What an average in front of its convolution, and one as a depthwise convolution, bring to DenseNet-121.

    python bench/averages.py            writes bench/results/averages.jsonl and prints the table
    python bench/averages.py --table    prints the table of the results that are there

Six graphs of one network in one race, in CPU time, one thread: float and plain int8, with and without the pass
`pool_before_conv` and the rewrite `depthwise_average`. Weights are seeded; the ranges are those of one image.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import onnx

from edgecnn import stages
from edgecnn.networks.sources import resolve
from exporters.passes import pool_before_conv
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.rewrites import depthwise_average
from runtimes import machine
from runtimes.files import write_atomic
from runtimes.latency import race
from runtimes.session import open_session, random_feeds

RESULTS = Path(__file__).parent / "results" / "averages.jsonl"
NETWORK = "densenet121"
AS_TRAINED = "float, as it was trained"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60.0, help="at most so long for the race")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(argv)
    if not options.table:
        write_atomic(RESULTS, (measure(options.rounds, options.seconds) + "\n").encode())
    print(table())
    return 0


def graphs() -> dict[str, onnx.ModelProto]:
    """The float graphs, with the average where it was and in front, each with pools and with depthwise convolutions."""
    given = stages.float_road(resolve(NETWORK), skip=("pool_before_conv",))[0]
    front = pool_before_conv.run(given).model
    return {
        "as it was trained": given,
        "depthwise": depthwise_average.run(given).model,
        "in front": front,
        "in front, depthwise": depthwise_average.run(front).model,
    }


def measure(rounds: int, seconds: float) -> str:
    """One JSON line: how many times faster than the float graph as it was trained each of the others runs."""
    made = graphs()
    feed = random_feeds(open_session(made["as it was trained"]).inputs, batch=1, seed=0)
    raced = {f"float, {name}": model for name, model in made.items() if "depthwise" not in name}
    raced |= {f"int8, {name}": quantize_model(model, [feed], QuantRecipe()).model for name, model in made.items()}
    calls = {name: open_session(model, threads=1).prepare(feed) for name, model in raced.items()}
    ended = race(calls, rounds, warmup=2, seed=0, seconds=seconds, threads=1)
    ratios = {name: ended.ratio(name, AS_TRAINED).to_dict() for name in raced if name != AS_TRAINED}
    row = {"network": NETWORK, "ratios": ratios, "machine": machine.describe().to_dict()}
    return json.dumps(row, sort_keys=True)


def table() -> str:
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    lines = ["| graph | speed over float as it was trained (95 %) | machine |", "|---|---|---|"]
    for row in rows:
        for name, ratio in row["ratios"].items():
            value = f"{ratio['ratio']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f})"
            lines.append(f"| `{row['network']}`, {name} | {value} | {row['machine']['cpu']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
