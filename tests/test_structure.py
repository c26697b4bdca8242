"""The shape of the project: imports go one way, the public page is what it says, examples in docstrings run."""

import ast
import doctest
import functools
import graphlib
import importlib
import importlib.util
import pkgutil
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import tinygrad_rnn

PACKAGE = Path(tinygrad_rnn.__file__).parent

# A room may import the rooms above it, and nothing below. Rooms on one line do not know each other.
ROOMS = [
    {"errors", "handwritten", "files", "tables"},
    {"checks", "imports", "pictures", "exits", "launch"},
    {"engine", "config"},
    {"ops"},
    {"credit"},
    {"nn", "data", "optim", "metrics", "truncation", "compiler", "parallel"},
    {"training"},
    {"testing", "graphs"},
    {"exports"},
    {"course"},
    {"commands", "flags"},
    {"cli"},
    {"__main__", "__init__"},
]
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parsed(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports(path):
    """Return the nodes of a file that import; the trees of all files are too large to keep."""
    kinds = (ast.Import, ast.ImportFrom)
    return [node for node in ast.walk(parsed(path)) if isinstance(node, kinds) or imports_by_name(node)]


PAGE = {("__version__",), ("__all__",)}  # of the public page, and known without what it imports on first use


def imported(path):
    """Yield what a file imports from this package, wherever the import stands, as ("engine", "tape", ...).

    The public page is (). `import_module` of a text counts too: an import is no less one for being late.
    """
    module = ["tinygrad_rnn", *path.relative_to(PACKAGE).with_suffix("").parts]
    for node in imports(path):
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = module[: -node.level] if node.level else []
            found = [*base, *(node.module.split(".") if node.module else [])]
            names = [[*found, alias.name] for alias in node.names]
        elif isinstance(node.args[0], ast.Constant):
            text = node.args[0].value
            name = text.lstrip(".")
            names = [[*(module[: len(name) - len(text)] if name != text else []), *name.split(".")]]
        else:
            continue
        yield from (tuple(name[1:]) for name in names if name[0] == "tinygrad_rnn" and tuple(name[1:]) not in PAGE)


def imports_by_name(node):
    function = node.func if isinstance(node, ast.Call) else None
    return (getattr(function, "attr", "") or getattr(function, "id", "")) in ("import_module", "__import__")


def imported_rooms(path):
    return {name[0] if name else "__init__" for name in imported(path)}


def imported_files(path):
    """Return the files of this package that a file imports: `from ..a.b import c` is a/b/c.py, or else a/b.py."""
    found = set()
    for name in imported(path):
        for length in (len(name), len(name) - 1):
            place = PACKAGE.joinpath(*name[:length])
            candidates = [place.with_suffix(".py"), place / "__init__.py"]
            there = [file for file in candidates if file.exists()]
            if there:
                found.update(there)
                break
    return found - {path, PACKAGE / "__init__.py"}  # the public page imports names on first use, and is imported by all


def test_few_files_import_modules_whose_names_are_computed():
    """The public page; what a user names on the command line; a format of export, in its own room."""
    files = [
        str(path.relative_to(PACKAGE))
        for path in FILES
        if any(imports_by_name(node) and not isinstance(node.args[0], ast.Constant) for node in imports(path))
    ]
    assert files == ["__init__.py", "exports/formats.py", "imports.py"]


def test_an_import_is_seen_wherever_it_stands(monkeypatch):
    """In a function, by name, and of the public page, which would hide what it leads to."""
    source = "def late():\n    import tinygrad_rnn as tr\n    import_module('..graphs.drawing', __package__)\n"
    file = PACKAGE / "engine" / "late.py"
    monkeypatch.setattr(sys.modules[__name__], "parsed", lambda _: ast.parse(source))
    assert list(imported(file)) == [(), ("graphs", "drawing")]
    assert imported_rooms(file) == {"__init__", "graphs"}


def test_imports_go_one_way():
    wrong = [
        f"{path.relative_to(PACKAGE)} imports {other}"
        for path in FILES
        if (room := room_of(path)) != "__init__"
        for other in imported_rooms(path)
        if other != room and LEVEL[other] >= LEVEL[room]
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "examples"])
def test_scripts_import_what_exists(folder):
    """Those that no test runs, too: what measures, and what draws the pictures of the pages."""
    missing = []
    for path in sorted((PACKAGE.parent / folder).rglob("*.py")):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "tinygrad_rnn":
                module = importlib.import_module(node.module)
                names = [alias.name for alias in node.names if not hasattr(module, alias.name)]
                inside = getattr(module, "__path__", None)
                absent = [name for name in names if not inside or not importlib.util.find_spec(f".{name}", node.module)]
                missing += [f"{path.name} imports {node.module}.{name}" for name in absent]
    assert missing == []


