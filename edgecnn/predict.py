"""Use a bundle: predictions for images and arrays, and the proof that it works here. Never imports torch.

    image file, uint8 array  --the bundle's preprocessing-->  float32 (C, H, W)  --model-->  scores  --softmax-->  top k

A float array is taken as ready input, (C, H, W) or (N, C, H, W); a folder is all images below it. Scores that are
probabilities already (none negative, sum 1) are left as they are. Only for networks that answer with one score a class,
(N, classes): of a map or a box the largest number means nothing. Test: tests/test_predict.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.arrays import read_npy
from edgecnn.data import from_array, load_data
from edgecnn.folders import SUFFIXES
from edgecnn.images import read_image
from edgecnn.opened import is_bundle
from edgecnn.samples import Ready, Samples
from runtimes import bundle as bundles
from runtimes.base import Array, BadInput, CheckFailed
from runtimes.bundle import Bundle, Changed
from runtimes.preprocess import Preprocess

Source = str | os.PathLike[str] | Array
"""A file, or images that are in memory already."""


@dataclass(frozen=True)
class Answer:
    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """The answers for one image, the best first; `input` is the file, with `[i]` where it holds several images."""

    input: str
    top: tuple[Answer, ...]

    @property
    def label(self) -> str:
        return self.top[0].label

    @property
    def score(self) -> float:
        return self.top[0].score

    def to_dict(self) -> dict[str, Any]:
        return {"input": self.input, "label": self.label, "score": self.score, "top": [asdict(a) for a in self.top]}


@dataclass(frozen=True)
class RunReport:
    bundle: str
    provider: str
    predictions: tuple[Prediction, ...]

    def to_dict(self) -> dict[str, Any]:
        predictions = [prediction.to_dict() for prediction in self.predictions]
        return {"bundle": self.bundle, "provider": self.provider, "predictions": predictions}


@dataclass(frozen=True)
class VerifyReport:
    """A bundle's hashes and golden outputs on this machine."""

    bundle: str
    result: bundles.Verification

    @property
    def golden(self) -> tuple[bundles.GoldenCheck, ...]:
        return self.result.golden

    @property
    def worst(self) -> bundles.GoldenCheck:
        return max(self.golden, key=lambda check: check.max_abs)

    @property
    def failure(self) -> CheckFailed | None:
        """What the command line exits with: None when the bundle is proven."""
        if self.result.passed:
            return None
        worst = self.worst
        return CheckFailed(
            f"{self.bundle}: golden outputs differ by {worst.max_abs:.3g}, the limit is {worst.limit:.3g}; "
            "build it again for this machine"
        )

    @property
    def verdict(self) -> str:
        word = "proven" if self.result.passed else "NOT proven"
        worst = self.worst
        return (
            f"{self.bundle}: {word} on {self.result.provider}; every hash is right, {len(self.golden)} golden outputs "
            f"differ by at most {worst.max_abs:.3g} (limit {worst.limit:.3g})."
        )

    def to_dict(self) -> dict[str, Any]:
        return {"bundle": self.bundle, **self.result.to_dict()}


def run(
    bundle: str | os.PathLike[str],
    inputs: Sequence[Source] | Source,
    *,
    provider: str = "cpu",
    threads: int | None = None,
    top: int = 5,
) -> RunReport:
    """The `top` answers of `bundle` for every image in `inputs`, files or arrays; raises `BadInput`, `Unavailable`."""
    opened = open_bundle(Path(bundle))
    require_classes(opened, _output_shape(opened))
    sources = [inputs] if isinstance(inputs, str | os.PathLike | np.ndarray) else list(inputs)
    samples = [images_of(source, opened, f"array {i}") for i, source in enumerate(sources)]
    session = opened.session(provider, threads)
    found = []
    for name, image in ((s.ids[i], s[i]) for s in samples for i in range(len(s))):
        (scores, *_) = session({session.inputs[0].name: image[None]}).values()
        require_classes(opened, scores.shape)  # the manifest is not hashed: it may say what it wants
        found.append(Prediction(name, best(scores[0], opened.labels, top)))
    return RunReport(os.fspath(bundle), session.provider, tuple(found))


