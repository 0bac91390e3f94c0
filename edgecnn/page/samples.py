"""The golden samples: what the original network answered, what the model in the bundle answers here, side by side.

    golden.npz: input_0, output_0 (original)     model(input_0) here     ->     a picture, two answers, their distance

Test: tests/test_page.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgecnn.page import pictures
from edgecnn.page.facts import Facts
from edgecnn.page.html import Content, Html, Section, number, table, tag
from edgecnn.page.race import share
from edgecnn.tasks.image import psnr
from runtimes import machine
from runtimes.base import Array, BadInput, Tensors, counted
from runtimes.bundle import GOLDEN, GOLDEN_SIZE, OTHER_SIZE, Bundle
from runtimes.comparing import matching
from runtimes.imaging.depth import LEVELS
from runtimes.imaging.geometry import UNSEEN
from runtimes.imaging.pictures import rgb, under_mask
from runtimes.imaging.shown import PICTURE_AXES, Shown
from runtimes.proof import golden
from runtimes.proof.answers import (
    SPOKEN,
    Answer,
    AnyPrediction,
    BoxesPrediction,
    LabelsPrediction,
    MaskPrediction,
    NumbersPrediction,
    PicturePrediction,
    Prediction,
)
from runtimes.proof.points import PointsPrediction
from runtimes.proof.prediction import answer
from runtimes.session import Session
from runtimes.words import number as words

MEASURES = {
    golden.MAX_ABS: "largest difference",
    golden.DISAGREEMENT: "disagreement",
    golden.RELATIVE_L2: "difference as a share of the whole",
}
CLEAR = "background:repeating-conic-gradient(#bbb 0 25%,#fff 0 50%) 0 0/.4em .4em"
"""Squares, as drawing programs show what is transparent."""
TOP, MOST_BOXES, MIN_SCORE, MOST_LABELS = 3, 12, 0.3, 8


@dataclass(frozen=True)
class Sample:
    """`wanted` is the original's answer, `found` the model's; None where outputs mean nothing that is known here."""

    pixels: Array | None
    shape: tuple[int, ...]
    wanted: AnyPrediction | None
    found: AnyPrediction | None

    @property
    def same(self) -> bool | None:
        """Whether both say the same: the best class, every pixel, or as many boxes of each class."""
        a, b = self.wanted, self.found
        if isinstance(a, Prediction) and isinstance(b, Prediction):
            return a.label == b.label
        if isinstance(a, LabelsPrediction) and isinstance(b, LabelsPrediction):
            return sorted(a.labels) == sorted(b.labels)
        if isinstance(a, MaskPrediction) and isinstance(b, MaskPrediction):
            return bool(np.array_equal(a.mask, b.mask))
        if isinstance(a, BoxesPrediction) and isinstance(b, BoxesPrediction):
            return sorted(box.label for box in a.boxes) == sorted(box.label for box in b.boxes)
        return None


def read(bundle: Bundle, session: Session) -> tuple[list[Sample], tuple[golden.GoldenCheck, ...]]:
    """Every golden sample with both answers, and how far the outputs are apart."""
    samples: list[Sample] = []
    checks: list[golden.GoldenCheck] = []
    told = bundle.manifest["golden"]
    for member, entry in ((GOLDEN, told), (GOLDEN_SIZE, told.get(OTHER_SIZE))):
        if entry is not None:
            inputs, outputs = bundle.golden(member)
            checks += golden.checks(session, inputs, outputs, entry)
            samples += _samples(bundle, session, inputs, outputs)
    return samples, tuple(checks)


def _samples(bundle: Bundle, session: Session, inputs: Sequence[Array], outputs: Sequence[Array]) -> Iterator[Sample]:
    ins, outs = ([info.name for info in infos] for infos in (session.inputs, session.outputs))
    tables = dict(zip(outs, outputs, strict=False))
    boxes = golden.measure_of(outs) == golden.DISAGREEMENT and len(tables) == len(outs)
    for i in range(len(inputs[0])):
        wanted = matching.unpad(tables, i) if boxes else {name: array[i : i + 1] for name, array in tables.items()}
        found = session({name: array[i : i + 1] for name, array in zip(ins, inputs, strict=False)})
        given = next((array for array in inputs if array.ndim == PICTURE_AXES + 1), inputs[0])[i]
        pixels = pictures.pixels_of(given, bundle.preprocess)
        size = given.shape if pixels is None else (1, *pixels.shape[:2])
        yield Sample(pixels, given.shape, *(_told(bundle, size, outputs) for outputs in (wanted, found)))


def _told(bundle: Bundle, size: tuple[int, ...], outputs: Tensors) -> AnyPrediction | None:
    """In the network's own pixels."""
    image = Shown("sample", lambda: np.zeros(size, np.uint8), None, None)
    try:
        return answer(bundle, image, outputs, TOP, MIN_SCORE)
    except (BadInput, IndexError):  # a task that is not known, or outputs that are not what it says
        return None


