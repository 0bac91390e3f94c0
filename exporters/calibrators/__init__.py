"""One file, one rule that turns what was seen of a tensor into a range. Contract: a class `Calibrator` with

    observe(values: Array) -> None      one batch of one tensor's values, any shape, finite
    range() -> tuple[float, float]      the (low, high) to be represented, after at least one `observe`

One instance watches one tensor; its memory does not grow with the number of batches, and the order of batches
does not change the result. `tests/test_calibrators_contract.py` holds every file in this folder to that.
"""
