"""Pictures of 16 bits: which value is white, what they are as levels of 0..255, and whether they look right.

    levels = 255 min(v, white) / white          float32, no bit is lost       white 65535 where nobody says otherwise

X-ray and CT write 12 bits into 16: of such a picture the 65535 would leave a sixteenth of what white is, so that it is
told. Pictures of 8 bits have 255 for white, always. Test: tests/test_depth.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from runtimes.base import Array, BadInput

FULL, LEVELS = 65535, 255
DARK = 4
"""A picture whose largest value is below white by more than this factor most likely has another white."""

MOST_LOOKED_AT = 32
"""Pictures of a set that are looked at."""


@dataclass(frozen=True)
class Look:
    """What there is to a picture besides its pixels: pages (of which the first is read), and the largest value of one
    of 16 bits; None for 8 bits, and where the file itself says which value is white.
    """

    frames: int = 1
    peak: int | None = None


PLAIN = Look()


def is_deep(dtype: np.dtype[np.generic]) -> bool:
    """Whether numbers of `dtype` are pixels of 16 bits."""
    return dtype.kind == "u" and dtype.itemsize == 2


def levels(image: Array, white: int | None) -> Array:
    """`image` of 8 bits as it is, or, of 16, its levels, float32 of 0..255: what is above `white` is white. Raises
    `BadInput` for what is no picture.

    >>> levels(np.array([[0, 2048, 4095, 5000]], np.uint16), 4095)
    array([[  0.      , 127.531136, 255.      , 255.      ]], dtype=float32)
    """
    deep = is_deep(image.dtype)
    if not (deep or image.dtype == np.uint8) or image.ndim not in (2, 3) or 0 in image.shape:
        held = f"{image.dtype.name} {list(image.shape)}"
        raise BadInput(f"image: {held}; uint8 or uint16 (H, W) or (H, W, 1|3|4) is needed")
    if not deep:
        return image
    most = FULL if white is None else white
    # 255 * 65535 is below 2**24, so that the product is exact, and the quotient rounded once
    return np.minimum(image, most).astype(np.float32) * np.float32(LEVELS) / np.float32(most)


def eight_bits(image: Array, white: int | None) -> Array:
    """`image`, uint8: of 16 bits its levels, rounded."""
    return rounded(levels(image, white))


def rounded(values: Array) -> Array:
    """Levels of 0..255 as uint8."""
    return values if values.dtype == np.uint8 else np.rint(values).astype(np.uint8)


def oddities(name: str, looks: Iterable[Look], white: int | None) -> tuple[str, ...]:
    """What a user should hear of the pictures of `name`, a line each: another white level, pages that nobody reads."""
    seen = list(looks)
    peaks = [look.peak for look in seen if look.peak is not None]
    paged = [look.frames for look in seen if look.frames > 1]
    lines = [_of_white(name, max(peaks), white)] if peaks else []
    if paged:
        held = f"has {max(paged)} pages" if len(seen) == 1 else f"has pictures of several pages (up to {max(paged)})"
        lines.append(f"{name}: {held}, only the first is read; save each as a picture of its own")
    return tuple(line for line in lines if line)


def _of_white(name: str, peak: int, white: int | None) -> str:
    most = FULL if white is None else white
    where = "in the preprocessing (docs/preprocess.md)"
    if peak > most:
        return f'{name}: 16-bit values of up to {peak} are cut off at white, {most}; set "white": {peak} {where}'
    if peak * DARK >= most or not peak:
        return ""
    likely = max((1 << peak.bit_length()) - 1, LEVELS)
    return (
        f"{name}: the largest value of its 16-bit pictures is {peak}, and white is {most}: they are nearly black; "
        f'if {likely} is white, set "white": {likely} {where}'
    )