# ------------------------------------------------------------------------------------------------------------ the page
def samples(facts: Facts, session: Session) -> Section:
    found, checks = read(facts.bundle, session)
    columns = ("input", ">samples", "measure", ">value", ">limit", "holds")
    caption = f"How far the outputs here are from those of {facts.original}"
    numbers = table(caption, columns, map(_check, checks), stacks=True)
    where = tag("p", f"The answers of {facts.original} are packed in the bundle; this model's were computed for this "
                f"page, on {session.provider} of this machine: {here()}.", class_="note")  # fmt: skip
    shown = [drawn for i, sample in enumerate(found, 1) if (drawn := _drawn(facts, i, sample)) is not None]
    cards = tag("div", *shown, class_="samples") if shown else None
    return Section(
        "samples",
        "Golden samples",
        verdict(found, checks, facts.original),
        [legend(facts, found), cards, numbers, where],
    )


def here() -> str:
    found = machine.describe()
    return f"{found.cpu or 'unknown CPU'} ({', '.join(found.isa)}), ONNX Runtime {found.onnxruntime}"


def verdict(found: Sequence[Sample], checks: Sequence[golden.GoldenCheck], original: str) -> str:
    worst = golden.worst_of(checks)
    held = "within" if all(check.passed for check in checks) else "BEYOND"
    where = f" in {worst.of}" if worst.of else ""
    told = f"the {MEASURES[worst.measure]}{where} is {worst.value:.3g}, {held} the limit of {worst.limit:.3g}."
    kinds = len({check.of for check in checks})
    each = f" Each of {kinds} kinds of numbers has a limit of its own; this one is nearest to it." if kinds > 1 else ""
    sentence = f"{alike(found, original)}{told}{each}"
    return sentence[0].upper() + sentence[1:]


def alike(found: Sequence[Sample], original: str) -> str:
    """The beginning of the verdict: how often both say the same."""
    masks = [(s.wanted.mask, s.found.mask) for s in found
             if isinstance(s.wanted, MaskPrediction) and isinstance(s.found, MaskPrediction)]  # fmt: skip
    if masks:
        equal = sum(int((a == b).sum()) for a, b in masks) / sum(a.size for a, _ in masks)
        return f"the model gives the class of {original} to {100 * equal:.2f} % of the pixels; "
    known = [sample.same for sample in found if sample.same is not None]
    kinds = {BoxesPrediction: "boxes of the same classes", LabelsPrediction: "the same labels"}
    what = kinds.get(type(found[0].wanted), "the same class") if found else ""
    return f"the model gives {what} as {original} on {sum(known)} of {counted(len(known), 'sample')}; " if known else ""


def _check(check: golden.GoldenCheck) -> list[Content]:
    return [
        "x".join(map(str, check.shape)),
        number(check.images, str(check.images)),
        MEASURES[check.measure] + (f" in {check.of}" if check.of else ""),
        number(check.value, words(check.value)),
        number(check.limit, words(check.limit)),
        "yes" if check.passed else "NO",
    ]


def _drawn(facts: Facts, index: int, sample: Sample) -> Html | None:
    pixels, wanted, found = sample.pixels, sample.wanted, sample.found
    size = "x".join(map(str, sample.shape))
    alt = f"golden sample {index}, {size}"
    parts: list[Content] = []
    if isinstance(wanted, MaskPrediction) and isinstance(found, MaskPrediction) and pixels is not None:
        parts = [_masks(pixels, wanted, found, alt, facts.original)]
    elif isinstance(wanted, BoxesPrediction) and isinstance(found, BoxesPrediction) and pixels is not None:
        parts = [_boxes(pixels, wanted, found, alt, facts.original)]
    elif isinstance(wanted, PointsPrediction) and isinstance(found, PointsPrediction) and pixels is not None:
        parts = [_points(pixels, wanted, found, alt, facts.original)]
    elif isinstance(wanted, PicturePrediction) and isinstance(found, PicturePrediction):
        parts = [_pictures(pixels, wanted, found, alt, facts.original)]
    else:
        view = tag("figure", pictures.picture(pixels, alt), class_="view") if pixels is not None else None
        parts = [tag("div", view, class_="views") if view else None]
        if isinstance(wanted, Prediction) and isinstance(found, Prediction):
            parts.append(_classes(wanted.top, found.top, index, facts.original))
        if isinstance(wanted, LabelsPrediction) and isinstance(found, LabelsPrediction):
            parts.append(_classes(wanted.scores, found.scores, index, facts.original, "Scores of the labels"))
        if isinstance(wanted, NumbersPrediction) and isinstance(found, NumbersPrediction):
            parts.append(_numbers(wanted, found, index, facts.original))
    if not any(parts):
        return None
    return tag("article", tag("h3", f"Sample {index}"), *parts, class_="sample")


