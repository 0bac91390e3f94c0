"""What goes in and what comes out: pixels, shapes, classes, and the images that it was calibrated on.

Test: tests/test_page.py.
"""

from __future__ import annotations

from edgecnn.data.pixels import in_words
from edgecnn.page.facts import Facts, part, text, whole
from edgecnn.page.html import Content, Html, Section, folded, pairs, tag
from runtimes.base import counted
from runtimes.proof.answers import KEYPOINTS

MOST_LABELS = 40


def inputs(facts: Facts) -> Section:
    bundle = facts.bundle
    rows: list[tuple[str, Content]] = [
        ("pixels", in_words(bundle.preprocess)),
        *(("input", tensor(entry)) for entry in bundle.inputs),
        ("output", tensor(facts.manifest["output"])),
        ("other sizes", "any height and width; proven at two" if "other_size" in facts.manifest["golden"] else None),
        ("calibrated on", calibrated(facts)),
        ("int8 recipe", recipe(facts)),
        ("judged on", text(facts.manifest.get("judged_on"))),
    ]
    return Section("inputs", "Pixels, shapes and classes", verdict(facts), [pairs(rows), labels(facts)])


def verdict(facts: Facts) -> str:
    bundle = facts.bundle
    what = "points" if bundle.task == KEYPOINTS else "classes"
    classes = f" and answers in {len(bundle.labels)} named {what}" if bundle.labels else ""
    if bundle.several is not None:
        return f"It takes {len(bundle.inputs)} arrays that are ready for it, one for each input{classes}."
    if bundle.preprocess is None:
        return f"It takes arrays that are ready for it{classes}."
    height, width = bundle.preprocess.size
    kind = "colour pictures" if bundle.preprocess.channels == 3 else "grey pictures"
    return f"It takes {kind}, made {width} x {height} pixels{classes}."


def tensor(entry: object) -> str:
    """`input: float32 [batch, 3, 32, 32]`."""
    given = part(entry)
    shape = given.get("shape")
    sizes = [str(n) for n in shape if isinstance(n, int | str)] if isinstance(shape, list) else []
    return f"{text(given.get('name'))}: {text(given.get('dtype'))} [{', '.join(sizes)}]"


def calibrated(facts: Facts) -> str:
    data, images = text(facts.recipe.get("data")), whole(facts.recipe.get("images"))
    counts = f"{counted(images, 'image')} of " if images else ""
    return f"{counts}{data}" if data else ""


def recipe(facts: Facts) -> str:
    """The rule of calibration and the types, where int8 was tried."""
    given = facts.recipe
    if not given:
        return ""
    weights = f"{text(given.get('weights'))} weights{' per channel' if given.get('per_channel') is True else ''}"
    return f"{text(given.get('calibrator'))} ranges, {weights}, {text(given.get('activations'))} activations"


def labels(facts: Facts) -> Html | None:
    found = facts.bundle.labels
    if not found:
        return None
    listed = tag("ol", *(tag("li", label) for label in found), start="0", class_="labels")
    what = ("point", "points") if facts.bundle.task == KEYPOINTS else ("class", "classes")
    title = f"{counted(len(found), *what)}, by their number"
    return folded(title, listed) if len(found) > MOST_LABELS else tag("div", tag("h3", title), listed)
