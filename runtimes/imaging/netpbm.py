"""Binary PGM and PPM, `P5` or `P6`, width, height, the value of white, one space, pixels: read without Pillow.

    white <= 255    a byte a sample, scaled to 0..255 as Pillow does it
    white > 255     two bytes, the larger first; scaled to 0..65535 where nobody says which value is white

Source: Netpbm, pgm(5) and ppm(5). Test: tests/test_images.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from runtimes.base import Array, BadInput
from runtimes.imaging.depth import FULL, LEVELS

_GAP = rb"(?:\s|#[^\n]*\n)+"
_HEAD = re.compile(rb"P([56])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s")
_HEAD_BYTES = 4096


class Head:
    """What the first bytes of a file say: `channels`, `width`, `height`, its `white`, and where the pixels begin."""

    def __init__(self, found: re.Match[bytes]) -> None:
        self.channels = 3 if found[1] == b"6" else 1
        self.width, self.height, self.white, self.begin = int(found[2]), int(found[3]), int(found[4]), found.end()

    @property
    def deep(self) -> bool:
        return self.white > LEVELS


def head_of(path: Path) -> Head | None:
    """The head of a binary PGM or PPM; None for any other file."""
    with open(path, "rb") as stream:
        found = _HEAD.match(stream.read(_HEAD_BYTES))
    head = None if found is None else Head(found)
    return head if head is not None and 1 <= head.white <= FULL else None


def read_netpbm(path: Path, head: Head, white: int | None) -> Array:
    """uint8 or uint16 (H, W) or (H, W, 3); values as they are where `white` says what they mean, else scaled so that
    the file's own white is the largest of their bits. Raises `BadInput` for a file that is cut off.
    """
    count, kind = head.width * head.height * head.channels, np.dtype(">u2" if head.deep else np.uint8)
    data = path.read_bytes()
    if not count or len(data) - head.begin < count * kind.itemsize:
        raise BadInput(f"{path}: is not an image or is damaged (cut off); replace or remove it")
    values = np.frombuffer(data, kind, count, head.begin).astype(kind.newbyteorder("="), copy=False)
    most = FULL if head.deep else LEVELS
    if head.white != most and not (head.deep and white is not None):
        scaled = np.minimum(np.rint(values.astype(np.float64) / head.white * most), most)
        values = scaled.astype(values.dtype)
    shape = (head.height, head.width)
    return values.reshape((*shape, 3) if head.channels == 3 else shape)
