"""Progress where stderr is no terminal, as in the log of a continuous integration: a plain line now and then.

    progress: training: 120 of 600 done, 40 s

Nothing for the first ten seconds, then a line when ten more have passed, or a tenth of all so far: a day is 80 lines.
A loop of few, long steps is told by a thread, which sleeps between its lines; one of many short steps between two of
them: it may be a race, and the thread would run on its clock. Test: tests/test_progress.py.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO, TypeVar

from runtimes.words import safe

T = TypeVar("T")
FIRST_SECONDS, SHARE = 10.0, 0.1
MANY_STEPS = 50


@dataclass
class Loop:
    label: str
    steps: int
    done: int = 0

    @property
    def words(self) -> str:
        return f"{self.label}: {self.done} of {self.steps} done" if self.steps > 1 else self.label


class Lines:
    """A `Track` (see runtimes/base.py) that writes lines on `stream`; the innermost loop is the one that is told."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream, self.clock = stream, clock
        self.begun = self.told = clock()
        self.loops: list[Loop] = []
        self.over = threading.Event()
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def __call__(self, items: Sequence[T], label: str) -> Iterator[T]:
        loop = Loop(safe(label), len(items) if hasattr(items, "__len__") else 0)
        self.loops.append(loop)
        self._watch(loop)
        try:
            for item in items:
                self.tell()
                yield item
                loop.done += 1
            self.tell()
        finally:
            self.loops.remove(loop)
            if not self.loops:
                self._stop()

    def tell(self) -> None:
        """Write a line if it is time for one."""
        with self.lock:
            now, loops = self.clock(), list(self.loops)
            if not loops or now < self.due:
                return
            self.told = now
            with contextlib.suppress(OSError, ValueError):  # stderr may be closed
                self.stream.write(f"progress: {loops[-1].words}, {now - self.begun:.0f} s\n")
                self.stream.flush()

    @property
    def due(self) -> float:
        return self.told + max(FIRST_SECONDS, SHARE * (self.told - self.begun))

    def _watch(self, loop: Loop) -> None:
        """Let a thread tell of the outermost loop and what is in it, if its steps are few."""
        if len(self.loops) == 1 and loop.steps < MANY_STEPS:
            self.over.clear()
            self.thread = threading.Thread(target=self._work, daemon=True)
            self.thread.start()

    def _work(self) -> None:
        while not self.over.wait(max(self.due - self.clock(), 0.01)):
            self.tell()

    def _stop(self) -> None:
        self.over.set()
        if self.thread is not None:
            self.thread.join()
            self.thread = None
