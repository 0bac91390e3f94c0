"""The proof of a bundle in words and as a document, for `edgecnn verify` and for `python NAME.edge verify`.

    hashes of all members  ->  golden inputs through the model  ->  within the limits?  ->  whose code is packed in it?

A bundle's own code cannot vouch for itself: what changes the model could change the check as well. It finds damage.
An edgecnn that was installed from elsewhere is a second opinion, and says whether the code is its own.
Test: tests/test_predict.py, tests/test_device_bundle.py.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runtimes import bundle as bundles
from runtimes.base import CheckFailed, counted
from runtimes.bundle import Changed
from runtimes.proof.golden import DISAGREEMENT, MAX_ABS, NO_BOX, GoldenCheck, samples_in, without_boxes, worst_of
from runtimes.proof.prediction import open_bundle

Whose = Literal["own", "other", "itself"]
MOST_KINDS = 3
"""More are not told one by one in a sentence; the table has them all."""
OWN: Whose = "own"
OTHER: Whose = "other"
ITSELF: Whose = "itself"
WORDS: Mapping[Whose | None, str] = {
    OWN: "; the code packed in it is this edgecnn's own",
    OTHER: "; the code packed in it is NOT this edgecnn's: of another version, or changed",
    ITSELF: "; checked by its own code, which finds damage and not malice",
}


@dataclass(frozen=True)
class VerifyReport:
    """A bundle's hashes and golden outputs on this machine, and whose the code in it is; None where it has none."""

    bundle: str
    result: bundles.Verification
    code: Whose | None = None

    @property
    def golden(self) -> tuple[GoldenCheck, ...]:
        return self.result.golden

    @property
    def passed(self) -> bool:
        """Whether the bundle is proven here."""
        return self.result.passed

    @property
    def worst(self) -> GoldenCheck:
        """The check that is nearest to its limit, or furthest beyond it."""
        return worst_of(self.golden)

    @property
    def failure(self) -> CheckFailed | None:
        """What the command line exits with: None when the bundle is proven."""
        if self.passed:
            return None
        worst = self.worst
        return CheckFailed(
            f"{self.bundle}: golden outputs {differ(worst)}, the limit is {worst.limit:.3g}; "
            "build it again for this machine"
        )

    @property
    def verdict(self) -> str:
        word = "proven" if self.passed else "NOT proven"
        images = samples_in(self.golden)
        nothing = f"; {NO_BOX}" if self.golden and without_boxes(self.golden) else ""
        sizes = {check.shape for check in self.golden}
        return (
            f"{self.bundle}: {word} on {self.result.provider}; every hash is right, {counted(images, 'golden output')}"
            f"{f' of {len(sizes)} sizes' if len(sizes) > 1 else ''} "
            f"{', '.join(self._apart(images == 1))}{nothing}{WORDS.get(self.code, '')}."
        )

    def _apart(self, one: bool) -> Iterator[str]:
        """How far each kind of numbers is from the original, where there are a few; else the worst of all. `one`: of
        one output.
        """
        kinds = dict.fromkeys(check.of for check in self.golden)
        for i, kind in enumerate(kinds if len(kinds) <= MOST_KINDS else (None,)):
            worst = worst_of([check for check in self.golden if kind is None or check.of == kind])
            words = differ(worst, "at most ")
            words = words.replace(" by ", "s by ", 1) if one else words
            yield f"{words.partition(' by ')[2] if i else words} (limit {worst.limit:.3g})"

    def to_dict(self) -> dict[str, Any]:
        return {"bundle": self.bundle, **self.result.to_dict(), "code": self.code}


def differ(check: GoldenCheck, most: str = "") -> str:
    """Boxes disagree by a share of 1, numbers differ, by a number or by a share of what they should be.

    >>> differ(GoldenCheck(0.25, 1.0, MAX_ABS, of="scores"), "at most ")
    'differ by at most 0.25 in scores'
    """
    if check.measure == DISAGREEMENT:
        return f"disagree by {check.value:.3g}"
    where = f" in {check.of}" if check.of else ""
    if check.measure == MAX_ABS:
        return f"differ by {most}{check.value:.3g}{where}"
    return f"differ by a share of {check.value:.3g}{where}"


def verify(
    path: str | os.PathLike[str], provider: str, threads: int | None, own_code: Callable[[], Mapping[str, str]] | None
) -> VerifyReport:
    """Prove the bundle `path` here.

    `own_code` makes name -> SHA-256 of what the caller would pack; None where the caller itself came out of the bundle.
    Raises `CheckFailed` when a member is damaged or was changed after packing and `BadInput` for what is no bundle.
    """
    try:
        bundle = open_bundle(Path(path))
        result = bundles.verify(bundle, provider, threads)
    except Changed as error:  # elsewhere bad input; here it is the answer to what was asked
        found = {"bundle": os.fspath(path), "passed": False, "hashes": False, "golden": []}
        raise CheckFailed(str(error), found) from error
    code = bundle.code
    return VerifyReport(os.fspath(path), result, whose(code, own_code() if own_code and code else None))


def whose(code: Mapping[str, str], own_code: Mapping[str, str] | None) -> Whose | None:
    """Whose the `code` in a bundle is; None where there is none."""
    if not code:
        return None
    if own_code is None:
        return ITSELF
    return OWN if code == own_code else OTHER
