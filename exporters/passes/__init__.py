"""One file, one pass. Contract: `run(model: onnx.ModelProto) -> PassResult` (keyword options with defaults allowed).

The argument is never edited; the result passes the checker; running a pass on its own result changes nothing; the
result computes the same function, with the same inputs, outputs and operator sets. A node that stays keeps its name and
its metadata; a new one is called `NAME/Something` after the node that it stands for, and has that one's metadata.
`tests/test_passes_contract.py` holds every file in this folder to that, on the models of `tests/pass_examples/NAME.py`,
on each of which the pass has something to do. Which passes run, and in which order, is `edgecnn.float_passes`' list.
"""
