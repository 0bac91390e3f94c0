"""Min-max calibration: a tensor's range is the smallest and the largest value that it took on any image.

    low = min over images of min(x)          high = max over images of max(x)

It never clips, so a single outlier sets the step size. Two numbers of memory per tensor, whatever the number of images.
Source: Jacob et al. 2018, section 3.1 (without the moving average). Test: tests/test_calibrators_contract.py.
"""

from __future__ import annotations

from runtimes.base import Array


class Calibrator:
    """Watches one tensor; see the folder's contract."""

    def __init__(self) -> None:
        self.low = float("inf")
        self.high = float("-inf")

    def observe(self, values: Array) -> None:
        if values.size:
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))

    def range(self) -> tuple[float, float]:
        if self.low > self.high:
            raise ValueError("no value was observed")
        return self.low, self.high
