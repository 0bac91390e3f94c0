"""Data of every kind becomes float32 (C, H, W) by one preprocessing; what cannot be used is refused by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from edgecnn.data import load as data
from edgecnn.data.assets.make_digits import TARGET, pack
from edgecnn.data.load import load_data
from edgecnn.data.samples import Samples
from edgecnn.networks.spec import unit_range
from runtimes.base import Array, BadInput
from runtimes.imaging.preprocess import Preprocess

RGB = unit_range(16, 16)
GREY = unit_range(32, 32, channels=1)
AS_IS = Preprocess((8, 8), 1)  # 0..1 at the digits' own size
rng = np.random.default_rng(0)


def pixels(count: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Six images in three classes: 3 cats, 2 dogs, 1 owl."""
    for i, name in enumerate(["cat/a", "cat/b", "cat/c", "dog/a", "dog/b", "owl/a"]):
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(6)[i]).save(path)
    return tmp_path / "photos"


# -------------------------------------------------------------------------------------------------------------- digits
def test_digits_are_scikit_learns() -> None:
    expected = load_digits()
    samples = load_data("digits", AS_IS)
    assert samples.name == "digits"
    assert samples.class_names == tuple("0123456789")
    assert np.array_equal(samples.labels, expected.target)
    # 17 grey levels 0..16 as 0..255: 255/16 each, cut to a whole number.
    assert np.array_equal(samples.stack()[:, 0], (expected.images * 255 // 16).astype(np.float32) / np.float32(255))


def test_the_packed_digits_are_what_the_script_makes() -> None:
    with np.load(TARGET) as archive:
        assert np.array_equal(archive["images"], load_digits().images)
        assert np.array_equal(archive["labels"], load_digits().target)
    assert pack() == pack()
    assert "CC BY 4.0" in TARGET.with_name("README.md").read_text("utf-8")


def test_digits_are_split_the_same_way_for_ever_and_stratified() -> None:
    train, test = (load_data("digits", AS_IS, split=split, seed=9) for split in ("train", "test"))
    assert set(train.ids) | set(test.ids) == {f"digits[{i}]" for i in range(1797)}
    assert not set(train.ids) & set(test.ids)
    assert len(test) == 359
    assert test.ids[:5] == ("digits[5]", "digits[9]", "digits[12]", "digits[14]", "digits[16]")
    shares = np.bincount(test.labels) / np.bincount(load_data("digits", AS_IS).labels)
    assert np.abs(shares - 0.2).max() < 0.005  # one image of 174 to 183 is 0.0057, and counts are rounded


# -------------------------------------------------------------------------------------------------------------- random
def test_random_says_so_and_is_seeded() -> None:
    samples = load_data("random:3", RGB, seed=5)
    assert "random" in samples.name
    assert len(load_data("random", RGB)) == 32
    assert samples.labels is None
    assert samples[1].dtype == np.float32
    assert np.array_equal(samples[1], load_data("random:9", RGB, seed=5)[1])
    assert not np.array_equal(samples[1], samples[2])
    assert not np.array_equal(samples[1], load_data("random:3", RGB, seed=6)[1])


@pytest.mark.parametrize("spec", ["random:0", "random:x", "random:", "random:-1", "random:1000000", "random:٣"])
def test_random_that_is_misspelled(spec: str) -> None:
    with pytest.raises(BadInput, match="write random or random:N with N from 1 to 100,000"):
        load_data(spec, RGB)


# ------------------------------------------------------------------------------------------------------------- folders
def test_a_folder_is_decoded_on_demand_and_labelled_by_its_subfolders(photos: Path) -> None:
    samples = load_data(photos, RGB)
    assert len(samples) == 6
    assert samples.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert samples.class_names == ("cat", "dog", "owl")
    assert np.array_equal(samples[4], RGB(pixels(6)[4]))
    assert samples.ids[4].endswith("dog/b.png")


def test_a_broken_image_is_named_when_it_is_met(photos: Path) -> None:
    (photos / "dog" / "a.png").write_bytes(b"\x89PNG broken")
    samples = load_data(photos, RGB)
    assert samples[0].shape == (3, 16, 16)
    with pytest.raises(BadInput, match=r"dog/a.png: is not an image"):
        list(samples.batches("x", 4))


def test_a_pipe_in_a_folder_does_not_hang(photos: Path) -> None:
    os.mkfifo(photos / "cat" / "z.png")
    with pytest.raises(BadInput, match=r"z.png: is a pipe"):
        load_data(photos, RGB).stack()


def test_labels_are_matched_by_name_to_the_network(photos: Path) -> None:
    samples = load_data(photos, RGB).with_labels(("ape", "cat", "dog", "owl"))
    assert samples.labels.tolist() == [1, 1, 1, 2, 2, 3]
    assert load_data(photos, RGB).with_labels(()).labels.tolist() == [0, 0, 0, 1, 1, 2]
    with pytest.raises(BadInput, match="owl: unknown class; did you mean cow"):
        load_data(photos, RGB).with_labels(("cat", "dog", "cow"))


def test_folders_of_numbers_are_the_places_of_names_that_are_none(tmp_path: Path) -> None:
    for i in range(11):
        (tmp_path / str(i)).mkdir()
        Image.fromarray(pixels(1)[0]).save(tmp_path / str(i) / "1.png")
    samples, numbers = load_data(tmp_path, RGB), tuple(map(str, range(11)))
    assert samples.class_names == ("0", "1", "10", *numbers[2:10])
    assert samples.labels.tolist() == list(range(11))
    for names in (numbers, tuple("abcdefghijk")):  # as they are, or counted by them
        assert samples.with_labels(names).labels.tolist() == [0, 1, 10, *range(2, 10)]


def test_a_folder_that_is_split_is_left_as_it_is(photos: Path) -> None:
    for split in ("train", "val"):
        for name in ("x", "y"):
            (photos / "own" / split / name).mkdir(parents=True)
            Image.fromarray(pixels(1)[0]).save(photos / "own" / split / name / "1.png")
    assert len(load_data(photos / "own", RGB, split="train")) == 2
    assert all("/val/" in name for name in load_data(photos / "own", RGB, split="test").ids)


# -------------------------------------------------------------------------------------------------------------- arrays
def test_float_arrays_are_fed_as_they_are(tmp_path: Path) -> None:
    array = rng.standard_normal((5, 3, 16, 16))
    for name, value in (("c", array), ("f", np.asfortranarray(array)), ("half", array.astype(np.float16))):
        np.save(tmp_path / f"{name}.npy", value)
        got = load_data(tmp_path / f"{name}.npy", RGB).stack()
        assert got.dtype == np.float32
        assert np.array_equal(got, value.astype(np.float32))


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
def test_uint8_arrays_are_preprocessed(tmp_path: Path, channels: int | None) -> None:
    array = np.random.default_rng(1).integers(0, 256, (4, 20, 24, *([channels] if channels else [])), np.uint8)
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(load_data(tmp_path / "a.npy", RGB)[2], RGB(array[2]))


@pytest.mark.parametrize(("x", "y"), [("x", "y"), ("images", "labels")])
def test_npz_with_labels(tmp_path: Path, x: str, y: str) -> None:
    np.savez(tmp_path / "a.npz", **{x: pixels(4), y: np.array([2, 0, 1, 1], np.uint8)})
    samples = load_data(tmp_path / "a.npz", RGB)
    assert samples.labels.tolist() == [2, 0, 1, 1]
    assert samples.class_names == ("0", "1", "2")
    assert samples.ids[3].endswith("a.npz[3]")


BAD_ARRAYS = {
    # case: (arrays of an .npz, what the message must say)
    "other names": ({"data": pixels(2), "z": pixels(2)}, "holds data, z; name the images `x`"),
    "no arrays": ({}, "holds no arrays; name the images `x`"),
    "channels last": ({"x": np.zeros((2, 16, 16, 3), np.float32)}, r"is float32 \[2, 16, 16, 3\]; this network needs"),
    "wrong size": ({"x": np.zeros((2, 3, 8, 8), np.float32)}, r"needs float \[N, 3, 16, 16\] or uint8"),
    "uint8 channels first": ({"x": np.zeros((2, 3, 16, 16), np.uint8)}, "or uint8 or uint16 images"),
    "int64": ({"x": np.zeros((2, 3, 16, 16), np.int64)}, "is int64"),
    "one image": ({"x": np.zeros((3, 16, 16), np.float32)}, "is float32"),
    "scalar": ({"x": np.float32(3)}, r"is float32 \[\]"),
    "labels too few": ({"x": pixels(2), "y": np.zeros(1, int)}, r"y has 1 row, x has 2; give one for each"),
    "labels of float": ({"x": pixels(2), "y": np.zeros(2)}, "labels are float64"),
    "labels negative": ({"x": pixels(2), "y": np.array([0, -1])}, "label -1 at row 1; classes are whole"),
    "labels huge": ({"x": pixels(2), "y": np.array([0, 1 << 62])}, "label 4611686018427387904 at row 1; .* to 999,999"),
}


def test_labels_of_true_and_false_are_two_classes() -> None:
    answers = np.array([False, True, True])
    for y in (answers, answers[:, None]):
        samples = load_data((pixels(3), y), RGB)
        assert samples.labels is not None
        assert (samples.labels.tolist(), samples.class_names) == ([0, 1, 1], ("0", "1"))


def test_what_lies_beside_a_name_that_does_not_exist_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "images.npy").write_bytes(b"x")
    (tmp_path / "photox.txt").write_bytes(b"no data")
    monkeypatch.chdir(tmp_path)
    rest = "give a folder of images, a .npz or .npy file, digits, shapes or random"
    for name, near in [
        ("photoz/", "photos/"),
        (f"{tmp_path}/photo", f"{tmp_path}/photos/"),
        ("images", "images.npy"),
        ("randm", "random"),
    ]:
        with pytest.raises(BadInput) as caught:
            load_data(name, RGB)
        assert str(caught.value) == f"{name}: unknown data; did you mean {near}? Else {rest}"


@pytest.mark.parametrize("case", BAD_ARRAYS)
def test_arrays_that_do_not_fit(tmp_path: Path, case: str) -> None:
    arrays, complaint = BAD_ARRAYS[case]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadInput, match=complaint):
        load_data(tmp_path / "a.npz", RGB)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_a_number_that_is_none_is_named(tmp_path: Path, value: float) -> None:
    array = np.zeros((8, 3, 16, 16))
    array[3, 1, 4, 4] = value  # 1e300 does not fit into float32
    np.save(tmp_path / "a.npy", array)
    samples = load_data(tmp_path / "a.npy", RGB)
    with pytest.raises(BadInput, match=r"a.npy\[3\]: holds NaN or infinity"):
        list(samples.batches("x", 2))


