"""Pictures are made ready as when the bundle was packed: a made one, and a few of the numbers that it became.

    picture (61, 97, C): edges, ramps, every grey level  --preprocess-->  32 numbers, kept in the manifest as `pixels`

Golden inputs are ready for the network, so that they prove nothing of what is in front of it: a changed mean, another
resize, a newer reader that does it otherwise. Test: tests/test_pixel_proof.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.imaging.preprocess import Preprocess
from runtimes.proof.archive import Changed

HEIGHT, WIDTH, NUMBERS = 61, 97, 32
"""Neither side is a multiple of what networks take, so that a resize shows."""
NEAR = 1e-4
"""Of the range of what pixels become: float32 rounds at 1e-7 of it, a grey level is 4e-3."""
PIXELS = "pixels"


def picture(channels: int) -> Array:
    """uint8 (61, 97, channels): the same everywhere."""
    rows, columns, planes = np.ogrid[:HEIGHT, :WIDTH, :channels]
    return np.asarray((7 * rows + 11 * columns + 3 * rows * columns // 16 + 80 * planes) % 256, np.uint8)


def numbers_of(preprocess: Preprocess) -> list[float]:
    """What of that picture is kept; where a white level is set, of its squares, as 8 bits know nothing of it."""
    seen = picture(preprocess.channels)
    seen = seen if preprocess.white is None else seen.astype(np.uint16) ** 2
    ready = preprocess(seen).reshape(-1)
    return [round(float(value), 6) for value in ready[np.linspace(0, ready.size - 1, NUMBERS).astype(int)]]


def require_same(manifest: Mapping[str, Any], preprocess: Preprocess | None, subject: str) -> None:
    """Raise `Changed` where pictures are made ready otherwise than when the `manifest` of `subject` was written, and
    `BadInput` where it holds no such numbers; what was packed before they were kept has none.
    """
    said = manifest.get(PIXELS)
    if said is None or preprocess is None:
        return
    if not isinstance(said, list) or len(said) != NUMBERS or not all(type(value) in (int, float) for value in said):
        raise BadInput(f"{subject}: manifest.json has no proper {PIXELS!r}; build it again")
    made = numbers_of(preprocess)
    low, high = preprocess.bounds
    worst = max(range(NUMBERS), key=lambda i: abs(made[i] - said[i]))
    if abs(made[worst] - said[worst]) > NEAR * (high - low):
        apart = f"a number is {made[worst]:.4g} and was {said[worst]:.4g}"
        raise Changed(
            f"{subject}: pictures are made ready otherwise than when it was packed: {apart}; build it again, or run it "
            "with the edgecnn that packed it"
        )
