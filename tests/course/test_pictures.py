"""The pictures of the lessons: each in both languages, and the Chinese one is the English one in other words."""

import importlib.util
from pathlib import Path

import pytest

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


def test_each_lesson_has_its_picture(pictures):
    assert [f"{draw.__name__}.svg" for draw in pictures.PICTURES.values()] == [
        f"{path.stem[3:].replace('-', '_')}.svg" for path in sorted((ROOT / "docs" / "course" / "en").glob("*.md"))
    ]
    assert sorted(path.name for path in (FOLDER / "zh").glob("*.svg")) == PICTURES


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


def test_what_has_no_chinese_is_named(pictures):
    with pytest.raises(ValueError, match="'a new word' has no Chinese yet"):
        pictures.in_chinese('<text x="1">12 steps · a new word</text>')
