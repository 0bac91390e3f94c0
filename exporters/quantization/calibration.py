"""Watch tensors of a float model on images, one pass, one image in memory; say what was seen and if it is enough.

    image -> session -> observed tensors -> { plug-in calibrator -> range;  per channel lowest and highest value }

Nothing but running sums is kept: a calibrator's state, two numbers a channel, two numbers a tensor and image. From the
last come the bootstrap intervals: images are drawn again with replacement 200 times, and the share by which a range
shrinks in the worst 2.5 % of the draws (its `spread`) says how much of it stands on a few images.
Source: Efron 1979, "Bootstrap Methods: Another Look at the Jackknife". Test: tests/test_calibration.py.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from exporters import calibrators, padding
from runtimes import plugins
from runtimes.base import Array, BadInput, Tensors, Track, counted, silent
from runtimes.session import Session, open_session

DRAWS = 200
SETTLED = 0.05
"""A range is settled when its spread is at most this: the scale moves by 5 %, the noise by 0.4 dB."""
SETTLED_SHARE = 0.95
"""Calibration has seen enough when so many of its ranges are settled."""
LONE = 16
"""An image that makes a range so many times wider than all others do leaves these 4 of 8 bits."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One tensor over all images. `channel_low`, `channel_high`: (channels,) along axis 1, empty where there is none.

    `spread` (0..1): share of the range's width that its 95 % bootstrap interval over images leaves open.
    """

    tensor: str
    low: float
    high: float
    spread: float
    channel_low: Array
    channel_high: Array
    own: Array | None = None
    """Places (C,) of the network's own channels, where others are the padding of a rewrite; None: all are."""
    others: tuple[int, float, float] | None = None
    """(an image, lowest, highest value of all others), where these alone are `LONE` times closer to one another."""

    @property
    def dead(self) -> tuple[int, ...]:
        """The network's channels that had the same value everywhere on every image: they carry nothing."""
        constant = self.channel_low == self.channel_high
        if self.own is not None:  # an axis 1 that is no channel axis has none to choose from
            constant = constant[self.own] if constant.size > self.own.max(initial=-1) else constant[:0]
        return tuple(int(i) for i in np.flatnonzero(constant))


@dataclass(frozen=True)
class Calibration:
    """What one pass over `images` batches came to."""

    images: int
    seen: tuple[Seen, ...] = field(repr=False)

    @property
    def ranges(self) -> dict[str, tuple[float, float]]:
        """(low, high) by tensor, as the calibrator chose them."""
        return {entry.tensor: (entry.low, entry.high) for entry in self.seen}

    @property
    def dead(self) -> dict[str, tuple[int, ...]]:
        """Dead channels by tensor; tensors without any are left out."""
        return {entry.tensor: entry.dead for entry in self.seen if entry.dead}

    def of_network(self, tensors: Collection[str]) -> Calibration:
        """The same for a network of these `tensors`: what only a rewrite made has no channels of its own."""
        none = np.zeros(0, np.int64)
        made = [entry.own is None and entry.tensor not in tensors for entry in self.seen]
        seen = (replace(entry, own=none) if new else entry for entry, new in zip(self.seen, made, strict=True))
        return replace(self, seen=tuple(seen))

    @property
    def settled(self) -> float:
        """Share of the ranges that more images would hardly move; 0 with one image, which tells nothing of others."""
        if self.images < 2 or not self.seen:
            return 0.0
        return sum(entry.spread <= SETTLED for entry in self.seen) / len(self.seen)

    @property
    def enough(self) -> bool:
        return self.settled >= SETTLED_SHARE

    @property
    def summary(self) -> str:
        """One sentence for people."""
        count = sum(len(channels) for channels in self.dead.values())
        dead = f"; {counted(count, 'dead channel')} in {counted(len(self.dead), 'tensor')}" if count else ""
        verdict = "enough" if self.enough else "more images would move the scales"
        ranges = counted(len(self.seen), "range")
        return f"{counted(self.images, 'image')} settled {self.settled:.0%} of {ranges}: {verdict}{dead}"

    def to_dict(self) -> dict[str, Any]:
        """`tensors` has (low, high), the spread of each range, and dead channels where there are any."""
        tensors = {
            entry.tensor: {"low": entry.low, "high": entry.high, "spread": round(entry.spread, 4)}
            | ({"dead": list(entry.dead)} if entry.dead else {})
            for entry in self.seen
        }
        return {"images": self.images, "settled": round(self.settled, 4), "enough": self.enough, "tensors": tensors}


