"""What counts as a change of Python code, and what does not."""

from __future__ import annotations

import ast
import functools
import importlib
import itertools
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.errors import BadInput
from entrepot.identity.code import class_identity, function_identity, stable_hash, value_identity
from tests.unit.entrepot.seeds import printed

Write = Callable[..., ModuleType]
_numbers = itertools.count()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes a package `shop` of several modules and imports its `pipeline`; each call starts anew."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def make(pipeline: str, **others: str) -> ModuleType:
        for name in [n for n in sys.modules if n.partition(".")[0] == "shop"]:
            del sys.modules[name]
        folder = tmp_path / str(next(_numbers))
        (folder / "shop").mkdir(parents=True)
        for name, text in {"__init__": "", "pipeline": pipeline, **others}.items():
            (folder / "shop" / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(str(folder))
        return importlib.import_module("shop.pipeline")

    return make


def _same(write: Write, one: str, other: str, **modules: str) -> bool:
    return function_identity(write(one, **modules).f) == function_identity(write(other, **modules).f)


UNCHANGED = {
    "comments and formatting": ("def f(a):\n    return a+1", "def f(\n    a,\n):\n    # why\n\n    return (a + 1)"),
    "docstrings": ("def f(a):\n    return a", 'def f(a):\n    """Says a."""\n    return a'),
    "annotations": ("def f(a):\n    b = a\n    return b", "def f(a: int) -> int:\n    b: int = a\n    return b"),
    "the function's own name": ("def f(a): return a", "def g(a): return a\nf = g"),
    "names of locals": ("def f(a):\n    x = a\n    return x", "def f(a):\n    y = a\n    return y"),
    "names in comprehensions": (
        "def f(a): return [x for x in a], [x for x in a]",
        "def f(a): return [y for y in a], [z for z in a]",
    ),
    "names of a lambda's parameters": (
        "def f(a): return map(lambda x: x + 1, a)",
        "def f(a): return map(lambda y: y + 1, a)",
    ),
    "names of nested functions": (
        "def f(a):\n def g(x): return x\n return g(a)",
        "def f(a):\n def h(y): return y\n return h(a)",
    ),
    "walrus": ("def f(a): return (n := len(a)) + n", "def f(a): return (m := len(a)) + m"),
    "exceptions' names": (
        "def f(a):\n try: return a()\n except OSError as e: return e",
        "def f(a):\n try: return a()\n except OSError as x: return x",
    ),
    "names in patterns": (
        "def f(a):\n match a:\n  case [x, *y]: return x, y\n  case {'k': v, **r}: return v, r",
        "def f(a):\n match a:\n  case [p, *q]: return p, q\n  case {'k': s, **t}: return s, t",
    ),
    "nonlocal names": (
        "def f(a):\n n = 0\n def g():\n  nonlocal n\n  n += 1\n  return n\n return g()",
        "def f(a):\n m = 0\n def g():\n  nonlocal m\n  m += 1\n  return m\n return g()",
    ),
    "order of imports": (
        "import os\nimport re\ndef f(a): return os, re",
        "import re\nimport os\ndef f(a): return os, re",
    ),
    "order of local imports": (
        "def f(a):\n import os\n import re\n return os.sep, re.A",
        "def f(a):\n import re\n import os\n return os.sep, re.A",
    ),
    "where an import stands": ("import os\ndef f(a): return os.sep", "def f(a):\n import os as o\n return o.sep"),
    "names of constants": ("A = 3\ndef f(a): return a + A", "B = 3\ndef f(a): return a + B"),
    "quotes": ("def f(a): return 'x'", 'def f(a): return u"x"'),
    "comments in helpers": (
        "def g(a): return a\ndef f(a): return g(a)",
        "def g(a):\n # why\n return a\ndef f(a): return g(a)",
    ),
    "names of helpers' locals": (
        "def g(a):\n x = a\n return x\ndef f(a): return g(a)",
        "def g(b):\n y = b\n return y\ndef f(a): return g(a)",
    ),
    "comments in classes": (
        "class C:\n    def g(self, a): return a\ndef f(a): return C().g(a)",
        'class C:\n    "Doc."\n    # why\n    def g(self, a):\n        return a\ndef f(a): return C().g(a)',
    ),
    "what stands elsewhere": ("def f(a): return a", "X = 1\ndef other(): ...\ndef f(a): return a"),
}

_DECORATED = """
import functools
def d(g):
    @functools.wraps(g)
    def w(*a): return {}
    return w
@d
def f(a): return {}
"""
_OBJECT = """
class C:
    def __init__(self, n): self.n = n
    def __call__(self, a): return self.n
    def g(self, a): return self.n
c = C({})
"""

CHANGED = {
    "a constant": ("def f(a): return a + 1", "def f(a): return a + 2"),
    "a constant's type": ("def f(a): return a + 1", "def f(a): return a + 1.0"),
    "true for one": ("def f(a): return 1", "def f(a): return True"),
    "an operator": ("def f(a): return a + 1", "def f(a): return a - 1"),
    "an attribute": ("def f(a): return a.b", "def f(a): return a.c"),
    "an attribute named like a local": ("def f(a, b): return a.b", "def f(a, b): return a.a"),
    "a keyword": ("def f(a): return a(b=1)", "def f(a): return a(c=1)"),
    "which local": ("def f(a, b):\n return a", "def f(a, b):\n return b"),
    "a default": ("def f(a, b=1): return b", "def f(a, b=2): return b"),
    "a keyword-only default": ("def f(a, *, b=1): return b", "def f(a, *, b=2): return b"),
    "a constant outside": ("L = 1\ndef f(a): return L", "L = 2\ndef f(a): return L"),
    "a constant that a comprehension shadows": (
        "L = 1\ndef f(a): return [L for L in a], L",
        "L = 2\ndef f(a): return [L for L in a], L",
    ),
    "a constant that a nested function shadows": (
        "L = 1\ndef f(a):\n def g():\n  L = 5\n  return L\n return L",
        "L = 2\ndef f(a):\n def g():\n  L = 5\n  return L\n return L",
    ),
    "a global that is assigned": ("L = 1\ndef f(a):\n global L\n L = L + 1", "L = 2\ndef f(a):\n global L\n L = L + 1"),
    "global or local": ("L = 1\ndef f(a):\n L = 2\n return L", "L = 1\ndef f(a):\n global L\n L = 2\n return L"),
    "a format": ("def f(a): return f'{a:.1f}'", "def f(a): return f'{a:.2f}'"),
    "a conversion": ("def f(a): return f'{a}'", "def f(a): return f'{a!r}'"),
    "async": ("def f(a): return a", "async def f(a): return a"),
    "a helper": ("def g(a): return a\ndef f(a): return g(a)", "def g(a): return a + 1\ndef f(a): return g(a)"),
    "a helper's helper": (
        "def h(): return 1\ndef g(): return h()\ndef f(a): return g()",
        "def h(): return 2\ndef g(): return h()\ndef f(a): return g()",
    ),
    "a helper's arguments by keyword": (
        "def g(a, b): return a - b\ndef f(x): return g(a=x, b=1)",
        "def g(b, a): return b - a\ndef f(x): return g(a=x, b=1)",
    ),
    "a helper's arguments by a dict": (
        "def g(a, b): return a - b\ndef f(x): return g(**x)",
        "def g(b, a): return b - a\ndef f(x): return g(**x)",
    ),
    "a cached helper": (
        "import functools\n@functools.lru_cache\ndef g(a): return 1\ndef f(a): return g(a)",
        "import functools\n@functools.lru_cache\ndef g(a): return 2\ndef f(a): return g(a)",
    ),
    "a decorator": (_DECORATED.format("g(*a)", "a"), _DECORATED.format("-g(*a)", "a")),
    "a decorated function": (_DECORATED.format("g(*a)", "a"), _DECORATED.format("g(*a)", "-a")),
    "the second lambda of a line": ("g, f = lambda a: 1, lambda a: 2", "g, f = lambda a: 1, lambda a: 3"),
    "a lambda in a call": ("f = (lambda a: a + 1)", "f = (lambda a: a + 2)"),
    "a closure": ("def m(n): return lambda a: a + n\nf = m(1)", "def m(n): return lambda a: a + n\nf = m(2)"),
    "a method": (
        "class C:\n def g(self): return 1\ndef f(a): return C().g()",
        "class C:\n def g(self): return 2\ndef f(a): return C().g()",
    ),
    "a base class": (
        "class B:\n x = 1\nclass C(B): pass\ndef f(a): return C.x",
        "class B:\n x = 2\nclass C(B): pass\ndef f(a): return C.x",
    ),
    "what a method refers to": (
        "def h(): return 1\nclass C:\n def g(self): return h()\ndef f(a): return C().g()",
        "def h(): return 2\nclass C:\n def g(self): return h()\ndef f(a): return C().g()",
    ),
    "an object that is called": (
        _OBJECT.format(1) + "def f(a): return c(a)",
        _OBJECT.format(2) + "def f(a): return c(a)",
    ),
    "a bound method's object": (
        _OBJECT.format(1) + "f = c.g",
        _OBJECT.format(2) + "f = c.g",
    ),
    "a partial's argument": (
        "import functools\ndef g(a, n): return n\nf = functools.partial(g, n=1)",
        "import functools\ndef g(a, n): return n\nf = functools.partial(g, n=2)",
    ),
    "a nested class": (
        "def f(a):\n class C:\n  x = 1\n return C.x",
        "def f(a):\n class C:\n  x = 2\n return C.x",
    ),
    "code made by exec": (
        "n = {}\nexec('def f(a): return [x for x in a if x > 1]', n)\nf = n['f']",
        "n = {}\nexec('def f(a): return [x for x in a if x > 2]', n)\nf = n['f']",
    ),
    "a nested function made by exec": (
        "n = {}\nexec('def f(a):\\n def g(): return 1\\n return g()', n)\nf = n['f']",
        "n = {}\nexec('def f(a):\\n def g(): return 2\\n return g()', n)\nf = n['f']",
    ),
    "a big constant array": (
        "import numpy\nA = numpy.arange(10_000)\ndef f(a): return A",
        "import numpy\nA = numpy.arange(10_000)\nA[5_000] = 0\ndef f(a): return A",
    ),
    "a regular expression": (
        "import re\nR = re.compile('a')\ndef f(a): return R",
        "import re\nR = re.compile('a', re.I)\ndef f(a): return R",
    ),
    "a library's function": ("import math\ndef f(a): return math.sin(a)", "import math\ndef f(a): return math.cos(a)"),
    "a library's function by name": (
        "from math import sin as g\ndef f(a): return g(a)",
        "from math import cos as g\ndef f(a): return g(a)",
    ),
}


@pytest.mark.parametrize("case", UNCHANGED)
def test_identity_does_not_depend_on(case: str, write: Write) -> None:
    assert _same(write, *UNCHANGED[case])


@pytest.mark.parametrize("case", CHANGED)
def test_identity_depends_on(case: str, write: Write) -> None:
    assert not _same(write, *CHANGED[case])


# Random edits of one program that has most kinds of names.

_PROGRAM = """
def f(rows, limit):
    {a} = [{b} for {b} in rows if {b}.price > limit]
    {c} = {{k: {d} * 2 for k, {d} in enumerate({a})}}
    def {e}(x, *rest):
        nonlocal {a}
        {a} = {a} + [x - 1, *rest]
        return lambda {d}: ({d}, x, len({a}))
    for {f}, {g} in {c}.items():
        if ({b} := {f} + 3) < 10 and not {g}.late:
            yield {e}({b}, 5)({g} % 7)
    with open("log") as {h}:
        {h}.write(f"{{{a}!r}} of {{limit:.2f}}")
"""
_names = st.lists(st.from_regex(r"[a-z]{1,3}_[a-z0-9]{0,3}", fullmatch=True), min_size=8, max_size=8, unique=True)


def _compiled(text: str) -> Callable[..., object]:
    """A function whose source Python's line cache has, as if it stood in a file."""
    file = f"<program {next(_numbers)}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    scope: dict[str, object] = {"__name__": "program"}
    exec(compile(text, file, "exec", dont_inherit=True), scope)
    return scope["f"]  # type: ignore[return-value]


def _program(names: list[str]) -> str:
    return _PROGRAM.format(**dict(zip("abcdefgh", names, strict=True)))


_ORIGINAL = _program(["aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh"])
_PLACES = [
    n for n in ast.walk(ast.parse(_ORIGINAL)) if isinstance(n, ast.Constant | ast.operator | ast.cmpop | ast.Attribute)
]


@given(_names)
def test_any_renaming_of_locals_leaves_no_trace(names: list[str]) -> None:
    assert function_identity(_compiled(_program(names))) == function_identity(_compiled(_ORIGINAL))


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["# why", "", "    # and how"]))))
def test_comments_and_blank_lines_leave_no_trace(added: list[tuple[int, str]]) -> None:
    lines = _ORIGINAL.splitlines()
    for place, text in added:
        lines.insert(place, text)
    assert function_identity(_compiled("\n".join(lines))) == function_identity(_compiled(_ORIGINAL))


