"""The same pictures with the same boxes as COCO, PASCAL VOC and YOLO write them; for the tests of edgecnn/data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 32, 64
NAMES = ("ant", "bee", "cat")
TRAIN, TEST = range(4), range(4, 6)


def picture(path: Path, height: int = HEIGHT, width: int = WIDTH, mode: str = "RGB", seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def objects(i: int) -> list[tuple[str, tuple[int, int, int, int], bool]]:
    """(class, (x1, y1, x2, y2), difficult) of picture i; picture 2 is empty, and `bee` is in the test part alone."""
    if i == 2:
        return []
    second = "bee" if i in TEST else "ant"
    return [("cat", (4 * i, 2, 4 * i + 16, 18), False), (second, (40, i, 60, 30), i % 2 == 1)]


def coco_folder(root: Path) -> Path:
    """`annotations/instances_train2017.json` and its like; ids of categories have gaps and are not in order."""
    categories = [{"id": 17, "name": "cat"}, {"id": 2, "name": "ant"}, {"id": 5, "name": "bee"}]
    ids = {str(c["name"]): c["id"] for c in categories}
    for part, numbers in (("train2017", TRAIN), ("val2017", TEST)):
        entries: list[dict[str, object]] = []
        for i in numbers:
            picture(root / part / f"{i:012}.jpg", seed=i)
            for name, (x1, y1, x2, y2), _ in objects(i):
                entries.append({"id": len(entries) + 100, "image_id": i + 500, "category_id": ids[name],
                                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1, "iscrowd": 0})  # fmt: skip
        images = [{"id": i + 500, "file_name": f"{i:012}.jpg", "width": WIDTH, "height": HEIGHT} for i in numbers]
        document = {"info": {}, "images": images, "annotations": entries, "categories": categories}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(document))
    return root


OBJECT = """\t<object>
\t\t<name>{name}</name>
\t\t<pose>Left</pose>
\t\t<truncated>1</truncated>
\t\t<difficult>{difficult}</difficult>
\t\t<bndbox>
\t\t\t<xmax>{x2}</xmax>
\t\t\t<xmin>{x1}</xmin>
\t\t\t<ymax>{y2}</ymax>
\t\t\t<ymin>{y1}</ymin>
\t\t</bndbox>
\t\t<part>
\t\t\t<name>head</name>
\t\t\t<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2.5</xmax><ymax>2</ymax></bndbox>
\t\t</part>
\t</object>
"""
ANNOTATION = """<annotation>
\t<folder>VOC2012</folder>
\t<filename>{stem}.jpg</filename>
\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>
\t<segmented>0</segmented>
{objects}</annotation>
"""


def annotation(i: int) -> str:
    """The XML of picture i: VOC counts pixels from 1, and the last one is inside."""
    found = (
        OBJECT.format(name=name, difficult=int(difficult), x1=x1 + 1, y1=y1 + 1, x2=x2, y2=y2)
        for name, (x1, y1, x2, y2), difficult in objects(i)
    )
    return ANNOTATION.format(stem=f"2008_{i:06}", width=WIDTH, height=HEIGHT, objects="".join(found))


def write_lists(folder: Path, lists: dict[str, Iterable[int]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in lists.items():
        (folder / f"{name}.txt").write_text("".join(f"2008_{i:06}\n" for i in numbers))


def voc_folder(root: Path) -> Path:
    for i in (*TRAIN, *TEST):
        picture(root / "JPEGImages" / f"2008_{i:06}.jpg", seed=i)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"2008_{i:06}.xml").write_text(annotation(i))
    write_lists(root / "ImageSets" / "Main", {"train": TRAIN, "val": TEST, "trainval": (*TRAIN, *TEST), "ant_val": [4]})
    return root


def voc_masks(root: Path) -> Path:
    """Beside the boxes: palette masks of pictures 0, 1 and 4, class 1 left and 2 right of a border of 255."""
    mask = np.full((HEIGHT, WIDTH), 2, np.uint8)
    mask[:, :32], mask[:, 32:36] = 1, 255
    for i in (0, 1, 4):
        (root / "SegmentationClass").mkdir(exist_ok=True)
        image = Image.fromarray(mask, "P")
        image.putpalette([v for k in range(256) for v in (k, 255 - k, 7)])
        image.save(root / "SegmentationClass" / f"2008_{i:06}.png")
    write_lists(root / "ImageSets" / "Segmentation", {"train": [0, 1], "val": [4]})
    return root


def yolo_folder(root: Path, parts_first: bool = False) -> Path:
    """`images/train`, `labels/train`, or `train/images`, `train/labels`."""
    for part, numbers in (("train", TRAIN), ("valid" if parts_first else "val", TEST)):
        images, labels = ((root / part / k) if parts_first else (root / k / part) for k in ("images", "labels"))
        labels.mkdir(parents=True, exist_ok=True)
        for i in numbers:
            picture(images / f"{i}.jpg", seed=i)
            lines = (
                f"{NAMES.index(name)} {(x1 + x2) / 2 / WIDTH:.8f} {(y1 + y2) / 2 / HEIGHT:.8f} "
                f"{(x2 - x1) / WIDTH:.8f} {(y2 - y1) / HEIGHT:.8f}\n"
                for name, (x1, y1, x2, y2), _ in objects(i)
            )
            if objects(i):
                (labels / f"{i}.txt").write_text("".join(lines))
    (root / "data.yaml").write_text("train: images/train\nval: images/val\n\nnc: 3\nnames: ['ant', bee, cat]\n")
    return root