def observe(
    model: onnx.ModelProto,
    tensors: Sequence[str],
    feeds: Sequence[Tensors],
    calibrator: str = "minmax",
    *,
    ids: Sequence[str] = (),
    threads: int | None = None,
    track: Track = silent,
) -> Calibration:
    """Run `model` over `feeds` and show each of `tensors` to an own instance of the plug-in `calibrator`.

    `ids` name the feeds in messages. Raises `BadInput` for no feeds and for a tensor that is NaN or infinite on one.
    """
    if not len(feeds):
        raise BadInput("calibration: no images; give at least one (100 or more are better)")
    kind = plugins.load(calibrators, calibrator, "calibrator").Calibrator
    own = padding.noted(model)
    watchers = {name: _Watcher(name, kind(), own.get(name)) for name in tensors}
    session = exposing(model, tensors, threads)
    for number, feed in enumerate(track(feeds, "calibrating")):
        values = {**feed, **session(feed)}
        where = ids[number] if len(ids) == len(feeds) else f"batch {number}"
        for name, watcher in watchers.items():
            watcher.observe(values.pop(name), where)
    return Calibration(len(feeds), tuple(watcher.seen() for watcher in watchers.values()))


class _Watcher:
    def __init__(self, name: str, calibrator: Any, own: Array | None) -> None:
        self.name, self.calibrator, self.own = name, calibrator, own
        self.extremes: list[tuple[float, float]] = []
        self.low: Array | None = None
        self.high: Array | None = None

    def observe(self, values: Array, where: str) -> None:
        """Take in one batch of the tensor; a channel's minimum is NaN when one of its values is."""
        if not values.size:
            return
        lanes = values.reshape(values.shape[0], values.shape[1], -1) if values.ndim > 1 else values.reshape(1, 1, -1)
        low, high = lanes.min(axis=(0, 2)), lanes.max(axis=(0, 2))
        extremes = float(low.min()), float(high.max())
        if not np.isfinite(extremes).all():
            raise BadInput(f"calibration: tensor {self.name} is NaN or infinite on {where}; look at data and weights")
        self.extremes.append(extremes)
        if self.low is None or self.high is None:
            self.low, self.high = low, high
        elif low.shape == self.low.shape:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        else:  # axis 1 is no channel axis: its length depends on the image
            self.low = self.high = np.zeros(0, np.float32)
        self.calibrator.observe(values)

    def seen(self) -> Seen:
        none = np.zeros(0, np.float32)
        low = none if self.low is None else self.low
        high = none if self.high is None else self.high
        ends: tuple[float, float] = self.calibrator.range()
        extremes = np.asarray(self.extremes)
        return Seen(self.name, *ends, spread(extremes), low, high, self.own, without_lone(extremes, *ends))


def spread(extremes: Array) -> float:
    """Share of the range of all rows of `extremes` (images, 2) that 2.5 % of the bootstrap draws of rows do not reach.

    >>> spread(np.array([[0.0, 1.0]] * 40)), round(spread(np.array([[0.0, 1.0]] * 40 + [[0.0, 4.0]])), 2)
    (0.0, 0.75)
    """
    low, high = np.minimum(extremes[:, 0], 0.0), np.maximum(extremes[:, 1], 0.0)  # a grid holds zero
    width = float(high.max() - low.min())
    if width == 0.0:
        return 0.0
    drawn = _draws(len(extremes))
    widths = high[drawn].max(axis=1) - low[drawn].min(axis=1)
    return 1.0 - float(np.quantile(widths, 0.025)) / width


def without_lone(extremes: Array, low: float, high: float) -> tuple[int, float, float] | None:
    """(the one row of `extremes` (images, 2) without which the range `low` to `high` could be `LONE` times narrower,
    lowest and highest of all others); None where there is none, where few others tell, and where these are dead.

    >>> without_lone(np.array([[0.0, 1.0], [0.0, 99.0], [-1.0, 1.0]]), -1.0, 99.0)
    (1, -1.0, 1.0)
    """
    if len(extremes) < 3:
        return None
    for place in (int(extremes[:, 0].argmin()), int(extremes[:, 1].argmax())):
        others = np.delete(extremes, place, axis=0)
        least, most = float(others[:, 0].min()), float(others[:, 1].max())
        width = max(most, 0.0) - min(least, 0.0)
        if 0 < LONE * width <= high - low:
            return place, least, most
    return None


@functools.lru_cache(maxsize=2)
def _draws(count: int) -> Array:
    return np.random.default_rng(0).integers(0, count, (DRAWS, count), np.int32)


def exposing(model: onnx.ModelProto, tensors: Sequence[str], threads: int | None = None) -> Session:
    """A session of `model` with `tensors` as additional float outputs.

    Two serialized messages, one behind the other, are their merger (Protocol Buffers, "Encoding"): the weights are
    neither copied as objects nor is the argument touched, which for a ResNet-50 saves 100 MB.
    """
    shown = {value.name for value in [*model.graph.output, *model.graph.input]}
    extra = onnx.ModelProto()
    extra.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in tensors if name not in shown
    )
    return open_session(b"".join((model.SerializeToString(), extra.SerializeToString())), threads=threads)
