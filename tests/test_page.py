"""The page of a bundle: whole HTML, nothing from elsewhere, nothing unescaped, and the manifest's own numbers."""

from __future__ import annotations

import base64
import html
import io
import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecnn import api
from edgecnn.choosing.names import EXACT, meanings
from edgecnn.cli import main
from edgecnn.page import facts, pictures
from edgecnn.page.html import VOID, escaped, number, table
from edgecnn.page.race import cost_in_words
from edgecnn.plots.race import Point, speed_and_cost
from exporters.pack import pack
from runtimes.bundle import open_bundle
from runtimes.imaging.preprocess import INPUTS, Preprocess
from runtimes.session import open_session
from small_nets import model
from test_predict import ABOUT, NET, bundle, det_bundle, repacked, seg_bundle

__all__ = ["bundle"]
ROOT = Path(__file__).resolve().parent.parent
BAD = '<script>alert("x")</script>\u202e&'
RATIO = {"a": "int8", "b": "float", "ratio": 1.7134, "low": 1.6021, "high": 1.8321, "verdict": "faster"}
NO_COST = {"snr_db": None, "agreement": None, "accuracy": None, "drop": None, "drop_high": None, "refused": ""}
FLOAT = {
    "name": "float",
    "kind": "float",
    "size_bytes": 12345,
    "p50_ms": 1.25,
    "speedup": None,
    **NO_COST,
    "accuracy": 0.97,
}
INT8 = {"name": "int8", "kind": "int8", "size_bytes": 4321, "p50_ms": 0.75, "speedup": RATIO, "snr_db": 33.21,
        "agreement": 0.995, "accuracy": 0.96, "drop": 0.01, "drop_high": 0.0175, "refused": ""}  # fmt: skip
PLAIN = {**INT8, **NO_COST, "name": "plain int8", "refused": "only for comparison"}
TOLD = {
    "chosen": "int8", "winner": "int8", "metric": "top-1", "verdict": "int8 is 1.71x of float's speed: chose int8",
    "weights": "w.pt", "candidates": [FLOAT, PLAIN, INT8],
    "stages": [{"name": "export", "seconds": 1.5, "size_bytes": 2000, "nodes": 9, "snr_db": 999, "max_abs": 0.0,
                "note": ""},
               {"name": "quantize", "seconds": 2.5, "size_bytes": 900, "nodes": 19, "snr_db": 31.5, "max_abs": 0.0123,
                "note": "5 int8 nodes"}],
    "recipe": {"data": "photos", "images": 128, "calibrator": "minmax", "weights": "int8", "activations": "uint8"},
    "target": {"name": "avx2", "this_cpu": True, "measured_db": [14.0, 34.5],
               "layers": [{"node": "conv", "loss_db": 3.25, "exact_db": 40.0, "seven_bits_db": 36.5, "choice": "s7"}]},
    "search": {"seconds": 3.0, "complete": True, "accuracy": [{"name": "equalize", "before_db": 14.25, "after_db": 15.5,
               "kept": True, "seconds": 0.5, "note": ""}],
               "steps": [{"what": "all rewrites", "ratio": 1.01, "low": 0.99, "high": 1.03, "adopted": False}],
               "layers": [{"node": "wins", "kind": "int8", "int8_us": 10.0, "float_us": 30.0, "why": ""},
                          {"node": "loses", "kind": "float", "int8_us": 25.0, "float_us": 5.0, "why": "slow"}]},
    "race": {"clock": "cpu", "rounds": 3, "threads": 1,
             "times_ms": {"float": [1.2, 1.25, 1.3], "int8": [0.7, 0.75, 0.8]}},
    "machine": {"cpu": "A CPU", "isa": ["avx2"], "cores": 2, "memory_mb": 2048, "onnxruntime": "1.2"},
}  # fmt: skip
SECTIONS = ["summary", "samples", "race", "layers", "stages", "inputs", "usage"]


