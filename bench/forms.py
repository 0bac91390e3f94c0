"""What 7 bits and unsigned weights bring and cost on a CPU whose sums of two 8-bit products saturate.

    python bench/forms.py [NETWORK ...]    adds to bench/results/forms-<cpu>.jsonl and prints the table
    python bench/forms.py --table          prints the tables of the results that are there

One network, its weights as they are, on 7 bits in the layers that lose, unsigned there: in one race, interleaved, in
CPU time, one thread. SNR is against float on 16 seeded pictures that did not calibrate; 32 did. Weights are random.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import int8
import numpy as np
from latency import RESULTS, slug

from edgecnn.data.textures import textures
from edgecnn.networks.sources import resolve
from edgecnn.stages import INPUT_NAME, float_road
from exporters.quantization.improve import sqnr_against
from exporters.quantization.quantize import QuantRecipe, prepare
from exporters.quantization.work import start
from exporters.targets.cpu_target import SATURATING, finer, this_cpu
from exporters.targets.weight_forms import adapt, look
from runtimes import machine
from runtimes.latency import race
from runtimes.session import open_session

NETWORKS = ("resnet18", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "googlenet", "alexnet")
CALIBRATED, UNSEEN = 32, 16
FORMS = {"s8": "as they are", "s7": "7 bits where it matters", "u8": "uint8 there"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=120)
    parser.add_argument("--seconds", type=float, default=20.0, help="at most so long for one race")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(argv)
    if not options.table:
        if this_cpu() not in SATURATING:
            parser.error(f"this CPU ({this_cpu()}) sums 8-bit products exactly: there is nothing to measure")
        for name in options.networks:
            row = measure(name, options.rounds, options.seconds)
            int8.keep(RESULTS / f"forms-{slug(machine.describe())}.jsonl", row, NETWORKS)
    print(tables())
    return 0


def measure(name: str, rounds: int, seconds: float) -> dict[str, Any]:
    """One row: SNR (dB) and speed over float of each form of the weights, and how many layers it changed."""
    network = resolve(name)
    model = prepare(float_road(network)[0])
    rng = np.random.default_rng(1)
    feeds = [{INPUT_NAME: textures(network.ready, 1, rng)} for _ in range(CALIBRATED + UNSEEN)]
    plain = start(model, QuantRecipe(target=this_cpu()), feeds[:CALIBRATED])
    risks = look(plain)
    works = {"s8": plain, "s7": adapt(plain, risks), "u8": adapt(plain, finer(risks))}
    graphs = {form: work.quantized() for form, work in works.items()}
    score = sqnr_against(open_session(model), feeds[CALIBRATED:])
    raced = {"float": model, **{form: quantized.model for form, quantized in graphs.items()}}
    calls = {form: open_session(graph, threads=1).prepare(feeds[0]) for form, graph in raced.items()}
    ended = race(calls, rounds, seconds=seconds, threads=1)
    forms = {
        form: {
            "snr_db": round(score(quantized), 2), "ratio": ended.ratio(form, "float").to_dict(),
            "changed": len(works[form].recipe.weight_forms),
        }
        for form, quantized in graphs.items()
    }  # fmt: skip
    return {"network": name, "forms": forms, "machine": machine.describe().to_dict()}


def tables() -> str:
    return "\n\n".join(table(int8.read(file)) for file in sorted(RESULTS.glob("forms-*.jsonl")))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    about = rows[0]["machine"]
    lines = [
        f"{about['cpu']} ({', '.join(about['isa'])}), ONNX Runtime {about['onnxruntime']}:",
        "",
        f"| network | {' | '.join(FORMS.values())} |",
        "|---|---|---|---|",
    ]
    for row in rows:
        cells = [f"{row['forms'][f]['snr_db']:.1f} dB, {row['forms'][f]['ratio']['ratio']:.2f}x" for f in FORMS]
        lines.append(f"| `{row['network']}` | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
