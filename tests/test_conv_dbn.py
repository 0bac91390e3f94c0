"""The convolutional deep belief network's feed-forward pass is the paper's, by hand, and can be trained as a whole."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from edgecnn.models.conv_dbn import ConvDBN
from edgecnn.networks import zoo
from exported import exported, normal, run_onnx, run_torch, seeded


@pytest.mark.parametrize(
    ("name", "weights", "maps"),
    [
        ("conv_dbn", [(24, 1, 10, 10), (100, 24, 10, 10)], [(24, 45, 45), (100, 18, 18)]),
        ("conv_dbn_digits", [(40, 1, 12, 12), (40, 40, 6, 6)], [(40, 8, 8), (40, 1, 1)]),
    ],
)
def test_layers_are_those_of_the_paper(name: str, weights: list, maps: list) -> None:
    spec = zoo.find(name)
    network = spec.build(num_classes=spec.num_classes)
    machines = network.get_submodule("machines").children()
    assert [tuple(machine.get_parameter("weight").shape) for machine in machines] == weights
    with torch.no_grad():
        assert [tuple(b.shape[1:]) for b in network.beliefs(torch.zeros(1, *spec.input_shape))] == maps  # type: ignore[operator]
    assert spec.task == "classification"


def test_two_layers_by_hand() -> None:
    """Equations of section 3: I_k = b_k + W_k correlated with what lies below, P(p) from the block's partition sum."""
    network = seeded(ConvDBN, ((3, 3), (2, 2)), 12, num_classes=4)
    x = normal(2, 1, 12, 12)
    below, features = x.astype(np.float64), []
    for machine in network.get_submodule("machines").children():
        w, b = (machine.get_parameter(n).detach().numpy().astype(np.float64) for n in ("weight", "bias"))
        side, kernel = below.shape[2], w.shape[2]
        hidden = np.zeros((2, len(w), side - kernel + 1, side - kernel + 1))
        for n, k, i, j in np.ndindex(hidden.shape):
            hidden[n, k, i, j] = b[k] + (below[n, :, i : i + kernel, j : j + kernel] * w[k]).sum()
        pooled = np.zeros((2, len(w), hidden.shape[2] // 2, hidden.shape[3] // 2))
        for n, k, i, j in np.ndindex(pooled.shape):
            block = [hidden[n, k, 2 * i + a, 2 * j + c] for a, c in itertools.product((0, 1), repeat=2)]
            pooled[n, k, i, j] = 1 - 1 / (1 + np.exp(block).sum())
        features.append(pooled.reshape(2, -1))
        below = pooled
    weight, bias = (network.get_parameter(f"fc.{n}").detach().numpy() for n in ("weight", "bias"))
    wanted = np.concatenate(features, 1) @ weight.T + bias
    model = exported(network, (1, 12, 12))
    for answer in (run_torch(network, x), run_onnx(model, x)[0]):
        np.testing.assert_allclose(answer, wanted, rtol=0, atol=2e-6)  # sums of 83 products below 0.1


def test_it_learns_from_end_to_end() -> None:
    """Gradients pass the probabilistic pooling: one class bright above, one below."""
    torch.manual_seed(0)
    network = ConvDBN(((8, 5),), 16, num_classes=2)
    labels = torch.arange(64) % 2
    x = 0.3 * torch.randn(64, 1, 16, 16)
    x[labels == 0, :, :8] += 1
    x[labels == 1, :, 8:] += 1
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    for _ in range(40):
        loss = torch.nn.functional.cross_entropy(network(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float((network(x).argmax(1) == labels).float().mean()) == 1.0
