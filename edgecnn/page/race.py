"""The race: every candidate with its speed-up and its cost, as plots and as a table. Test: tests/test_page.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from edgecnn.choosing.names import meanings
from edgecnn.page.facts import FLOAT, Candidate, Facts, Span, items, part, real, text, whole
from edgecnn.page.html import NOTHING, Content, Html, Section, folded, number, table, tag
from edgecnn.tasks import MULTI_LABEL
from edgecnn.words import PLAIN, decibel, size, valued
from runtimes.base import counted
from runtimes.words import number as words

COLUMNS = ("candidate", ">median ms", ">speed-up (95 %)", ">size", ">SNR to float", ">agreement")
APART = {"segmentation": "masks apart, %", MULTI_LABEL: "labels apart, %"}
"""What is compared without truth, where that is more than a share of answers (edgecnn/choosing/judge.py)."""
MOST_POINTS = 12


def race(facts: Facts) -> Section | None:
    if not facts.candidates:
        return None
    marked = frozenset(i for i, c in enumerate(facts.candidates) if c is facts.winner)
    caption = "The candidates; the marked one is in this bundle"
    columns = (*COLUMNS, f">{facts.metric}", ">lost (95 % at most)")
    rows = [_row(c, facts) for c in facts.candidates]
    body = [plots(facts), table(caption, columns, rows, marked), how(facts), searched(facts)]
    return Section("race", "The race", facts.verdict or "What was raced is below.", [b for b in body if b])


def span(found: Span | None, against: str = FLOAT) -> Html:
    if found is None:
        return Html(NOTHING)
    over = "" if against in (FLOAT, "") else f" over {against}"
    return tag("span", number(found.ratio, f"{found.ratio:.2f}x"), " (", number(found.low, f"{found.low:.2f}"), " to ",
               number(found.high, f"{found.high:.2f}"), f"){over}")  # fmt: skip


def share(value: float | None, digits: int = 1) -> Html:
    return number(value, f"{100 * (value or 0.0):.{digits}f} %")


def lost(candidate: Candidate) -> Html:
    """What the budget was held against; its meaning is told below the table."""
    if candidate.drop is None:
        return Html(NOTHING)
    drop, high = candidate.drop, candidate.drop_high
    most = [" (", number(high, cost(high, candidate)), ")"] if high else []
    return tag("span", number(drop, cost(drop, candidate)), *most)


def cost(drop: float, candidate: Candidate) -> str:
    """A loss in per cent or points, in the metric's unit, or as it is."""
    if candidate.plain:
        return f"{drop:z.3f}"
    return f"{drop:z.2f}" if candidate.unit else f"{100 * drop:z.1f}"


def worth(candidate: Candidate) -> Html:
    """The metric of a candidate, in its unit."""
    value = candidate.accuracy
    return number(value, valued(value or 0.0, candidate.unit, metric=PLAIN[0] if candidate.plain else ""))


def _row(c: Candidate, facts: Facts) -> list[Content]:
    return [
        tag("span", c.name, tag("span", c.refused, class_="why") if c.refused else None),
        number(c.p50_ms, words(c.p50_ms)),
        span(c.speedup, c.against),
        number(c.size_bytes, size(c.size_bytes or 0)),
        number(c.snr_db, decibel(c.snr_db)),
        share(c.agreement),
        worth(c),
        lost(c),
    ]


def cost_in_words(facts: Facts) -> str:
    """What `drop` counts in this bundle."""
    units = [c.unit for c in facts.candidates if c.unit]
    if units:
        return f"{units[0]} of {facts.metric} lost"
    if any(c.plain for c in facts.candidates):
        return f"{facts.metric} lost"
    if any(c.accuracy is not None for c in facts.candidates):
        return f"points of {facts.metric} lost"
    if any(c.agreement is not None for c in facts.candidates):
        return APART.get(facts.bundle.task, "answers changed, %")
    return "noise in the outputs, %"


