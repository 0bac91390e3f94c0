"""Bound runs against plain ones: the same outputs, new values in old places, one recording for each shape."""

from __future__ import annotations

import threading

import numpy as np
import onnxruntime as ort
import pytest
from onnx import parser

import cuda_stand_in
from cuda_stand_in import require_gpu
from runtimes.base import BadInput
from runtimes.execution import binding
from runtimes.execution.binding import Binding, Graphs, device_times
from runtimes.session import open_session
from small_nets import conv_net


def feeds(seed: int, batch: int = 1) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(seed).standard_normal((batch, 3, 8, 8)).astype(np.float32)}


@pytest.fixture
def session():
    return open_session(conv_net(), threads=1)


def test_a_bound_run_gives_what_a_plain_one_does(session) -> None:
    bound = session.bind(feeds(0))
    bound()
    assert np.array_equal(bound.copy_out()["y"], session(feeds(0))["y"])
    bound.copy_in(feeds(1))
    bound()
    assert np.array_equal(bound.copy_out()["y"], session(feeds(1))["y"])


def test_an_answer_that_was_copied_out_stays(session) -> None:
    bound = session.bind(feeds(0))
    bound()
    first = bound.copy_out()["y"]
    kept = first.copy()
    bound.copy_in(feeds(1))
    bound()
    assert np.array_equal(first, kept)


def test_an_output_may_have_another_size_each_time() -> None:
    """A detector finds as many boxes as there are."""
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (int64[1, M] y) { y = NonZero(x) }'
    bound = open_session(parser.parse_model(text), threads=1).bind({"x": np.array([1, 0, 1], np.float32)})
    for values in ([1, 0, 1], [1, 1, 1], [0, 0, 1], [0, 0, 0]):
        bound.copy_in({"x": np.array(values, np.float32)})
        bound()
        assert bound.copy_out()["y"].tolist() == [np.flatnonzero(values).tolist()]


def test_copies_may_come_in_any_order(session) -> None:
    """Before any run, and after new values that nothing has run on."""
    bound = session.bind(feeds(0))
    assert np.array_equal(bound.copy_out()["y"], session(feeds(0))["y"])
    bound.copy_in(feeds(1))
    assert np.array_equal(bound.copy_out()["y"], session(feeds(0))["y"])


def test_the_callers_array_is_not_the_bound_one(session) -> None:
    given = feeds(0)
    bound = session.bind(given)
    given["x"][:] = 0
    bound()
    assert np.array_equal(bound.copy_out()["y"], session(feeds(0))["y"])


def test_feeds_that_do_not_fit_are_told(session) -> None:
    with pytest.raises(BadInput, match=r"input x wants float32 .*, got float64"):
        session.bind({"x": np.zeros((1, 3, 8, 8))})
    with pytest.raises(BadInput, match="input x is missing"):
        session.bind({})


