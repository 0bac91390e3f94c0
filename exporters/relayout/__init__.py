"""Parts of a graph in another layout of their tensors: other axes, the same numbers.

    move.py      how a tensor's axes move, and the Transpose, Squeeze or Unsqueeze that would do it
    rules.py     which operators compute the same on moved axes, and what of them has to change
    reshapes.py  operators that leave an order of axes, or begin one, at no cost
    pools.py     pools with an axis of positions more
    region.py    all that moves together, and how many Transposes that takes
    write.py     the graph with a region moved
    settle.py    region after region, until none is better off moved

`exporters/passes/move_transposes.py` and `move_squeezes.py` run it.
"""
