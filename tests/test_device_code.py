"""What is packed into a bundle is the program of the repository: all of it that a device needs, and nothing else."""

from __future__ import annotations

import ast
import copy
from pathlib import Path

import pytest

from exporters.device_code import ROOT, START, bare, device_code, hashes
from runtimes import plugins, providers

CODE = device_code()


def undocumented(tree: ast.Module) -> str:
    """The syntax tree without strings that stand alone, by Python's own transformer; a block left empty passes."""

    class Strip(ast.NodeTransformer):
        def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
            text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            return None if text else node

    tree = Strip().visit(copy.deepcopy(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.body:
            node.body.append(ast.Pass())
    return ast.dump(tree)


@pytest.mark.parametrize("name", CODE)
def test_the_program_is_the_source_without_its_comments(name: str) -> None:
    source = (ROOT / ("runtimes/device/" + START if name == START else name)).read_text("utf-8")
    text = CODE[name].decode()
    assert undocumented(ast.parse(text)) == undocumented(ast.parse(source))
    assert ast.get_docstring(ast.parse(text)) is None
    assert text.count("\n") == source.count("\n")  # a traceback names the right line


def test_comments_that_are_none_stay() -> None:
    source = 'x = """a\n# no comment\n"""\n# gone\ny = 1  # stays\ndef f(): "kept"\n'
    assert bare(source) == 'x = """a\n# no comment\n"""\n\ny = 1  # stays\ndef f(): "kept"\n'


def test_every_import_of_the_program_is_packed_and_the_rest_is_not() -> None:
    for name, text in CODE.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("runtimes"):
                path = str(node.module).replace(".", "/")
                assert f"{path}.py" in CODE or f"{path}/__init__.py" in CODE, (name, node.module)
    assert {f"runtimes/providers/{name}.py" for name in plugins.names(providers)} <= CODE.keys()
    assert not [name for name in CODE if name != START and not name.startswith("runtimes/")]
    workshop = ("comparing/precision.py", "comparing/listed.py", "parity.py")  # where float16 is decided, and `check`
    assert not {f"runtimes/{name}" for name in workshop} & CODE.keys()


def test_it_is_small_and_the_same_every_time() -> None:
    import zlib

    assert sum(len(zlib.compress(text)) for text in CODE.values()) < 108_000
    device_code.cache_clear()
    assert hashes(device_code()) == hashes(CODE)
    assert list(CODE) == sorted(CODE)


def test_an_old_python_is_told_so() -> None:
    """The first file is read by whatever Python the device has: it holds no syntax that is newer than Python 3.0."""
    text = (Path(ROOT) / "runtimes/device/__main__.py").read_text("utf-8")
    ast.parse(text, feature_version=(3, 4))
    assert not [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.JoinedStr | ast.AnnAssign)]
