"""One file, one rewrite: exact in float, and worth it only under int8. The contract is that of `exporters.passes`.

`run(model: onnx.ModelProto) -> PassResult`: the argument is never edited, the result passes the checker, running it on
its own result changes nothing, and it computes the same function. `tests/test_passes_contract.py` holds every file of
both folders to that, on the models of `tests/pass_examples/NAME.py`. Which of them run is the quantizer's choice; in
which order stands in `ORDER`, and `exporters.rewriting` applies a choice and proves the result equal.
"""

ORDER = (
    "transposed_conv",
    "nearest_resize",
    "fold_columns",
    "space_to_depth",
)
"""From what frees other rewrites to what would hide them. `fold_columns` and `space_to_depth` are two ways to the same
end: whichever comes first has the first convolution."""
