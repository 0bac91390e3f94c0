"""How near a graph must come to float32 on a CPU, by the arithmetic it runs in: one table for every command.

    relative L2  =  || y - y_ref || / || y_ref ||  =  10^(-SNR / 20)          1e-4 is 80 dB, 1e-2 is 40 dB

float32 sums in another order leave about 1.5e-6 after 20 layers; 1e-4 leaves room for networks of 300. TF32 rounds each
product's factors to 10 bits of mantissa (2.7e-3 after 20 layers), float16 also what is stored between the layers, with
the same 10 bits: both are held to 1e-2 and to the same answers on 99 of 100 images. A wrong layer leaves 1e-1 or more.
Test: tests/test_precision.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from runtimes.execution import provider_options
from runtimes.parity import ParityReport

MIN_IMAGES = 100
"""99 % of the answers can only be asked for where there are so many; with fewer, one close call would decide."""


@dataclass(frozen=True)
class Limit:
    """What one precision is held to; `top1` is the least share of images with the same first answer."""

    precision: str
    relative_l2: float
    top1: float

    @property
    def snr_db(self) -> float:
        return -20 * math.log10(self.relative_l2)

    def failures(self, parity: ParityReport) -> tuple[str, ...]:
        """One line for each output that is too far; answers count where there are enough images and classes."""
        return parity.failures(snr_db=self.snr_db, top1=self.top1_for(parity))

    def top1_for(self, parity: ParityReport) -> float | None:
        """The limit on answers for these images; None where it says nothing."""
        return self.top1 if parity.top1 is not None and parity.images >= MIN_IMAGES else None


LIMITS = {
    "fp32": Limit("fp32", 1e-4, 0.999),
    "tf32": Limit("tf32", 1e-2, 0.99),
    "fp16": Limit("fp16", 1e-2, 0.99),
}


def precision_of(provider: str, half: bool) -> str:
    """The arithmetic of a float graph on `provider`; `half`: it holds float16 tensors."""
    if half:
        return "fp16"
    return "tf32" if getattr(provider_options.parse(provider).options, "use_tf32", False) else "fp32"


def limit_of(provider: str, half: bool = False) -> Limit:
    return LIMITS[precision_of(provider, half)]


COARSER_DB = 20 * 13 * math.log10(2)
MARGIN_DB, FLOOR_DB = 10.0, 30.0


def coarse_limit_db(noise_db: float) -> float:
    """The least SNR in TF32 or float16 of a network whose own float32 noise is `noise_db`; never below 30 dB.

    >>> [round(coarse_limit_db(noise), 1) for noise in (math.inf, 130.0, 124.0, 104.0)]
    [40.0, 40.0, 35.7, 30.0]
    """
    return max(FLOOR_DB, min(LIMITS["fp16"].snr_db, noise_db - COARSER_DB - MARGIN_DB))
