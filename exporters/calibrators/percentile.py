"""Percentile calibration: a tensor's range leaves out the outermost values, the same share on both sides.

    low = quantile((1 - P) / 2)        high = quantile(1 - (1 - P) / 2)        P = 99.999 %

It trades the clipping of few values for finer steps for all others, and pays where those few matter: P = 99.9 % loses 7
to 10 dB on trained classifiers, whose large activations carry the answer. Hence the cautious P.
Source: McKinstry et al. 2018, "Discovering Low-Precision Networks Close to Full-Precision Networks", section 3;
Wu et al. 2020, "Integer Quantization for Deep Learning Inference", section 3.1.
Test: tests/test_calibrators.py (oracle: numpy.quantile, ONNX Runtime's PercentileCalibrater).
"""

from __future__ import annotations

from exporters.quantization.histogram import Histogram
from runtimes.base import Array

PERCENTILE = 99.999


class Calibrator:
    """Watches one tensor; see the folder's contract."""

    def __init__(self, percentile: float = PERCENTILE) -> None:
        self.histogram = Histogram()
        self.cut = (1.0 - percentile / 100.0) / 2.0

    def observe(self, values: Array) -> None:
        self.histogram.add(values)

    def range(self) -> tuple[float, float]:
        return self.histogram.quantile(self.cut), self.histogram.quantile(1.0 - self.cut)
