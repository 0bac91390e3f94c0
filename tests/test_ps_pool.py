"""Position-sensitive pooling is its definition, in eager mode and as an ONNX graph of standard operators."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.detection.ops import where_true
from edgecnn.detection.ps_pool import ps_roi_pool
from exporters.torch_export import export_module
from runtimes.session import open_session

PARTS, SCALE = 3, 0.25


def by_loop(x: torch.Tensor, rois: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Dai et al. 2016, equation 1, with the rounding of its code; nothing is shared with what is tested."""
    classes, height, width = x.shape[1] // PARTS**2, x.shape[2], x.shape[3]
    out = torch.zeros(len(rois), classes, PARTS, PARTS)
    for r, (roi, n) in enumerate(zip(rois.tolist(), image.tolist(), strict=True)):
        x1, y1 = (math.floor(v + 0.5) * SCALE for v in roi[:2])
        x2, y2 = ((math.floor(v + 0.5) + 1) * SCALE for v in roi[2:])
        w, h = max(x2 - x1, 0.1), max(y2 - y1, 0.1)
        for c in range(classes):
            for i in range(PARTS):
                for j in range(PARTS):
                    first, last = math.floor(y1 + i * h / PARTS), math.ceil(y1 + (i + 1) * h / PARTS)
                    rows = [y for y in range(height) if first <= y < last]
                    first, last = math.floor(x1 + j * w / PARTS), math.ceil(x1 + (j + 1) * w / PARTS)
                    columns = [z for z in range(width) if first <= z < last]
                    values = [float(x[n, (c * PARTS + i) * PARTS + j, y, z]) for y in rows for z in columns]
                    out[r, c, i, j] = sum(values) / len(values) if values else 0.0
    return out


def case(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Maps (2, 2 * 9, 12, 10) and 12 regions, some partly or wholly outside, one without area."""
    make = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 2 * PARTS**2, 12, 10, generator=make)
    low = torch.rand(12, 2, generator=make) * 50 - 10
    rois = torch.cat([low, low + torch.rand(12, 2, generator=make) * 30], 1)
    rois[0, 2:] = rois[0, :2]
    rois[1] = torch.tensor([100.0, 100, 110, 110])
    rois[2:5] = rois[2:5].round() + 0.5  # ties of the rounding go up
    return x, rois, torch.randint(0, 2, (12,), generator=make)


@pytest.mark.parametrize("seed", range(6))
def test_pooling_is_its_definition(seed: int) -> None:
    x, rois, image = case(seed)
    # edges are computed in float32 here and in float64 there: no case may lie on a knife's edge
    assert torch.allclose(ps_roi_pool(x, rois, image, PARTS, SCALE), by_loop(x, rois, image), atol=1e-6)


def test_each_part_reads_a_map_of_its_own() -> None:
    """Map k holds the number k everywhere: what comes out is the index of the map."""
    x = torch.arange(18.0).reshape(1, 18, 1, 1).expand(1, 18, 12, 12)
    pooled = ps_roi_pool(x, torch.tensor([[4.0, 4, 40, 40]]), torch.tensor([0]), PARTS, SCALE)
    assert torch.equal(pooled[0], torch.arange(18.0).reshape(2, 3, 3))


class Pool(nn.Module):
    """Of fixed regions those that the first numbers of the image choose: their number is dynamic."""

    def __init__(self) -> None:
        super().__init__()
        self.rois = case(3)[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        chosen = where_true(x[:, 0, 0, :6].reshape(-1) > 0)
        return ps_roi_pool(x, self.rois.index_select(0, chosen % 12), chosen // 6, PARTS, SCALE)


def test_the_graph_is_the_same_function() -> None:
    session = open_session(export_module(Pool(), (18, 12, 10)))
    for images in (1, 2, 3):
        x = torch.randn(images, 18, 12, 10, generator=torch.Generator().manual_seed(images + 1))
        found = session({"input": x.numpy()})["output"]
        assert len(found) > 0
        assert np.allclose(found, Pool()(x).numpy(), atol=1e-6)
    none = session({"input": -np.ones((1, 18, 12, 10), np.float32)})["output"]
    assert none.shape == (0, 2, 3, 3)
