"""The simulation is the integer graph's arithmetic, its gradients are straight through, and training with it helps."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from edgecnn import stages
from edgecnn.data.load import load_data
from edgecnn.networks.sources import Network, resolve
from edgecnn.training.learning import reproducible
from edgecnn.training.qat import InputGrid, WeightGrid, fine_tune, simulated_int8
from edgecnn.training.train import train
from exactly import exactly
from exporters.quantization.affine import activation_grid, weight_grid
from exporters.quantization.quantize import QuantRecipe, quantize_model
from exporters.torch_export import module_runner
from runtimes.base import BadInput
from runtimes.parity import compare
from runtimes.session import open_session

FIXTURES = Path(__file__).parent / "fixtures"


def digits(name: str) -> Network:
    return resolve(name, FIXTURES / f"{name}_digits.safetensors")


@functools.cache
def exported(name: str) -> onnx.ModelProto:
    return stages.float_road(digits(name))[0]


def batches(network: Network, count: int = 4) -> list[torch.Tensor]:
    samples = load_data("digits", network.ready, limit=16 * count, split="train")
    return [torch.from_numpy(part) for part in np.split(samples.stack(), count)]


# ---------------------------------------------------------------------------------------------------------- arithmetic
def test_weights_lie_on_the_grid_of_the_integer_graph() -> None:
    weight = np.random.default_rng(0).standard_normal((6, 3, 3, 3)).astype(np.float32)
    grid = weight_grid(weight, 0)
    np.testing.assert_array_equal(
        WeightGrid()(torch.from_numpy(weight)).numpy(), grid.dequantize(grid.quantize(weight))
    )


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = torch.zeros(2, 3)
    weight[1] = torch.tensor([1.0, -2.0, 0.3])
    made = WeightGrid()(weight)
    assert torch.equal(made[0], torch.zeros(3))
    assert torch.isfinite(made).all()


def test_inputs_lie_on_the_grid_of_the_integer_graph() -> None:
    x = np.random.default_rng(0).uniform(-1, 3, (2, 3, 5, 5)).astype(np.float32)
    hook, layer = InputGrid(), nn.Identity().eval()
    assert hook(layer, (torch.from_numpy(x),))[0].numpy() is not None
    hook.active = True
    (made,) = hook(layer, (torch.from_numpy(2 * x),))  # beyond the range that it saw: clipped
    grid = activation_grid(float(x.min()), float(x.max()))
    np.testing.assert_allclose(made.numpy(), grid.dequantize(grid.quantize(2 * x)), atol=1e-6)  # x / s or x * (1 / s)


def test_gradients_pass_straight_through_inside_the_range_only() -> None:
    hook, layer = InputGrid(), nn.Identity().eval()
    hook.low, hook.high, hook.active = 0.0, 1.0, True
    x = torch.tensor([-0.5, 0.25, 0.9, 1.5], requires_grad=True)
    hook(layer, (x,))[0].sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    weight = torch.randn(4, 5, requires_grad=True)
    WeightGrid()(weight).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones(4, 5))  # a weight's range is its own: nothing is outside


def test_ends_follow_the_batches_in_training_only() -> None:
    hook, layer = InputGrid(), nn.Identity()
    hook.low, hook.high, hook.active = -1.0, 1.0, True
    hook(layer.eval(), (torch.tensor([-3.0, 5.0]),))
    assert (hook.low, hook.high) == (-1.0, 1.0)
    hook(layer.train(), (torch.tensor([-3.0, 5.0]),))
    assert (hook.low, hook.high) == pytest.approx((-1.02, 1.04))


@pytest.mark.parametrize("name", ["lenet5", "resnet8"])
def test_the_simulation_is_nearer_to_the_integer_graph_than_the_float_network_is(name: str) -> None:
    """resnet8: its BatchNorms are folded in the graph and not in the simulation; the integers are the same."""
    network = digits(name)
    model = exported(name)
    feeds = [{stages.INPUT_NAME: part.numpy()} for part in batches(network)]
    integer = open_session(exactly(quantize_model(model, feeds, QuantRecipe()).model))
    names = stages.output_names(model)
    plain = compare(integer, module_runner(network.module, names), feeds).snr_db
    with simulated_int8(network.module, batches(network)):
        simulated = compare(integer, module_runner(network.module, names), feeds).snr_db
    assert simulated > plain + (3 if name == "lenet5" else 1)  # the grids of residual sums are not simulated


# ----------------------------------------------------------------------------------------------------- comes and goes
def test_the_module_is_itself_again_also_after_an_error() -> None:
    network = digits("resnet8")
    module = network.module
    before = copy.deepcopy(module.state_dict())
    kept = [p for _, p in module.named_parameters()]

    def fit(tuned: nn.Module) -> float:
        assert not torch.equal(tuned.conv1.weight, before["conv1.weight"])  # type: ignore[arg-type]
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        fine_tune(module, batches(network), fit)
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert [id(p) for p in module.parameters()] == [id(p) for p in kept]
    assert not module.training
    assert not any(m._forward_pre_hooks for m in module.modules())
    module.train()
    assert all(m.training for m in module.modules())


def test_batchnorms_keep_their_statistics() -> None:
    network = digits("resnet8")
    before = {k: v.clone() for k, v in network.module.state_dict().items() if "running" in k or "batches" in k}
    assert before
    with simulated_int8(network.module, batches(network)):
        network.module.train()
        network.module(batches(network)[0])
    after = network.module.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_errors() -> None:
    with pytest.raises(BadInput, match="no convolution"):
        fine_tune(nn.Sequential(nn.ReLU()), [torch.zeros(1, 1)], lambda module: None)
    with pytest.raises(BadInput, match="no images"):
        fine_tune(nn.Sequential(nn.Linear(1, 1)), [], lambda module: None)


# ------------------------------------------------------------------------------------------------------------ it helps
def integer_accuracy(network: Network) -> float:
    """Top-1 of the plain int8 graph of LeNet-5 with the module's weights, on the held-out digits."""
    model = onnx.ModelProto()
    model.CopyFrom(exported("lenet5"))
    state = network.module.state_dict()
    for tensor in model.graph.initializer:
        if tensor.name in state:
            tensor.CopyFrom(numpy_helper.from_array(state[tensor.name].numpy(), tensor.name))
    seen = load_data("digits", network.ready, limit=64, split="train").feeds(stages.INPUT_NAME, 1)
    test = load_data("digits", network.ready, split="test")
    session = open_session(exactly(quantize_model(model, seen, QuantRecipe()).model), threads=1)
    answers = np.concatenate([session(feed)["logits"] for feed in test.feeds(stages.INPUT_NAME, 64)]).argmax(1)
    return float((answers == test.labels).mean())


