"""Masks and boxes of the user's own images: what all layouts share, the folder of masks, and arrays.

    photos/images/a.jpg        images/a.jpg as the network sees it        Preprocess
    photos/masks/a.png         the class of each of its pixels            Geometry.mask_to_input
    photos/labels.txt          optional names

A mask is a grey or palette PNG as large as its image; 255 counts for nothing, or is class 1 of two (binary_masks.py).
The folder may stand below train/ and val/ (or test/). In an .npz beside `x`: `masks` (N, H, W), or `boxes` (M, 4) as
x1, y1, x2, y2 in pixels of x with `box_labels` (M,) and `box_image` (M,). Everything is moved with its image by the
preprocessing (runtimes/imaging/geometry.py).
Other folders: coco.py, voc.py, yolo.py; which one it is: layouts.py. Test: tests/test_annotated.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.data.binary_masks import as_classes, in_array, in_files
from edgecnn.data.folders import TEST, TRAIN, list_images
from edgecnn.data.images import image_size, look_at, read_image, read_mask
from edgecnn.data.labels import read_labels
from edgecnn.data.samples import IGNORE, Samples, Target
from runtimes.base import Array, BadInput
from runtimes.imaging.arrays import Rows
from runtimes.imaging.geometry import Geometry
from runtimes.imaging.preprocess import Preprocess

IMAGES, MASKS = "images", "masks"
NAMES = ("labels.txt", "labels.json")
TOO_SMALL = 1.0
"""Pixels: a box of which the crop leaves less on a side is no longer asked for."""
Reader = Callable[[Preprocess], Samples]
Parts = Mapping[str, Reader]
"""`train` and `test` of a folder that has both parts, else `all`; each is read when it is asked for."""


def parts(root: Path, task: str) -> Parts | None:
    """The folder of masks drawn above, or None."""
    return folders(root, lambda place: partial(_masked, place) if _is_masked(place) else None)


def _is_masked(root: Path) -> bool:
    return (root / IMAGES).is_dir() and (root / MASKS).is_dir()


def folders(root: Path, reader: Callable[[Path], Reader | None]) -> Parts | None:
    """What `reader` finds in `root` itself, or both in its train and in its test (or val, valid) folder."""
    whole = reader(root)
    if whole is not None:
        return {"all": whole}
    return train_and_test({name: found for name in (*TRAIN, *TEST) if (found := reader(root / name)) is not None})


def train_and_test(found: Mapping[str, Reader]) -> Parts | None:
    """The two parts among `found` by the names of their folders or lists; None where one of them is missing."""
    test = next((found[name] for name in TEST if name in found), None)
    return {"train": found[TRAIN[0]], "test": test} if TRAIN[0] in found and test is not None else None


def names_in(places: Sequence[Path], files: Sequence[str] = NAMES) -> tuple[str, ...]:
    """The class names in the first of `files` that one of `places` holds; empty where there is none."""
    return next((read_labels(place / name) for place in places for name in files if (place / name).is_file()), ())


def joined(name: str, first: Samples, second: Samples) -> Samples:
    """All samples of both; raises `BadInput` when they do not name the same classes."""
    if first.class_names != second.class_names:
        raise BadInput(
            f"{name}: its two parts name different classes; give both the same categories, labels.txt or columns"
        )
    cut = len(first)

    def at(i: int) -> tuple[Samples, int]:
        return (first, i) if i < cut else (second, i - cut)

    def both(kind: str) -> Sequence[Any] | None:
        if getattr(first, kind) is None or getattr(second, kind) is None:
            return None
        return Rows(cut + len(second), lambda i: getattr(at(i)[0], kind)[at(i)[1]])

    ids = (*first.ids, *second.ids)
    load = lambda i: at(i)[0].load(at(i)[1])  # noqa: E731
    look = lambda i: at(i)[0].look(at(i)[1])  # noqa: E731
    sizes = first.size_of and (lambda i: at(i)[0].size_of(at(i)[1]))  # type: ignore[misc]
    numbers = first.category_ids if first.category_ids == second.category_ids else ()
    rows = None if first.truth is None or second.truth is None else np.concatenate([first.truth, second.truth])
    return Samples(
        name, ids, load, None, first.class_names, both("masks"), both("targets"), category_ids=numbers, truth=rows,
        look=look, binary_masks=first.binary_masks, pictures=both("pictures"), size_of=sizes,
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------------------- masks
def _masked(root: Path, preprocess: Preprocess) -> Samples:
    files, masks = _with_masks(root)
    if not files:
        raise BadInput(f"{root / IMAGES}: holds no images; put them there, and their masks into {root / MASKS}")
    parts = (*TRAIN, *TEST)
    beside = [root.parent / name for name in parts if name != root.name] if root.name in parts else []
    others = [mask for part in beside if _is_masked(part) for mask in _with_masks(part)[1]]
    return masked(str(root), files, masks, preprocess, names_in((root, root.parent)), sorted((*masks, *others)))


def _with_masks(root: Path) -> tuple[list[Path], list[Path]]:
    """The pictures in the folder, and where the mask of each should be."""
    files = list_images(root / IMAGES)
    return files, [(root / MASKS / file.relative_to(root / IMAGES)).with_suffix(".png") for file in files]


def masked(
    name: str, files: Sequence[Path], masks: Sequence[Path], preprocess: Preprocess, names: tuple[str, ...],
    whole: Sequence[Path],
) -> Samples:  # fmt: skip
    """Pictures with a file of class indices each; raises `BadInput` where one is missing, and later where it is bad.

    `whole`: the masks of all parts of the set, which are read alike.
    """
    missing = next((mask for mask in masks if not mask.is_file()), None)
    if missing is not None:
        raise BadInput(f"{missing}: no such mask; save the class of every pixel there, as a grey or palette PNG")

    def mask_of(i: int) -> Array:
        size, mask = image_size(files[i]), read_mask(masks[i])
        if mask.shape != size:
            have, want = (f"{w}x{h}" for h, w in (mask.shape, size))
            raise BadInput(f"{masks[i]}: is {have}, its image {want}; save it as large as the image")
        mask = as_classes(mask, binary())
        return checked_mask(Geometry.of(preprocess, size).mask_to_input(mask), names, str(masks[i]))

    binary = in_files(whole, names)
    shown = pictures(name, files, preprocess, names)
    return replace(shown, masks=Rows(len(files), mask_of), binary_masks=binary)


def pictures(name: str, files: Sequence[Path], preprocess: Preprocess, names: tuple[str, ...]) -> Samples:
    white = preprocess.white
    return Samples(
        name, tuple(map(str, files)), lambda i: preprocess(read_image(files[i], white)), None, names,
        look=lambda i: look_at(files[i], white), size_of=lambda i: image_size(files[i]),
    )  # fmt: skip


def checked_mask(mask: Array, names: Sequence[str], subject: str) -> Array:
    """`mask`, if every class in it has a name (where there are names)."""
    largest = int(np.where(mask == IGNORE, 0, mask).max())
    if names and largest >= len(names):
        raise BadInput(f"{subject}: holds class {largest}, but there are {len(names)} names; add one to labels.txt")
    return mask


# ---------------------------------------------------------------------------------------------------------------- boxes
def boxed(
    name: str,
    files: Sequence[Path],
    objects: Callable[[int, tuple[int, int]], Target],
    preprocess: Preprocess,
    names: tuple[str, ...],
) -> Samples:
    """Pictures with boxes: `objects(i, (H, W))` are those of picture i in its own pixels."""

    def target_of(i: int) -> Target:
        size = image_size(files[i])
        return moved(Geometry.of(preprocess, size), objects(i, size))

    return replace(pictures(name, files, preprocess, names), targets=Rows(len(files), target_of))


def moved(geometry: Geometry, target: Target) -> Target:
    """Boxes of the image as boxes of the input; those that the crop took away are left out."""
    boxes = geometry.boxes_to_input(target.boxes)
    kept = np.all(boxes[:, 2:] - boxes[:, :2] >= TOO_SMALL, axis=1)
    return target._replace(boxes=boxes).only(np.asarray(kept))


def inside(folder: Path, name: str, subject: Path | str) -> Path:
    """`folder / name`, where that lies in `folder`; raises `BadInput` about `subject`, the file that says so."""
    if not name or "\0" in name or Path(name).is_absolute() or ".." in Path(name).parts:
        raise BadInput(f"{subject}: names the image {name[:80]!r}; names are relative to {folder}")
    return folder / name


# --------------------------------------------------------------------------------------------------------------- arrays
def with_arrays(samples: Samples, arrays: Mapping[str, Array], geometry: Geometry, path: Path) -> Samples:
    """`samples` of an .npz with the masks or boxes that it holds besides; raises `BadInput` when they do not fit."""
    if "masks" in arrays:
        masks = _mask_array(arrays["masks"], len(samples), geometry, path)
        binary = in_array(masks)
        shown = Rows(len(samples), lambda i: geometry.mask_to_input(as_classes(masks[i], binary)).astype(np.uint8))
        samples = replace(samples, masks=shown, binary_masks=lambda: binary)
    if "boxes" in arrays:
        samples = replace(samples, targets=_box_arrays(arrays, len(samples), geometry, path))
        largest = int(arrays["box_labels"].max(initial=-1))
        samples = replace(samples, class_names=samples.class_names or tuple(map(str, range(largest + 1))))
    return samples


def _mask_array(masks: Array, count: int, geometry: Geometry, path: Path) -> Array:
    """`masks` where they are some; True and False are classes 1 and 0."""
    masks = masks.view(np.uint8) if masks.dtype == bool else masks
    wanted = (count, *geometry.image)
    if masks.shape != wanted or masks.dtype.kind not in "iu" or masks.min() < 0 or masks.max() > IGNORE:
        what = f"{masks.dtype} {list(masks.shape)}"
        raise BadInput(f"{path}: masks are {what}; whole numbers from 0 to 255, {list(wanted)}, are needed")
    return masks


def _box_arrays(arrays: Mapping[str, Array], count: int, geometry: Geometry, path: Path) -> Sequence[Target]:
    boxes, labels, image = (arrays.get(name, np.zeros(0)) for name in ("boxes", "box_labels", "box_image"))
    shaped = boxes.ndim == 2 and boxes.shape[1] == 4 and labels.shape == image.shape == (len(boxes),)
    whole = labels.dtype.kind in "iu" and image.dtype.kind in "iu"
    if (
        not shaped
        or not whole
        or not np.isfinite(boxes).all()
        or labels.min(initial=0) < 0
        or not 0 <= image.min(initial=0) <= image.max(initial=0) < count
    ):
        raise BadInput(
            f"{path}: boxes (M, 4), box_labels (M,) and box_image (M,), whole numbers with the image's place in x, are "
            "needed; save them together"
        )
    order = np.argsort(image, kind="stable")
    ends = np.searchsorted(image[order], np.arange(count + 1))

    def target_of(i: int) -> Target:
        own = order[ends[i] : ends[i + 1]]
        return moved(geometry, Target.of(boxes[own], labels[own]))

    return Rows(count, target_of)
