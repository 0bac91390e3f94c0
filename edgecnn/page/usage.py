"""How to use the bundle: commands and a few lines of Python.

Test: tests/test_usage.py, which runs every line of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from edgecnn.page.facts import Facts
from edgecnn.page.html import Html, Section, lines, tag
from runtimes.words import safe


def usage(facts: Facts) -> Section:
    alone = [
        tag("h3", "On a device, with numpy and ONNX Runtime alone"),
        lines("\n".join(commands(facts, f"python {quoted(facts.file)}"))),
    ]
    body = [
        tag("h3", "On the command line"),
        lines("\n".join(commands(facts))),
        *(alone if facts.bundle.code else []),
        tag("h3", "In Python, with numpy and ONNX Runtime alone"),
        lines(snippet(facts)),
        _note(facts),
    ]
    return Section(
        "usage", "How to use it", "One file holds the model, its preprocessing, its labels and the proof.", body
    )


def commands(facts: Facts, program: str = "") -> list[str]:
    """Of edgecnn, or of the `program` in the bundle."""
    file = quoted(facts.file)
    on = "" if facts.provider == "cpu" else f" --provider {shlex.quote(safe(facts.provider))}"
    array = "inputs.npz" if facts.bundle.several else "inputs.npy"
    image = array if facts.bundle.preprocess is None else "photo.jpg"
    wanted = [("verify", ""), ("run", f" {image}"), ("bench", "")]
    start = {name: f"{program} {name}" if program else f"edgecnn {name} {file}" for name, _ in wanted}
    return [f"{start[name]}{rest}{on}" for name, rest in wanted]


def quoted(name: str) -> str:
    """The file `name` for a shell, never taken for an option."""
    return shlex.quote(safe(f"./{name}" if name.startswith("-") else name))


def snippet(facts: Facts) -> str:
    """What `run` does, for one picture in memory. `runtimes` comes out of the bundle, or is edgecnn's."""
    own = ["import sys", "", "import numpy as np", "", f"sys.path.insert(0, {facts.file!r})"]
    shown = "of_arrays" if facts.bundle.several else "of_array"
    imported = [
        "bundle import open_bundle", f"imaging.shown import {shown}", "proof.prediction import answer, ready_of",
    ]  # fmt: skip
    body = [
        *(own if facts.bundle.code else ["import numpy as np", ""]),
        *(f"from runtimes.{what}" for what in imported),
        "",
        f"bundle = open_bundle({facts.file!r})",
        f"session = bundle.session({facts.provider!r}, threads=1)",
        *_answered(facts),
    ]
    return "\n".join(body) + "\n"


def _answered(facts: Facts) -> list[str]:
    picture = "np.zeros((480, 640, 3), np.uint8)  # a picture (H, W, 3) from a camera or any decoder"
    arrays = {entry["name"]: f"np.zeros({_shape(entry)[1:]}, np.{entry['dtype']})" for entry in facts.bundle.inputs}
    ((name, array), *more) = arrays.items()
    given = [
        f"image = {array if facts.bundle.preprocess is None else picture}",
        '(shown,) = of_array("image", image, ready_of(bundle))',
        f"outputs = session({{{name!r}: shown.ready()[None]}})",
    ]
    several = [
        f"sample = {{{', '.join(f'{key!r}: {made}' for key, made in arrays.items())}}}",
        '(shown,) = of_arrays("sample", sample, ready_of(bundle))',
        f"outputs = session(shown.feeds({list(arrays)!r}))",
    ]
    return [
        *(several if more else given),
        "print(answer(bundle, shown, outputs, top=5, min_score=0.3).words)",
    ]


def _shape(entry: Mapping[str, Any]) -> tuple[int, ...]:
    shape = entry.get("shape")
    return tuple(n if isinstance(n, int) and n > 0 else 1 for n in shape) if isinstance(shape, list) else (1,)


def _note(facts: Facts) -> Html:
    code = tag("code", "unzip")
    return tag("p", "The bundle is a plain zip: ", code, " gives model.onnx, which any runtime runs, manifest.json "
               "with all numbers of this page, and golden.npz with the samples.", class_="note")  # fmt: skip
