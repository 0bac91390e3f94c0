"""Numbers as people read them in a table; more are in runtimes/words.py. Test: tests/test_report.py."""

from __future__ import annotations

import math

PLAIN = ("R^2", "SSIM")
"""Metrics that are no shares of anything, though 1 is best: they may be below 0, and are written as they are."""


def percent(share: float, sign: bool = False) -> str:
    """A share in a sentence.

    >>> percent(0.413), percent(0.0312), percent(-0.02, sign=True)
    ('41 %', '3.1 %', '-2.0 %')
    """
    digits = 0 if abs(share) >= 0.0995 else 1
    return f"{100 * share:{'+' if sign else ''}.{digits}f} %"


def decibel(value: float | None) -> str:
    """`123.4 dB`, `identical`, `NaN or Inf`, or `-` where nothing was compared.

    >>> decibel(41.53), decibel(math.inf), decibel(None)
    ('41.5 dB', 'identical', '-')
    """
    if value is None:
        return "-"
    if math.isinf(value):
        return "identical" if value > 0 else "not comparable"
    return f"{value:.1f} dB"


def size(count: float) -> str:
    """Bytes for people, decimal units.

    >>> [size(x) for x in (12, 61_706, 102_000_000)]
    ['12 B', '61.7 kB', '102 MB']
    """
    return _scaled(count, ("B", "kB", "MB", "GB"))


def amount(count: float) -> str:
    """A large count for people; exact ones are in the JSON.

    >>> [amount(x) for x in (950, 61_706, 11_689_512, 1_814_073_344)]
    ['950', '61.7 k', '11.7 M', '1.8 G']
    """
    return _scaled(count, ("", "k", "M", "G")).rstrip()


def rounded(count: int) -> str:
    """Two digits with K or M, exact below ten thousand: how the lectures print activations.

    >>> [rounded(x) for x in (1000, 4096, 25_088, 150_528, 802_816, 1_000_000, 15_237_608, 138_357_544)]
    ['1000', '4096', '25K', '150K', '800K', '1.0M', '15M', '140M']
    """
    if count < 10_000:
        return str(count)
    value = float(f"{count:.1e}") / 1000
    if value < 1000:
        return f"{value:.0f}K"
    return f"{value / 1000:.1f}M" if value < 10_000 else f"{value / 1000:.0f}M"


def _scaled(count: float, units: tuple[str, ...]) -> str:
    for unit in units:
        if count < 999.5 or unit == units[-1]:
            return f"{count:.0f} {unit}" if unit == units[0] or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def valued(value: float, unit: str = "", digits: int = 1, metric: str = "") -> str:
    """What a `metric` came to: a share in per cent, a number in its unit, or one that is neither.

    >>> valued(0.9512), valued(34.56789, "dB"), valued(0.9512, metric="R^2")
    ('95.1 %', '34.57 dB', '0.951')
    """
    if unit:
        return f"{value:.4g} {unit}"
    return f"{value:.{digits + 2}f}" if metric in PLAIN else f"{100 * value:.{digits}f} %"


def worth(value: float, unit: str, metric: str = "") -> str:
    """What a `metric` came to, in a sentence.

    >>> worth(0.9512, ""), worth(0.9512, "", "R^2")
    ('95.12%', '0.9512')
    """
    return valued(value, unit, 2, metric) if unit or metric in PLAIN else f"{value:.2%}"