def test_the_page_names_every_room():
    """In the table of docs/architecture.md, as a file or a folder."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.split("| room | what is in it |")[1].split("\n\n")[0]
    named = {name for row in table.splitlines() for name in re.findall(r"`(\w+)(?:\.py|/)`", row.split(" | ")[0])}
    assert named == LEVEL.keys() - {"__main__", "__init__"}


def test_no_circle_of_files():
    imports = {path: imported_files(path) for path in FILES if path.parent != PACKAGE or path.name != "__init__.py"}
    list(graphlib.TopologicalSorter(imports).static_order())  # a CycleError names the circle


def test_no_circle_of_folders():
    top = {PACKAGE / name for name in ("cli.py", "__main__.py", "__init__.py")}  # they stand above all folders
    imports = {}
    for path in set(FILES) - top:
        others = {file.parent for file in imported_files(path) - top}
        imports.setdefault(path.parent, set()).update(others - {path.parent})
    assert imports[PACKAGE] == set(), "modules at the root of the package import no folder"
    list(graphlib.TopologicalSorter(imports).static_order())


def test_modules_are_read_in_a_few_screens():
    files = [*FILES, *PACKAGE.rglob("*.[ch]")]
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


# Lines of Python that a room may have, with its folders. A room that grows has earned it: raise the number here.
BUDGET = {
    "cli": 400,
    "flags": 130,
    "errors": 77,
    "exits": 80,
    "launch": 40,
    "config": 328,
    "__init__": 120,
    "commands": 1794,
    "files": 171,
    "tables": 51,
    "__main__": 20,
    "checks": 228,
    "imports": 60,
    "optim": 1417,
    "metrics": 359,
    "ops": 4576,
    "nn": 3757,
    "training": 7583,
    "graphs": 6500,
    "pictures": 2616,
    "engine": 3635,
    "data": 2978,
    "handwritten": 2210,
    "testing": 3690,
    "compiler": 12908,
    "truncation": 2515,
    "credit": 3717,
    "exports": 9705,
    "course": 4000,
    "parallel": 1060,
}


def test_rooms_keep_to_their_budget():
    lines = Counter()
    for path in FILES:
        lines[room_of(path)] += len(path.read_text(encoding="utf-8").splitlines())
    over = {room: count for room, count in lines.items() if count > BUDGET[room]}
    assert over == {}, "remove what is no longer needed, or raise BUDGET above"
    assert BUDGET.keys() == lines.keys()


def test_types_that_say_nothing_are_few():
    """Counted as `git grep -o "\\bAny\\b" -- tinygrad_rnn` counts them: imports, comments and C too."""
    texts = {
        path: path.read_bytes() for suffix in ("py", "pyi", "[ch]", "toml") for path in PACKAGE.rglob(f"*.{suffix}")
    }
    used = {str(path.relative_to(PACKAGE)): len(re.findall(rb"\bAny\b", text)) for path, text in texts.items()}
    assert sum(used.values()) <= 94, {name: count for name, count in used.items() if count}


# Words that the project has given up; docs/architecture.md has those that it uses.
RETIRED = {"belt", "belts", "board", "chart", "faces", "facing", "hollow", "merge_equal", "mirror", "pen", "story"}

GIVEN_UP = re.compile("|".join(RETIRED), re.IGNORECASE)


def test_the_words_of_the_project_name_what_exists():
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| ([^|]+) \| [^|]+ \| ([^|]*) \|$", page.split("## The words")[1].split("\n## ")[0], re.MULTILINE
    )
    assert 20 < len(rows) - 2 <= 40
    for word, place in rows[2:]:
        for name in re.findall(r"`([\w.]+)`", place):
            module, _, attribute = name.rpartition(".")
            assert hasattr(importlib.import_module(f"tinygrad_rnn.{module}"), attribute), word


def test_words_that_were_given_up_name_nothing():
    found = {}
    for path in FILES:
        if GIVEN_UP.search(path.read_text(encoding="utf-8")):  # in most files they do not occur at all
            nodes = [*ast.walk(parsed(path))]
            names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            names |= {node.arg for node in nodes if isinstance(node, ast.arg)} | {path.stem}
            found[str(path.relative_to(PACKAGE))] = {name.strip("_").lower() for name in names} & RETIRED
    assert not {path: words for path, words in found.items() if words}


def test_handwritten_imports_nothing_of_the_package_but_itself():
    for path in (PACKAGE / "handwritten").glob("*.py"):
        assert set(imported_rooms(path)) <= {"handwritten"}


def test_every_room_of_the_order_exists():
    assert set(LEVEL) == {room_of(path) for path in PACKAGE.rglob("*.py")}


def test_the_stub_is_what_the_table_says():
    spec = importlib.util.spec_from_file_location("stub", PACKAGE.parent / ".ci" / "stub.py")
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    assert writer.STUB.read_text(encoding="utf-8") == writer.stub(), "write it anew with `make stub`"


@pytest.mark.parametrize("name", tinygrad_rnn.__all__)
def test_public_names_exist_are_documented_and_are_not_modules(name):
    value = getattr(tinygrad_rnn, name)
    assert value.__doc__
    assert not isinstance(value, type(ast))
    assert not (PACKAGE / name).exists()
    assert not (PACKAGE / f"{name}.py").exists()


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = tinygrad_rnn.nonsense
    assert "RNNLM" in dir(tinygrad_rnn)


def test_importing_the_package_is_light():
    code = "import sys, tinygrad_rnn; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("code", "module"),
    [("import tinygrad_rnn as tr; tr.Tensor", "numpy.ma"), ("import tinygrad_rnn.cli", "secrets tomllib numpy")],
)
def test_what_takes_long_to_import_waits_until_it_is_needed(code, module):
    code = f"import sys; before = {{*sys.modules}}; {code}; print({{*'{module}'.split()}} & {{*sys.modules}} - before)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def text_of(module):
    return Path(importlib.util.find_spec(module).origin).read_text(encoding="utf-8")


MODULES = [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "tinygrad_rnn.") if not m.name.endswith("__main__")]


@pytest.mark.parametrize("name", [name for name in MODULES if ">>>" in text_of(name)])
def test_examples_in_docstrings_run(name):
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0
