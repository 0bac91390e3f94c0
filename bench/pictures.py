"""How long a picture takes to be made ready, beside the same steps by Pillow and numpy.

    python bench/pictures.py            writes bench/results/pictures.jsonl and prints the table (one minute)
    python bench/pictures.py --table    prints the table of the results that are there

Seeded noise of the sizes of cameras, made ready for 224x224, one thread. Pillow decodes nothing here: both begin with
the pixels in memory and end with float32 (3, 224, 224). Its BILINEAR always looks at all pixels, so that the preset
without antialias (`yolo`), which letterboxes, is raced against a stretch of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from edgecnn.data.pixels import read_preprocess
from runtimes import machine
from runtimes.base import Array
from runtimes.files import write_atomic
from runtimes.imaging.preprocess import Preprocess, centre, shorter_side
from runtimes.latency import race

RESULTS = Path(__file__).parent / "results" / "pictures.jsonl"
SIDE = 224
CAMERAS = ((480, 640), (1080, 1920), (3000, 4000))
PRESETS = ("imagenet", "unit", "yolo")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=8.0, help="at most so long for each race")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(argv)
    if not options.table:
        rows = [measure(size, name, options.rounds, options.seconds) for size in CAMERAS for name in PRESETS]
        write_atomic(RESULTS, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode())
    print(table())
    return 0


def measure(size: tuple[int, int], preset: str, rounds: int, seconds: float) -> dict[str, object]:
    """One row: a picture of `size` (H, W), ready by the `preset`."""
    known = read_preprocess(preset, (3, SIDE, SIDE))
    assert known is not None
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    calls = {"edgecnn": lambda: known(picture), "pillow": by_pillow(picture, known)}
    ended = race(calls, rounds, warmup=2, seed=0, seconds=seconds, threads=1)
    medians = {f"{name}_ms": ended.median_ms(name) for name in calls}
    ratio = ended.ratio("edgecnn", "pillow").to_dict()
    return {"size": size, "preset": preset, **medians, "ratio": ratio, "machine": machine.describe().to_dict()}


def by_pillow(picture: Array, known: Preprocess) -> Callable[[], Array]:
    """The same steps with Pillow's resize; a letterbox is a stretch."""
    known = replace(known, letterbox=None, corner=False)
    size = known.size if known.resize is None else shorter_side(picture.shape[:2], known.resize)
    rows, columns = centre(size, known.size)

    def run() -> Array:
        resized = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)
        return known.normalized(np.asarray(resized)[rows, columns])

    return run


def table() -> str:
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    lines = ["| picture | preset | edgecnn | Pillow and numpy | of Pillow's speed (95 %) |", "|---|---|---|---|---|"]
    for row in rows:
        height, width = row["size"]
        ratio = row["ratio"]
        value = f"{ratio['ratio']:.2f}x ({ratio['low']:.2f} to {ratio['high']:.2f})"
        times = f"{row['edgecnn_ms']:.1f} ms | {row['pillow_ms']:.1f} ms"
        lines.append(f"| {width}x{height} | `{row['preset']}` | {times} | {value} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
