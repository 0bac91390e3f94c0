"""A computer with a GPU, as far as this project's own code can tell: the CUDA provider's sessions run on the CPU.

What is tested with it is what we do around ONNX Runtime: options, refusals, the order of things. What a GPU does is
tested by the tests marked `cuda`.
"""

from __future__ import annotations

import onnxruntime as ort
import pytest

from runtimes.execution import binding
from runtimes.providers import cuda


class StandIn:
    """`asked`: (provider, options) of every session made."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []


def install(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Make `cuda` run here until the test is over."""
    here, real = StandIn(), ort.InferenceSession

    class OnTheCpu(real):  # type: ignore[misc, valid-type]
        def __init__(self, data, options, providers, **more) -> None:
            ((name, chosen),) = providers
            here.asked.append((name, chosen))
            self.claimed = name
            super().__init__(data, options, providers=["CPUExecutionProvider"], **more)

        def get_providers(self) -> list[str]:
            return [self.claimed, "CPUExecutionProvider"]

    monkeypatch.setattr(ort, "InferenceSession", OnTheCpu)
    monkeypatch.setattr(cuda, "require", lambda: None)
    monkeypatch.setattr(binding, "device_of", lambda provider: ("cpu", 0))
    return here


def require_gpu() -> None:
    """Skip the test that calls this where there is no GPU, with the cause."""
    from runtimes.base import Unavailable

    try:
        cuda.require()
    except Unavailable as error:
        pytest.skip(str(error))
