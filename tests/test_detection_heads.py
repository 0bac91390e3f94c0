"""An untrained detector gets answers that are spread as wanted, and only that."""

from __future__ import annotations

import torch
from torch import nn

from edgecnn.detection.heads import Heads, liven
from edgecnn.models.ssd import ssd_tiny


class Two(nn.Module):
    """Two steps: the second layer sees what the first one gives."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).flatten(1))

    def heads(self) -> Heads:
        return [[(self.first, 2.0)], [(self.second, 0.5)]]


def test_every_output_is_centred_and_spread_as_wanted() -> None:
    module, x = Two().eval(), torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    liven(module, x)
    with torch.no_grad():
        maps, answers = module.first(x), module(x)
    assert torch.allclose(maps.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(maps.std((0, 2, 3), correction=0), torch.full((4,), 2.0), atol=1e-4)
    assert torch.allclose(answers.std(0, correction=0), torch.full((5,), 0.5), atol=1e-4)


def test_a_layer_with_few_answers_is_spread_as_a_whole() -> None:
    module, x = Two().eval(), torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    liven(module, x)
    with torch.no_grad():
        answers = module(x)
    assert abs(float(answers.std(correction=0)) - 0.5) < 1e-4
    assert float(answers.std(0).min()) != float(answers.std(0).max())


def test_an_output_that_never_changes_is_not_blown_up() -> None:
    module, x = Two().eval(), torch.randn(16, 3, 8, 8)
    nn.init.zeros_(module.second.weight)
    liven(module, x)
    assert float(module.second.weight.detach().abs().max()) == 0.0
    assert torch.isfinite(module(x)).all()


def test_a_network_without_heads_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3))
    before = module[0].weight.clone()
    liven(module, torch.rand(2, 3, 8, 8))
    assert torch.equal(module[0].weight, before)


def test_ssd_finds_boxes_of_every_class_with_spread_scores() -> None:
    torch.manual_seed(0)
    module = ssd_tiny().eval()
    x = torch.randn(2, 3, 64, 64)
    liven(module, x)
    with torch.no_grad():
        _, scores, labels, image = module(x)
    assert image.bincount().tolist() == [50, 50]
    assert set(labels.tolist()) == {0, 1, 2}
    assert float(scores.max() - scores.min()) > 0.02