class Read(HTMLParser):
    """Tags are balanced; keeps ids, links, cells, exact numbers and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.numbers: set[float] = set()
        self.attributes: list[tuple[str, str, str]] = []
        self.tags: Counter[str] = Counter()
        self.words = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, key, value or "") for key, value in attrs]
        self.ids += [value or "" for key, value in attrs if key == "id"]
        self.numbers |= {float(value or "nan") for key, value in attrs if (tag, key) == ("data", "value")}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


def page(path: Path, **options: object) -> tuple[str, Read]:
    out = path.with_suffix(".html")
    api.report(path, out, force=True, **options)  # type: ignore[arg-type]
    text = out.read_text("utf-8")
    return text, Read(text)


def sound(text: str, read: Read) -> None:
    """What holds for every page: one file, no scripts, each id once, links that lead somewhere, words for pictures."""
    assert len(text) < 1_000_000
    assert not re.search(r"https?:|//[a-z]|@import|@font-face", re.sub(r"base64,[^\"]*", "", text))
    assert not {"script", "link", "iframe", "object"} & read.tags.keys()
    assert not [a for a in read.attributes if a[1].startswith("on")]
    assert [name for name, count in Counter(read.ids).items() if count > 1] == []
    sources = [v for t, k, v in read.attributes if k in ("src", "href")]
    assert all(v.startswith("data:image/") or v[1:] in read.ids for v in sources)
    assert sum(k == "alt" and len(v) > 5 for _, k, v in read.attributes) == read.tags["img"]
    assert read.tags["h1"] == 1
    assert read.tags["th"] > 0


def test_an_int8_bundle_tells_all_that_its_manifest_does(bundle: Path) -> None:
    path = repacked(bundle, **TOLD)
    text, read = page(path)
    sound(text, read)
    report = api.report(path, path.with_suffix(".html"), force=True)
    assert list(report.sections) == SECTIONS
    assert all(name in read.ids for name in SECTIONS)
    for entry in (RATIO, INT8, *TOLD["stages"], *TOLD["search"]["layers"], *TOLD["target"]["layers"]):
        wanted = {float(v) for v in entry.values() if isinstance(v, int | float)} - {999.0}
        assert wanted <= read.numbers, entry
    assert read.words.index("loses") < read.words.index("wins")  # where int8 loses most first
    assert all(word in read.words for word in ("1.71x", "1.60 to 1.83", "A CPU", "photos", "only for comparison"))
    assert text.count('class="marked"') == 1
    assert read.tags["svg"] == 2
    assert path.with_suffix(".html").read_text("utf-8") == text  # the same bytes


def test_the_verdict_names_its_cpu(bundle: Path) -> None:
    """The page may be read, and written, on another."""
    _, read = page(repacked(bundle, **{**TOLD, "verdict": "int8 is 1.71x of float's speed on this CPU: chose int8"}))
    words = " ".join(read.words.split())
    assert words.count("1.71x of float's speed on A CPU: chose int8") == 2
    assert "this CPU" not in words


def test_hostile_text_is_text(bundle: Path) -> None:
    told = json.loads(json.dumps(TOLD).replace("photos", "HOSTILE").replace('"conv"', '"HOSTILE"').replace(
        '"wins"', '"HOSTILE"').replace("only for comparison", "HOSTILE").replace("A CPU", "HOSTILE").replace(
        '"plain int8"', '"HOSTILE"').replace("5 int8 nodes", "HOSTILE").replace('"w.pt"', '"HOSTILE"')
        .replace("HOSTILE", json.dumps(BAD)[1:-1]))  # fmt: skip
    labels = [BAD] * 10
    text, read = page(repacked(bundle, **{**told, "labels": labels, "name": BAD, "verdict": BAD}))
    sound(text, read)
    assert "<script" not in text
    assert "\u202e" not in text
    assert text.count(html.escape('<script>alert("x")</script>', quote=True)) > 15


@pytest.mark.parametrize("wrong", [None, 3, "x", [], {}, [1], [{}], {"x": 1}, 10**400, [{"name": 3, "layers": "x"}]])
def test_entries_of_a_wrong_type_are_not_there(wrong: object, bundle: Path) -> None:
    changes = dict.fromkeys((*TOLD, "judged_on", "provider"), wrong) | {"chosen": "float"}
    text, read = page(repacked(bundle, **changes))
    sound(text, read)
    assert {"summary", "samples", "inputs", "usage"} <= set(read.ids)


def test_warnings_are_only_where_they_are_due(bundle: Path) -> None:
    assert 'class="warning"' not in page(repacked(bundle, **TOLD))[0]
    changes = {"weights": "random, seed 0", "recipe": {"data": "random:8", "images": 8}}
    _, read = page(repacked(bundle, **{**TOLD, **changes, "candidates": [{**INT8, "accuracy": None}]}))
    assert all(w in read.words for w in ("weights are random", "random data (random:8)", "no labelled images"))
    _, read = page(repacked(bundle, **{**TOLD, "target": {"name": "vnni", "this_cpu": False}}))
    assert "CPU with vnni; its speed there is predicted" in read.words


@pytest.mark.parametrize(
    ("task", "cost"),
    [("classification", "answers changed, %"), ("segmentation", "masks apart, %"), ("multi-label", "labels apart, %")],
)
def test_the_cost_without_labels_has_the_name_of_what_was_compared(task: str, cost: str, bundle: Path) -> None:
    unlabelled = [{**candidate, "accuracy": None} for candidate in (FLOAT, INT8)]
    opened = open_bundle(repacked(bundle, **{**TOLD, "candidates": unlabelled}))
    known = replace(opened, manifest={**opened.manifest, "task": task})
    assert cost_in_words(facts.Facts(known, "", 0)) == cost


def test_a_float_winner_says_that_int8_lost(bundle: Path) -> None:
    text, read = page(repacked(bundle, **{**TOLD, "chosen": "float", "winner": "float", "verdict": "kept float"}))
    sound(text, read)
    assert "is not in this bundle" in read.words
    assert "which was not chosen" in read.words
    assert re.search(r'<tr class="marked"><th scope="row"><span>float', text)


def test_a_name_that_does_not_speak_for_itself_is_explained(bundle: Path) -> None:
    """What it means stands by the race, and on which images an SNR was measured by each of both."""
    mixed = {**INT8, "name": EXACT}
    _, read = page(repacked(bundle, **{**TOLD, "candidates": [FLOAT, INT8, mixed]}))
    words = " ".join(read.words.split())
    assert meanings([EXACT])[0] in words
    assert "SNR: on the images judged." in words
    assert "Measured in the whole graph, on a few calibration images: 14.0 dB before, 34.5 dB with other" in words
    _, read = page(repacked(bundle, **TOLD))
    assert meanings([EXACT])[0] not in " ".join(read.words.split())


@pytest.mark.parametrize("name", [EXACT, "int8", "portable"])
def test_the_winner_of_a_bundle_that_does_not_name_it(name: str, bundle: Path) -> None:
    entries = [FLOAT, PLAIN, INT8, {**INT8, "name": EXACT}, {**INT8, "name": "portable"}]
    opened = repacked(bundle, **{**TOLD, "winner": None, "candidates": entries, "verdict": f"x: chose {name}"})
    from edgecnn.page.write import read

    winner = read(opened).winner
    assert winner is not None
    assert winner.name == name


def test_masks_and_boxes_are_drawn(tmp_path: Path) -> None:
    text, read = page(seg_bundle(tmp_path / "s.edge"))
    sound(text, read)
    assert read.tags["img"] == 3
    assert "the class of PyTorch to 100.00 % of the pixels" in read.words
    text, read = page(det_bundle(tmp_path / "d.edge"))
    sound(text, read)
    assert read.tags["image"] == 2
    assert read.tags["rect"] == 2 * 2 * 2  # two sides, two boxes above the score, a dark and a bright line
    assert "1 cat 75%, 2 dog 50%" in read.words


def test_inputs_that_are_no_pictures(tmp_path: Path) -> None:
    net = model('<ir_version: 9, opset_import: ["" : 20]> g (float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }')
    given = np.ones((2, 4), np.float32)
    tensor = {"dtype": "float32", "shape": ["N", 4]}
    about = {**ABOUT, "task": "other", "preprocess": None, "labels": []}
    about |= {"input": {"name": "x", **tensor}, "output": {"name": "y", **tensor}}
    pack(tmp_path / "r.edge", net, about, [given], [given], 0.0)
    text, read = page(tmp_path / "r.edge")
    sound(text, read)
    assert read.tags["img"] == 0
    assert "edgecnn run r.edge inputs.npy" in read.words


@pytest.mark.parametrize("kind", INPUTS)
def test_pixels_come_back(kind: str) -> None:
    preprocess = Preprocess((5, 7), 3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25), input=kind)
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    shown = pictures.pixels_of(preprocess(image), preprocess)
    assert shown is not None
    np.testing.assert_array_equal(shown, image)
    blue_first = replace(preprocess, bgr=True)
    np.testing.assert_array_equal(pictures.pixels_of(blue_first(image), blue_first), image)
    data = base64.b64decode(pictures.data_uri(shown).partition(",")[2])
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(data))), image)
    large = pictures.data_uri(np.zeros((640, 320, 3), np.uint8)).partition(",")[2]
    assert Image.open(io.BytesIO(base64.b64decode(large))).size == (160, 320)


def test_verify_is_told_and_a_failure_still_writes_the_page(bundle: Path, tmp_path: Path) -> None:
    _, read = page(bundle, verify=True)
    assert "verified" in read.ids
    assert "proven on cpu" in read.words
    images = np.random.default_rng(0).standard_normal((3, 3, 8, 8)).astype(np.float32)
    far = tmp_path / "far.edge"
    pack(far, NET, ABOUT, [images], [open_session(NET)({"x": images})["y"] + np.float32(0.01)], 0.01)
    copy = repacked(far, golden={"images": 3, "limit_max_abs": 1e-3})
    assert main(["report", str(copy), "-o", str(tmp_path / "far.html"), "--verify"]) == 1
    assert "NOT proven" in (tmp_path / "far.html").read_text("utf-8")
    assert "BEYOND the limit" in (tmp_path / "far.html").read_text("utf-8")


def test_the_command_its_json_and_its_errors(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.html"
    assert main(["report", str(bundle), "-o", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"output": str(out), "bytes": out.stat().st_size, "sections": ["summary", "samples", "inputs",
                                                                                      "usage"]}  # fmt: skip
    for args, words in (
        ([str(bundle), "-o", str(out)], "exists already; give another name or --force"),
        ([str(bundle), "-o", str(tmp_path / "r.pdf")], "is no page's name; end it with .html"),
        ([str(tmp_path / "none.edge"), "-o", str(tmp_path / "n.html")], "no such file"),
        ([str(out), "-o", str(tmp_path / "n.html")], "is no bundle"),
    ):
        assert main(["report", *args]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "n.html").exists()


def test_it_imports_neither_torch_nor_onnx(bundle: Path) -> None:
    script = (
        "import sys; from edgecnn.cli import main; print(main(), [m for m in ('torch', 'onnx') if m in sys.modules])"
    )
    out = bundle.with_suffix(".html")
    command = [sys.executable, "-c", script, "report", str(bundle), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_the_builder_escapes() -> None:
    assert escaped('<a b="c">\x00') == "&lt;a b=&quot;c&quot;&gt;\\x00"
    assert number(None, "x") == "–"
    assert '<th scope="row">&lt;i&gt;</th>' in table("c", ("a", ">b"), [["<i>", "1"]])
    assert facts.real(True) is facts.real("1") is facts.real(10**400) is None


def test_a_candidate_that_was_not_judged_does_not_stand_where_better_is() -> None:
    points = [Point("plain int8", 2.5, 2.4, 2.6, None, None), Point("int8", 2.7, 2.6, 2.8, 0.3, 1.8)]
    axes = speed_and_cost(points, "points of top-1 lost").axes[0]
    unknown, known = (bar.lines[0].get_xdata()[0] for bar in axes.containers)
    assert known == 0.3
    assert unknown > 1.8  # the end of the other's interval: further right is worse
    labels = {
        round(float(place), 6): text.get_text()
        for place, text in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    }
    assert labels[round(float(unknown), 6)] == "not\njudged"


def test_tables_of_samples_stack_on_a_narrow_screen(bundle: Path) -> None:
    """Each cell then tells its column itself, for the headings are out of sight; wide tables of the race stay."""
    text, _ = page(bundle)
    samples = re.search(r'<section id="samples".*?</section>', text, re.S)
    assert samples is not None
    tables = re.findall(
        r'<div class="([\w ]+)" role="region".*?<thead>(.*?)</thead><tbody>(.*?)</tbody>', samples[0], re.S
    )
    assert len(tables) >= 2
    for kinds, head, body in tables:
        names = re.findall(r"<th[^>]*>(.*?)</th>", head)
        assert kinds == "wide stacks"
        for row in body.split("</tr>")[:-1]:
            assert re.findall(r'<td[^>]* data-label="([^"]*)"', row) == names[1:]
    narrow = re.search(r"@media\(max-width:34rem\)\{(.*?)@media", text, re.S)
    assert narrow is not None
    assert ".stacks td::before{content:attr(data-label)" in narrow[1]
    assert "stacks" not in table("c", ("a", ">b"), [["x", "1"]])