def verify(bundle: str | os.PathLike[str], *, provider: str = "cpu", threads: int | None = None) -> VerifyReport:
    """Prove `bundle` on this machine; the report says whether its outputs hold.

    Raises `CheckFailed` when a member was changed after packing and `BadInput` for what is no whole bundle.
    """
    try:
        return VerifyReport(os.fspath(bundle), bundles.verify(open_bundle(Path(bundle)), provider, threads))
    except Changed as error:  # elsewhere bad input; here it is the answer to what was asked
        raise CheckFailed(str(error)) from error


def open_bundle(path: Path) -> Bundle:
    """The bundle in `path`; a model that is not packed yet is told from a damaged bundle. Raises `BadInput`."""
    if not is_bundle(path):
        raise BadInput(f"{path}: is no bundle; make one with `edgecnn build SOURCE -o NAME.edge --calib DATA`")
    return bundles.open_bundle(path)


def require_classes(bundle: Bundle, shape: Sequence[object]) -> None:
    """Raise `BadInput` unless `bundle`, whose first output has `shape`, gives a score for each of several classes."""
    if bundle.task != "classification" or len(shape) != 2 or shape[1] == 1:
        sizes = f"[{', '.join(map(str, shape))}]"
        raise BadInput(
            f"{bundle.path}: answers with {sizes}, not with classes; use runtimes.bundle.open_bundle(...).session()"
        )


def _output_shape(bundle: Bundle) -> list[object]:
    shape = bundle.manifest["output"].get("shape")
    if not isinstance(shape, list):
        raise BadInput(f"{bundle.path}: manifest.json has no proper 'output'; build it again")
    return shape


def best(scores: Array, labels: Sequence[str], count: int) -> tuple[Answer, ...]:
    """The `count` largest of `scores` (classes,), as probabilities; equal scores keep the order of the classes."""
    if not np.isfinite(scores).all():
        raise BadInput("output: holds NaN or Inf; look at the input with `edgecnn verify`")
    values = probabilities(scores)
    order = np.argsort(-values, kind="stable")[:count]
    return tuple(Answer(labels[i] if i < len(labels) else str(i), float(values[i])) for i in order)


def probabilities(scores: Array) -> Array:
    """softmax(s)_i = exp(s_i - max s) / sum_j exp(s_j - max s) of `scores` (classes,), unless they sum to 1 already."""
    scores = scores.astype(np.float64)
    if scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3:
        return scores
    powers = np.exp(scores - scores.max())
    return np.asarray(powers / powers.sum())


def images_of(source: Source, bundle: Bundle, array_name: str = "array") -> Samples:
    """Every image that `source` names, ready for the network: a picture, an array (or its file), or any DATA."""
    ready = bundle.preprocess or tuple(size for size in bundle.manifest["input"]["shape"][1:] if type(size) is int)
    if isinstance(source, np.ndarray):
        return _from_array(array_name, source, ready)
    path = Path(source)
    if path.suffix.lower() in SUFFIXES and isinstance(ready, Preprocess):
        return Samples(str(path), (str(path),), lambda _: ready(read_image(path)))
    if path.suffix.lower() != ".npy":
        return load_data(str(path), ready)
    return _from_array(str(path), read_npy(path), ready)


def _from_array(name: str, array: Array, ready: Ready) -> Samples:
    if is_single(array):
        return replace(from_array(name, array[None], ready), ids=(name,))
    return from_array(name, array, ready)


def is_single(array: Array) -> bool:
    """Whether `array` is one image: float (C, H, W), uint8 (H, W) or uint8 (H, W, 3 or 4)."""
    if array.dtype.kind == "f":
        return array.ndim == 3
    return array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
