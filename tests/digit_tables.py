"""Digits with several labels, or several numbers, each, in a folder with labels.csv; and tiny networks of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from PIL import Image
from sklearn.datasets import load_digits

from runtimes.base import Array

COUNT = 300
_DIGITS = load_digits()
PICTURES = np.uint8(_DIGITS.images[:COUNT] * 15.9)
VALUES = _DIGITS.target[:COUNT]
TAGS = ("even", "above four", "loop", "one")
tagged = np.stack([VALUES % 2 == 0, VALUES > 4, np.isin(VALUES, (0, 6, 8, 9)), VALUES == 1], axis=1).astype(np.uint8)
NUMBERS = ("ink", "top half")
numbered = np.stack([PICTURES.mean((1, 2)), 1000 + PICTURES[:, :4].mean((1, 2)) * 3], axis=1)

NETS = """
import torch
from torch import nn

class Body(nn.Module):
    input_shape = (1, 8, 8)
    preprocess = {"mean": [0.5], "std": [0.5]}

    def __init__(self, out=4):
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU(),
            nn.Flatten(), nn.Linear(288, out),
        )

    def forward(self, x):
        return self.f(x)

class Probabilities(Body):
    def forward(self, x):
        return torch.sigmoid(self.f(x))

class Numbers(Body):
    task = "regression"

    def __init__(self):
        super().__init__(2)

class Number(Body):
    task = "regression"

    def __init__(self):
        super().__init__(1)

    def forward(self, x):
        return self.f(x)[:, 0]
"""


def nets(root: Path) -> Path:
    (root / "nets.py").write_text(NETS)
    return root / "nets.py"


def write_table(root: Path, names: Sequence[str], rows: Array, pictures: Array = PICTURES) -> Path:
    """`root` with images/ and labels.csv."""
    (root / "images").mkdir(parents=True)
    with open(root / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", *names])
        for i, row in enumerate(rows):
            Image.fromarray(pictures[i]).save(root / "images" / f"{i:04}.png")
            writer.writerow([f"{i:04}.png", *row])
    return root


def strip(path: Path, output: Path) -> Path:
    """The model in `path` as another tool would have written it: without a word of ours."""
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, output)
    return output
