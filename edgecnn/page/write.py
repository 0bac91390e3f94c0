"""`edgecnn report`: the sections put together, one self-contained HTML file written whole.

The same bundle gives the same bytes on the same machine: no dates, no random names. Test: tests/test_page.py.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import edgecnn
from edgecnn.page.facts import Facts
from edgecnn.page.html import Html, Section, escaped, joined, section, tag
from edgecnn.page.inputs import inputs
from edgecnn.page.layers import layers
from edgecnn.page.race import race
from edgecnn.page.road import road
from edgecnn.page.samples import samples
from edgecnn.page.style import STYLE
from edgecnn.page.summary import summary, verified
from edgecnn.page.usage import usage
from edgecnn.prediction import predict
from runtimes.base import BadInput, CheckFailed
from runtimes.files import check_output, write_atomic
from runtimes.proof.prediction import open_bundle
from runtimes.proof.verification import VerifyReport

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""A browser that knows it loads nothing for this page and runs no script in it, whatever the bundle says."""
SUFFIXES = (".html", ".htm")
PathText = str | os.PathLike[str]


@dataclass(frozen=True)
class PageReport:
    """A page on disk. `sections`: the names (anchors) of its parts. `verified`: what `verify` said, if it was asked."""

    output: Path
    bundle: Path
    size_bytes: int
    sections: tuple[str, ...]
    verified: VerifyReport | None = None

    @property
    def failure(self) -> CheckFailed | None:
        """What the command line exits with: the page is written also where the proof does not hold here."""
        return self.verified.failure if self.verified is not None else None

    @property
    def verdict(self) -> str:
        proof = f"{self.verified.verdict} " if self.verified is not None else ""
        return f"{proof}{self.output}: {len(self.sections)} sections about {self.bundle}, in one file."

    def to_dict(self) -> dict[str, Any]:
        document = {"output": str(self.output), "bytes": self.size_bytes, "sections": list(self.sections)}
        return document | ({"verify": self.verified.to_dict()} if self.verified is not None else {})


def report(
    bundle: PathText,
    output: PathText,
    *,
    verify: bool = False,
    provider: str = "cpu",
    threads: int | None = None,
    force: bool = False,
) -> PageReport:
    """Write the page about `bundle` to `output`; with `verify` it is proven on this machine first.

    The golden samples are answered on `provider`. Raises `BadInput` for what is no whole bundle, `CheckFailed` for one
    that was changed after packing where `verify` asks for proof; a failed comparison is in the report.
    """
    path, out = Path(bundle), _checked(Path(output), force)
    proof = predict.verify(path, provider=provider, threads=threads) if verify else None
    facts = read(path)
    session = facts.bundle.session(provider, threads)
    told = verified(replace(proof, bundle=path.name)) if proof is not None else None
    parts = (summary(facts), told, samples(facts, session), race(facts), layers(facts), road(facts), inputs(facts),
             usage(facts))  # fmt: skip
    shown = [part for part in parts if part is not None]
    data = document(facts, shown).encode()
    write_atomic(out, data)
    return PageReport(out, path, len(data), tuple(part.name for part in shown), proof)


def _checked(output: Path, force: bool) -> Path:
    if output.suffix.lower() not in SUFFIXES and not output.is_dir():
        raise BadInput(f"{output}: is no page's name; end it with .html")
    return check_output(output, force)


def read(path: Path) -> Facts:
    """The bundle `path` and the hash of its file."""
    opened = open_bundle(path)
    with open(path, "rb") as stream:
        return Facts(opened, hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)


def document(facts: Facts, parts: Sequence[Section]) -> str:
    bundle = facts.bundle
    title = f"{bundle.name}: {bundle.chosen} bundle"
    head = tag("head", tag("meta", charset="utf-8"),
               tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
               tag("meta", name="color-scheme", content="light dark"),
               Html(f'<meta http-equiv="Content-Security-Policy" content="{escaped(POLICY)}">'),
               tag("title", title), tag("style", Html(STYLE)))  # fmt: skip
    links = tag("ul", *(tag("li", tag("a", part.title, href=f"#{part.name}")) for part in parts))
    kicker = tag("p", f"{bundle.task}, {bundle.chosen}, {facts.file}", class_="kicker")
    footer = tag("footer", tag("p", f"Written by edgecnn {edgecnn.__version__} from {facts.file}, SHA-256 ",
                               tag("span", facts.sha256, class_="hash"), "."))  # fmt: skip
    body = tag("body", tag("header", tag("h1", bundle.name), kicker), tag("nav", links, aria_label="Sections"),
               tag("main", *map(section, parts)), footer)  # fmt: skip
    return f"<!DOCTYPE html>\n{tag('html', joined([head, body], chr(10)), lang='en')}\n"
