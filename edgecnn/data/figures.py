"""Seeded pictures of circles, squares and triangles on textured ground, with their classes, masks and boxes.

    ground   three layers of random dots, 4, 8 and 16 to a side, joined by straight lines (value noise)
    figure   turned, of one colour that differs from the ground, with fine noise
    image    one figure, 0.44 to 0.84 of the shorter side (for classification),
             or 1 to 4, 0.28 to 0.56 of it, that hardly overlap (for masks and boxes)

Picture i of `shapes` depends on i and on its size alone. Its bytes are the same on every machine: whole numbers, and
floats only in + - * / and comparisons, which IEEE 754 fixes (angles are rational points of the circle,
cos = (1 - t^2) / (1 + t^2), sin = 2t / (1 + t^2)). A mask holds what is seen of a figure, and the box is its mask's.
Value noise: Perlin 1985, "An image synthesizer". Test: tests/test_figures.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from edgecnn.data.samples import Samples, Target
from runtimes.base import Array, BadInput
from runtimes.imaging.arrays import Rows
from runtimes.imaging.preprocess import Preprocess

CLASSES = ("circle", "square", "triangle")
BACKGROUND = "background"
COUNT, MAX_COUNT = 1500, 100_000
MOST_FIGURES = 4
MIN_SIDE, MIN_RADIUS = 8, 2.0
"""A triangle in a circle of two pixels holds a circle of one, and so the centre of a pixel."""
DOTS = (4, 8, 16)
TURNS = 64
SINGLE, MANY = (220, 421), (140, 281)
"""Radius of a figure in thousandths of the shorter side."""
OVERLAP = 0.1
"""Of a figure's bounding square, as a share of the smaller of two."""
TRIES = 8


@dataclass(frozen=True)
class Figure:
    """A circle, square or triangle (`kind` 0, 1, 2) inside a circle of `radius` pixels around (x, y)."""

    kind: int
    x: float
    y: float
    radius: float
    turn: float
    """t of the rational point (1 - t^2, 2t) / (1 + t^2): half the tangent of the angle."""
    colour: tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """`pixels` uint8 (H, W, 3); `owner` int8 (H, W): which of `figures` is seen there, -1 for the ground."""

    pixels: Array
    owner: Array
    figures: tuple[Figure, ...]

    @property
    def mask(self) -> Array:
        """uint8 (H, W): 0 for the ground, else the figure's class plus 1."""
        kinds = np.array([*(f.kind + 1 for f in self.figures), 0], np.uint8)
        return kinds[self.owner]

    @property
    def target(self) -> Target:
        """One box around what is seen of each figure."""
        boxes = [box_around(self.owner == i) for i in range(len(self.figures))]
        return Target.of(np.array(boxes), np.array([f.kind for f in self.figures]))


def load_shapes(spec: str, preprocess: Preprocess, task: str) -> Samples:
    """The samples of `shapes` or `shapes:N` for a network that eats `preprocess`; raises `BadInput` for other words.

    Classification gets one figure an image (and its label), the other tasks up to four (masks and boxes of all).
    """
    found = re.fullmatch(r"shapes(?::(\d{1,9}))?", spec, re.ASCII)
    count = int(found[1] or COUNT) if found else 0
    if not 1 <= count <= MAX_COUNT:
        raise BadInput(f"{spec}: is no number of drawn images; write shapes or shapes:N with N from 1 to {MAX_COUNT:,}")
    if min(preprocess.size) < MIN_SIDE:
        raise BadInput(f"{spec}: is drawn from {MIN_SIDE}x{MIN_SIDE} on; this network eats {list(preprocess.size)}")
    ready = replace(preprocess, resize=None)  # drawn at the network's own size, so nothing is scaled or cut
    single = task == "classification"

    def scene(i: int) -> Scene:
        return draw(i, *preprocess.size, single)

    return Samples(
        "shapes",
        tuple(f"shapes[{i}]" for i in range(count)),
        lambda i: ready(scene(i).pixels),
        np.arange(count) % len(CLASSES) if single else None,
        (BACKGROUND, *CLASSES) if task == "segmentation" else CLASSES,
        Rows(count, lambda i: scene(i).mask),
        Rows(count, lambda i: scene(i).target),
        mirrored=True,
    )