def _classes(
    wanted: Sequence[Answer], found: Sequence[Answer], index: int, original: str, what: str = f"Best {TOP} classes"
) -> Html:
    """The best classes (or labels) of either side, in the original's order."""
    scores = [{a.label: a.score for a in side[:MOST_LABELS]} for side in (wanted, found)]
    rows = [
        [label, *(number(side.get(label), f"{100 * side.get(label, 0):.1f} %") for side in scores)]
        for label in dict.fromkeys([*scores[0], *scores[1]])
    ]
    caption = f"{what} of each side, sample {index}"
    return table(caption, ("class", f">{original}", ">this model"), rows, stacks=True)


def _numbers(wanted: NumbersPrediction, found: NumbersPrediction, index: int, original: str) -> Html:
    """The numbers of either side, where they are few; else in a few words."""
    rows: list[list[Content]] = []
    for theirs, ours in zip(wanted.outputs, found.outputs, strict=False):
        if theirs.values is None or ours.values is None or len(theirs.values) > SPOKEN:
            rows.append([theirs.output, theirs.words, ours.words])
            continue
        names = theirs.names or [f"{theirs.output}[{i}]" for i in range(len(theirs.values))]
        pairs = zip(names, theirs.values, ours.values, strict=False)
        rows += [[name, number(a, words(a)), number(b, words(b))] for name, a, b in pairs]
    return table(f"Numbers of each side, sample {index}", ("number", f">{original}", ">this model"), rows, stacks=True)


def _view(drawn: Html, caption: Content, large: bool = False) -> Html:
    return tag("figure", drawn, tag("figcaption", caption), class_="view large" if large else "view")


def _masks(pixels: Array, wanted: MaskPrediction, found: MaskPrediction, alt: str, original: str) -> Html:
    alike = float((wanted.mask == found.mask).mean())
    views = [_view(pictures.picture(pixels, alt), "input")]
    for name, side in ((original, wanted), ("this model", found)):
        shown = pictures.picture(under_mask(pixels, side.mask), f"{alt}, mask of {name}: {side.words}")
        views.append(_view(shown, f"{name}: {side.words}"))
    return tag("div", tag("div", *views, class_="views"),
               tag("p", "The same class on ", share(alike, 2), " of the pixels.", class_="note"))  # fmt: skip


def _pictures(
    pixels: Array | None, wanted: PicturePrediction, found: PicturePrediction, alt: str, original: str
) -> Html:
    views = [] if pixels is None else [_view(pictures.picture(pixels, alt), "input")]
    for name, side in ((original, wanted), ("this model", found)):
        views.append(_view(pictures.picture(rgb(side.picture), f"{alt}, answer of {name}: {side.words}"), name))
    alike = psnr(*(rgb(side.picture) / LEVELS for side in (found, wanted)))
    note = tag("p", "PSNR of the two answers: ", number(alike, f"{alike:.1f} dB"), ".", class_="note")
    return tag("div", tag("div", *views, class_="views"), note)


def _boxes(pixels: Array, wanted: BoxesPrediction, found: BoxesPrediction, alt: str, original: str) -> Html:
    views = []
    for name, side in ((original, wanted), ("this model", found)):
        boxes = side.boxes[:MOST_BOXES]
        told = [f"{i} {box.label} {box.score:.0%}" for i, box in enumerate(boxes, 1)]
        more = [f"and {len(side.boxes) - len(boxes)} more"] if len(side.boxes) > len(boxes) else []
        caption = f"{name}: {', '.join([*told, *more]) or f'nothing scored {MIN_SCORE:.0%} or more'}"
        views.append(_view(pictures.with_boxes(pixels, boxes, f"{alt}, boxes of {caption}"), caption, large=True))
    return tag("div", *views, class_="views")


def _points(pixels: Array, wanted: PointsPrediction, found: PointsPrediction, alt: str, original: str) -> Html:
    views = []
    for name, side in ((original, wanted), ("this model", found)):
        caption = f"{name}: {side.words}"
        views.append(
            _view(pictures.with_points(pixels, side.points, f"{alt}, points of {caption}"), caption, large=True)
        )
    apart = [math.dist((a.x, a.y), (b.x, b.y)) for a, b in zip(wanted.points, found.points, strict=True)]
    note = tag("p", "The points of the two are ", number(max(apart), f"{max(apart):.2f} pixels"),
               " of the input apart at most.", class_="note")  # fmt: skip
    return tag("div", tag("div", *views, class_="views"), note)


def legend(facts: Facts, found: Sequence[Sample]) -> Html | None:
    """The colours of the classes that occur in the masks; class 0 has none, its pixels are shown as they are."""
    masks = [side.mask for s in found for side in (s.wanted, s.found) if isinstance(side, MaskPrediction)]
    if not masks:
        return None
    labels = facts.bundle.labels
    keys = [
        tag("span", tag("span", class_="key", style=_swatch(i), aria_hidden="true"),
            labels[i] if i < len(labels) else str(i), "" if i else " (left as it is)")
        for i in sorted({int(v) for mask in masks for v in np.unique(mask)} - {UNSEEN})
    ]  # fmt: skip
    return tag("p", *keys, class_="legend")


def _swatch(index: int) -> str:
    return f"background:{pictures.colour_of(index)}" if index else CLEAR
