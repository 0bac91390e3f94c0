"""How long one command takes from an own network file to a proven bundle: the whole process, as a user starts it.

    python bench/build.py [RUNS]        exit 1 when the median is above 60 s

A ResNet-18 of its own (nets.py), its state dict, 32 photographs; `edgecnn build nets.py:Net --weights w.pt --calib
photos/ -o net.edge`. Most of it is torch's exporter and the import of torch. Writes bench/results/build-<cpu>.jsonl.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from latency import RESULTS, slug
from PIL import Image
from torch import nn

from edgecnn.data.textures import texture
from edgecnn.networks.zoo import find
from runtimes import machine
from runtimes.files import write_atomic

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 60.0
PHOTOGRAPHS = 32
NETS = """
import torch
import torch.nn.functional as F
from torch import nn

class Block(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        down = nn.Sequential(nn.Conv2d(i, o, 1, s, bias=False), nn.BatchNorm2d(o))
        self.down = down if s != 1 or i != o else nn.Identity()

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.down(x))

class Net(nn.Sequential):
    def __init__(self, num_classes=1000):
        stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        sizes = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2),
                 (512, 512, 1)]
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes)]
        super().__init__(*stem, *(Block(*size) for size in sizes), *head)
"""


def prepare(folder: Path) -> None:
    """What the user brings: nets.py, w.pt, photos/."""
    (folder / "nets.py").write_text(NETS)
    names: dict[str, Any] = {}
    exec(NETS, names)
    torch.manual_seed(0)
    module: nn.Module = names["Net"]()
    assert sum(p.numel() for p in module.parameters()) == sum(
        p.numel() for p in find("resnet18").build(num_classes=1000).parameters()
    )
    torch.save(module.state_dict(), folder / "w.pt")
    (folder / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i in range(PHOTOGRAPHS):
        Image.fromarray(texture(480, 640, 3, rng)).save(folder / "photos" / f"{i:02d}.jpg", quality=90)


def once(folder: Path) -> tuple[float, dict[str, Any]]:
    """(seconds of the whole process, what it said)."""
    command = [sys.executable, "-m", "edgecnn", "build", "nets.py:Net", "--weights", "w.pt", "--calib", "photos/"]
    started = time.perf_counter()
    done = subprocess.run(
        [*command, "-o", "net.edge", "--force", "--json"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=True,
    )
    return time.perf_counter() - started, json.loads(done.stdout)


def main(runs: int = 3) -> int:
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name))
        results = [once(Path(name)) for _ in range(runs)]
    seconds = [round(time_s, 2) for time_s, _ in results]
    report = results[0][1]
    described = machine.describe()
    row = {
        "machine": described.to_dict(),
        "seconds": seconds,
        "verdict": report["verdict"],
        "stages": {stage["name"]: stage["seconds"] for stage in report["stages"]},
    }
    write_atomic(RESULTS / f"build-{slug(described)}.jsonl", (json.dumps(row, sort_keys=True) + "\n").encode())
    print(f"{statistics.median(seconds):.1f} s (runs: {seconds}); {report['verdict']}")
    return 0 if statistics.median(seconds) <= LIMIT_S else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
