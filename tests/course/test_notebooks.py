"""Every lesson as a notebook, run by a kernel: what it shows is what the page says, and its grading cells grade."""

import importlib.util
import re
from pathlib import Path

import pytest
from printed import assert_prints

from tinygrad_rnn.course.exercises.text import LANGUAGES
from tinygrad_rnn.course.lessons import LESSONS

pytest.importorskip("jupytext")
ROOT = Path(__file__).parents[2]
LONGEST = 2000  # signs that a cell may show, so that a notebook can be read


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    import nbformat

    spec = importlib.util.spec_from_file_location("make_notebooks", ROOT / "docs" / "make_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    paths = module.main(tmp_path_factory.mktemp("notebooks"))
    links = [
        (path.parent / link)
        for path in paths
        for text in sources(nbformat.read(path, as_version=4), "markdown")
        for link in re.findall(r"\]\((?![a-z]+:)([^)#]+)", text)
    ]
    assert len(links) > len(paths)
    assert [link for link in links if not link.exists()] == []
    return {path.relative_to(path.parents[1]).as_posix(): nbformat.read(path, as_version=4) for path in paths}


def named(lesson, language):
    return f"{language}/{Path(lesson.page).with_suffix('.ipynb').name}"


def page_of(lesson, language):
    return (ROOT / "docs" / "course" / language / lesson.page).read_text(encoding="utf-8")


def sources(notebook, kind):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_a_notebook_in_both_languages(notebooks, lesson):
    english, chinese = (notebooks[named(lesson, language)] for language in LANGUAGES)
    codes = [sources(notebook, "code") for notebook in (english, chinese)]
    blocks = re.findall(r"^```python$", page_of(lesson, "en"), re.MULTILINE)
    assert len(codes[0]) == len(codes[1]) == len(blocks) + 2 * len(lesson.exercises)
    assert sum(source.startswith("tr.grade(") for source in codes[0]) == len(lesson.exercises)
    assert any("data:image/svg+xml;base64," in source for source in sources(english, "markdown"))
    assert not any("```" in source for source in sources(english, "markdown"))


def shown(cell):
    """Yield what a cell shows, as (kind, content)."""
    for output in cell.outputs:
        if output.output_type == "stream":
            yield output.name, output.text
        else:
            yield from output.get("data", {}).items()


RUNS = [
    pytest.param(lesson, language, marks=() if (lesson.number, language) == (4, "en") else pytest.mark.nightly)
    for lesson in LESSONS
    for language in LANGUAGES
]


@pytest.mark.parametrize(
    ("lesson", "language"), RUNS, ids=[f"{lesson.slug}-{language}" for lesson in LESSONS for language in LANGUAGES]
)
def test_a_kernel_runs_it(notebooks, lesson, language, monkeypatch, tmp_path):
    pytest.importorskip("ipykernel", reason="a kernel needs ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="notebooks are run by nbclient")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = notebooks[named(lesson, language)].copy()
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(tmp_path))

    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    graded = [cell for cell in cells if cell.source.startswith("tr.grade(")]
    assert len(graded) == len(lesson.exercises)
    for cell, exercise in zip(graded, lesson.exercises, strict=True):
        table = dict(shown(cell))["text/html"]
        assert f"<code>{exercise.name}</code>" in table
        assert {"en": "is not written yet", "zh": "尚未完成"}[language] in table
    assert not any(kind == "stderr" for cell in cells for kind, _ in shown(cell))
    assert all(len(text) < LONGEST for cell in cells for kind, text in shown(cell) if kind in ("stdout", "text/plain"))

    tables = [content for cell in cells for kind, content in shown(cell) if kind == "text/html"]
    assert any("train loss" in table for table in tables) == (lesson.slug == "language-model"), "epochs are a table"

    page = page_of(lesson, language)
    printed = "".join(content for cell in cells for kind, content in shown(cell) if kind == "stdout")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    code = "".join(cell.source for cell in cells)
    assert_prints(printed, " ".join(block for kind, block in blocks if not kind), code)
