"""PASCAL VOC's layout: objects in XML, masks as palette PNGs, and lists that say which picture is of which part.

    VOC2012/JPEGImages/2008_000008.jpg
    VOC2012/Annotations/2008_000008.xml             object: name, bndbox, difficult
    VOC2012/SegmentationClass/2008_000008.png       0 background, 255 counts for nothing
    VOC2012/ImageSets/{Main,Segmentation}/{train,val,trainval,test}.txt      one name a line; can be given as DATA

    box    x1 = xmin - 1, y1 = ymin - 1, x2 = xmax, y2 = ymax      VOC counts pixels from 1, the last one is inside

Parts are train and val, or trainval and test where the test pictures have their answers (VOC2007); without lists all
pictures that have answers are one part. Classes are the names in labels.txt, else those of PASCAL where the folder is
called VOC and a year, else all names that occur, in alphabetical order, or by number where all are numbers. XML with a
DOCTYPE is refused: no entity is ever looked up.

Source: Everingham et al. 2010; the devkit's `VOCreadrecxml.m`. Test: tests/test_voc.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from edgecnn.data.annotated import NAMES, Parts, Reader, boxed, inside, masked, names_in
from edgecnn.data.folders import by_number, list_images
from edgecnn.data.samples import Samples, Target
from runtimes import plugins
from runtimes.base import BadInput
from runtimes.files import check_input_file
from runtimes.imaging.preprocess import Preprocess

IMAGES, BOXES, MASKS, LISTS = "JPEGImages", "Annotations", "SegmentationClass", "ImageSets"
SUFFIX = {BOXES: ".xml", MASKS: ".png"}
KINDS = {BOXES: "Main", MASKS: "Segmentation"}
"""Answers, and the folder of lists about them."""
NAME_FILES = (*NAMES, "class_names.txt")
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
BACKGROUND = "background"
PASCAL = re.compile(r"VOC\d{4}")
XML_LIMIT_BYTES, LIST_LIMIT_BYTES = 4 << 20, 64 << 20
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def parts(root: Path, task: str) -> Parts | None:
    """The parts of the folder drawn above, or None; raises `BadInput` for a folder of such folders."""
    if not (root / IMAGES).is_dir():
        below = sorted(place.parent.name for place in root.glob(f"*/{IMAGES}"))
        if below and not list_images_at(root):
            raise BadInput(f"{root}: holds {', '.join(below[:3])} in PASCAL VOC's layout; give {root / below[-1]}")
        return None
    answers = _answers(root, task)
    if answers is None:
        return None
    lists = {path.stem: path for path in (root / LISTS / KINDS[answers]).glob("*.txt")}
    return _chosen(lists, partial(_reader, root, answers), partial(_answered, root, answers))


def list_images_at(root: Path) -> bool:
    """Whether pictures lie in `root` itself."""
    return any(file.parent == root for file in list_images(root))


def file_parts(path: Path, task: str) -> Parts | None:
    """The pictures of one list of ImageSets/, or None for another file."""
    if path.suffix != ".txt" or path.parent.parent.name != LISTS:
        return None
    answers = next((answers for answers, kind in KINDS.items() if kind == path.parent.name), None)
    if answers is None:
        raise BadInput(f"{path}: lists of {path.parent.name} are not read; give one of {' or '.join(KINDS.values())}")
    return {"all": _reader(path.parent.parent.parent, answers, path)}


def _answers(root: Path, task: str) -> str | None:
    """The folder of answers: masks where they are asked for, or are all there is."""
    known = [name for name in ((MASKS, BOXES) if task == "segmentation" else (BOXES, MASKS)) if (root / name).is_dir()]
    return known[0] if known else None


def _chosen(
    lists: Mapping[str, Path], read: Callable[[Path | None], Reader], answered: Callable[[Path], bool]
) -> Parts:
    """Which lists are train and test."""
    learned = lists.get("trainval", lists.get("train"))
    if learned is not None and "test" in lists and answered(lists["test"]):
        return {"train": read(learned), "test": read(lists["test"])}
    if "train" in lists and "val" in lists:
        return {"train": read(lists["train"]), "test": read(lists["val"])}
    alone = (lists[name] for name in ("trainval", "train", "val", "test") if name in lists)
    return {"all": read(next(alone, None))}


def _answered(root: Path, answers: str, path: Path) -> bool:
    """Whether the first picture of a list has its answers: those of PASCAL's tests are mostly secret."""
    return (root / answers / f"{_listed(path)[0]}{SUFFIX[answers]}").is_file()


def _listed(path: Path) -> list[str]:
    try:
        names = check_input_file(path, LIST_LIMIT_BYTES).read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: is no text ({str(error)[:80]}); write one name a line") from error
    found = [name.strip() for name in names if name.strip()]
    if not found:
        raise BadInput(f"{path}: names no picture; write one name a line, as it is in {IMAGES}/ without its suffix")
    return found


def _reader(root: Path, answers: str, path: Path | None) -> Reader:
    return partial(_read, root, answers, path)


