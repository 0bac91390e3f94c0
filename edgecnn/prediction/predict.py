"""Use a bundle: predictions for images and arrays, and the proof that it works here. Never imports torch.

    image file, uint8 array  --the bundle's preprocessing-->  float32 (C, H, W)  --model-->  classes, a mask, or boxes

A float array is taken as ready input, (C, H, W) or (N, C, H, W); a folder is all images below it. What the outputs mean
is told by the bundle's task (edgecnn/prediction/answers.py). Test: tests/test_predict.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.data.arrays import read_npy
from edgecnn.data.folders import SUFFIXES
from edgecnn.data.images import read_image
from edgecnn.data.load import from_array, load_data
from edgecnn.data.samples import Ready, Samples
from edgecnn.opened import is_bundle, whereabouts
from edgecnn.prediction.answers import (
    AnyPrediction,
    Prediction,
    best,
    boxes_of,
    mask_of,
)
from runtimes import bundle as bundles
from runtimes.base import Array, BadInput, CheckFailed, Tensors, counted
from runtimes.bundle import Bundle, Changed
from runtimes.geometry import Geometry
from runtimes.golden import MAX_ABS, GoldenCheck, worst_of
from runtimes.matching import is_detections
from runtimes.preprocess import Preprocess

Source = str | os.PathLike[str] | Array
"""A file, or images that are in memory already."""


@dataclass(frozen=True)
class RunReport:
    bundle: str
    provider: str
    predictions: tuple[AnyPrediction, ...]

    def to_dict(self) -> dict[str, Any]:
        predictions = [prediction.to_dict() for prediction in self.predictions]
        return {"bundle": self.bundle, "provider": self.provider, "predictions": predictions}


@dataclass(frozen=True)
class VerifyReport:
    """A bundle's hashes and golden outputs on this machine."""

    bundle: str
    result: bundles.Verification

    @property
    def golden(self) -> tuple[GoldenCheck, ...]:
        return self.result.golden

    @property
    def worst(self) -> GoldenCheck:
        """The check that is nearest to its limit, or furthest beyond it."""
        return worst_of(self.golden)

    @property
    def failure(self) -> CheckFailed | None:
        """What the command line exits with: None when the bundle is proven."""
        if self.result.passed:
            return None
        worst = self.worst
        return CheckFailed(
            f"{self.bundle}: golden outputs {_differ(worst)} {worst.value:.3g}, the limit is {worst.limit:.3g}; "
            "build it again for this machine"
        )

    @property
    def verdict(self) -> str:
        word = "proven" if self.result.passed else "NOT proven"
        images, worst = sum(check.images for check in self.golden), self.worst
        sizes = {check.shape for check in self.golden}
        return (
            f"{self.bundle}: {word} on {self.result.provider}; every hash is right, {counted(images, 'golden output')}"
            f"{f' of {len(sizes)} sizes' if len(sizes) > 1 else ''} "
            f"{_differ(worst)} {'at most ' if worst.measure == MAX_ABS else ''}{worst.value:.3g} "
            f"(limit {worst.limit:.3g})."
        )

    def to_dict(self) -> dict[str, Any]:
        return {"bundle": self.bundle, **self.result.to_dict()}


def _differ(check: GoldenCheck) -> str:
    """Boxes disagree by a share of 1, numbers differ."""
    return "differ by" if check.measure == MAX_ABS else "disagree by"