@given(st.integers(0, len(_PLACES) - 1))
def test_any_edit_of_what_is_computed_is_a_change(place: int) -> None:
    class Edit(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            self.generic_visit(node)
            if ast.dump(node) == ast.dump(_PLACES[place]):
                match node:
                    case ast.Constant(value=value):
                        return ast.Constant(value + 1 if isinstance(value, int) else f"{value}x")
                    case ast.Attribute():
                        node.attr += "_"
                    case ast.operator():
                        return ast.Pow()
                    case ast.cmpop():
                        return ast.NotEq()
            return node

    edited = ast.unparse(ast.fix_missing_locations(Edit().visit(ast.parse(_ORIGINAL))))
    assert function_identity(_compiled(edited)) != function_identity(_compiled(_ORIGINAL))


WAYS_TO_CALL_A_HELPER = {
    "by name": "from shop.helpers import clean\ndef f(a): return clean(a)",
    "relative": "from .helpers import clean\ndef f(a): return clean(a)",
    "through its module": "from shop import helpers\ndef f(a): return helpers.clean(a)",
    "through the package": "import shop.helpers\ndef f(a): return shop.helpers.clean(a)",
    "imported within": "def f(a):\n    from shop.helpers import clean\n    return clean(a)",
    "imported within, relative": "def f(a):\n    from . import helpers\n    return helpers.clean(a)",
    "as a default": "from shop.helpers import clean\ndef f(a, how=clean): return how(a)",
}


@pytest.mark.parametrize("way", WAYS_TO_CALL_A_HELPER)
def test_code_of_the_same_package_is_followed(way: str, write: Write) -> None:
    def made(helpers: str) -> str:
        return function_identity(write(WAYS_TO_CALL_A_HELPER[way], helpers=helpers).f)

    before = made("def clean(a):\n    return a.strip()\n")
    assert made("# why\n\ndef clean(b):\n    return b.strip()  # and how\n\ndef other(): ...\n") == before
    assert made("def clean(a):\n    return a.lower()\n") != before


def test_a_module_that_stands_alone_has_its_neighbours_for_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))

    def made(number: int, returns: int) -> str:
        (tmp_path / f"alone_{number}.py").write_text(f"from beside_{number} import g\ndef f(a): return g(a)")
        (tmp_path / f"beside_{number}.py").write_text(f"def g(a): return {returns}")
        return function_identity(importlib.import_module(f"alone_{number}").f)

    assert made(1, returns=1) == made(2, returns=1) != made(3, returns=2)


