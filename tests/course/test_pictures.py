"""The pictures of the lessons: each in both languages, and the Chinese one is the English one in other words."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from tinygrad_rnn.course.exercises.exercise import Lesson
from tinygrad_rnn.course.exercises.text import LANGUAGES, Text
from tinygrad_rnn.course.lessons import LESSONS, lesson

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "pictures" / "course"
PICTURES = sorted(path.name for path in (FOLDER / "en").glob("*.svg"))


@pytest.fixture(scope="module")
def pictures():
    """Return the program that draws them."""
    spec = importlib.util.spec_from_file_location("make_course_pictures", ROOT / "docs" / "make_course_pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_lesson_has_its_picture(pictures, language):
    names = {path.name for path in (FOLDER / language).glob("*.svg")}
    assert names == {f"{pictures.name_of(lesson)}.svg" for lesson in LESSONS}, "run docs/make_course_pictures.py"


@pytest.mark.parametrize("name", PICTURES)
def test_the_chinese_picture_is_the_english_one_in_other_words(pictures, name):
    english, chinese = ((FOLDER / language / name).read_text(encoding="utf-8") for language in ("en", "zh"))
    assert pictures.in_chinese(english) == chinese


@pytest.mark.parametrize(
    ("english", "chinese"),
    [
        ("6 steps · batch 1 · hidden 3 · cut every 3 steps", "6 个时间步 · 批大小 1 · 隐藏单元 3 · 每 3 步切断一次"),
        ("layers.0: 32 parameters", "layers.0：32 个参数"),
        ("cross-entropy 1.86", "交叉熵 1.86"),
        ("tanh(x·Wx + b + h·Wh)", "tanh(x·Wx + b + h·Wh)"),
    ],
)
def test_what_a_picture_says(pictures, english, chinese):
    assert pictures.in_chinese(f'<text x="1">{english}</text>') == f'<text x="1">{chinese}</text>'


def test_all_that_has_no_chinese_is_named(pictures):
    with pytest.raises(ValueError, match=r"no Chinese yet for \['a new word', 'another'\]: see CHINESE and NAMES"):
        pictures.in_chinese('<text x="1">12 steps · a new word</text><text x="2">another</text>')


def test_a_picture_is_written_in_both_languages_or_in_none(pictures, tmp_path, monkeypatch):
    drawing = SimpleNamespace(svg=lambda: '<text x="1">scissors</text>')
    monkeypatch.setattr(pictures, "scissors", lambda: drawing)
    with pytest.raises(ValueError, match="'scissors'"):
        pictures.main([lesson(7)], tmp_path)
    assert [*tmp_path.rglob("*.svg")] == []
    monkeypatch.setattr(pictures, "NAMES", {"scissors"})
    pictures.main([lesson(7)], tmp_path)
    assert {path.parent.name for path in tmp_path.rglob("scissors.svg")} == {*LANGUAGES}


def test_a_lesson_that_nothing_draws_is_named(pictures, tmp_path):
    with pytest.raises(ValueError, match=r"no function new_words\(\) draws lesson 12"):
        pictures.main([Lesson(12, "new-words", Text("New words", "新词"), ())], tmp_path)
