"""Layer by layer: int8 or float and why, its measured times, what saturates, and what was done for the accuracy.

Test: tests/test_page.py.
"""

from __future__ import annotations

import math

from edgecnn.page.facts import FLOAT, Facts, Layer, items, real, text
from edgecnn.page.html import NOTHING, Content, Html, Section, folded, number, table, tag
from edgecnn.words import decibel
from runtimes.base import counted

MOST_ROWS = 25
FORMS = {"s8": "as they are", "s7": "7 bits", "u8": "unsigned"}
COLUMNS = ("layer", "runs in", "measured time", ">int8 saves", "why")
RISKS = ("layer", ">predicted loss", ">8 bits", ">7 bits", "weights")
EFFECTS = ("pass", "kept", ">before", ">after", ">seconds", "what it did")


def layers(facts: Facts) -> Section | None:
    body = [b for b in (times(facts), saturating(facts), effects(facts)) if b]
    return Section("layers", "Layer by layer", verdict(facts), body) if body else None


def verdict(facts: Facts) -> str:
    if not facts.layers:
        return "No layer was timed alone."
    kept = sum(layer.kind == FLOAT for layer in facts.layers)
    gains = [layer.gain_us for layer in facts.layers if layer.gain_us is not None]
    losing = sum(gain < 0 for gain in gains)
    graph = "the int8 graph, which was not chosen," if facts.bundle.chosen == FLOAT else "the integer graph"
    measured = f" Of {len(gains)} timed in both forms, {losing} are slower in int8." if gains else ""
    of = f"{counted(len(facts.layers), 'layer')} of {graph}"
    return f"{len(facts.layers) - kept} of {of} are int8, {kept} float.{measured}"


def times(facts: Facts) -> Html | None:
    """What int8 loses most comes first."""
    if not facts.layers:
        return None
    longest = max([t for layer in facts.layers for t in (layer.int8_us, layer.float_us) if t is not None], default=0.0)
    ordered = sorted(facts.layers, key=lambda layer: math.inf if layer.gain_us is None else layer.gain_us)
    rows = [_row(layer, longest) for layer in ordered]
    caption = "Each layer alone, in both forms, where int8 loses most first"
    shown = table(caption, COLUMNS, rows[:MOST_ROWS])
    if len(rows) <= MOST_ROWS:
        return shown
    rest = table("The other layers", COLUMNS, rows[MOST_ROWS:])
    return tag("div", shown, folded(f"The other {counted(len(rows) - MOST_ROWS, 'layer')}", rest))


def _row(layer: Layer, longest: float) -> list[Content]:
    why = layer.why if layer.kind == FLOAT else ""
    gain = layer.gain_us
    saves = number(gain, f"{gain or 0:+.0f} µs".replace("-", "−"))
    return [layer.node, layer.kind, _bars(layer, longest), tag("span", saves, class_=_tone(gain)), why]


def _tone(gain: float | None) -> str | None:
    return None if not gain else "good" if gain > 0 else "bad"


def _bars(layer: Layer, longest: float) -> Html:
    """Two bars, int8 and float, as long as they took."""
    cells: list[Content] = []
    for kind, value in (("int8", layer.int8_us), (FLOAT, layer.float_us)):
        if value is not None:
            width = 100 * max(0.0, value) / longest if longest > 0 else 0.0
            cells.append(tag("span", class_=f"bar {kind}", style=f"width:{width:.1f}%", aria_hidden="true"))
            cells.append(tag("span", f"{kind} ", number(value, f"{value:.0f} µs")))
    return tag("div", *cells, class_="bars") if cells else Html(NOTHING)


def saturating(facts: Facts) -> Html | None:
    """Layers in which sums of two 8-bit products may be cut off on the target's CPU, the largest loss first."""
    risks = [r for r in items(facts.target.get("layers")) if (real(r.get("loss_db")) or 0.0) > 0.05]
    measured = facts.target.get("measured_db")
    pair = [real(v) for v in measured] if isinstance(measured, list) else []
    before, after = pair if len(pair) == 2 else (None, None)
    if not risks:
        return None
    ordered = sorted(risks, key=lambda r: -(real(r.get("loss_db")) or 0.0))
    rows = [
        [text(r.get("node")), *(_db(r.get(key)) for key in ("loss_db", "exact_db", "seven_bits_db")),
         FORMS.get(text(r.get("choice")), text(r.get("choice")))]
        for r in ordered
    ]  # fmt: skip
    name = text(facts.target.get("name"))
    told = ""
    if before is not None and after is not None:
        told = f" Measured in the whole graph, on a few calibration images: {before:.1f} dB before, {after:.1f} dB with"
        told += " other weights; the race tells the SNR on all images that were judged."
    changed = sum(text(r.get("choice")) != "s8" for r in risks)
    taken = f"{changed} of them have other weights in the integer graph." if changed else "None has other weights."
    note = tag("p", f"On {name}, sums of two 8-bit products are cut off at 16 bits. {taken}{told}", class_="note")
    shown = table("SQNR of each layer, and what it is predicted to lose", RISKS, rows[:MOST_ROWS])
    return tag("div", tag("h3", f"{counted(len(risks), 'layer')} that may saturate"), note, shown)


def _db(value: object) -> Html:
    found = real(value)
    return number(found, decibel(found))


def effects(facts: Facts) -> Html | None:
    """The accuracy passes: SQNR on images that they did not learn from."""
    found = items(facts.search.get("accuracy"))
    rows = [
        [text(e.get("name")), "yes" if e.get("kept") is True else "no", _db(e.get("before_db")),
         _db(e.get("after_db")), number(real(e.get("seconds")), f"{real(e.get('seconds')) or 0:.1f}"),
         text(e.get("note"))]
        for e in found
    ]  # fmt: skip
    if not rows:
        return None
    caption = "SQNR of the outputs on images that a pass did not learn from; it is kept where that rises"
    return tag("div", tag("h3", "What was done for the accuracy"), table(caption, EFFECTS, rows))
