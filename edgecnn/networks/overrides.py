"""A network with what the user says of it: `--labels` and `--preprocess`. Test: tests/test_assumptions.py."""

from __future__ import annotations

from dataclasses import replace

from edgecnn.data.labels import Labels, read_labels
from edgecnn.data.pixels import read_preprocess
from edgecnn.networks.forward import refuse_for
from edgecnn.networks.network import Network


def told(network: Network, labels: Labels | None, preprocess: str | None) -> Network:
    """`network` with what the user says: class names from a file, one for each answer, and how pixels are prepared."""
    if labels is not None:
        network = replace(network, labels=read_labels(labels, network.classes))
    if preprocess is not None and network.several is not None:
        refuse_for(network.several.names, f"--preprocess {preprocess}")
    if preprocess is not None:
        assumed = replace(network.assumed, pixels=False)
        network = replace(network, preprocess=read_preprocess(preprocess, network.input_shape), assumed=assumed)
    return network