def draw(index: int, height: int, width: int, single: bool) -> Scene:
    """Picture `index`; the class of a `single` figure is index modulo 3."""
    rng = np.random.default_rng((index, height, width, single))
    pixels, level = ground(height, width, rng)
    kinds = [index % len(CLASSES)] if single else rng.integers(0, 3, rng.integers(1, MOST_FIGURES + 1)).tolist()
    figures: list[Figure] = []
    for kind in kinds:
        figures += place(kind, height, width, level, SINGLE if single else MANY, figures, rng)
    owner = np.full((height, width), -1, np.int8)
    for i, figure in enumerate(figures):
        inside = covers(figure, height, width)
        owner[inside] = i
        noise = rng.integers(-12, 13, (int(inside.sum()), 3))
        pixels[inside] = np.clip(np.array(figure.colour) + noise, 0, 255)
    return Scene(pixels.astype(np.uint8), owner, tuple(figures))


def ground(height: int, width: int, rng: np.random.Generator) -> tuple[Array, int]:
    """(int32 (H, W, 3) in 0..255, its middle grey level)."""
    level = int(rng.integers(70, 186))
    total = np.full((height, width, 3), level, np.int32)
    for dots in DOTS:
        reach = 160 // dots
        total += enlarge(rng.integers(-reach, reach + 1, (dots, dots, 3)), height, width)
    return np.clip(total + rng.integers(-6, 7, total.shape), 0, 255), level


def enlarge(values: Array, height: int, width: int) -> Array:
    """Bilinear enlargement of int (h, w, C) to (height, width, C), corners on corners, rounded down."""
    for axis, size in ((0, height), (1, width)):
        steps = np.arange(size) * (values.shape[axis] - 1)
        low, share = steps // (size - 1), steps % (size - 1)
        share = share.reshape([-1 if a == axis else 1 for a in range(3)])
        high = np.minimum(low + 1, values.shape[axis] - 1)
        values = (values.take(low, axis) * (size - 1 - share) + values.take(high, axis) * share) // (size - 1)
    return values


def place(
    kind: int,
    height: int,
    width: int,
    level: int,
    reach: tuple[int, int],
    others: list[Figure],
    rng: np.random.Generator,
) -> list[Figure]:
    """A figure of a radius in `reach` that hardly overlaps the `others`, in a list of one; none without room."""
    side = min(height, width)
    for _ in range(TRIES):
        radius = max(side * int(rng.integers(*reach)) / 1000, MIN_RADIUS)
        x, y = (radius + (n - 2 * radius) * int(rng.integers(0, 1001)) / 1000 for n in (width, height))
        turn = int(rng.integers(-TURNS, TURNS + 1)) / TURNS
        sign = 1 if level < 100 or (level < 156 and rng.integers(0, 2)) else -1
        colour = tuple((level + sign * int(rng.integers(60, 100)) + rng.integers(-30, 31, 3)).tolist())
        figure = Figure(kind, x, y, radius, turn, colour)
        if all(overlap(figure, other) <= OVERLAP for other in others):
            return [figure]
    return []


def overlap(a: Figure, b: Figure) -> float:
    """Of the squares around two figures: the common area as a share of the smaller one."""
    reach = a.radius + b.radius
    smaller = 2 * min(a.radius, b.radius)
    sides = [min(max(reach - abs(p - q), 0.0), smaller) for p, q in ((a.x, b.x), (a.y, b.y))]
    return sides[0] * sides[1] / smaller**2


def covers(figure: Figure, height: int, width: int) -> Array:
    """bool (H, W): pixels whose centre lies in the figure."""
    scale = 1 + figure.turn**2
    cosine, sine = (1 - figure.turn**2) / scale, 2 * figure.turn / scale
    dx, dy = (np.arange(width) + 0.5 - figure.x)[None, :], (np.arange(height) + 0.5 - figure.y)[:, None]
    u, v = cosine * dx + sine * dy, cosine * dy - sine * dx
    r = figure.radius
    if figure.kind == 0:
        return np.asarray(dx * dx + dy * dy <= r * r)
    if figure.kind == 1:
        return np.asarray(np.maximum(abs(u), abs(v)) <= r * 0.7071)
    return np.asarray((v <= r / 2) & (1.7320508 * abs(u) - v <= r))  # corners at (0, -r) and (+-0.866 r, r/2)


def box_around(inside: Array) -> tuple[int, int, int, int]:
    """x1, y1, x2, y2 of the True pixels of (H, W), x2 and y2 one past the last."""
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
