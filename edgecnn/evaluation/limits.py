"""What `evaluate` is asked to hold a model to. Test: tests/test_evaluate.py."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runtimes.base import BadInput


@dataclass(frozen=True)
class Limits:
    """What a model must hold: `max_drop`, the metric lost from the first model to the second, as in `quantize`;
    `min_metric`, of the model (of two: the second). Shares: 0.01 is a point. `sure`: the whole 95 % interval, of what
    is lost and of the metric, must be within the limit, and not the measured value alone.

    >>> print(Limits(0.01, 0.95)), print(Limits(0.01, sure=True))
    --max-drop 0.01 and --min-metric 0.95
    --max-drop 0.01 --sure
    (None, None)
    """

    max_drop: float | None = None
    min_metric: float | None = None
    sure: bool = False

    def __str__(self) -> str:
        named, how = (("--max-drop", self.max_drop), ("--min-metric", self.min_metric)), " --sure" if self.sure else ""
        return " and ".join(f"{name} {value:g}{how}" for name, value in named if value is not None)

    @property
    def each(self) -> list[Limits]:
        """Those that were given, one by one."""
        alone = [Limits(max_drop=self.max_drop, sure=self.sure), Limits(min_metric=self.min_metric, sure=self.sure)]
        return [one for one in alone if one.max_drop is not None or one.min_metric is not None]

    def check(self, models: int, unit: str = "") -> None:
        """Raise `BadInput` for a limit that says nothing of so many models, or is no share and has no `unit`."""
        for name, value in (("--max-drop", self.max_drop), ("--min-metric", self.min_metric)):
            low = -math.inf if unit and name == "--min-metric" else 0
            if value is not None and not low <= value <= (math.inf if unit else 1):
                raise BadInput(f"{name} {value}: is no share; give a number from 0 to 1 (0.01 is a point)")
        if self.sure and self.max_drop is None and self.min_metric is None:
            raise BadInput("--sure: holds a limit to the far end of its interval; give --max-drop or --min-metric too")
        if self.max_drop is not None and models < 2:
            raise BadInput(f"--max-drop {self.max_drop:g}: one model loses nothing; give two, or --min-metric")


NO_LIMITS = Limits()
