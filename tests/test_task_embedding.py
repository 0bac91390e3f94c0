"""Embeddings: who is nearest to whom, by scikit-learn's own average precision, and what a class folder means to one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from data_folders import picture
from edgecnn import api
from edgecnn.data.samples import Samples
from edgecnn.evaluation.scores import Score
from edgecnn.tasks import embedding
from pass_examples import build, draw
from runtimes.base import Array, BadInput

RNG = np.random.default_rng(3)
PEOPLE = 5


def of(answers: Array, who: Array, truth: bool = False) -> Score:
    samples = Samples("made", tuple(map(str, range(len(who)))), lambda i: np.array([i], np.float32),
                      **{"truth" if truth else "labels": who})  # type: ignore[arg-type]  # fmt: skip
    return embedding.score(lambda feed: {"e": answers[feed["x"].astype(int)[:, 0]]}, samples, "x")


def people(count: int = 40, noise: float = 0.6) -> tuple[Array, Array]:
    who = np.arange(count) % PEOPLE
    return RNG.normal(size=(PEOPLE, 16))[who] + noise * RNG.normal(size=(count, 16)), who


@pytest.mark.parametrize("truth", [False, True])
def test_it_is_what_scikit_learn_counts(truth: bool) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    answers, who = people(noise=1.0)
    rows = answers / np.linalg.norm(answers, axis=1, keepdims=True)
    sim, others = rows @ rows.T, ~np.eye(len(who), dtype=bool)
    wanted = [metrics.average_precision_score((who == who[i])[o], sim[i, o]) for i, o in enumerate(others)]
    found = of(answers * RNG.uniform(0.1, 9, (len(who), 1)), who, truth)  # how long a row is says nothing
    assert found.per_sample == pytest.approx(wanted, abs=1e-12)
    assert found.value == pytest.approx(np.mean(wanted))
    nearest = np.where(others, sim, -2).argmax(axis=1)
    assert found.details["rank_1"] == (who[nearest] == who).mean()
    upper = np.triu(others)
    strangers, pairs = sim[upper & (who[:, None] != who)], sim[upper & (who[:, None] == who)]
    limit = np.sort(strangers)[-1 - int(1e-3 * len(strangers))]
    assert found.details["true_accepts"] == pytest.approx((pairs > limit).mean(), abs=0.02)
    weights = RNG.multinomial(len(who), np.full(len(who), 1 / len(who)), 3)
    assert found.resample(weights) == pytest.approx(weights @ wanted / len(who))


def test_who_is_alone_is_a_stranger_and_not_counted() -> None:
    answers, who = people(noise=0.01)
    assert of(answers, who).value == 1
    with_one = np.concatenate([answers, answers[:1]])  # another person with the face of the first
    found = of(with_one, np.append(who, PEOPLE))
    assert np.isnan(found.per_sample[-1])
    assert 0.9 < found.value < 1
    assert 0.9 < found.details["rank_1"] < 1


def test_an_answer_that_says_nothing_finds_nobody() -> None:
    answers, who = people(noise=0.01)
    same = of(np.ones_like(answers), who)
    assert (same.details["rank_1"], same.details["true_accepts"]) == (0, 0)
    assert same.value == pytest.approx((len(who) / PEOPLE - 1) / (len(who) - 1))
    answers[3] = np.nan
    assert of(answers, who).per_sample[3] == 0


@pytest.mark.parametrize(
    ("who", "words"),
    [
        (np.arange(40) * 0.5, "y is float64 [40]; an embedding needs one whole number for each image"),
        (np.arange(40), "two identities, and two images of one of them"),
        (np.zeros(40, int), "two identities, and two images of one of them"),
    ],
)
def test_what_tells_no_identities(who: Array, words: str) -> None:
    with pytest.raises(BadInput) as caught:
        of(people()[0], who, truth=True)
    assert str(caught.value).startswith(f"made: {words}")


def test_maps_are_no_embedding() -> None:
    with pytest.raises(BadInput, match=r"each answer is \(N, 4, 4\), not \(N, K\)"):
        of(np.ones((40, 4, 4)), people()[1])


def net(folder: Path, unit: bool = True) -> Path:
    """Grey pictures of 8x8 to (N, 16), of length 1 or not; it says nothing of itself."""
    end = "l = ReduceL2 <keepdims=1> (f, one) y = Div (f, l)" if unit else "y = Identity (f)"
    text = f"g (float[N,1,8,8] x) => (float[N,16] y) {{ c = Conv (x, w) f = Flatten (c) {end} }}"
    numbers = {"w": draw(16, 1, 8, 8), "one": np.array([1])}
    onnx.save(build(text, numbers if unit else {"w": numbers["w"]}), folder / "net.onnx")
    return folder / "net.onnx"


def faces(root: Path) -> Path:
    for i in range(24):
        picture(root / f"person{i % 3}" / f"{i}.png", 8, 8, seed=i)
    return root


def test_folders_of_persons_judge_what_is_no_classifier(tmp_path: Path) -> None:
    """Three persons of which a network of 16 numbers knows nothing."""
    model, data = net(tmp_path), faces(tmp_path / "faces")
    with pytest.raises(BadInput, match=r"3 classes, the model 16, .* or --task embedding if they are identities"):
        api.quantize(model, tmp_path / "q.edge", data, data=data)
    report = api.quantize(model, tmp_path / "q.edge", data, data=data, task="embedding", max_drop=1,
                          search_budget=0, allow_slower=True)  # fmt: skip
    assert "retrieval mAP" in report.verdict
    judged = api.evaluate(model, tmp_path / "q.edge", data=data, task="embedding")
    assert (judged.metric, judged.models[0][1].images) == ("retrieval mAP", 24)
    assert not [line for line in (*report.warnings, *judged.warnings) if "classes are" in line]
    assert api.verify(tmp_path / "q.edge").passed
    (answer,) = api.run(tmp_path / "q.edge", data / "person0" / "0.png").numbers
    assert answer.outputs[0].shape == (16,)
    with pytest.raises(BadInput, match=r"--top1 0\.9: the task of .* is embedding, whose answers are no classes"):
        api.check(model, tmp_path / "q.edge", data=data, top1=0.9)


def test_rows_of_length_1_are_embeddings_whatever_y_is(tmp_path: Path) -> None:
    pictures = RNG.integers(0, 256, (24, 8, 8), np.uint8)
    kept = {"max_drop": 1.0, "search_budget": 0.0, "allow_slower": True, "force": True}
    for unit, metric in ((True, "retrieval mAP"), (False, "top-1")):
        data = (pictures, np.arange(24) % 3)
        report = api.quantize(net(tmp_path, unit), tmp_path / "q.onnx", data, data=data, **kept)  # type: ignore[arg-type]
        assert metric in report.verdict
        assert any("taken for an embedding" in line for line in report.warnings) == unit


def test_it_is_not_trained_here(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="lenet5: its task is embedding, which is not trained here"):
        api.train("lenet5", faces(tmp_path), tmp_path / "w.safetensors", task="embedding")
