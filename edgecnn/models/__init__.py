"""One file, one family of networks. Contract of a file:

    SPECS: tuple[ModelSpec, ...]      its variants as data; every `build` takes the keyword `num_classes`

Parameter names follow torchvision's where torchvision has the network, so that a checkpoint loads without renaming.
The files import torch, so `edgecnn models` reads `index.json` instead of them; `python -m edgecnn.models` writes it
anew, and `tests/test_models.py` says when it is stale and holds every network in this folder to the contract.
"""