def _read(root: Path, answers: str, path: Path | None, preprocess: Preprocess) -> Samples:
    """The pictures of the list in `path`, else of all answers."""
    known = {file.relative_to(root / IMAGES).with_suffix("").as_posix(): file for file in list_images(root / IMAGES)}
    names = _listed(path) if path is not None else _all_answers(root / answers)
    for name in names:
        if name not in known:
            who = path or root / answers / f"{name}{SUFFIX[answers]}"
            raise BadInput(
                f"{inside(root / IMAGES, name, who)}: no such picture (.jpg ...), but {who} is of it; add it"
            )
    files, subject = [known[name] for name in names], str(path or root)
    found = [root / answers / f"{name}{SUFFIX[answers]}" for name in names]
    if answers == MASKS:
        return masked(subject, files, found, preprocess, _mask_names(root), sorted((root / MASKS).glob("*.png")))
    missing = next((file for file in found if not file.is_file()), None)
    if missing is not None:
        raise BadInput(f"{missing}: no such annotation, but {subject} names it; put it there, or take it off the list")
    classes = _names(root)
    return boxed(subject, files, lambda i, size: objects_in(found[i], classes, size), preprocess, classes)


def _all_answers(folder: Path) -> list[str]:
    found = sorted(file.stem for file in folder.glob(f"*{SUFFIX[folder.name]}"))
    if not found:
        raise BadInput(f"{folder}: holds no {SUFFIX[folder.name]} file; put one there for each picture")
    return found


def _mask_names(root: Path) -> tuple[str, ...]:
    return names_in((root,), NAME_FILES) or ((BACKGROUND, *CLASSES) if PASCAL.fullmatch(root.resolve().name) else ())


def _names(root: Path) -> tuple[str, ...]:
    """Counted over all annotations: a class that one part lacks must not move the numbers of the others."""
    known = names_in((root,), NAME_FILES) or (CLASSES if PASCAL.fullmatch(root.resolve().name) else ())
    if known:
        return known
    files = sorted((root / BOXES).glob(f"*{SUFFIX[BOXES]}"))
    found = {_text(entry, "name", file) for file in files for entry in _tree(file).iterfind("object")}
    return by_number(found) or tuple(sorted(found))


# ------------------------------------------------------------------------------------------------------------------ XML
class _NoDoctype(ElementTree.TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("a DOCTYPE, which is not read")


def _tree(path: Path) -> ElementTree.Element:
    data = check_input_file(path, XML_LIMIT_BYTES).read_bytes()
    try:
        root = ElementTree.fromstring(data, ElementTree.XMLParser(target=_NoDoctype()))
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise BadInput(f"{path}: is not XML that is read ({str(error)[:80]}); save it again") from error
    if root.tag != "annotation":
        raise BadInput(f"{path}: begins with <{root.tag[:40]}>; PASCAL VOC's begin with <annotation>")
    return root


def objects_in(path: Path, names: Sequence[str], size: tuple[int, int]) -> Target:
    """The objects of an annotation of a picture of `size` (H, W); raises `BadInput` for what is broken."""
    root = _tree(path)
    said = tuple(root.findtext(f"size/{side}", "0").strip() for side in ("height", "width"))
    if all(side.isdecimal() and int(side) for side in said) and tuple(map(int, said)) != size:
        have, want = f"{said[1]}x{said[0]}", f"{size[1]}x{size[0]}"
        raise BadInput(
            f"{path}: is of a picture of {have}, its picture is {want}; annotate that, or put the old one back"
        )
    entries = root.findall("object")
    boxes = [_box(entry, path) for entry in entries]
    labels = [_place(_text(entry, "name", path), names, path) for entry in entries]
    difficult = [_flag(entry, path) for entry in entries]
    corners = np.array(boxes, np.float64).reshape(-1, 4) - [1, 1, 0, 0]
    return Target.of(corners, np.array(labels, np.int64), difficult=np.array(difficult, bool))


def _text(entry: ElementTree.Element, tag: str, path: Path) -> str:
    text = entry.findtext(tag, "").strip()
    if not text:
        raise BadInput(f"{path}: an object has no <{tag}>; add it")
    return text


def _place(name: str, names: Sequence[str], path: Path) -> int:
    if name not in names:
        raise BadInput(f"{path}: {plugins.unknown(name, names, 'class')}")
    return names.index(name)


def _box(entry: ElementTree.Element, path: Path) -> list[float]:
    words = [_text(entry, f"bndbox/{corner}", path) for corner in CORNERS]
    try:
        x1, y1, x2, y2 = found = [float(word) for word in words]
    except ValueError:
        found = []
    if not found or not all(map(math.isfinite, found)) or x2 < x1 or y2 < y1:
        shown = ", ".join(word[:12] for word in words)
        raise BadInput(f"{path}: the box {shown} is none; xmin <= xmax and ymin <= ymax in pixels are needed")
    return found


def _flag(entry: ElementTree.Element, path: Path) -> bool:
    text = entry.findtext("difficult", "").strip() or "0"
    if text not in ("0", "1"):
        raise BadInput(f"{path}: an object's <difficult> is {text[:20]!r}; 0 or 1 is needed")
    return text == "1"
