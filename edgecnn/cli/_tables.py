"""The records of the library as tables; one function a record. Knows columns, not how they are drawn."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from edgecnn.choosing.names import meanings
from edgecnn.numbers.layer_table import BYTES
from edgecnn.words import PLAIN, decibel, rounded, size, valued, worth
from runtimes.base import BadInput, counted
from runtimes.device.tables import machine_pairs
from runtimes.words import number

if TYPE_CHECKING:
    from edgecnn.choosing.choose import Candidate, Decision
    from edgecnn.choosing.contest import Contest
    from edgecnn.choosing.device_build import DeviceBuildReport
    from edgecnn.choosing.keeper import Aimed
    from edgecnn.choosing.targeted import TargetReport
    from edgecnn.demo import DemoReport
    from edgecnn.doctor import Examination
    from edgecnn.evaluation.evaluate import EvaluateReport
    from edgecnn.numbers.inspection import Inspection
    from edgecnn.numbers.layer_table import Table
    from edgecnn.outcomes import BuildReport, ExportReport, QuantizeReport
    from exporters.artifact import Stage
    from runtimes.device.page import Page

MOST_ROWS = 20
LAYOUTS = {"NCHW": "channels first, NCHW", "NHWC": "channels last, NHWC"}


def stages(page: Page, steps: Iterable[Stage]) -> None:
    columns = ("stage", ">seconds", ">size", ">nodes", ">vs PyTorch", ">max |diff|", "note")
    rows = [
        (s.name, f"{s.seconds:.2f}", size(s.size_bytes), s.nodes, decibel(s.snr_db), s.max_abs, s.note) for s in steps
    ]
    page.table(columns, rows)


def searched(page: Page, contest: Contest) -> None:
    """Every race of the search, in order, and the rewrites that could not take part."""
    for name, reason in contest.refused.items():
        page.note(f"rewrite {name} was not used: {reason}.")
    if not contest.found.steps:
        return
    columns = ("taken", "tried", ">against the best so far (95 %)")
    found = contest.found
    marks = {(True, False): "+", (True, True): "(+)", (False, False): ""}
    rows = [
        (marks[s.adopted, found.left(s)], shortened(s.what, 70), f"{s.ratio:.2f}x ({s.low:.2f} to {s.high:.2f})")
        for s in found.steps
    ]
    page.table(columns, rows[:MOST_ROWS])
    end = "nothing helped any more" if found.complete else "--search-budget was used up"
    page.note(f"{counted(len(rows), 'design')} raced in {contest.seconds:.0f} s; {end}.")
    if any(map(found.left, found.steps)):
        page.note("(+): taken on the one of two ways, begun with and without rewrites, that lost at its end.")


def saturated(page: Page, aimed: Aimed) -> None:
    """Layers whose weights were changed for the CPU, the largest loss first."""
    rows = [
        (shortened(r.node, 48), f"{r.loss_db:.1f} dB", f"{r.exact_db:.1f} dB", f"{r.seven_bits_db:.1f} dB", r.choice)
        for r in sorted(aimed.changed, key=lambda r: -r.loss_db)
    ]
    if rows:
        columns = ("saturating layer", ">predicted loss", ">SQNR of 8 bits", ">of 7 bits", "weights")
        page.table(columns, rows[:MOST_ROWS])


def candidates(page: Page, decision: Decision) -> None:
    """The race of a build or a quantization, and why candidates are out that the verdict does not speak of."""
    metric = decision.metric or "metric"
    columns = ("", "candidate", ">median ms", ">speed-up (95 %)", ">size", ">SNR", ">agree", f">{metric}")
    page.table(columns, [_candidate(c, decision.winner, metric) for c in decision.candidates])
    for sentence in meanings(c.name for c in decision.candidates):
        page.note(sentence)
    for c in decision.candidates:
        if c.refused and c is not decision.rival:
            page.note(c.refused if c.refused.startswith(c.name) else f"{c.name}: {c.refused}")


def _candidate(c: Candidate, chosen: str, metric: str) -> tuple[object, ...]:
    race = c.speedup
    ratio = "-" if race is None else f"{race.ratio:.2f}x ({race.low:.2f} to {race.high:.2f})"
    plain = c.unit or metric in PLAIN
    value = "-" if c.accuracy is None else valued(c.accuracy, c.unit, metric=metric) if plain else f"{c.accuracy:.1%}"
    shares = ("-" if c.agreement is None else f"{c.agreement:.1%}", value)
    return (">" if c.name == chosen else "", c.name, c.p50_ms, ratio, size(c.size_bytes), decibel(c.snr_db), *shares)


def exported(page: Page, report: ExportReport) -> None:
    stages(page, report.stages)
    for note in report.notes:
        page.note(note)


def quantized(page: Page, report: QuantizeReport) -> None:
    searched(page, report.contest)
    candidates(page, report.decision)
    left_float(page, report.int8_nodes, report.float_nodes)
    saturated(page, report.contest.aimed)
    for note in report.notes:
        page.note(note)
    if report.bundled:
        go_on_with_bundle(page, report)


def aimed(page: Page, report: TargetReport) -> None:
    left_float(page, report.quantized.int8_nodes, report.quantized.float_nodes)
    for note in report.notes:
        page.note(note)


def go_on_with_bundle(page: Page, report: QuantizeReport | DeviceBuildReport, where: str = "") -> None:
    """`where`: options of both. A network that takes no pictures is shown arrays, one without answers nothing."""
    from runtimes.proof.prediction import opened_to_run

    ways = [f"edgecnn verify {report.output}{where}"]
    with contextlib.suppress(BadInput):
        array = "ARRAYS.npz" if opened_to_run(report.output, None).several else "ARRAY.npy"
        shown = array if report.preprocess is None else "IMAGE"
        ways.append(f"edgecnn run {report.output} {shown}{where}")
    page.go_on(ways)


def built(page: Page, report: BuildReport) -> None:
    from edgecnn.choosing.choose import FLOAT

    stages(page, report.stages)
    searched(page, report.contest)
    candidates(page, report.decision)
    if report.chosen != FLOAT or not report.int8_nodes:  # what keeps int8 from being faster does not matter there
        left_float(page, report.int8_nodes, in_short(report.float_nodes))
    saturated(page, report.contest.aimed)
    for note in report.notes:
        page.note(note)
    page.note(f"{report.output}: {size(report.size_bytes)} in {report.seconds:.0f} s")
    go_on_with_bundle(page, report)


def built_for_device(page: Page, report: DeviceBuildReport) -> None:
    stages(page, report.stages)
    columns = ("", "tried", ">median ms", ">against the best so far (95 %)", ">SNR", "out because")
    rows = [
        (
            ">" if t.adopted else "", t.variant.name, t.p50_ms,
            "-" if t.ratio is None else f"{t.ratio.ratio:.2f}x ({t.ratio.low:.2f} to {t.ratio.high:.2f})",
            decibel(t.judged.snr_db if t.judged else None), t.refused,
        )
        for t in report.picked.tried
    ]  # fmt: skip
    page.table(columns, rows)
    by_reason(page, report.half.kept, "in float32")
    for note in report.notes:
        page.note(note)
    page.note(f"{report.output}: {size(report.size_bytes)} in {report.seconds:.0f} s")
    go_on_with_bundle(page, report, f" --provider {report.provider}")


def shortened(text: str, most: int) -> str:
    """`text` with its middle left out where it is longer than `most` characters.

    >>> shortened("features.0/Conv ... features.6/Mul in float", 24)
    'features.0...l in float'
    """
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def left_float(page: Page, integers: int, floats: Iterable[tuple[str, str]]) -> None:
    """What is float and why, one row a reason; a measured reason is of one operator alone."""
    floats = list(floats)
    page.note(f"{counted(integers, 'operator')} in int8, {len(floats)} in float.")
    by_reason(page, floats, "float operators")


def in_short(floats: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without what was measured of each operator, so that a reason is one row; `quantize` and --json have it all.

    >>> in_short([("a", "in float for the accuracy budget: alone in int8 it leaves 7.7 dB")])
    [('a', 'in float for the accuracy budget')]
    """
    return [(node, reason.partition(":")[0]) for node, reason in floats]


