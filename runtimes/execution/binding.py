"""A session whose inputs and outputs stay on its device, so that a run is timed without the copies, and they apart.

    host --copy_in--> device inputs --run--> device outputs --copy_out--> host        three clocks, not one

`run` returns when the device is done (ONNX Runtime synchronises its streams at the end of every bound run), so that
wall time is the time of the work. On the CPU nothing is copied anywhere and the same code runs.

A CUDA graph is recorded for fixed addresses: such a session can be run in no other way, and each input shape has its
own recording (`gpu_graph_id`). Source: ONNX Runtime documentation, "I/O Binding" and "CUDA Graphs".
Test: tests/test_binding.py.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtimes.base import Array, Tensors
from runtimes.execution import provider_options
from runtimes.latency import LatencyReport, measure

NO_GRAPH = "-1"
"""`gpu_graph_id` of a run that is neither recorded nor replayed."""


class Binding:
    """`raw` (an `InferenceSession` on `provider`) with `feeds` on its device; calling it runs it there.

    `graph_id`: number of the CUDA graph to record and replay; None where the provider records none.
    """

    def __init__(self, raw: Any, provider: str, feeds: Tensors, graph_id: int | None = None) -> None:
        self.raw = raw
        self.device, self.number = device_of(provider)
        self.output_names = [value.name for value in raw.get_outputs()]
        self.io = raw.io_binding()
        self.inputs = {name: self._on_device(value) for name, value in feeds.items()}
        for name, value in self.inputs.items():
            self.io.bind_ortvalue_input(name, value)
        self.fixed, self.fresh, self.ran = False, True, False
        self.options = _run_options(NO_GRAPH) if graph_id is not None else None
        if graph_id is not None:
            self._fix_outputs(graph_id)

    def __call__(self) -> None:
        """One run; done when it returns."""
        if self.fresh and not self.fixed:
            self._free_outputs()
        self.fresh, self.ran = False, True
        self.raw.run_with_iobinding(self.io, self.options)

    def copy_in(self, feeds: Tensors) -> None:
        """New values, of the same shapes and types, into the same places."""
        for name, value in feeds.items():
            self.inputs[name].update_inplace(np.ascontiguousarray(value))
        self.fresh = True

    def copy_out(self) -> dict[str, Array]:
        """The outputs of the last run, on the host; an array of its own for each call."""
        if not self.ran:
            self()  # ONNX Runtime crashes on outputs that nobody made yet
        return dict(zip(self.output_names, self.io.copy_outputs_to_cpu(), strict=True))

    def _on_device(self, value: Array) -> Any:
        import onnxruntime as ort

        return ort.OrtValue.ortvalue_from_numpy(np.array(value, order="C"), self.device, self.number)

    def _free_outputs(self) -> None:
        """Let the next run make the outputs anew: it would fill the old ones, and a detector finds other counts."""
        for name in self.output_names:
            self.io.bind_output(name, self.device, self.number)

    def _fix_outputs(self, graph_id: int) -> None:
        """Let one run without a graph make the outputs, and keep these for all that follow."""
        self()
        for name, value in zip(self.output_names, self.io.get_outputs(), strict=True):
            self.io.bind_ortvalue_output(name, value)
        self.fixed = True
        self.options = _run_options(str(graph_id))


class Graphs:
    """Runs a session that records CUDA graphs: one recording for each set of input shapes, made when it first comes.

    A recording has one place for its inputs and one for its outputs, so that threads wait for each other. Kernels with
    fused bias are compiled for one shape and end with the next one's (`conv.cc` has one plan for each convolution), but
    a recording holds only their addresses: of those there is one recording at a time, made again when a shape returns.
    """

    def __init__(self, raw: Any, provider: str) -> None:
        self.raw, self.provider, self.made = raw, provider, 0
        self.only_one = getattr(provider_options.parse(provider).options, "fuse_conv_bias", False)
        self.bindings: dict[tuple[tuple[str, tuple[int, ...], str], ...], Binding] = {}
        self.one_at_a_time = threading.Lock()

    def __call__(self, feeds: Tensors) -> dict[str, Array]:
        with self.one_at_a_time:
            binding = self.bound(feeds)
            binding.copy_in(feeds)
            binding()
            return binding.copy_out()

    def bound(self, feeds: Tensors) -> Binding:
        """The binding for the shapes and types of `feeds`."""
        key = tuple(sorted((name, value.shape, value.dtype.name) for name, value in feeds.items()))
        if key not in self.bindings:
            if self.only_one:
                self.bindings.clear()
            self.made += 1
            self.bindings[key] = Binding(self.raw, self.provider, feeds, self.made)
        return self.bindings[key]


def device_of(provider: str) -> tuple[str, int]:
    """ONNX Runtime's word for the memory of `provider`, and the number of its device."""
    asked = provider_options.parse(provider)
    return asked.name, getattr(asked.options, "device_id", 0)


@dataclass(frozen=True)
class DeviceTimes:
    """A model's time on its device and the copies beside it, each measured alone."""

    run: LatencyReport
    copy_in: LatencyReport
    copy_out: LatencyReport

    def to_dict(self, batch: int = 1) -> dict[str, Any]:
        copies: Mapping[str, float] = {"copy_in_ms": self.copy_in.p50_ms, "copy_out_ms": self.copy_out.p50_ms}
        return {**self.run.to_dict(batch), **copies, "method": METHOD}


METHOD = "wall time of a synchronised run, inputs and outputs on the device; copies timed apart"


def device_times(
    binding: Binding, feeds: Tensors, iterations: int = 100, warmup: int = 10, seconds: float | None = None
) -> DeviceTimes:
    """Time `binding`, and moving `feeds` in and its outputs out; `warmup` runs for its shapes come first."""
    run = measure(binding, iterations, warmup, seconds)
    into = measure(lambda: binding.copy_in(feeds), iterations, 1, seconds)
    return DeviceTimes(run, into, measure(binding.copy_out, iterations, 1, seconds))


def _run_options(graph_id: str) -> Any:
    import onnxruntime as ort

    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", graph_id)
    return options
