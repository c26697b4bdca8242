"""Every lesson: its solutions pass, its typical mistakes are named, its pages say what the code says."""

import inspect
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tinygrad_rnn.course import lessons
from tinygrad_rnn.course.exercises.text import LANGUAGES
from tinygrad_rnn.course.grading.grade import grade_exercise
from tinygrad_rnn.course.lessons import LESSONS

PAGES = Path(__file__).parents[2] / "docs" / "course"
EXERCISES = [(lesson, exercise) for lesson in LESSONS for exercise in lesson.exercises]
MISTAKES = [(exercise, mistake) for _, exercise in EXERCISES for mistake in exercise.mistakes]


def ids(parts):
    return [f"{part[0].number}-{part[1].name}" for part in parts]


def driven(exercise, solve):
    """Return what a reader might have written whose results are those of `solve`: the driver is left out."""
    return grade_exercise(replace(exercise, call=None), solve)


@pytest.mark.parametrize(("lesson", "exercise"), EXERCISES, ids=ids(EXERCISES))
def test_the_solution_is_right(lesson, exercise):
    assert driven(exercise, exercise.solve).passed


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES, ids=[f"{e.name}-{m.name.en}" for e, m in MISTAKES])
def test_each_mistake_is_named(exercise, mistake):
    grade = driven(exercise, mistake.solve)
    assert not grade.passed
    assert (grade.mistake, grade.hint) == (mistake.name, mistake.hint)
    assert grade.findings or grade.case is not None


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_the_shape_of_a_lesson(lesson):
    assert len(lesson.exercises) >= 3
    for exercise in lesson.exercises:
        assert len(exercise.mistakes) >= 5, exercise.name
        assert len({mistake.name for mistake in exercise.mistakes}) == len(exercise.mistakes), exercise.name
        assert re.match(rf"(def|class) {exercise.name}\b.*:$", exercise.stub), exercise.stub


def texts(lesson):
    yield lesson.title
    for exercise in lesson.exercises:
        yield exercise.task
        for mistake in exercise.mistakes:
            yield from (mistake.name, mistake.hint)


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_every_text_is_there_in_both_languages(lesson):
    for text in texts(lesson):
        assert text.en.isascii() or not re.search(r"[\u4e00-\u9fff]", text.en)
        assert re.search(r"[\u4e00-\u9fff]", text.zh), text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_the_starter_is_a_program_whose_functions_are_not_written_yet(lesson, language):
    source = lesson.starter(language)
    written = {}
    exec(compile(source, "starter.py", "exec"), written)
    for exercise in lesson.exercises:
        grade = grade_exercise(exercise, written[exercise.name])
        assert not grade.passed
        if exercise.stub.startswith("def"):
            assert grade.findings[0].what.en == "is not written yet"
        assert inspect.getdoc(written[exercise.name]).splitlines()[0] in exercise.task[language]


def page(lesson, language):
    return (PAGES / language / lesson.page).read_text(encoding="utf-8")


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_both_pages_have_the_same_code_pictures_and_exercises(lesson):
    english, chinese = (page(lesson, one).replace(f"pictures/course/{one}/", "") for one in LANGUAGES)
    for pattern in (r"```.*?```", r"!\[[^\]]*\]\(([^)]+)\)", r"^### .*?`([\w]+)`", r"<iframe[^>]*src=\"([^\"]+)\""):
        found = [re.findall(pattern, text, re.DOTALL | re.MULTILINE) for text in (english, chinese)]
        assert found[0] == found[1], pattern
    assert re.findall(r"^### .*?`([\w]+)`", english, re.MULTILINE) == [one.name for one in lesson.exercises]
    assert english.startswith(f"# {lesson.number}. {lesson.title.en}\n")
    assert chinese.startswith(f"# {lesson.number}. {lesson.title.zh}\n")
    assert len(re.findall("^#+ ", english, re.MULTILINE)) == len(re.findall("^#+ ", chinese, re.MULTILINE))
    assert re.search(r"!\[[^\]]*\]\(", english), "each lesson has a picture"


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_lines_of_chinese_are_whole_paragraphs(lesson):
    """A line break is shown as a space, which Chinese does not have between signs."""
    assert not re.search("[\u4e00-\u9fff，。；：、]\n[\u4e00-\u9fff]", page(lesson, "zh"))


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.slug)
def test_how_chinese_is_set(lesson):
    """Between a sign and a letter stands a space, and what matters is bold: signs are not slanted."""
    text = re.sub("```.*?```", "", page(lesson, "zh"), flags=re.DOTALL)
    assert re.findall("[\u4e00-\u9fff][A-Za-z0-9`]|[A-Za-z0-9`][\u4e00-\u9fff]", text) == []
    assert re.findall(r"(?<!\*)\*[\u4e00-\u9fff]+\*(?!\*)", text) == []


def test_the_terms_are_those_of_chinese_textbooks():
    text = "".join(page(lesson, "zh") for lesson in LESSONS)
    for term in ("循环神经网络", "基于时间的反向传播", "截断", "隐藏状态", "小批量", "困惑度"):
        assert term in text, term


def test_numbers_are_in_order():
    assert [lesson.number for lesson in LESSONS] == [*range(1, len(LESSONS) + 1)]


def test_each_module_is_a_lesson():
    modules = {path.stem for path in Path(lessons.__file__).parent.glob("[!_]*.py")}
    assert modules == {lesson.slug.replace("-", "_") for lesson in LESSONS}, "LESSONS is in course/lessons/__init__.py"


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_page_is_one_of_a_lesson(language):
    assert {path.name for path in (PAGES / language).glob("*.md")} == {lesson.page for lesson in LESSONS}


@pytest.mark.parametrize(("readme", "said"), [("README.md", r"(\d+) lessons"), ("README.zh.md", r"(\d+) 课")])
def test_the_readme_says_how_many_lessons_there_are(readme, said):
    assert re.findall(said, (PAGES.parents[1] / readme).read_text(encoding="utf-8")) == [str(len(LESSONS))]


def test_cases_are_the_same_each_time():
    for _, exercise in EXERCISES:
        for one, two in zip(exercise.drawn(), exercise.drawn(), strict=True):
            for left, right in zip(one, two, strict=True):
                if isinstance(left, np.ndarray):
                    np.testing.assert_array_equal(left, right)