def run(
    bundle: str | os.PathLike[str],
    inputs: Sequence[Source] | Source,
    *,
    provider: str = "cpu",
    threads: int | None = None,
    require_all: bool = False,
    top: int = 5,
    min_score: float = 0.3,
    input_shape: str | None = None,
    save: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> RunReport:
    """What `bundle` answers for every image in `inputs`, files or arrays: its `top` classes, a mask, or boxes.

    Masks and boxes are in the original image where one is given (pictures and uint8 arrays), else in the network's
    input; boxes score `min_score` or more. A bundle of open size sees images as `input_shape` says, else as it was
    built. `save` is a folder for pictures. `require_all`: every node must run on `provider`. Raises `BadInput`,
    `Unavailable`, `CheckFailed`.
    """
    opened = open_bundle(Path(bundle))
    opened = opened if input_shape is None else at_size(opened, input_shape)
    require_answers(opened, _output_shape(opened))
    sources = [inputs] if isinstance(inputs, str | os.PathLike | np.ndarray) else list(inputs)
    given = [one for i, source in enumerate(sources) for one in shown(source, opened, f"array {i}")]
    files = _files(opened, given, save, force)
    session = opened.session(provider, threads)
    if require_all:
        feeds = {session.inputs[0].name: given[0].ready()[None]}
        whereabouts(Path(bundle), feeds, provider, threads).require_all(os.fspath(bundle))
    found: list[AnyPrediction] = []
    for image in given:
        outputs = session({session.inputs[0].name: image.ready()[None]})
        found.append(answer(opened, image, outputs, top, min_score))
    if files:
        from edgecnn.prediction.pictures import save_all

        found = save_all(found, (image.pixels() for image in given), files)
    return RunReport(os.fspath(bundle), session.provider, tuple(found))


def answer(bundle: Bundle, image: Shown, outputs: Tensors, top: int, min_score: float) -> AnyPrediction:
    """What the outputs for one image say; the manifest is not hashed and may say what it wants, so they are asked."""
    first = next(iter(outputs.values()))
    if bundle.task == "detection":
        if not is_detections(outputs):
            require_answers(bundle, first.shape, False)
        return boxes_of(image.name, outputs, image.geometry(), bundle.labels, min_score)
    require_answers(bundle, first.shape)
    if bundle.task == "segmentation":
        return mask_of(image.name, first[0], image.geometry(), bundle.labels)
    return Prediction(image.name, best(first[0], bundle.labels, top, image.name))


def _files(
    bundle: Bundle, given: Sequence[Shown], save: str | os.PathLike[str] | None, force: bool
) -> list[tuple[Path, ...]]:
    if save is None:
        return []
    if bundle.task == "classification":
        raise BadInput(
            f"--save {os.fspath(save)}: {bundle.path} answers with classes, which are no pictures; leave it out"
        )
    from edgecnn.prediction.pictures import check_folder, files_for

    files = files_for(Path(save), [image.name for image in given], bundle.task)
    check_folder(Path(save), files, force)
    return files


def verify(bundle: str | os.PathLike[str], *, provider: str = "cpu", threads: int | None = None) -> VerifyReport:
    """Prove `bundle` on this machine; the report says whether its outputs hold.

    Raises `CheckFailed` when a member was changed after packing and `BadInput` for what is no whole bundle.
    """
    try:
        return VerifyReport(os.fspath(bundle), bundles.verify(open_bundle(Path(bundle)), provider, threads))
    except Changed as error:  # elsewhere bad input; here it is the answer to what was asked
        found = {"bundle": os.fspath(bundle), "passed": False, "hashes": False, "golden": []}
        raise CheckFailed(str(error), found) from error


def open_bundle(path: Path) -> Bundle:
    """The bundle in `path`; a model that is not packed yet is told from a damaged bundle. Raises `BadInput`."""
    if not is_bundle(path):
        raise BadInput(f"{path}: is no bundle; make one with `edgecnn build SOURCE -o NAME.edge --calib DATA`")
    return bundles.open_bundle(path)


def at_size(bundle: Bundle, input_shape: str) -> Bundle:
    """`bundle`, its images made ready for a height and width that its model leaves open; `BadInput` if it does not."""
    from edgecnn.data.material import shaped

    ready = shaped(bundle.session(), input_shape, bundle.preprocess)
    if not isinstance(ready, Preprocess):
        raise BadInput(f"--input-shape {input_shape}: {bundle.path} takes no pictures; give arrays of that size")
    return replace(bundle, manifest={**bundle.manifest, "preprocess": ready.to_dict()})


def require_answers(bundle: Bundle, shape: Sequence[object], good: bool = True) -> None:
    """Raise `BadInput` unless a first output of `shape` is what the task of `bundle` says: a score for each of several
    classes, the same for each pixel, or (told by `good`) boxes.
    """
    fits = {
        "classification": len(shape) == 2 and shape[1] != 1,
        "segmentation": len(shape) == 4 and shape[1] != 1,
        "detection": len(shape) == 2 and shape[1] == 4,
    }
    if not good or not fits.get(bundle.task, False):
        sizes = f"[{', '.join(map(str, shape))}]"
        what = {"segmentation": "a mask", "detection": "boxes"}.get(bundle.task, "classes")
        raise BadInput(
            f"{bundle.path}: answers with {sizes}, not with {what}; use runtimes.bundle.open_bundle(...).session()"
        )


def _output_shape(bundle: Bundle) -> list[object]:
    shape = bundle.manifest["output"].get("shape")
    if not isinstance(shape, list):
        raise BadInput(f"{bundle.path}: manifest.json has no proper 'output'; build it again")
    return shape


@dataclass(frozen=True)
class Shown:
    """One image to be answered: `ready` for the network, and its own `pixels`, uint8 (H, W) or (H, W, 3)."""

    name: str
    ready: Callable[[], Array]
    original: Callable[[], Array] | None
    preprocess: Preprocess | None

    def geometry(self) -> Geometry:
        if self.original is None or self.preprocess is None:
            height, width = self.ready().shape[-2:]
            return Geometry.same((height, width))
        height, width = self.original().shape[:2]
        return Geometry.of(self.preprocess, (height, width))

    def pixels(self) -> Array:
        """Of an image that came ready for the network, its values stretched to what can be seen."""
        if self.original is not None:
            return self.original()
        values = self.ready()
        low, high = float(values.min()), float(values.max())
        grey = np.rint((values - low) * (255 / max(high - low, 1e-12))).astype(np.uint8)
        return grey.transpose(1, 2, 0)[:, :, : 3 if len(grey) >= 3 else 1]


def shown(source: Source, bundle: Bundle, array_name: str = "array") -> list[Shown]:
    """Every image that `source` names: a picture, an array (or its file), or any DATA."""
    preprocess = bundle.preprocess
    samples, originals = images_of(source, bundle, array_name)
    return [
        Shown(
            samples.ids[i],
            partial(samples.__getitem__, i),
            None if originals is None else partial(originals, i),
            preprocess,
        )
        for i in range(len(samples))
    ]


def images_of(source: Source, bundle: Bundle, array_name: str) -> tuple[Samples, Callable[[int], Array] | None]:
    """(samples ready for the network, index -> original pixels where there are any)."""
    ready = bundle.preprocess or tuple(size for size in bundle.manifest["input"]["shape"][1:] if type(size) is int)
    if isinstance(source, np.ndarray):
        return _from_array(array_name, source, ready)
    path = Path(source)
    if path.suffix.lower() in SUFFIXES:
        if not isinstance(ready, Preprocess):
            raise BadInput(f"{path}: is a picture, but {bundle.path} takes none; give float arrays as .npy")
        return Samples(str(path), (str(path),), lambda _: ready(read_image(path))), lambda _: read_image(path)
    if path.suffix.lower() != ".npy":
        samples = load_data(str(path), ready, task=bundle.task)
        return samples, (lambda i: read_image(samples.ids[i])) if path.is_dir() else None
    return _from_array(str(path), read_npy(path), ready)


def _from_array(name: str, array: Array, ready: Ready) -> tuple[Samples, Callable[[int], Array] | None]:
    single = is_single(array)
    images = array[None] if single else array
    samples = from_array(name, images, ready)
    original = (lambda i: np.asarray(images[i])) if images.dtype == np.uint8 else None
    return (replace(samples, ids=(name,)) if single else samples), original


def is_single(array: Array) -> bool:
    """Whether `array` is one image: float (C, H, W), uint8 (H, W) or uint8 (H, W, 3 or 4)."""
    if array.dtype.kind == "f":
        return array.ndim == 3
    return array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
