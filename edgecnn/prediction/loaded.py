"""A bundle that stays open, for programs that answer again and again: `api.run` without what only the first one needs.

    load: opened, every hash checked, the model on its provider      once
    run:  made ready, run, told                                      for each picture, from any thread

Test: tests/test_loaded.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgecnn.prediction.predict import Source, answered
from edgecnn.tracked import walked
from runtimes.base import Track, silent
from runtimes.bundle import Bundle
from runtimes.proof.prediction import How, RunReport, opened_to_run
from runtimes.session import Session


@dataclass(frozen=True, eq=False)
class Loaded:
    """An open `bundle`, which the caller called `name`, and the `session` of its model. There is nothing to close: it
    goes with the last name for it.
    """

    name: str
    bundle: Bundle = field(repr=False)
    session: Session

    def run(
        self,
        inputs: Sequence[Source] | Source,
        *,
        require_all: bool = False,
        top: int | None = None,
        min_score: float | None = None,
        save: str | os.PathLike[str] | None = None,
        force: bool = False,
        track: Track = silent,
    ) -> RunReport:
        """What `api.run` reports of the `inputs`, in the same words and numbers; any number of threads may ask."""
        session = self.session
        how = How(session.provider, session.threads, require_all, top, min_score, save, force)
        return answered(self.bundle, self.name, inputs, how, walked(track), session)


def load(
    bundle: str | os.PathLike[str],
    *,
    provider: str = "cpu",
    threads: int | None = None,
    input_shape: str | None = None,
) -> Loaded:
    """`bundle`, opened and checked, to be run many times: its file is read now, and no more.

    `input_shape`: the size at which a bundle of open size sees images. Raises `BadInput`, `Unavailable`.
    """
    opened = opened_to_run(Path(bundle), input_shape)
    return Loaded(os.fspath(bundle), opened, opened.session(provider, threads))
