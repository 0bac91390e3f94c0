"""COCO's layout: one JSON document for all boxes, and the pictures that it names.

    coco/annotations/instances_train2017.json    coco/train2017/*.jpg      train
    coco/annotations/instances_val2017.json      coco/val2017/*.jpg        test
    photos/annotations.json                      photos/images/*.jpg       the same; may stand below train/ and val/
    coco/annotations/person_keypoints_val2017.json                         points, for the task that reads them

A picture is looked for in the folder that its document is named after, below images/ too, in images/, and in the folder
of all. Classes are the categories in the order of their ids, which may have gaps. `iscrowd` marks a region of many
objects. For keypoints a picture has one annotation with `keypoints`. The document itself can be given as DATA. Format: https://cocodataset.org/#format-data.
Test: tests/test_coco.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgecnn.data.annotated import IMAGES, Parts, Reader, boxed, folders, inside, pictures, train_and_test
from edgecnn.data.samples import Samples, Target
from runtimes.base import BadInput, counted
from runtimes.files import check_input_file
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof.answers import KEYPOINTS

ALONE = ("annotations.json", "_annotations.coco.json")
"""A document beside its pictures."""
FOLDER = "annotations"
INSTANCES, POSES = "instances_", "person_keypoints_"
PART = r"(train|val|valid|test)\d{0,4}\.json"
LIMIT_BYTES = 1 << 30


def parts(root: Path, task: str) -> Parts | None:
    """The parts of one of the folders drawn above, or None; raises `BadInput` where two documents are of one part."""
    return _of_folder(root, task) or folders(root, partial(_alone, task))


def file_parts(path: Path, task: str) -> Parts | None:
    """The pictures of one document, or None for another file."""
    if path.suffix != ".json":
        return None
    root = path.parent.parent if path.parent.name == FOLDER else path.parent
    return {"all": partial(_read, str(path), path, root, task)}


def _alone(task: str, root: Path) -> Reader | None:
    path = next((root / name for name in ALONE if (root / name).is_file()), None)
    return None if path is None else partial(_read, str(root), path, root, task)


def _of_folder(root: Path, task: str) -> Parts | None:
    named = re.compile(f"(?:{POSES if task == KEYPOINTS else INSTANCES})?{PART}")
    found: dict[str, Path] = {}
    for path in sorted((root / FOLDER).glob("*.json")):
        match = named.fullmatch(path.name)
        if match is None:
            continue
        if match[1] in found:
            raise BadInput(f"{path}: is a second {match[1]} part beside {found[match[1]].name}; give one of the files")
        found[match[1]] = path
    readers = {kind: partial(_read, str(path), path, root, task) for kind, path in found.items()}
    return train_and_test(readers) or ({"all": next(iter(readers.values()))} if readers else None)


def _read(name: str, path: Path, root: Path, task: str, preprocess: Preprocess) -> Samples:
    """The pictures below `root` that the document in `path` names, with its boxes, or the points of the `task`."""
    document = _document(path)
    categories = sorted(_entries(document, "categories", path), key=lambda c: (str(type(c["id"])), c["id"]))
    images = _entries(document, "images", path)
    files = _files(images, path, root)
    if task == KEYPOINTS:
        return _with_points(name, files, images, categories, _entries(document, "annotations", path), path, preprocess)
    found = _boxes(document, [image["id"] for image in images], [category["id"] for category in categories], path)

    def objects(i: int, size: tuple[int, int]) -> Target:
        boxes, labels, crowd = zip(*found[images[i]["id"]], strict=True) if found[images[i]["id"]] else ((), (), ())
        corners = np.array(boxes, np.float64).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        return Target.of(corners, np.array(labels, np.int64), np.array(crowd, bool))

    samples = boxed(name, files, objects, preprocess, tuple(str(c.get("name", c["id"])) for c in categories))
    ids = tuple(c["id"] for c in categories)
    return replace(samples, category_ids=ids) if all(isinstance(number, int) for number in ids) else samples


def _with_points(
    name: str, files: Sequence[Path], images: Sequence[Mapping[str, Any]], categories: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]], path: Path, preprocess: Preprocess,
) -> Samples:  # fmt: skip
    """Pictures with the points (N, K, 3) of the one subject in each; raises `BadInput` where there are others."""
    found: dict[Any, list[list[Any]]] = {image["id"]: [] for image in images}
    for entry in annotations:
        flat, owner = entry.get("keypoints"), entry.get("image_id")
        if not _known(owner, found) or not isinstance(flat, list) or len(flat) % 3 or not all(map(_is_number, flat)):
            raise BadInput(f"{path}: annotation {str(entry['id'])[:20]} names no image and keypoints [x, y, v, ...]")
        found[owner].append(flat)
    for image, file in zip(images, files, strict=True):
        count = len(found[image["id"]])
        if count != 1:
            raise BadInput(
                f"{path}: {file.name} has {counted(count, 'subject')}, and one a picture is read; cut each out"
            )
    rows = [found[image["id"]][0] for image in images]
    odd = next((file for row, file in zip(rows, files, strict=True) if len(row) != len(rows[0])), None)
    if odd is not None or not rows[0]:
        raise BadInput(f"{path}: {(odd or files[0]).name} has another number of keypoints than the others, or none")
    names = categories[0].get("keypoints")
    named = tuple(map(str, names)) if isinstance(names, list) and len(names) * 3 == len(rows[0]) else ()
    samples = pictures(name, files, preprocess, named)
    return replace(samples, truth=np.array(rows, np.float64).reshape(len(rows), -1, 3))


def _boxes(
    document: Mapping[str, Any], images: Sequence[Any], categories: Sequence[Any], path: Path
) -> dict[Any, list[tuple[list[float], int, bool]]]:
    """Image -> ([x, y, w, h], place of the category, crowd) of each of its objects."""
    place = {category: i for i, category in enumerate(categories)}
    found: dict[Any, list[tuple[list[float], int, bool]]] = {image: [] for image in images}
    for entry in _entries(document, "annotations", path):
        owner, kind, box = entry.get("image_id"), entry.get("category_id"), entry.get("bbox")
        if not isinstance(box, list) or not (_known(owner, found) and _known(kind, place) and _is_box(box)):
            raise BadInput(
                f"{path}: annotation {str(entry['id'])[:20]} names no image, category and box [x, y, w, h]; mend it"
            )
        found[owner].append((box, place[kind], bool(entry.get("iscrowd", 0))))
    return found


def _known(key: Any, among: Mapping[Any, Any]) -> bool:
    return isinstance(key, int | str) and key in among


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(check_input_file(path, LIMIT_BYTES).read_bytes())
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


def _files(images: Sequence[Mapping[str, Any]], path: Path, root: Path) -> list[Path]:
    """Where the pictures lie; never outside of `root`."""
    named = path.stem.removeprefix(INSTANCES).removeprefix(POSES)
    own = [] if path.parent == root else [root / named, root / IMAGES / named]
    places = [place for place in (*own, root / IMAGES, root) if place.is_dir()]
    found = []
    for image in images:
        wanted = [inside(place, str(image.get("file_name", "")), path) for place in places]
        file = next((file for file in wanted if file.is_file()), None)
        if file is None:
            raise BadInput(f"{wanted[0]}: no such image, but {path} names it; put it there")
        found.append(file)
    return found


def _is_box(box: list[Any]) -> bool:
    return len(box) == 4 and all(map(_is_number, box)) and min(box[2:]) >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
