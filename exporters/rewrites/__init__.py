"""One file, one rewrite: exact in float, and worth it only under int8. The contract is that of `exporters.passes`.

`run(model: onnx.ModelProto) -> PassResult`: the argument is never edited, the result passes the checker, running it on
its own result changes nothing, and it computes the same function. `tests/test_passes_contract.py` holds every file of
both folders to that, on the models of `tests/pass_examples/NAME.py`. Which of them run is the quantizer's choice; in
which order stands in `ORDER`, and `exporters.searching.rewriting` applies a choice and proves the result equal.
"""

ORDER = (
    "max_of_prelu",
    "relu_before_pool",
    "concat_of_parts",
    "sum_of_parts",
    "depthwise_average",
    "depthwise_batchnorm",
    "pad_depthwise",
    "pad_channels",
    "widen_groups",
    "split_groups",
    "merge_add",
    "transposed_conv",
    "nearest_resize",
    "fold_columns",
    "space_to_depth",
    "pad_inputs",
    "fold_pixels",
    "unroll_columns",
    "pad_outputs",
    "batch_rows",
)
"""Whoever comes first has the convolution: those that take operators away, then those that need the channels as they
were, then those that change what a convolution is, then those that fill up what is left. `fold_columns`,
`space_to_depth` and `pad_inputs` are three ways to help the first convolution, `fold_pixels` and `pad_outputs` two for
a narrow one, after `pad_channels`; the earlier one in this list acts, the later one on what it refused."""
