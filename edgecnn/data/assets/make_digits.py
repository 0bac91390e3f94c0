"""Pack scikit-learn's 1,797 handwritten digits into `digits.npz`: `python -m edgecnn.data.assets.make_digits`.

images uint8 (1797, 8, 8), grey levels 0 to 16 (16 is ink); labels uint8 (1797,). Needs scikit-learn; users do not.
The archive has fixed dates, so that the same digits give the same bytes. Test: tests/test_data.py.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np

from runtimes.files import write_atomic

TARGET = Path(__file__).with_name("digits.npz")
EPOCH = (1980, 1, 1, 0, 0, 0)


def pack() -> bytes:
    """The bytes of `digits.npz`."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    arrays = {"images": digits.images.astype(np.uint8), "labels": digits.target.astype(np.uint8)}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), member.getvalue(), zipfile.ZIP_DEFLATED)
    return packed.getvalue()


if __name__ == "__main__":
    write_atomic(TARGET, pack())