def test_functions_that_call_each_other_have_an_identity(write: Write) -> None:
    even = "def even(n): return n == 0 or f(n - 1)\ndef f(n): return n != 0 and even(n - {})"
    assert not _same(write, even.format(1), even.format(2))


def test_a_function_that_calls_itself_may_be_renamed(write: Write) -> None:
    assert _same(write, "def f(n): return n and f(n - 1)", "def g(n): return n and g(n - 1)\nf = g")


def test_code_that_changed_on_disk_after_its_import_is_taken_as_it_was_imported(write: Write) -> None:
    module = write("def f(a): return 1\n")
    Path(str(module.__file__)).write_text("def f(a): return 2\n")
    linecache.checkcache()
    stale = function_identity(module.f)
    assert stale != function_identity(write("def f(a): return 2\n").f)


def test_depends_brings_the_installed_versions_in() -> None:
    assert function_identity(_nothing, ["numpy"]) != function_identity(_nothing)


def test_a_distribution_that_is_not_installed_is_told_by_name() -> None:
    with pytest.raises(BadInput, match="'no-such-thing', named in `depends`, is not installed"):
        function_identity(_nothing, ["no-such-thing"])


def _nothing() -> None: ...


def test_a_class_changes_with_its_methods(write: Write) -> None:
    one, other = "class C:\n    def f(self): return 1", "class C:\n    def f(self): return 2"
    assert class_identity(write(one).C) == class_identity(write(one).C) != class_identity(write(other).C)


