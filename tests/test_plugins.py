"""A file in the folder is a plug-in; a name that is not there answers with the nearest one."""

import importlib
import sys
from pathlib import Path

import pytest

import runtimes.providers
from runtimes import plugins
from runtimes.base import BadInput


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / "some_plugins_for_test"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "beta.py").write_text("VALUE = 'b'\n")
    (folder / "alpha.py").write_text("raise RuntimeError('listing must not import')\n")
    (folder / "_hidden.py").write_text("")
    (folder / "notes.txt").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield importlib.import_module(folder.name)
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_listing_is_sorted_skips_hidden_files_and_imports_nothing(package) -> None:
    assert plugins.names(package) == ["alpha", "beta"]
    assert f"{package.__name__}.beta" not in sys.modules


def test_a_new_file_is_listed_and_loaded(package) -> None:
    (Path(package.__path__[0]) / "gamma.py").write_text("VALUE = 'g'\n")
    importlib.invalidate_caches()
    assert "gamma" in plugins.names(package)
    assert plugins.load(package, "gamma", "letter").VALUE == "g"


def test_load_gives_the_module(package) -> None:
    assert plugins.load(package, "beta", "letter").VALUE == "b"


def test_what_was_loaded_is_at_hand_where_its_file_has_gone(package) -> None:
    """A bundle's own program, whose file was replaced."""
    beta = plugins.load(package, "beta", "letter")
    (Path(package.__path__[0]) / "beta.py").unlink()
    assert plugins.load(package, "beta", "letter") is beta


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bet", r"^bet: unknown letter; did you mean beta\?$"),
        ("zzz", "^zzz: unknown letter; known: alpha, beta$"),
        ("_hidden", "unknown letter"),
        ("../beta", "unknown letter"),
        ("", "unknown letter"),
    ],
)
def test_an_unknown_name_answers_with_the_nearest(package, name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        plugins.load(package, name, "letter")


def test_the_providers_are_the_files_in_the_folder() -> None:
    here = Path(runtimes.providers.__file__).parent
    assert plugins.names(runtimes.providers) == sorted(p.stem for p in here.glob("[a-z]*.py"))
    assert {"cpu", "cuda"} <= set(plugins.names(runtimes.providers))
