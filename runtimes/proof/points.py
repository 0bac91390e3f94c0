"""The points of one subject in a picture, as they are told of one image. Test: tests/test_task_keypoints.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtimes.words import number

SPOKEN = 16
"""Points that are shown one by one."""


@dataclass(frozen=True, slots=True)
class Point:
    """`x`, `y` in pixels of the original image; `score` is the height of its heatmap there, None of coordinates."""

    label: str
    x: float
    y: float
    score: float | None

    @property
    def height(self) -> str:
        """` 0.93`: what is said of the score behind the label; empty without one."""
        return "" if self.score is None else f" {number(self.score)}"


@dataclass(frozen=True)
class PointsPrediction:
    """The points of one image in the order of the network. `files`: what was saved of it."""

    input: str
    points: tuple[Point, ...]
    files: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        said = [f"{p.label}{p.height} at {p.x:.1f} {p.y:.1f}" for p in self.points[:SPOKEN]]
        more = len(self.points) - len(said)
        return ", ".join([*said, *([f"{more} more"] if more else [])])

    def to_dict(self) -> dict[str, Any]:
        points, labels = [[p.x, p.y, p.score] for p in self.points], [p.label for p in self.points]
        return {"input": self.input, "points": points, "labels": labels, "files": list(self.files)}
