"""Layers that torch lacks, or exports badly: each is an `nn.Module` that becomes standard ONNX operators.

    padding.py          Conv1d/2d/3d with valid, same and full padding, for even kernels and strides too
    convolution.py      TrueConv1d/2d/3d: the kernel is flipped before it slides
    local.py            LocalConv1d/2d: no sharing, every position has its own kernel
    tiled.py            TiledConv1d/2d: neighbours have their own kernels, which repeat every t positions
    adaptive.py         AdaptiveAvgPool, AdaptiveMaxPool: regions that follow the size of the input, also in the graph
    k_max.py            KMaxPool1d, DynamicKMaxPool1d: the k largest values of a row, in their order
    unpooling.py        MaxPoolIndices2d, MaxUnpool2d: values go back to where the maxima were
    probabilistic.py    ProbabilisticMaxPool2d: at most one unit of a block is on

Each file is one family: its formula, its source, its module. Tests hold each to a hand-written loop, in PyTorch and in
ONNX Runtime: tests/test_layers.py; tests/test_operators.py does it for the operators that torch has.
"""