def test_values_that_contain_themselves_have_an_identity() -> None:
    loop: list[object] = [1]
    loop.append(loop)
    assert value_identity(loop, "") == value_identity(loop, "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True), (1, 1.0), ("1", 1), (b"a", "a"), ((1,), [1]), ({1}, {2}), ({"a": 1}, {"a": 2}), (0.0, -0.0),
        (np.int32(1), np.int64(1)), (np.array([1, 2]), np.array([[1, 2]])),
        (np.array(["a"], object), np.array(["b"], object)),
        (functools.partial(int, base=2), functools.partial(int, base=3)), (range(3), range(4)), (slice(1), slice(2)),
    ],
)  # fmt: skip
def test_different_values_have_different_identities(one: object, other: object) -> None:
    assert value_identity(one, "") != value_identity(other, "")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists))
def test_equal_values_have_equal_identities(value: object) -> None:
    import copy

    assert value_identity(value, "") == value_identity(copy.deepcopy(value), "")


@given(st.dictionaries(st.text(), st.integers()))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, int]) -> None:
    assert stable_hash(value) == stable_hash(dict(reversed(value.items())))


def test_identities_do_not_depend_on_the_process(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").write_text(
        "import re, numpy, functools\nfrom sklearn.utils import Bunch\nS = {'a', 'b', 'c'}\nR = re.compile('x')\n"
        "G = numpy.random.RandomState(3)\nB = Bunch(a=1)\n"
        "class C:\n    def __init__(self): self.x = {1, 2}\n    def g(self): return S\n"
        "c = C()\n@functools.cache\ndef h(a): return c.g(), G, B\n"
        "def one(a): return h(a)\ndef other(a): return h(a) + 1\nF = {one, other, len, C}\nT = {int: one, str: other}\n"
        "p = functools.partial(one, **{k: 1 for k in S})\n"
        "@functools.singledispatch\ndef d(a): return 0\n@d.register\ndef _(a: int): return one(a)\n"
        "C.later = frozenset(S)\n"
        "def f(a):\n    import os\n    return [h(x) for x in a], R, S, os.sep, lambda q: q, F, T, p, d, C\n"
        "from entrepot.identity.code import function_identity\nprint(function_identity(f))"
    )
    seen = printed("import elsewhere", ["0", "1", "random"], tmp_path)
    assert len(seen) == 1
    assert seen.pop().strip()
