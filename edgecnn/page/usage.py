"""How to use the bundle: commands and a few lines of Python.

Test: tests/test_page.py, which runs the lines for classes.
"""

from __future__ import annotations

import shlex

from edgecnn.page.facts import Facts, part, text
from edgecnn.page.html import Html, Section, lines, tag
from edgecnn.words import safe

CLASSES = """\
scores = outputs[{output!r}][0]
best = int(scores.argmax())
print(bundle.labels[best] if best < len(bundle.labels) else best)
"""
MASK = """\
mask = outputs[{output!r}][0].argmax(axis=0)  # (H, W): the class of each pixel of the network's input
print(mask.shape)
"""
BOXES = """\
for box, score, label in zip(outputs["boxes"], outputs["scores"], outputs["labels"]):
    if score >= 0.3:
        print(bundle.labels[label] if label < len(bundle.labels) else label, score, box)  # x1, y1, x2, y2
"""
OTHER = """\
print({name: array.shape for name, array in outputs.items()})
"""
ANSWERS = {"classification": CLASSES, "segmentation": MASK, "detection": BOXES}


def usage(facts: Facts) -> Section:
    body = [
        tag("h3", "On the command line"),
        lines("\n".join(commands(facts))),
        tag("h3", "In Python, with numpy and ONNX Runtime alone"),
        lines(snippet(facts)),
        _note(facts),
    ]
    return Section(
        "usage", "How to use it", "One file holds the model, its preprocessing, its labels and the proof.", body
    )


def commands(facts: Facts) -> list[str]:
    file = quoted(facts.file)
    on = "" if facts.provider == "cpu" else f" --provider {shlex.quote(safe(facts.provider))}"
    image = "inputs.npy" if facts.bundle.preprocess is None else "photo.jpg"
    answers = [f"edgecnn run {file} {image}{on}"] if facts.bundle.task in ANSWERS else []
    return [f"edgecnn verify {file}{on}", *answers, f"edgecnn bench {file}{on}"]


def quoted(name: str) -> str:
    """The file `name` for a shell, never taken for an option."""
    return shlex.quote(safe(f"./{name}" if name.startswith("-") else name))


def snippet(facts: Facts) -> str:
    """The folder `runtimes` of edgecnn is all that it imports but for numpy."""
    m = facts.manifest
    given = [
        "pixels = np.zeros((480, 640, 3), np.uint8)  # a picture (H, W, 3) from a camera or any decoder",
        f"outputs = session({{{m['input']['name']!r}: bundle.preprocess(pixels)[None]}})",
    ]
    if facts.bundle.preprocess is None:
        given = [
            f"array = np.zeros({_shape(facts)}, np.{m['input']['dtype']})",
            f"outputs = session({{{m['input']['name']!r}: array}})",
        ]
    answer = ANSWERS.get(facts.bundle.task, OTHER).replace("{output!r}", repr(text(part(m["output"]).get("name"))))
    lines = [
        "import numpy as np",
        "",
        "from runtimes.bundle import open_bundle",
        "",
        f"bundle = open_bundle({facts.file!r})",
    ]
    lines += [f"session = bundle.session({facts.provider!r}, threads=1)", *given]
    return "\n".join(lines) + "\n" + answer


def _shape(facts: Facts) -> tuple[int, ...]:
    shape = facts.manifest["input"].get("shape")
    return tuple(n if isinstance(n, int) and n > 0 else 1 for n in shape) if isinstance(shape, list) else (1,)


def _note(facts: Facts) -> Html:
    code = tag("code", "unzip")
    return tag("p", "The bundle is a plain zip: ", code, " gives model.onnx, which any runtime runs, manifest.json "
               "with all numbers of this page, and golden.npz with the samples.", class_="note")  # fmt: skip
