"""A network with what the user says of it: `--labels` and `--preprocess`. Test: tests/test_assumptions.py."""

from __future__ import annotations

from dataclasses import replace

from edgecnn.data.labels import Labels, read_labels
from edgecnn.data.pixels import read_preprocess
from edgecnn.networks.forward import refuse_for
from edgecnn.networks.network import Network
from runtimes.imaging.preprocess import FLOAT32, FLOAT32_NHWC


def told(network: Network, labels: Labels | None, preprocess: str | None) -> Network:
    """`network` with what the user says: class names from a file, one for each answer, and how pixels are prepared."""
    if labels is not None:
        network = replace(network, labels=read_labels(labels, network.classes))
    if preprocess is not None and network.several is not None:
        refuse_for(network.several.names, f"--preprocess {preprocess}")
    if preprocess is not None:
        layout = FLOAT32_NHWC if network.channels_last else FLOAT32
        found = read_preprocess(preprocess, network.planes, layout)
        network = replace(network, preprocess=found, assumed=replace(network.assumed, pixels=False))
    return network
