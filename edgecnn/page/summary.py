"""The head of the page: what was chosen and why in one sentence, the numbers that matter, warnings, and whose it is.

Test: tests/test_page.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from edgecnn.page.facts import FLOAT, Facts, items, real, text, whole
from edgecnn.page.html import Content, Html, Section, folded, joined, number, pairs, table, tag
from edgecnn.page.race import cost, cost_in_words, worth
from edgecnn.words import size
from runtimes.base import counted
from runtimes.proof import golden

if TYPE_CHECKING:
    from runtimes.proof.verification import VerifyReport

RANDOM = "random"
MOST_KINDS = 4


def summary(facts: Facts) -> Section:
    warned = [tag("p", tag("strong", "Mind: "), words, class_="warning", role="note") for words in warnings(facts)]
    body = [cards(facts), *warned, pairs(identity(facts)), files(facts)]
    return Section("summary", "In short", facts.verdict or f"This bundle holds the {facts.bundle.chosen} model.", body)


def warnings(facts: Facts) -> Iterator[str]:
    """What a reader must know before he believes a number."""
    winner = facts.winner
    if text(facts.manifest.get("weights")).startswith(RANDOM):
        yield "the weights are random: sizes and times are real, answers are not."
    data = text(facts.recipe.get("data"))
    if data.partition(":")[0] == RANDOM:
        yield f"it was calibrated on random data ({data}), not on images: int8 ranges of real images may differ."
    if facts.candidates and facts.bundle.chosen != FLOAT and all(c.accuracy is None for c in facts.candidates):
        yield f"{_unlabelled(facts)}: whether answers are right was not measured, only whether they changed."
    if facts.elsewhere:
        yield f"it was made for a CPU with {facts.elsewhere}; its speed there is predicted, not measured."
    if winner is not None and winner.refused:
        yield f"it is over the accuracy budget and was insisted on: {winner.refused}."


def _unlabelled(facts: Facts) -> str:
    """Why there is no metric; older bundles call images labelled whose labels nothing could use."""
    why = text(facts.manifest.get("labels_unused"))
    if why:
        return f"labels were given and could not be used ({why})"
    if " labelled image" in text(facts.manifest.get("judged_on")):
        return "labels were given and could not be used"
    return "no labelled images were given"


def cards(facts: Facts) -> Html:
    found = [*_speed(facts), *_accuracy(facts), *_size(facts), *_fidelity(facts)]
    return tag("div", *found, class_="cards")


def _card(what: str, big: Content, more: Content) -> Html:
    return tag("div", tag("p", what, class_="what"), tag("p", big, class_="big"), tag("p", more, class_="more"),
               class_="card")  # fmt: skip


def _speed(facts: Facts) -> Iterator[Html]:
    winner = facts.winner
    if winner is None:
        return
    median = number(winner.p50_ms, f"{winner.p50_ms or 0:.3g} ms")
    if winner.speedup is not None and winner.against == FLOAT:
        s = winner.speedup
        interval = joined([number(s.low, f"{s.low:.2f}"), " to ", number(s.high, f"{s.high:.2f}")])
        yield _card(
            "speed-up over float", number(s.ratio, f"{s.ratio:.2f}x"), joined(["95 %: ", interval, "; ", median])
        )
    elif winner.p50_ms is not None:
        yield _card("time of a run", median, f"median, {facts.bundle.chosen}")


def _accuracy(facts: Facts) -> Iterator[Html]:
    winner, base = facts.winner, facts.base
    if winner is None or (winner.accuracy is None and winner.drop is None):
        return
    if winner.drop is None:
        yield _card(facts.metric, worth(winner), "the float model's own")
        return
    most = winner.drop_high
    high: Content = joined(["95 %: at most ", number(most, cost(most, winner))]) if most is not None else None
    if winner.accuracy is not None and base is not None and base.accuracy is not None:
        both: Content = joined([worth(winner), " against ", worth(base)])
        high = joined([both, "; ", high]) if high else both
    yield _card(cost_in_words(facts), number(winner.drop, cost(winner.drop, winner)), high)


def _size(facts: Facts) -> Iterator[Html]:
    winner, base = facts.winner, facts.base
    if winner is None or winner.size_bytes is None:
        yield _card("size of the bundle", number(facts.size_bytes, size(facts.size_bytes)), "model, proof and manifest")
        return
    than: Content = "model alone"
    if base is not None and base is not winner and base.size_bytes is not None:
        than = joined(["float: ", number(base.size_bytes, size(base.size_bytes))])
    yield _card("size of the model", number(winner.size_bytes, size(winner.size_bytes)), than)


def _fidelity(facts: Facts) -> Iterator[Html]:
    entry = facts.manifest["golden"]
    count = whole(entry.get("images")) or 0
    limit = next(((key, real(entry[key])) for key in entry if key.startswith("limit_")), ("", None))
    what = "disagreement" if limit[0].endswith("disagreement") else "difference"
    kinds = items(entry.get(golden.KINDS))
    limits = [real(kind.get(golden.KIND_LIMITS[0])) for kind in kinds] or [limit[1]]
    shown = list[Content]()
    for value in limits[:MOST_KINDS]:
        shown += [", " if shown else "", number(value, f"{value or 0:.3g}")]
    more = f", ... in {len(kinds)} kinds of numbers" if len(limits) > MOST_KINDS else " kind by kind" if kinds else ""
    yield _card("proof in the file", number(count, counted(count, "sample")),
                joined([f"{what} to {facts.original} held to ", *shown, more]))  # fmt: skip


def identity(facts: Facts) -> list[tuple[str, Content]]:
    m, on = facts.manifest, facts.machine
    isa = ", ".join(x for x in on.get("isa", []) if isinstance(x, str)) if isinstance(on.get("isa"), list) else ""
    cpu = text(on.get("cpu"))
    cores, memory = whole(on.get("cores")), whole(on.get("memory_mb"))
    machine = f"{cpu}{f' ({isa})' if isa else ''}{f', {cores} cores' if cores else ''}"
    machine += f", {memory / 1024:.0f} GiB" if memory else ""
    versions = [text(m.get("created_by"))]
    versions += [f"{name} {text(on.get(key))}" for name, key in PACKAGES if text(on.get(key))]
    return [
        ("network", facts.bundle.name),
        ("task", facts.bundle.task),
        ("weights", text(m.get("weights"))),
        ("chosen", f"{facts.bundle.chosen}{_candidate(facts)}"),
        ("provider", facts.provider),
        ("proven on", f"{machine}{', ' + text(on.get('os')) if text(on.get('os')) else ''}" if cpu else None),
        ("versions", ", ".join(v for v in versions if v)),
        ("bundle", joined([facts.file, ", ", number(facts.size_bytes, size(facts.size_bytes))])),
        ("SHA-256", tag("span", facts.sha256, class_="hash")),
    ]


PACKAGES = (("ONNX Runtime", "onnxruntime"), ("numpy", "numpy"), ("Python", "python"))


def _candidate(facts: Facts) -> str:
    winner = facts.winner
    return f": candidate “{winner.name}”" if winner is not None and winner.name != facts.bundle.chosen else ""


def files(facts: Facts) -> Html:
    rows = [
        [name, number(entry["bytes"], f"{entry['bytes']:,}"), tag("span", entry["sha256"], class_="hash")]
        for name, entry in sorted(facts.manifest["files"].items())
    ]
    listed = table("Members of the bundle; their hashes were right when this page was written",
                   ("file", ">bytes", "SHA-256"), rows)  # fmt: skip
    return folded(f"{counted(len(rows), 'file')} in the bundle, with their hashes", listed)


def verified(report: VerifyReport) -> Section:
    """What `verify` said on the machine that wrote the page."""
    on = report.result.machine
    cpu = f"{on.cpu or 'unknown CPU'} ({', '.join(on.isa)}), {on.cores} cores, {on.os}"
    rows: list[tuple[str, Content]] = [
        ("machine", cpu),
        ("versions", f"ONNX Runtime {on.onnxruntime}, numpy {on.numpy}, Python {on.python}"),
        ("provider", f"{report.result.provider}, {counted(report.result.threads, 'thread')}"),
        ("hashes", "all right" if report.result.hashes else "wrong"),
    ]
    return Section("verified", "Verified here", report.verdict, [pairs(rows)])
