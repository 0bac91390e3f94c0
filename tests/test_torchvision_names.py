"""Networks that torchvision has too carry its parameter names, shapes, initial values and outputs.

The oracle is torchvision itself where it can be imported; elsewhere `fixtures/torchvision_keys.json`, which
`fixtures/make_torchvision_keys.py` wrote with it, holds the names.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from edgecnn.networks import zoo
from edgecnn.networks.weights import apply_weights
from fixtures.make_torchvision_keys import OPTIONS, fingerprint
from runtimes.base import BadInput
from torchvision_oracle import torchvision_models

KEYS = json.loads((Path(__file__).parent / "fixtures" / "torchvision_keys.json").read_text("utf-8"))
NAMES = sorted(KEYS)
DRAWN_ALIKE = [name for name in NAMES if name not in ("vgg19", "vgg19_bn", "vgg16", "resnet101", "resnet152")]
"""The rest differ from a network in the list by depth alone, and cost seconds and gigabytes to draw."""
SIDE = {"alexnet": 96, "squeezenet1_1": 66}
"""64 if not named. SqueezeNet's pooling rounds up, which shows only where its map has an even size."""


def on_meta(name: str, **options: int) -> nn.Module:
    with torch.device("meta"):
        return zoo.find(name).build(**options)


def oracle(name: str, **options: int) -> nn.Module:
    network: nn.Module = torchvision_models().get_model(name, weights=None, **OPTIONS.get(name, {}), **options)
    return network


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_are_those_written_down(name: str) -> None:
    """In the same order too: a checkpoint that is loaded by position fits as well."""
    assert fingerprint(on_meta(name)) == KEYS[name]


@pytest.mark.parametrize("name", NAMES)
def test_names_and_shapes_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        theirs = oracle(name, num_classes=12).state_dict()
    ours = on_meta(name, num_classes=12).state_dict()
    assert [(k, v.shape) for k, v in ours.items()] == [(k, v.shape) for k, v in theirs.items()]


def test_no_network_that_torchvision_has_is_left_out() -> None:
    ours = {row.name for row in zoo.list_models() if row.task == "classification"}
    assert ours & set(torchvision_models().list_models()) == set(NAMES)


@pytest.mark.parametrize("name", DRAWN_ALIKE)
def test_initial_values_and_outputs_are_torchvisions(name: str) -> None:
    """Both drawn with one seed: equal weights bit for bit, and equal logits in training (dropout and all) and after."""
    torch.manual_seed(3)
    theirs = oracle(name)
    torch.manual_seed(3)
    ours = zoo.find(name).build()
    expected = theirs.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
    for norm in (m for net in (theirs, ours) for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = 1.0  # the step in training leaves live statistics for the step after it
    side = SIDE.get(name, 64)
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    for training in (True, False):
        torch.manual_seed(4)
        wanted = theirs.train(training)(x).detach()
        torch.manual_seed(4)
        got = ours.train(training)(x).detach()
        spread = float(wanted.std())
        assert (wanted[0] - wanted[1]).abs().max() > 1e-2 * spread > 0, "two dead networks agree about everything"
        # Mostly bit for bit; torch picks another kernel where torchvision works in place.
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-5 * spread)


# ------------------------------------------------------------------------------- checkpoints that are spelled otherwise
def test_an_old_densenet_checkpoint_loads() -> None:
    """Published ones say `denselayer1.norm.1.weight` and know no step counter."""
    torch.manual_seed(0)
    source, target = (zoo.find("densenet121").build(num_classes=5) for _ in range(2))
    old = {
        key.replace(".norm1.", ".norm.1.").replace(".norm2.", ".norm.2.")
        .replace(".conv1.", ".conv.1.").replace(".conv2.", ".conv.2."): value
        for key, value in source.state_dict().items() if not key.endswith("num_batches_tracked")
    }  # fmt: skip
    assert "features.denseblock4.denselayer16.conv.2.weight" in old
    assert not torch.equal(source.get_parameter("classifier.weight"), target.get_parameter("classifier.weight"))
    apply_weights(target, old)
    wanted = source.state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in target.state_dict().items())


def test_a_googlenet_checkpoint_with_auxiliary_heads_loads_without_them() -> None:
    torch.manual_seed(0)
    source, target = (zoo.find("googlenet").build(num_classes=5) for _ in range(2))
    full = dict(source.state_dict())
    for head, channels in (("aux1", 512), ("aux2", 528)):
        full |= {
            f"{head}.conv.conv.weight": torch.zeros(128, channels, 1, 1),
            f"{head}.fc2.weight": torch.ones(5, 1024),
        }
    apply_weights(target, full)
    assert torch.equal(target.get_parameter("fc.weight"), source.get_parameter("fc.weight"))
    with pytest.raises(BadInput, match=r"aux3\.fc\.weight is unexpected"):
        apply_weights(target, full | {"aux3.fc.weight": torch.ones(1)})


def test_torchvisions_own_googlenet_with_its_heads_loads_and_answers_the_same() -> None:
    theirs: nn.Module = torchvision_models().get_model("googlenet", weights=None, init_weights=False, num_classes=9)
    ours = zoo.find("googlenet").build(num_classes=9)
    apply_weights(ours, theirs.state_dict())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-6)
