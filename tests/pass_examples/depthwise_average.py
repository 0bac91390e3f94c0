"""Models on which `depthwise_average` has something to do."""

from __future__ import annotations

from pass_examples import build

TEXT = """ g (float[N,8,6,7] x) => (float[N,8,P,Q] y) {
    r = Relu (x)
    y = AveragePool <SETTINGS> (r)
}"""
SETTINGS = {
    "halves the image": "kernel_shape: ints = [2,2], strides: ints = [2,2]",
    "smooths it": "kernel_shape: ints = [3,3], pads: ints = [1,1,1,1], count_include_pad: int = 1",
}

EXAMPLES = {name: build(TEXT.replace("SETTINGS", settings)) for name, settings in SETTINGS.items()}
