"""Sigmoids off by half a unit of 1, and networks of small scores, which no export can match more closely."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from edgecnn import stages
from edgecnn.checking.tolerance import tolerance
from edgecnn.coarse_sigmoids import ERROR, with_coarse_sigmoids
from edgecnn.networks.sources import resolve
from edgecnn.runners import open_subject
from exporters.torch_export import module_runner
from runtimes.parity import compare
from runtimes.session import open_session

RARE = """
import torch
from torch import nn

class Rare(nn.Module):
    '''A detector's raw head that finds nothing: boxes in pixels, and scores of sigmoid(-11.5), which is 1e-5.'''

    input_shape = (3, 16, 16)

    def __init__(self):
        super().__init__()
        self.boxes, self.scores = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 8, 1)
        nn.init.constant_(self.scores.bias, -11.5)

    def forward(self, x):
        found = torch.cat([self.boxes(x) * 100, self.scores(x).sigmoid()], 1)
        return found.flatten(2)
"""


def test_every_sigmoid_is_off_by_a_little_and_nothing_else() -> None:
    feeds = {"input": np.linspace(-20, 20, 64, dtype=np.float32).reshape(1, 64)}
    for module in (torch.nn.Sigmoid(), Written(), InPlace()):
        run = module_runner(module, ("y",))
        apart = np.abs(with_coarse_sigmoids(run)(feeds)["y"] - run(feeds)["y"])
        assert 0.5 * ERROR < apart.max() <= 2 * ERROR
    run = module_runner(torch.nn.Tanh(), ("y",))
    np.testing.assert_array_equal(with_coarse_sigmoids(run)(feeds)["y"], run(feeds)["y"])


class Written(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.sigmoid(x)


class InPlace(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x + 0).sigmoid_()


def test_a_seed_gives_the_same_errors() -> None:
    feeds = {"input": np.zeros((1, 64), np.float32)}
    run = module_runner(torch.nn.Sigmoid(), ("y",))
    first, again, other = (with_coarse_sigmoids(run, seed)(feeds)["y"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_head_of_small_scores_is_exported_and_checked(tmp_path: Path) -> None:
    """ONNX Runtime keeps 54 dB of them, and float32 in PyTorch all there is."""
    (tmp_path / "nets.py").write_text(RARE)
    source = f"{tmp_path / 'nets.py'}:Rare"
    model, _, reference = stages.float_road(resolve(source))
    parity = reference.parity(open_session(model))
    assert reference.noise_db - stages.NOISE_MARGIN_DB <= parity.worst_db < stages.FLOAT_LIMIT_DB
    subject = open_subject(source)
    feeds = [{"input": feed["input"]} for feed in reference.feeds]
    limits = tolerance([subject, subject], feeds, compare(subject.runner, subject.runner, feeds))
    assert 40 <= limits.snr_db["output"] < parity.worst_db
