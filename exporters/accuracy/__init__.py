"""One file, one way to lose less accuracy in int8. Contract of a file in this folder:

    MIN_GAIN_DB: float                                               what it must gain on held-out images to be kept
    run(work: Work, *, seconds: float, threads, track) -> Outcome    the changed work, what changed, what stayed and why

`Work` and `Outcome` are in `exporters/quantization/work.py`. A pass never edits its argument, gives the same for the
same images (as long as `seconds` lets it finish), and leaves a model that computes the same function in float32, or one
that differs from it only to make up for what rounding does. Whether it is used is not its business:
`exporters/quantization/improve.py` measures. `tests/test_accuracy_contract.py` holds every file in this folder to that.
"""