def how(facts: Facts) -> Html:
    race, judged = part(facts.manifest.get("race")), text(facts.manifest.get("judged_on"))
    rounds, threads = whole(race.get("rounds")), whole(race.get("threads"))
    where = f"{counted(rounds, 'round')}, interleaved" if rounds else "Nothing was raced"
    where += f", on {counted(threads, 'thread')}" if threads else ""
    clock = {"cpu": ", in CPU time, which does not see busy neighbours", "wall": ", in wall time"}
    where += clock.get(text(race.get("clock")), "")
    shares = not any(c.unit or c.plain for c in facts.candidates)
    unit = cost_in_words(facts).rstrip(", %") + (", in percent" if shares else "")
    on = f" Judged on {judged}." if judged else ""
    named = "".join(f" {sentence}." for sentence in meanings(c.name for c in facts.candidates))
    return tag("p", f"{where}. Speed-ups are medians of paired rounds with their 95 % interval. Lost: {unit}, "
               f"with the upper end of its 95 % interval. SNR: on the images judged."
               f"{on}{named}", class_="note")  # fmt: skip


def plots(facts: Facts) -> Html | None:
    """Speed against cost, and the spread of the times; a bundle whose speed-ups are over one another has the second."""
    found = [*_cost_plot(facts), *_spread_plot(facts)]
    return tag("div", *found, class_="plots") if found else None


def _figure(svg: str, caption: str) -> Html:
    return tag("figure", tag("div", Html(svg), class_="plot"), tag("figcaption", caption))


def _cost_plot(facts: Facts) -> Iterator[Html]:
    from edgecnn.plots import race as plot
    from edgecnn.plots._canvas import inline_svg

    raced = [c for c in facts.candidates if c.speedup is not None and c.against == FLOAT][:MOST_POINTS]
    points = [
        plot.Point(c.name, c.speedup.ratio, c.speedup.low, c.speedup.high, _cost(c.drop, c), _cost(c.drop_high, c))
        for c in raced
        if c.speedup is not None
    ]
    if points:
        words = cost_in_words(facts)
        described = "; ".join(f"{p.name} {p.ratio:.2f}x ({p.low:.2f} to {p.high:.2f})" for p in points)
        svg = inline_svg(plot.speed_and_cost(points, words), "cost", f"Speed-up over float: {described}")
        yield _figure(svg, f"Speed-up over float, with its 95 % interval, against {words.rstrip(', %')} (the line to "
                      "the right ends where the 95 % interval does). Up and to the left is better.")  # fmt: skip


def _spread_plot(facts: Facts) -> Iterator[Html]:
    from edgecnn.plots import race as plot
    from edgecnn.plots._canvas import inline_svg

    order = [c.name for c in facts.candidates if c.name in facts.times_ms] or list(facts.times_ms)
    times = {name: facts.times_ms[name] for name in order[:MOST_POINTS]}
    if times:
        clock = {"cpu": "CPU", "wall": "wall"}.get(text(part(facts.manifest.get("race")).get("clock")), "run")
        described = "; ".join(f"{name}: {counted(len(values), 'run')}" for name, values in times.items())
        svg = inline_svg(
            plot.spread(times, clock), "spread", f"Share of the runs that took at most so long. {described}"
        )
        yield _figure(svg, "Every run of the race: the share that took at most so long. Steep is steady; "
                      "stalls, beyond the 99th percentile, may lie outside.")  # fmt: skip


def _cost(drop: float | None, candidate: Candidate) -> float | None:
    return None if drop is None else drop if candidate.unit or candidate.plain else 100 * drop


def _outcome(step: Mapping[str, Any]) -> str:
    """Two ways are gone, begun with and without rewrites; what the one that lost had taken was left."""
    if step.get("adopted") is not True:
        return ""
    return "taken, on the way that lost" if step.get("left") is True else "taken"


def searched(facts: Facts) -> Html | None:
    """The designs that were tried to find the fastest integer graph."""
    steps = items(facts.search.get("steps"))
    if not steps:
        return None
    rows = [[text(step.get("what")), span(Span.of(step)), _outcome(step)] for step in steps]
    seconds = real(facts.search.get("seconds"))
    took = f" in {seconds:.0f} s" if seconds is not None else ""
    end = "nothing helped any more" if facts.search.get("complete") is True else "the time for it was used up"
    caption = f"Designs raced{took}, each against the best so far; then {end}"
    columns = ("tried", ">against the best so far (95 %)", "")
    return folded(f"How the graph was found: {len(rows)} designs", table(caption, columns, rows))
