"""Every file in exporters/accuracy keeps the folder's contract."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from accuracy_nets import chain, images, work_on
from exporters import accuracy
from exporters.accuracy import bias_correction
from exporters.graph import Graph
from exporters.quantization.improve import ORDER
from exporters.quantization.quantize import QuantRecipe
from exporters.quantization.sensitivity import rank
from exporters.quantization.work import Work, excluding, layers, start
from graphs import parse
from runtimes import plugins
from runtimes.base import CheckFailed
from runtimes.parity import compare
from runtimes.session import open_session


@pytest.fixture(params=plugins.names(accuracy))
def plugin(request: pytest.FixtureRequest) -> Any:
    return plugins.load(accuracy, request.param, "accuracy pass")


def test_every_pass_has_its_place_in_the_order() -> None:
    assert sorted(ORDER) == plugins.names(accuracy)


def test_it_changes_a_copy_and_does_the_same_again(plugin: Any) -> None:
    work = work_on(chain(), images(6))
    before = work.model.SerializeToString()
    outcome = plugin.run(work, seconds=60.0)
    assert work.model.SerializeToString() == before
    assert outcome.changes
    again = plugin.run(work, seconds=60.0)
    assert again.work.model.SerializeToString() == outcome.work.model.SerializeToString()
    assert again.work.recipe == outcome.work.recipe


def test_the_float_function_stays_up_to_what_rounding_needs(plugin: Any) -> None:
    feeds = images(6)
    work = work_on(chain(), feeds)
    changed = plugin.run(work, seconds=60.0).work.model
    compare(open_session(work.model), open_session(changed), feeds).require(snr_db=30)  # the rounding of 8-bit weights


def test_the_result_can_be_quantized(plugin: Any) -> None:
    outcome = plugin.run(work_on(chain(), images(6)), seconds=60.0)
    assert outcome.work.quantized().int8_nodes > 0


def test_nothing_to_do_is_the_same_work(plugin: Any) -> None:
    work = work_on(parse("g (float[N,4] x) => (float[N,4] y) { y = Neg(x) }"), images(2, (1, 4)))
    outcome = plugin.run(work, seconds=60.0)
    assert outcome.work is work
    assert outcome.changes == ()


def test_the_gain_that_it_must_bring_is_a_number_of_decibels(plugin: Any) -> None:
    assert 0 < plugin.MIN_GAIN_DB <= 1


def test_a_layer_in_float_gives_ranges_to_tensors_that_had_none() -> None:
    feeds, whole = images(6), QuantRecipe()
    work = start(chain(), whole, feeds)
    name = layers(Graph(work.model), work.plan())[0].name
    part = excluding(whole, [name])
    both, alone = work.under((part,)), start(chain(), part, feeds)
    assert both.calibration.ranges.keys() > work.calibration.ranges.keys()
    assert alone.calibration.ranges.items() <= both.calibration.ranges.items()
    assert both.under((part,)) is both


def everything_moved() -> Work:
    """The chain after every pass, on images: weights on their grid, biases corrected."""
    work = work_on(chain(), images(6))
    for name in ORDER:
        work = plugins.load(accuracy, name, "accuracy pass").run(work, seconds=60.0).work
    return work


def test_layers_that_go_back_to_float_are_as_they_were() -> None:
    """Not on the grid of int8, where they would keep its error and gain nothing."""
    work = everything_moved()
    names = [node.name for node in Graph(work.model).proto.node]
    back = work.floated(names)
    compare(open_session(chain()), open_session(work.model), images(3)).require(snr_db=20)
    with pytest.raises(CheckFailed):
        compare(open_session(chain()), open_session(work.model), images(3)).require(snr_db=100)
    compare(open_session(chain()), open_session(back.model), images(3)).require(snr_db=100)
    assert back.quantized().int8_nodes == 0
    assert back.exact == {}


def test_other_layers_stay_where_they_were_moved() -> None:
    work = everything_moved()
    first, *others = layers(Graph(work.model), work.plan())
    back = Graph(work.floated([first.name]).model)
    for node in others:
        twin = next(each for each in back.proto.node if each.name == node.name)
        for theirs, mine in zip(node.input[1:], twin.input[1:], strict=True):
            np.testing.assert_array_equal(Graph(work.model).constant(theirs), back.constant(mine))


def test_what_was_moved_twice_goes_back_to_where_it_began() -> None:
    work = work_on(chain(), images(6))
    corrected = bias_correction.run(bias_correction.run(work, seconds=60.0).work, seconds=60.0).work
    names = [node.name for node in work.model.graph.node]
    compare(open_session(work.model), open_session(corrected.floated(names).model), images(3)).require(snr_db=100)


def test_a_layer_alone_in_int8_is_measured_beside_layers_as_they_were() -> None:
    """Else each would be charged with what the rounding of all the others costs."""
    work, feeds = everything_moved(), images(3)
    reference = open_session(chain())
    found = rank(work, reference, feeds, lambda: 1.0)
    for layer in found.layers:
        alone = found.work.floated([other.node for other in found.layers if other is not layer])
        want = compare(reference, open_session(alone.quantized().model), feeds).worst_db
        assert layer.snr_db == pytest.approx(want)
