"""Wrong folds, one line changed in exporters/fold each, and that the tests find every one of them.

The judges are tables of tests/test_fold_{kinds,affines,front}.py and a hundred networks of tests/test_fold_random.py.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

import test_fold_affines as affines
import test_fold_front as front
import test_fold_kinds as kinds
from exporters.passes import fold_batchnorm
from test_fold_random import check_bound, check_outputs, check_what_was_done, easy_networks, networks

NAMES = ["near", "affine_chain", "absorb", "shapes", "scope", "constants", "recognize", "linear", "behind", "front"]
"""In the order in which they import each other."""

QUICK: Any = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None,
              "phases": [Phase.generate]}  # fmt: skip
ROOT = "(exact(variance) + exact(epsilon)).sqrt()"
THEN = "after.slope * self.shift + after.shift"
CHOICE = "near.moved(lambda a: a.reshape(-1)) if layer.adder is not None else near"
TRANSPOSED = "value.reshape(groups, inputs, outputs, -1).swapaxes(1, 2)"
ONE_READER = """def only_consumer(self, name):
        readers = self.consumers.get(name, [])
        return readers[0] if readers else None

    def holds("""
EVERY_PREFIX, EVERY_SUFFIX = "for length in range(len(chain), 0, -1):", "for start in range(len(chain)):"
MUTATIONS = {
    "mean added": ("affine_chain", "exact(shift) - centre", "exact(shift) + centre"),
    "epsilon dropped": ("affine_chain", ROOT, "exact(variance).sqrt()"),
    "root forgotten": ("affine_chain", ROOT, "(exact(variance) + exact(epsilon))"),
    "chain in the wrong order": ("affine_chain", THEN, "self.slope * after.shift + self.shift"),
    "shift of a chain not scaled": ("affine_chain", THEN, "self.shift + after.shift"),
    "difference as a sum": ("recognize", "shifting(-value) if index == 1", "shifting(value) if index == 1"),
    "difference without its sign": ("recognize", "else scaling(exact(-np.ones(1))).then(", "else ("),
    "quotient as a product": ("recognize", "scaling(exact(np.ones(1)) / value)", "scaling(value)"),
    "quotient the other way": ("recognize", 'or (node.op_type == "Div" and moving[0] != node.input[0])', ""),
    "any constant is for channels": ("recognize", "size == 1 or i == place for i", "size == 1 or i >= 0 for i"),
    "BatchNormalization over any dimension": ("recognize", "if not layout.second:", "if False:"),
    "training mode ignored": ("recognize", "    if training:\n", "    if False:\n"),
    "bias not scaled": ("absorb", "before * behind.slope + behind.shift if", "before + behind.shift if"),
    "bias dropped": ("linear", CHOICE, "near.moved(np.zeros_like)"),
    "shift in front forgotten": ("absorb", "bias + pull if", "bias if"),
    "factor in front forgotten": ("absorb", "weight * p.value * a.value", "weight * a.value"),
    "axes of ConvTranspose swapped": ("linear", TRANSPOSED, "value.reshape(groups, outputs, inputs, -1)"),
    "groups of ConvTranspose mixed": ("linear", TRANSPOSED,
                                      "value.reshape(inputs, groups, outputs, -1).transpose(1, 2, 0, 3)"),
    "transB ignored": ("linear", "(value if transposed else value.T)", "value.T.reshape(outputs, inputs)"),
    "alpha ignored": ("linear", 'front = front.then(scaling(exact(np.array([attrs["alpha"]]))))', "pass"),
    "beta ignored": ("linear", 'bias = bias * exact(attrs["beta"])', "pass"),
    "padding ignored": ("front", "affine.moves_zero and", "False and"),
    "padding of ConvTranspose ignored": ("linear", "return not (", "return False and not ("),
    "other readers ignored": ("scope", "def holds(", ONE_READER),
    "a weight that may be overridden": ("scope", "scope is None or name in scope.inputs", "scope is None"),
    "shared weights edited": ("scope", "and self.only_consumer(old) is node:", ":"),
    "widening ignored": ("behind", "one.affine.channels != 1 and one.affine.channels != layer.outputs", "False"),
    "widening in front ignored": ("front", "one is None or not _same_shape(scope, one, layers[0])", "one is None"),
    "an output is swallowed": ("front", "if name in scope.outputs:", "if False:"),
    "nothing is folded behind": ("behind", EVERY_PREFIX, "for length in []:"),
    "a rounding for each of a chain": ("behind", EVERY_PREFIX, "for length in [1][: len(chain)]:"),
    "nothing is folded in front": ("front", EVERY_SUFFIX, "for start in []:"),
    "rounded to half": ("absorb", "= folded.astype(out.dtype)", "= folded.astype(np.float16).astype(out.dtype)"),
}  # fmt: skip


def module(name: str) -> ModuleType:
    return importlib.import_module(f"exporters.fold.{name}")


@pytest.fixture
def mutate() -> Iterator[Callable[[str, str, str], None]]:
    """Runs the source of one module with one change, and all modules that import it again; undone afterwards."""
    modules = [*map(module, NAMES), fold_batchnorm]
    before = [dict(vars(one)) for one in modules]

    def change(name: str, old: str, new: str) -> None:
        for one in modules:
            source = inspect.getsource(one)
            if one.__name__.endswith(f".{name}"):
                assert source.count(old) == 1, "the mutation says which code it changes"
                source = source.replace(old, new)
            exec(compile(source, one.__name__, "exec"), vars(one))

    yield change
    for one, names in zip(modules, before, strict=True):
        vars(one).clear()
        vars(one).update(names)


def judge() -> None:
    """Everything that a fold is held to, in a second or two."""
    for legal in kinds.LEGAL.values():
        kinds.test_legal(*legal)
    for illegal in kinds.ILLEGAL.values():
        kinds.test_illegal(*illegal)
    for constant in affines.NOT_PER_CHANNEL.values():
        affines.test_what_is_no_affine_stays_without_a_word(*constant)
    for matmul in affines.MATMUL_KEPT.values():
        affines.test_matmul_kept(*matmul)
    for padded in front.PADDED.values():
        front.test_padded_zeros_are_no_normalized_zeros(padded)
    for reads in front.WIDENED.values():
        front.test_a_constant_that_makes_the_channels_stays(reads)
    affines.test_one_channel_that_a_constant_widens_stays()
    affines.test_one_rounding_for_a_whole_chain()
    for strategy, count in ((networks, 60), (easy_networks, 40)):
        seed(1)(settings(max_examples=count, **QUICK)(given(strategy)(_judge_network)))()


def _judge_network(network: object) -> None:
    model = network.model()  # type: ignore[attr-defined]
    result = fold_batchnorm.run(model)
    check_what_was_done(network, result)  # type: ignore[arg-type]
    check_outputs(network, model, result.model)  # type: ignore[arg-type]
    check_bound(network, result.model, [change.bound for change in result.changes])  # type: ignore[arg-type]


def test_the_judges_accept_what_is_right(mutate: Callable[[str, str, str], None]) -> None:
    mutate("near", "ROUNDOFF = 2.0**-53", "ROUNDOFF = 2.0**-53")
    judge()


@pytest.mark.parametrize(("name", "old", "new"), MUTATIONS.values(), ids=MUTATIONS)
def test_every_wrong_fold_is_found(mutate: Callable[[str, str, str], None], name: str, old: str, new: str) -> None:
    mutate(name, old, new)
    with pytest.raises(BaseException):  # noqa: B017, PT011  a wrong fold fails in any way: a number, a reason, a crash
        judge()
