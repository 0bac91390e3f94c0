"""The words all three floors share: named tensors, runners, progress, and the tree of errors.

    EdgeError                 exit 5   a bug, unless one of these:
    ├── CheckFailed           exit 1   a check that was asked for does not hold (parity, accuracy, budget, gate)
    ├── BadInput              exit 2   bad usage or bad input; the message says who can mend it
    ├── Inconclusive          exit 3   the machine is too noisy or the samples are too few to say anything
    └── Unavailable           exit 4   a provider, an instruction set or a package that was asked for is missing

A message is one line, `SUBJECT: what is wrong; what to do`, and names the value, the limit and what is near.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]
else:  # a tenth of a second of `edgecnn --help` is not worth a name that only annotations read
    Array = Any

Tensors = Mapping[str, Array]
Runner = Callable[[Tensors], Tensors]
T = TypeVar("T")

MESSAGE_LIMIT = 290
"""Characters in a message; with `error: ` in front of it a line stays under 300."""


def one_line(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """`text` as one line that is safe to show: control characters escaped, the middle cut out beyond `limit`.

    File names and messages of foreign libraries may hold newlines, colour codes and lone surrogates.

    >>> one_line("a\\nb")
    'a\\\\nb'
    """
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    half = (limit - 3) // 2
    return safe if len(safe) <= limit else f"{safe[:half]}...{safe[-half:]}"


def counted(count: int, thing: str, things: str = "") -> str:
    """A number and what it counts, for a sentence; `things` is the plural where that is not `thing` with an s.

    >>> counted(1, "run"), counted(1000, "run"), counted(0, "class", "classes")
    ('1 run', '1,000 runs', '0 classes')
    """
    return f"{count:,} {thing if count == 1 else things or f'{thing}s'}"


class EdgeError(Exception):
    """Root of every error this project raises on purpose; `exit_code` is what the command line returns for it.

    The message is made safe here (`one_line`), so that no place that raises or prints has to think of it.
    """

    exit_code = 5

    def __init__(self, message: str = "") -> None:
        super().__init__(one_line(message))


class CheckFailed(EdgeError):
    """`document` is what the check found, as JSON has it, for those who read that instead of the message."""

    exit_code = 1

    def __init__(self, message: str, document: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.document = dict(document or {})


class BadInput(EdgeError):
    exit_code = 2


class Inconclusive(EdgeError):
    exit_code = 3


class Unavailable(EdgeError):
    exit_code = 4


class Track(Protocol):
    """Wraps a long loop to show its progress: `for image in track(images, "calibrating")`."""

    def __call__(self, items: Sequence[T], label: str) -> Iterable[T]: ...


def silent(items: Sequence[T], label: str) -> Iterable[T]:
    """The library's default `Track`: draws nothing."""
    return items