def harm(module: nn.Module) -> None:
    """The float function stays; between the first two convolutions the channels get very different sizes."""
    first, second = [m for m in module.modules() if isinstance(m, nn.Conv2d)][:2]
    factors = 2.0 ** torch.tensor(np.random.default_rng(0).choice([-5, 0, 5], first.out_channels), dtype=torch.float32)
    with torch.no_grad():
        first.weight *= factors[:, None, None, None]
        first.bias *= factors
        second.weight /= factors[None, :, None, None]


def test_a_network_that_int8_breaks_learns_to_be_quantized() -> None:
    """By the plain quantizer afterwards, on the held-out digits: most of what was lost comes back."""
    network = digits("lenet5")
    healthy = integer_accuracy(network)
    harm(network.module)
    broken = integer_accuracy(network)
    assert broken < healthy - 0.3
    train = load_data("digits", network.ready, split="train")
    images, labels = torch.from_numpy(train.stack()), torch.from_numpy(train.labels)

    def fit(module: nn.Module) -> list[float]:
        order, losses = np.random.default_rng(0), []
        optimizer = torch.optim.SGD(module.parameters(), lr=1e-4, momentum=0.9)
        for picked in (i for _ in range(3) for i in np.array_split(order.permutation(len(images)), 45)):
            loss = nn.functional.cross_entropy(module.train()(images[picked]), labels[picked])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        module.eval()
        return losses

    with reproducible(0):
        losses = fine_tune(network.module, batches(network), fit)
    assert np.mean(losses[-20:]) < np.mean(losses[:20]) / 2
    assert integer_accuracy(network) > broken + 0.8 * (healthy - broken)


def test_train_qat_tunes_what_was_trained_and_says_so(tmp_path: Path) -> None:
    """From trained weights only the fine-tuning runs: an ordinary weights file of the same network, still as good."""
    trained = FIXTURES / "lenet5_digits.safetensors"
    report = train("lenet5", "digits", tmp_path / "w.safetensors", epochs=1, weights=trained, qat=True)
    assert (report.qat, report.epochs, len(report.losses)) == (True, 1, 1)
    before, after = resolve("lenet5", trained).module, resolve("lenet5", tmp_path / "w.safetensors").module
    assert list(before.state_dict()) == list(after.state_dict())
    assert not torch.equal(before.conv1.weight, after.conv1.weight)  # type: ignore[arg-type]
    assert report.test_score >= 0.98
    again = train("lenet5", "digits", tmp_path / "v.safetensors", epochs=1, weights=trained, qat=True)
    assert again.losses == report.losses
    assert (tmp_path / "w.safetensors").read_bytes() == (tmp_path / "v.safetensors").read_bytes()


def test_train_qat_without_weights_trains_first(tmp_path: Path) -> None:
    report = train("lenet5", "digits", tmp_path / "w.safetensors", epochs=5, qat=True)
    assert (report.epochs, len(report.losses)) == (6, 6)
    assert report.losses[-1] < report.losses[1]