def kept_in_float32(page: Page, kept: Iterable[tuple[str, str]]) -> None:
    by_reason(page, kept, "in float32")


def by_reason(page: Page, kept: Iterable[tuple[str, str]], title: str) -> None:
    """(node, reason) as one row a reason."""
    found: dict[str, list[str]] = {}
    for node, reason in kept:
        found.setdefault(reason, []).append(node)
    rows = [(len(nodes), shortened(", ".join(nodes), 48), reason) for reason, nodes in found.items()]
    if rows:
        page.table((">", title, "because"), rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        page.note(f"... and {counted(len(rows) - MOST_ROWS, 'more reason')}; --json lists all")


KINDS = {"multi-label": "label", "regression": "number", "keypoints": "point"}
NAMES = {"r2": "R^2", "mean_absolute_errors": "mean absolute error", "psnr_db": "PSNR dB", "nme": "NME",
         "pck": "PCK", "pck_10": "PCK at 0.1"}  # fmt: skip


def scored(page: Page, report: EvaluateReport) -> None:
    """One row a model, one column a number; below that one row a class where the task tells classes apart.

    A mean over numbers of several units is not shown where each has its own.
    """
    first = report.models[0][1].details
    by_class = [key for key, value in first.items() if not isinstance(value, float)]
    numbers = [key for key in first if key not in by_class and f"{key}s" not in by_class]
    sure = any(report.intervals)
    columns = ("model", f">{report.metric}", *([">95 %"] if sure else []), *(f">{_heading(key)}" for key in numbers))
    rows = list[tuple[object, ...]]()
    for i, (name, s) in enumerate(report.models):
        value = (worth(s.value, s.unit, s.metric), *([report.range(i)] if sure else []))
        rows.append((name, *value, *(_told(key, s.details[key]) for key in numbers)))
    page.table(columns, rows)
    shown = [(key, name, s.details[key]) for key in by_class for name, s in report.models]
    if shown:
        rows = [(c, *(_told(key, found.get(c)) for key, _, found in shown)) for c in first[by_class[0]]]
        heads = (f">{_heading(key)} of {name}" for key, name, _ in shown)
        page.table((KINDS.get(report.task, "class"), *heads), rows[:MOST_ROWS])
    difference = [] if report.difference is None else [report.difference.method]
    for method in dict.fromkeys([*(found.method for found in report.intervals if found), *difference]):
        page.note(f"interval: {method}")


def _heading(key: str) -> str:
    return NAMES.get(key, key.replace("_", " "))


def _told(key: str, value: float | None) -> str:
    if value is None:
        return "-"
    return number(value) if key.startswith(("mean_absolute_error", "psnr_db")) else worth(value, "", _heading(key))


def inspected(page: Page, found: Inspection, every_layer: bool) -> None:
    page.pairs(_facts(found))
    for name, tensors in (("input", found.inputs), ("output", found.outputs)):
        page.pairs(
            (name, f"{t.name}  {t.dtype} [{', '.join('?' if d is None else str(d) for d in t.shape)}]") for t in tensors
        )
    if found.stages:
        stages(page, found.stages)
    layer_table(page, found.table)
    if found.rewritten:
        page.note(found.rewritten)
    if not every_layer:
        return
    columns = ("layer", "operator", "module", ">output", ">parameters", ">MACs")
    rows = [(y.name, y.op, y.module, "x".join(map(str, y.output or "?")), y.params, y.macs) for y in found.layers]
    page.table(columns, rows)


def layer_table(page: Page, table: Table) -> None:
    columns = ("layer", ">output", ">activations", ">float32", ">weights without biases", ">MACs")
    rows: list[tuple[object, ...]] = [
        (r.layer, r.shape, _rounded(r.activations), _size(r.activation_bytes), _product(r.formula, r.weights), r.macs)
        for r in table.rows
    ]
    elements = table.activations
    memory = None if elements is None else BYTES * elements
    page.table(columns, [*rows, ("total", "", _rounded(elements), _size(memory), number(table.weights), table.macs)])


def _rounded(count: int | None) -> str:
    return "-" if count is None else rounded(count)


def _size(count: int | None) -> str:
    return "-" if count is None else size(count)


def _product(formula: str, weights: int) -> str:
    return f"{formula} = {weights:,}" if formula else "0"


def _facts(found: Inspection) -> Iterable[tuple[str, object]]:
    if found.layout:
        yield "pictures", LAYOUTS[found.layout]
    yield "parameters", found.params
    yield "MACs", found.unknown_macs or "unknown" if found.macs is None else found.macs
    memory = found.activation_bytes
    yield "activation memory", "unknown" if memory is None else f"{size(memory)} at once"
    yield "size", size(found.size_bytes)
    if found.opset is not None:
        yield "opset", found.opset
    yield "operators", ", ".join(f"{count} {op}" for op, count in found.ops.items())
    for key, value in found.metadata.items():
        yield key, value if len(value) <= 200 else value[:197] + "..."


def examined(page: Page, found: Examination) -> None:
    page.pairs([("python", found.python), *machine_pairs(found.machine)])
    installed = [(name, version) for name, version in found.packages.items() if version is not None]
    page.table(("package", "version"), installed)
    page.table(("provider", "works", "because"), [(p.name, p.works, p.cause) for p in found.providers])
    for problem in found.problems:
        page.note(f"{problem.level}: {problem.message}")


def demonstrated(page: Page, report: DemoReport) -> None:
    """The demo: what was trained, the stages, the race, five digits with their answers, and what to do next."""
    page.note(report.training)
    stages(page, report.stages)
    candidates(page, report.built.decision)
    page.picture(["", *report.picture, ""])
    page.go_on(report.next_commands)
