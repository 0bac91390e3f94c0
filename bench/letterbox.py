"""What stretched pictures cost a detector that was trained on letterboxed ones.

    python bench/letterbox.py           writes bench/results/letterbox.jsonl (four minutes) and prints the line
    python bench/letterbox.py --table   prints the line of the results that are there

SSD-Tiny learns circles, squares and triangles in seeded pictures of 160x96 and 112x160 pixels, once letterboxed and
once stretched to its 64x64. Both are judged on held-out pictures made ready in either way, by mAP.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from edgecnn import api
from edgecnn.data.figures import CLASSES, draw
from runtimes.files import write_atomic

RESULTS = Path(__file__).parent / "results" / "letterbox.jsonl"
SIZES = ((96, 160), (160, 112))
TRAIN, TEST, EPOCHS = 1000, 250, 20
WAYS = {"letterboxed": "yolo", "stretched": "unit"}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--table", action="store_true")
    if not parser.parse_args(argv).table:
        with tempfile.TemporaryDirectory() as folder:
            rows = measured(Path(folder))
        write_atomic(RESULTS, "".join(json.dumps(row) + "\n" for row in rows).encode())
    print(table())
    return 0


def measured(folder: Path) -> list[dict[str, Any]]:
    """A row for each way of training: mAP on pictures that are made ready in each way."""
    data, rows = pictures(folder / "data"), []
    for trained, way in WAYS.items():
        weights = folder / f"{trained}.safetensors"
        api.train("ssd_tiny", data, weights, epochs=EPOCHS, preprocess=way)
        found = {}
        for judged, other in WAYS.items():
            report = api.evaluate("ssd_tiny", data=data, weights=weights, preprocess=other)
            found[judged] = round(report.models[0][1].value, 4)
        rows.append({"trained": trained, "epochs": EPOCHS, "pictures": TRAIN, "judged_on": TEST, "mAP": found})
    return rows


def pictures(root: Path) -> str:
    """A folder in YOLO's layout."""
    for part, first, count in (("train", 0, TRAIN), ("val", TRAIN, TEST)):
        for kind in ("images", "labels"):
            (root / kind / part).mkdir(parents=True)
        for i in range(first, first + count):
            height, width = SIZES[i % 2]
            scene = draw(i, height, width, single=False)
            Image.fromarray(scene.pixels).save(root / "images" / part / f"{i:04}.png")
            lines = []
            for (x1, y1, x2, y2), label in zip(scene.target.boxes, scene.target.labels, strict=True):
                shares = (x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height
                lines.append(f"{label} {' '.join(f'{share:.6f}' for share in shares)}\n")
            (root / "labels" / part / f"{i:04}.txt").write_text("".join(lines))
    (root / "data.yaml").write_text(f"names: [{', '.join(CLASSES)}]\n")
    return str(root / "data.yaml")


def table() -> str:
    rows = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    lines = ["| trained on pictures that were | mAP on letterboxed ones | on stretched ones |", "|---|---|---|"]
    lines += [
        f"| {row['trained']} | {100 * row['mAP']['letterboxed']:.1f} % | {100 * row['mAP']['stretched']:.1f} % |"
        for row in rows
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
