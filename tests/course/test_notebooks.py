"""Every lesson as a notebook: it runs from the first cell to the last, exercises aside, and its grading cells grade."""

import importlib.util
import json
from pathlib import Path

import pytest

from tinygrad_rnn.course.lessons import LESSONS

pytest.importorskip("jupytext")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def notebooks(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("make_notebooks", ROOT / "docs" / "make_notebooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {path.relative_to(path.parents[1]).as_posix(): path for path in module.main(tmp_path_factory.mktemp("nb"))}


def cells(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [("".join(cell["source"]), cell["cell_type"]) for cell in notebook["cells"]]


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_a_notebook_in_both_languages(notebooks, lesson):
    name = Path(lesson.page).with_suffix(".ipynb").name
    english, chinese = (cells(notebooks[f"{language}/{name}"]) for language in ("en", "zh"))
    codes = [[source for source, kind in found if kind == "code"] for found in (english, chinese)]
    assert len(codes[0]) == len(codes[1]) >= 2 + 2 * len(lesson.exercises)
    assert sum(source.startswith("tr.grade(") for source in codes[0]) == len(lesson.exercises)
    assert any("data:image/svg+xml;base64," in source for source, kind in english if kind == "markdown")
    assert not any("```" in source for source, kind in english if kind == "markdown")


@pytest.mark.parametrize(
    "lesson",
    [pytest.param(one, marks=() if one.number == 4 else pytest.mark.nightly) for one in LESSONS],
    ids=lambda lesson: lesson.slug,
)
def test_it_runs_and_grades(notebooks, lesson):
    names, graded = {}, []
    for source, kind in cells(notebooks[f"en/{Path(lesson.page).with_suffix('.ipynb').name}"]):
        if kind == "code" and source.startswith("tr.grade("):
            graded.append(eval(source, names))
        elif kind == "code":
            exec(source, names)
    assert [grades.grades[0].exercise for grades in graded] == [exercise.name for exercise in lesson.exercises]
    assert all("not written yet" in str(grades) for grades in graded)
