"""A chain of per-channel affines y = a x + b disappears into the linear operator before or after it.

    near.py          numbers that carry a bound on their own float64 error
    affine_chain.py  what an affine is, how two become one, what BatchNormalization is as one         (pure numpy)
    absorb.py        W (p x + q) + b, then a y + c: new weight, new bias, and how far off they may be   (pure numpy)
    constants.py     constant expressions of a graph: Sqrt(Add(variance, epsilon)) is a number
    recognize.py     which nodes are affines: BatchNormalization, Mul, Add, Sub, Div, Neg, Identity
    linear.py        Conv, ConvTranspose, Gemm and MatMul (+ Add) seen as groups x outputs x inputs x taps
    scope.py         the graph of a model or of a body in it, with cheap edits
    shapes.py        ranks and channels of activations, asked for only where a broadcast could change them
    behind.py        chains absorbed by the operator before them
    front.py         chains absorbed by the operators after them

`exporters/passes/fold_batchnorm.py` runs it.
"""
