"""What a bundle's manifest tells beyond what its reader relies on, as records: anything of a wrong type is not there.

    "speedup": {"ratio": 1.7, "low": 1.6, "high": 1.8}  ->  Span(1.7, 1.6, 1.8)            "speedup": "fast"  ->  None

The manifest is not hashed and older ones say less, so every entry is asked what it is. Test: tests/test_page.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from edgecnn.words import PLAIN
from runtimes.bundle import Bundle
from runtimes.parity import JSON_SNR_LIMIT
from runtimes.proof.manifest import PYTORCH_MODULE, verdict_of

FLOAT = "float"
METRICS = {
    "classification": "top-1",
    "segmentation": "mIoU",
    "detection": "mAP",
    "multi-label": "mAP",
    "regression": "R^2",
    "embedding": "retrieval mAP",
    "image": "SSIM",
    "keypoints": "PCK",
}


def real(value: object) -> float | None:
    """A finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def part(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def names(value: object) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []


def decibels(value: object) -> float | None:
    """An SNR as it was written to JSON: infinite where the outputs were equal."""
    found = real(value)
    return found if found is None or abs(found) < JSON_SNR_LIMIT else math.copysign(math.inf, found)


@dataclass(frozen=True)
class Span:
    """A ratio with its 95 % interval."""

    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, value: object) -> Span | None:
        ratio, low, high = (real(part(value).get(key)) for key in ("ratio", "low", "high"))
        return None if ratio is None or low is None or high is None else cls(ratio, low, high)


@dataclass(frozen=True)
class Candidate:
    """A graph of the race. `against`: what its `speedup` is over, float unless it says otherwise."""

    name: str
    kind: str
    size_bytes: int | None
    p50_ms: float | None
    speedup: Span | None
    snr_db: float | None
    agreement: float | None
    accuracy: float | None
    drop: float | None
    drop_high: float | None
    refused: str
    against: str
    unit: str = ""
    """Of `accuracy` and `drop`; empty for shares."""
    plain: bool = False
    """They are no shares, though they have no unit."""

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Candidate:
        numbers = {key: real(entry.get(key)) for key in ("p50_ms", "agreement", "accuracy", "drop", "drop_high")}
        return cls(
            name=text(entry.get("name")), kind=text(entry.get("kind", entry.get("model"))),
            size_bytes=whole(entry.get("size_bytes")), speedup=Span.of(entry.get("speedup")),
            snr_db=decibels(entry.get("snr_db")), refused=text(entry.get("refused")),
            against=text(entry.get("against")) if "against" in entry else FLOAT,
            unit=text(entry.get("unit")), plain=False, **numbers,
        )  # fmt: skip


@dataclass(frozen=True)
class Stage:
    name: str
    seconds: float | None
    size_bytes: int | None
    nodes: int | None
    snr_db: float | None
    max_abs: float | None
    note: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Stage:
        return cls(
            text(entry.get("name")), real(entry.get("seconds")), whole(entry.get("size_bytes")),
            whole(entry.get("nodes")), decibels(entry.get("snr_db")), real(entry.get("max_abs")),
            text(entry.get("note")),
        )  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """`gain_us`: time that int8 saves over float, below 0 what it costs; None: not measured in both forms."""

    node: str
    kind: str
    int8_us: float | None
    float_us: float | None
    why: str

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Layer:
        int8_us, float_us = (real(entry.get(key)) for key in ("int8_us", "float_us"))
        return cls(text(entry.get("node")), text(entry.get("kind")), int8_us, float_us, text(entry.get("why")))

    @property
    def gain_us(self) -> float | None:
        return None if self.int8_us is None or self.float_us is None else self.float_us - self.int8_us


@dataclass(frozen=True)
class Facts:
    """The bundle `path`, whose file has the hash `sha256` and `size_bytes`."""

    bundle: Bundle
    sha256: str
    size_bytes: int

    @property
    def manifest(self) -> Mapping[str, Any]:
        return self.bundle.manifest

    @property
    def original(self) -> str:
        """Whose answers stand beside the model's: PyTorch's, or those of the model that was given."""
        return "PyTorch" if self.bundle.original == PYTORCH_MODULE else "the given model"

    @property
    def file(self) -> str:
        return self.bundle.path.name

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        found = tuple(map(Candidate.of, items(self.manifest.get("candidates"))))
        plain = self.metric in PLAIN and any(c.accuracy is not None for c in found)
        return tuple(replace(c, plain=plain) for c in found)

    @cached_property
    def winner(self) -> Candidate | None:
        """The candidate that was packed: by name, in bundles that do not tell it as the end of the verdict does."""
        told = text(self.manifest.get("winner"))
        fitting = [c for c in self.candidates if c.name and (c.name == told if told else c.kind == self.bundle.chosen)]
        if told or len(fitting) < 2:
            return fitting[0] if fitting else None
        ending = [c for c in fitting if self.verdict.endswith(f"chose {c.name}")]
        return max(ending, key=lambda c: len(c.name), default=None)

    @cached_property
    def base(self) -> Candidate | None:
        return next((c for c in self.candidates if c.kind == FLOAT), None)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        return tuple(map(Stage.of, items(self.manifest.get("stages"))))

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(map(Layer.of, items(self.search.get("layers"))))

    @property
    def verdict(self) -> str:
        return verdict_of(self.manifest)

    @property
    def search(self) -> Mapping[str, Any]:
        return part(self.manifest.get("search"))

    @property
    def recipe(self) -> Mapping[str, Any]:
        return part(self.manifest.get("recipe"))

    @property
    def target(self) -> Mapping[str, Any]:
        return part(self.manifest.get("target"))

    @property
    def machine(self) -> Mapping[str, Any]:
        return part(self.manifest.get("machine"))

    @property
    def provider(self) -> str:
        return text(self.manifest.get("provider")) or "cpu"

    @property
    def metric(self) -> str:
        return text(self.manifest.get("metric")) or METRICS.get(self.bundle.task, "metric")

    @property
    def elsewhere(self) -> str:
        """The CPU that it was made for, where that is not the one it was made on."""
        return text(self.target.get("name")) if self.target.get("this_cpu") is False else ""

    @cached_property
    def times_ms(self) -> dict[str, Sequence[float]]:
        """Candidate -> every time of its race; without those that are no times."""
        given = part(part(self.manifest.get("race")).get("times_ms"))
        found = {name: [real(v) for v in values] for name, values in given.items() if isinstance(values, list)}
        return {
            name: [v for v in values if v is not None]
            for name, values in found.items()
            if values and all(v is not None and v > 0 for v in values)
        }
