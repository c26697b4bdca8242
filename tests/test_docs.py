"""Every Python block of the README and of docs/ runs, and prints what the block after it says."""

import contextlib
import importlib.util
import io
import itertools
import linecache
import re
from pathlib import Path

import pytest
from printed import assert_prints

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted((ROOT / "docs" / "course" / "en").glob("*.md"))  # those in Chinese have the same blocks
LONG = {"jobs.md", "scale.md"}  # one trains five models, the other compiles with JAX
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


WASM = re.compile(r"tr\.export\(.*\.(wasm|html)")  # a block that is left out without Zig, the extra [native]


def blocks(page):
    """Return (language, text) of each fenced block, in order."""
    return [(match[1], match[2]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


@pytest.mark.no_cover  # other tests go through the same lines
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.nightly if page.name in LONG else ()) for page in PAGES],
    ids=lambda page: page.name,
)
def test_python_blocks_run_and_print_what_the_page_says(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names, found = {"__name__": page.stem}, blocks(page)
    has_zig = importlib.util.find_spec("ziglang") is not None
    for (language, code), (next_language, expected) in itertools.pairwise([*found, ("none", "")]):
        if language != "python" or (WASM.search(code) and not has_zig):
            continue
        source, printed = f"<{page.name}, {code.splitlines()[0]}>", io.StringIO()
        # Hypothesis and drawings read the lines of a function: those of the block, not those of the page.
        linecache.cache[source] = (len(code), None, code.splitlines(keepends=True), source)
        with contextlib.redirect_stdout(printed):
            exec(compile(code, source, "exec"), names)
        if next_language == "":
            assert_prints(printed.getvalue(), expected, code)


def test_the_readme_names_commands_and_files_that_exist():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"^make (\w+)", text, re.MULTILINE)) <= targets
    for name in re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"`((?:docs|examples|benchmarks)/[\w./]+)`", text):
        assert (ROOT / name).exists(), name


def test_the_readme_has_a_row_for_each_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[[^\]]*\]\(docs/([^/)]+)\) \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_readme_in_chinese_has_the_same_blocks_pictures_and_rows():
    english, chinese = (ROOT / name for name in ("README.md", "README.zh.md"))
    assert blocks(english) == blocks(chinese)
    for pattern in (r"^!\[[^\]]*\]\(([^)]+)\)$", r"^\| \[[^\]]*\]\(([^)]+)\) \|", "^#+ ()"):
        found = [re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE) for page in (english, chinese)]
        assert found[0] == [link.replace("/zh/", "/en/") for link in found[1]]