# ---------------------------------------------------------------------------------------------------- limits and splits
def test_a_limit_draws_from_all_classes_and_keeps_the_order() -> None:
    samples = load_data("digits", AS_IS, limit=100, seed=1)
    numbers = [int(name[7:-1]) for name in samples.ids]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 100
    assert numbers[-1] > 1000
    assert samples.ids == load_data("digits", AS_IS, limit=100, seed=1).ids
    assert samples.ids != load_data("digits", AS_IS, limit=100, seed=2).ids
    assert len(load_data("digits", AS_IS, limit=5000)) == 1797


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"limit": 0}, "limit 0: must be at least 1"),
        ({"split": "tset"}, "tset: unknown split; did you mean test"),
    ],
)
def test_bad_options(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        load_data("digits", AS_IS, **options)  # type: ignore[arg-type]


def test_unlabelled_data_is_split_too_and_one_sample_cannot_be(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", pixels(10))
    parts = [load_data(tmp_path / "a.npy", RGB, split=split) for split in ("train", "test")]
    assert [len(part) for part in parts] == [8, 2]
    assert not set(parts[0].ids) & set(parts[1].ids)
    np.save(tmp_path / "b.npy", pixels(1))
    with pytest.raises(BadInput, match="too few samples to split"):
        load_data(tmp_path / "b.npy", RGB, split="train")


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("digit", "digit: unknown data; did you mean digits"),
        (
            "/no/such/folder",
            "^/no/such/folder: unknown data; give a folder of images, a .npz or .npy file, digits, shapes or random$",
        ),
        (__file__, "unknown kind of data; give a folder"),
    ],
)
def test_data_that_does_not_exist(spec: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        load_data(spec, RGB)


# ------------------------------------------------------------------------------------------------------------ sequences
def test_feeds_can_be_walked_again_sliced_and_indexed() -> None:
    samples = load_data("digits", AS_IS, limit=7)
    feeds = samples.feeds("image", 3)
    assert [feed["image"].shape for feed in feeds] == [(3, 1, 8, 8), (3, 1, 8, 8), (1, 1, 8, 8)]
    assert len(feeds) == 3
    assert np.array_equal(np.concatenate([f["image"] for f in feeds]), samples.stack())
    assert np.array_equal(feeds[-1]["image"][0], samples[6])
    assert [f["image"].shape[0] for f in feeds[:2]] == [3, 3]
    with pytest.raises(IndexError):
        feeds[3]
    with pytest.raises(IndexError):
        samples[7]


def test_samples_are_made_on_demand_and_subsets_of_subsets_hold() -> None:
    made = []
    samples = Samples("s", tuple("abcdef"), lambda i: made.append(i) or np.full((1, 1, 1), i, np.float32))
    part = samples.subset([5, 3, 1]).subset([2, 0])
    assert made == []
    assert [part[i].item() for i in range(2)] == [1.0, 5.0]
    assert part.ids == ("b", "f")
    assert made == [1, 5]


def test_no_torch_is_imported() -> None:
    code = (
        "import sys, edgecnn.data.load, edgecnn.evaluation.evaluate, edgecnn.networks.spec;"
        "import edgecnn.networks.zoo, edgecnn.data.images; from edgecnn.networks.spec import unit_range;"
        "edgecnn.data.load.load_data('digits', unit_range(8, 8, 1))[0];"
        "print([m for m in ('torch', 'onnx', 'onnxsim', 'sklearn', 'onnxruntime') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_digits_ship_with_the_package() -> None:
    assert data.DIGITS.is_file()
    assert data.DIGITS.stat().st_size < 60_000


# ------------------------------------------------------------------------------------------------------------- memory
def test_samples_that_fit_are_made_once() -> None:
    own = [np.full((1, 4, 4), i, np.float32) for i in range(3)]  # 64 bytes each
    made: list[int] = []

    def load(index: int) -> Array:
        made.append(index)
        return own[index]

    samples = Samples("made", ("a", "b", "c"), load).remembered(limit_bytes=128)
    for _ in range(3):
        assert [float(samples[i][0, 0, 0]) for i in (2, 0, 1)] == [2.0, 0.0, 1.0]
    assert made == [2, 0, 1, 1, 1], "two fit, and the third is made each time"
    assert own[2].flags.writeable, "the caller's array stays the caller's"
    with pytest.raises(ValueError, match="read-only"):
        samples[2][0] = 1.0
    assert samples.subset([2, 1])[0] is not own[2]
    assert made == [2, 0, 1, 1, 1]