def test_one_recording_for_each_shape_and_none_for_the_first_run(session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first run of a shape only makes the outputs; all others carry the shape's own number."""
    ids: list[str] = []

    class Raw:
        def __getattr__(self, name: str):
            return getattr(session.raw, name)

        def run_with_iobinding(self, io, options) -> None:
            ids.append(options.get_run_config_entry("gpu_graph_id"))
            session.raw.run_with_iobinding(io, options)

    graphs = Graphs(Raw(), "cpu")
    for seed, batch in ((0, 1), (1, 2), (2, 1), (3, 2)):
        assert np.array_equal(graphs(feeds(seed, batch))["y"], session(feeds(seed, batch))["y"])
    assert ids == ["-1", "1", "-1", "2", "1", "2"]
    assert len(graphs.bindings) == 2


def test_of_fused_kernels_there_is_one_recording_at_a_time(session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another shape ends the kernels that an older one was compiled to; no number is taken twice."""
    monkeypatch.setattr(binding, "device_of", lambda provider: ("cpu", 0))
    graphs = Graphs(session.raw, "cuda:use_tf32=1,prefer_nhwc=1,fuse_conv_bias=1,enable_cuda_graph=1")
    numbers = []
    for seed, batch in ((0, 1), (1, 1), (2, 2), (3, 1)):
        assert np.array_equal(graphs(feeds(seed, batch))["y"], session(feeds(seed, batch))["y"])
        (bound,) = graphs.bindings.values()
        numbers.append(bound.options.get_run_config_entry("gpu_graph_id"))
    assert numbers == ["1", "1", "2", "3"]


def test_threads_wait_for_each_other_at_a_recording(session) -> None:
    """It has one place for what is fed and one for what comes out."""
    graphs, wrong = Graphs(session.raw, "cpu"), list[int]()
    wanted = [session(feeds(seed))["y"] for seed in range(4)]

    def ask(seed: int) -> None:
        wrong.extend(seed for _ in range(200) if not np.array_equal(graphs(feeds(seed))["y"], wanted[seed]))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_device_is_that_of_the_provider() -> None:
    assert binding.device_of("cpu") == ("cpu", 0)
    assert binding.device_of("cuda:device_id=2,use_tf32=1") == ("cuda", 2)


def test_a_session_that_records_runs_through_its_recordings(session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain run of it would replay with other addresses; feeds that do not fit are told as ever."""
    cuda_stand_in.install(monkeypatch)
    opened = open_session(conv_net(), "cuda:enable_cuda_graph=1", threads=1)
    monkeypatch.setattr(opened.raw, "run", lambda *_: pytest.fail("not through the recording"))
    for seed, batch in ((0, 1), (1, 1), (2, 3)):
        assert np.array_equal(opened(feeds(seed, batch))["y"], session(feeds(seed, batch))["y"])
    assert opened.bind(feeds(0)) is opened.bind(feeds(1))
    again = opened.prepare(feeds(2))
    opened(feeds(0))
    assert np.array_equal(again()["y"], session(feeds(2))["y"]), "what is prepared is copied in anew"
    with pytest.raises(BadInput, match="input x wants"):
        opened({"x": np.zeros((1, 3, 9, 9), np.float32)})


def test_a_recording_writes_to_the_same_place_every_time(session) -> None:
    bound = Binding(session.raw, "cpu", feeds(0), graph_id=1)
    held = []  # what is still held cannot be given out again by chance
    for seed in range(3):
        bound.copy_in(feeds(seed))
        bound()
        held.append(bound.io.get_outputs()[0])
    assert len({value.data_ptr() for value in held}) == 1


def test_an_answer_of_a_recording_stays_when_the_next_one_comes(session) -> None:
    bound = Binding(session.raw, "cpu", feeds(0), graph_id=1)
    bound()
    first = bound.copy_out()["y"]
    bound.copy_in(feeds(1))
    bound()
    assert np.array_equal(first, session(feeds(0))["y"])
    assert np.array_equal(bound.copy_out()["y"], session(feeds(1))["y"])


def test_copies_are_timed_apart(session, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in clock: each of the three is measured alone, and the row says how."""
    measured = []

    def measure(call, iterations, warmup, seconds):
        call()
        measured.append((call, iterations, warmup, seconds))
        return binding.LatencyReport((float(len(measured)),), (1.0,))

    monkeypatch.setattr(binding, "measure", measure)
    bound = session.bind(feeds(0))
    row = device_times(bound, feeds(0), 50, 7, 2.0).to_dict(batch=1)
    assert (row["p50_ms"], row["copy_in_ms"], row["copy_out_ms"]) == (1.0, 2.0, 3.0)
    assert "synchronised" in row["method"]
    assert [entry[1:] for entry in measured] == [(50, 7, 2.0), (50, 1, 2.0), (50, 1, 2.0)]
    assert measured[0][0] is bound


@pytest.mark.cuda
@pytest.mark.parametrize(
    ("options", "near"),
    [
        ("", 1e-4),
        (":enable_cuda_graph=1", 1e-4),
        (":enable_cuda_graph=1,prefer_nhwc=1", 1e-4),
        (":enable_cuda_graph=1,prefer_nhwc=1,use_tf32=1,fuse_conv_bias=1", 1e-2),
    ],
    ids=["plain", "recorded", "recorded NHWC", "recorded fused"],
)
def test_on_the_gpu_a_replay_gives_the_cpus_answers(options: str, near: float, session) -> None:
    require_gpu()
    opened = open_session(conv_net(), f"cuda{options}", threads=1)
    for seed, batch in ((0, 1), (1, 2), (2, 1), (3, 1), (4, 2)):
        wanted = session(feeds(seed, batch))["y"]
        assert np.allclose(opened(feeds(seed, batch))["y"], wanted, rtol=near, atol=near * np.abs(wanted).max())
    assert opened.raw.get_providers()[0] == "CUDAExecutionProvider"


def test_onnx_runtime_has_what_is_used_here() -> None:
    """A release that renames one of these is noticed without a GPU."""
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", "-1")
    assert options.get_run_config_entry("gpu_graph_id") == "-1"
