"""One file, one pass. Contract: `run(model: onnx.ModelProto) -> PassResult` (keyword options with defaults allowed).

The argument is never edited; the result passes the checker; running a pass on its own result changes nothing; the
result computes the same function. `tests/test_passes_contract.py` holds every file in this folder to that.
Which passes run, and in which order, is written in the road, not here.
"""
