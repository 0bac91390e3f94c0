"""One file, one rewrite: exact in float, and worth it only under int8. The contract is that of `exporters.passes`.

`run(model: onnx.ModelProto) -> PassResult`: the argument is never edited, the result passes the checker, running it on
its own result changes nothing, and it computes the same function. `tests/test_passes_contract.py` holds every file of
both folders to that, on the models of `tests/pass_examples/NAME.py`. Which of them run is the quantizer's choice.
"""
