"""Masks and boxes of the user's own images: folders by two conventions, and arrays.

    photos/images/a.jpg                    photos/images/a.jpg
    photos/masks/a.png   class indices     photos/annotations.json          COCO: images, annotations, categories
    photos/labels.txt    optional names

A mask is a grey or palette PNG as large as its image; 255 counts for nothing. Either may stand below train/ and val/
(or test/). In an .npz beside `x`: `masks` (N, H, W), or `boxes` (M, 4) as x1, y1, x2, y2 in pixels of x with
`box_labels` (M,) and `box_image` (M,). Everything is moved with its image by the preprocessing (runtimes/geometry.py).
COCO: https://cocodataset.org/#format-data. Test: tests/test_annotated.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.data.folders import TEST, TRAIN, list_images
from edgecnn.data.images import image_size, read_image, read_mask
from edgecnn.data.labels import read_labels
from edgecnn.data.samples import IGNORE, OnDemand, Samples, Target
from runtimes.base import Array, BadInput
from runtimes.files import check_input_file
from runtimes.geometry import Geometry
from runtimes.preprocess import Preprocess

IMAGES, MASKS, ANNOTATIONS = "images", "masks", "annotations.json"
NAMES = ("labels.txt", "labels.json")
JSON_LIMIT_BYTES = 1 << 30
TOO_SMALL = 1.0
"""Pixels: a box of which the crop leaves less on a side is no longer asked for."""


def is_annotated(root: Path) -> bool:
    return (root / ANNOTATIONS).is_file() or ((root / IMAGES).is_dir() and (root / MASKS).is_dir())


def annotated_parts(root: Path) -> tuple[Path, Path] | None:
    """The train and the test (or val, valid) folder below `root`, where both are annotated."""
    test = next((root / name for name in TEST if is_annotated(root / name)), None)
    return (root / TRAIN[0], test) if test is not None and is_annotated(root / TRAIN[0]) else None


def joined(name: str, first: Samples, second: Samples) -> Samples:
    """All samples of both; raises `BadInput` when they do not name the same classes."""
    if first.class_names != second.class_names:
        raise BadInput(f"{name}: its two parts name different classes; give both the same categories or labels.txt")
    cut = len(first)

    def at(i: int) -> tuple[Samples, int]:
        return (first, i) if i < cut else (second, i - cut)

    def both(kind: str) -> Sequence[Any] | None:
        if getattr(first, kind) is None or getattr(second, kind) is None:
            return None
        return OnDemand(cut + len(second), lambda i: getattr(at(i)[0], kind)[at(i)[1]])

    ids = (*first.ids, *second.ids)
    load = lambda i: at(i)[0].load(at(i)[1])  # noqa: E731
    return Samples(name, ids, load, None, first.class_names, both("masks"), both("targets"))


def annotated(root: Path, preprocess: Preprocess) -> Samples:
    """The images below `root`, one of the two folders drawn above, with masks or boxes; raises `BadInput`."""
    return _coco(root, preprocess) if (root / ANNOTATIONS).is_file() else _masked(root, preprocess)


# ---------------------------------------------------------------------------------------------------------------- masks
def _masked(root: Path, preprocess: Preprocess) -> Samples:
    files = list_images(root / IMAGES)
    if not files:
        raise BadInput(f"{root / IMAGES}: holds no images; put them there, and their masks into {root / MASKS}")
    pairs = [(file, (root / MASKS / file.relative_to(root / IMAGES)).with_suffix(".png")) for file in files]
    missing = next((mask for _, mask in pairs if not mask.is_file()), None)
    if missing is not None:
        raise BadInput(f"{missing}: no such mask; save the class of every pixel there, as a grey or palette PNG")
    names = next(
        (read_labels(place / name) for place in (root, root.parent) for name in NAMES if (place / name).is_file()), ()
    )

    def mask_of(i: int) -> Array:
        image, mask = pairs[i][0], read_mask(pairs[i][1])
        if mask.shape != image_size(image):
            have, want = (f"{w}x{h}" for h, w in (mask.shape, image_size(image)))
            raise BadInput(f"{pairs[i][1]}: is {have}, its image {want}; save it as large as the image")
        return checked_mask(Geometry.of(preprocess, image_size(image)).mask_to_input(mask), names, str(pairs[i][1]))

    return Samples(
        str(root), tuple(map(str, files)), lambda i: preprocess(read_image(files[i])), None, names,
        masks=OnDemand(len(files), mask_of),
    )  # fmt: skip


def checked_mask(mask: Array, names: Sequence[str], subject: str) -> Array:
    """`mask`, if every class in it has a name (where there are names)."""
    largest = int(np.where(mask == IGNORE, 0, mask).max())
    if names and largest >= len(names):
        raise BadInput(f"{subject}: holds class {largest}, but there are {len(names)} names; add one to labels.txt")
    return mask


# ---------------------------------------------------------------------------------------------------------------- boxes
def _coco(root: Path, preprocess: Preprocess) -> Samples:
    path = root / ANNOTATIONS
    document = _read_json(path)
    categories = sorted(_entries(document, "categories", path), key=lambda c: c["id"])
    place = {c["id"]: i for i, c in enumerate(categories)}
    images = _entries(document, "images", path)
    files = [_file_of(root, str(image.get("file_name", "")), path) for image in images]
    boxes: dict[Any, list[tuple[Any, int, bool]]] = {image["id"]: [] for image in images}
    for entry in _entries(document, "annotations", path):
        owner, kind, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
        if owner not in boxes or kind not in place or not _is_box(box):
            raise BadInput(
                f"{path}: annotation {str(entry['id'])[:20]} names no image, category and box [x, y, w, h]; mend it"
            )
        boxes[owner].append((box, place[kind], bool(entry.get("iscrowd", 0))))

    def target_of(i: int) -> Target:
        found = boxes[images[i]["id"]]
        corners = np.array([[x, y, x + w, y + h] for (x, y, w, h), _, _ in found], np.float64).reshape(-1, 4)
        geometry = Geometry.of(preprocess, image_size(files[i]))
        return moved(geometry, corners, np.array([k for _, k, _ in found]), np.array([c for _, _, c in found]))

    names = tuple(str(c.get("name", c["id"])) for c in categories)
    return Samples(
        str(root), tuple(map(str, files)), lambda i: preprocess(read_image(files[i])), None, names,
        targets=OnDemand(len(files), target_of),
    )  # fmt: skip


def moved(geometry: Geometry, corners: Array, labels: Array, crowd: Array | None = None) -> Target:
    """Boxes of the image as boxes of the input; those that the crop took away are left out."""
    boxes = geometry.boxes_to_input(corners)
    kept = (boxes[:, 2:] - boxes[:, :2] >= TOO_SMALL).all(axis=1)
    return Target.of(boxes[kept], labels[kept], None if crowd is None else crowd[kept])


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(check_input_file(path, JSON_LIMIT_BYTES).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: is not JSON ({str(error)[:80]}); save it again") from error
    if not isinstance(document, dict):
        kind = type(document).__name__
        raise BadInput(f"{path}: is a {kind}, not COCO's object of images, annotations, categories; mend it")
    return document


def _entries(document: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    """The list `key`, each of whose entries has an `id` of its own."""
    found = document.get(key)
    good = isinstance(found, list) and all(isinstance(e, dict) and isinstance(e.get("id"), int | str) for e in found)
    if not good or not found:
        raise BadInput(f"{path}: has no list of {key} with an id each; it must be in COCO's format")
    if len({str(entry["id"]) for entry in found}) < len(found):
        raise BadInput(f"{path}: two of its {key} have the same id; mend it")
    return list(found)


def _file_of(root: Path, name: str, path: Path) -> Path:
    """The image called `name`, in images/ or beside the annotations; never outside of the folder."""
    parts = Path(name).parts
    if not name or Path(name).is_absolute() or ".." in parts:
        raise BadInput(f"{path}: names the image {name[:80]!r}; names are relative to {root / IMAGES}")
    for file in (root / IMAGES / name, root / name):
        if file.is_file():
            return file
    raise BadInput(f"{root / IMAGES / name}: no such image, but {path} names it; put it there")


def _is_box(box: Any) -> bool:
    good = isinstance(box, list) and len(box) == 4 and all(type(v) in (int, float) and math.isfinite(v) for v in box)
    return good and min(box[2:]) >= 0


# --------------------------------------------------------------------------------------------------------------- arrays
def with_arrays(samples: Samples, arrays: Mapping[str, Array], geometry: Geometry, path: Path) -> Samples:
    """`samples` of an .npz with the masks or boxes that it holds besides; raises `BadInput` when they do not fit."""
    from dataclasses import replace

    if "masks" in arrays:
        samples = replace(samples, masks=_mask_array(arrays["masks"], len(samples), geometry, path))
    if "boxes" in arrays:
        samples = replace(samples, targets=_box_arrays(arrays, len(samples), geometry, path))
        largest = int(arrays["box_labels"].max(initial=-1))
        samples = replace(samples, class_names=samples.class_names or tuple(map(str, range(largest + 1))))
    return samples


def _mask_array(masks: Array, count: int, geometry: Geometry, path: Path) -> Sequence[Array]:
    wanted = (count, *geometry.image)
    if masks.shape != wanted or masks.dtype.kind not in "iu" or masks.min() < 0 or masks.max() > IGNORE:
        what = f"{masks.dtype} {list(masks.shape)}"
        raise BadInput(f"{path}: masks are {what}; whole numbers from 0 to 255, {list(wanted)}, are needed")
    return OnDemand(count, lambda i: geometry.mask_to_input(masks[i]).astype(np.uint8))


def _box_arrays(arrays: Mapping[str, Array], count: int, geometry: Geometry, path: Path) -> Sequence[Target]:
    boxes, labels, image = (arrays.get(name, np.zeros(0)) for name in ("boxes", "box_labels", "box_image"))
    shaped = boxes.ndim == 2 and boxes.shape[1] == 4 and labels.shape == image.shape == (len(boxes),)
    whole = labels.dtype.kind in "iu" and image.dtype.kind in "iu"
    if (
        not shaped
        or not whole
        or not np.isfinite(boxes).all()
        or labels.min() < 0
        or not 0 <= image.min() <= image.max() < count
    ):
        raise BadInput(
            f"{path}: boxes (M, 4), box_labels (M,) and box_image (M,), whole numbers with the image's place in x, are "
            "needed; save them together"
        )
    return OnDemand(count, lambda i: moved(geometry, boxes[image == i].astype(np.float64), labels[image == i]))
