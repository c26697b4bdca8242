"""Draw the pictures of the course: python docs/make_course_pictures.py [NUMBER...] (all lessons without a number).

The function with the name of a lesson's module draws its picture. A Chinese page has the same picture, with what it
says in Chinese; names of the code stay what they are.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import tinygrad_rnn as tr
from tinygrad_rnn.course.exercises.exercise import Lesson
from tinygrad_rnn.course.lessons import LESSONS
from tinygrad_rnn.course.lessons import lesson as lesson_of

FOLDER = Path(__file__).parent / "pictures" / "course"


def rng() -> np.random.Generator:
    """Return the generator of each picture."""
    return np.random.default_rng(0)


def series(N: int, T: int, D: int) -> np.ndarray:
    """Return inputs (N, T, D)."""
    return rng().standard_normal((N, T, D)).astype(np.float32)


def word_order() -> tr.Drawing:
    """Draw CBOW on one context of two words."""
    model = tr.CBOW(7, 3, 2, rng())
    return tr.draw(tr.cross_entropy(model(np.array([[0, 2]])), np.array([1])), view="ops", title="CBOW")


def recurrent_cell() -> tr.Drawing:
    """Draw the cell with its loop."""
    return tr.draw(tr.RNNCell(3, 4, rng()), series(1, 3, 3), view="rolled", title="The recurrent cell")


def unrolling() -> tr.Drawing:
    """Draw two layers over four steps."""
    layers = tr.Stacked([tr.RNNCell(3, 4, rng()), tr.RNNCell(4, 4, rng())])
    return tr.draw(layers, series(2, 4, 3), title="Two layers, unrolled")


def bptt_by_hand() -> tr.Drawing:
    """Draw four steps of a layer, with the gradient that comes back along each edge."""
    return tr.draw(tr.RNNCell(2, 3, rng()), series(1, 4, 2), gradients=True, depth=1)


def by_the_graph() -> tr.Drawing:
    """Draw the operations of one step beside their backward graph."""
    return tr.draw(
        tr.RNNCell(2, 3, rng()), series(1, 2, 2), view="backward", steps=2, title="One step, forward and backward"
    )


def long_sequences() -> tr.Drawing:
    """Draw six steps with a loss at the last one alone: the gradient fades."""
    cell = tr.RNNCell(2, 8, rng())
    cell.Wh.data = 0.4 * cell.Wh.data
    h, xs = cell.initial_state(1), series(1, 6, 2)
    for t in range(6):
        with tr.at_step(t):
            _, h = cell(xs[:, t], h)
    return tr.draw(np.sum(h), gradients=True, title="A loss at the end")


def scissors() -> tr.Drawing:
    """Draw six steps that are cut every three."""
    return tr.draw(tr.RNNCell(2, 3, rng()), series(1, 6, 2), gradients=True, cut_every=3, title="The scissors")


def order_of_data() -> tr.Drawing:
    """Draw two windows of two streams."""
    model, ids = tr.RNNLM(10, 3, 4, rng()), np.arange(10).reshape(2, 5)
    return tr.draw(model, ids[:, :-1], ids[:, 1:], cut_every=2, title="Two windows of two streams")


def language_model() -> tr.Drawing:
    """Draw a language model over three steps."""
    model, ids = tr.RNNLM(6, 3, 4, rng()), rng().integers(0, 6, (2, 4))
    return tr.draw(model, ids[:, :-1], ids[:, 1:], title="A language model")


def gates_and_credit() -> tr.Drawing:
    """Draw the LSTM with its loop."""
    return tr.draw(tr.LSTMCell(3, 4, rng()), series(1, 3, 3), view="rolled", title="The LSTM cell")


# What a picture says, whole or between two dots, as a pattern, and the same in Chinese.
CHINESE = {
    "One step, forward and backward": "一个时间步的前向与反向",
    "The recurrent cell": "循环单元",
    "The LSTM cell": "LSTM 单元",
    "Two layers, unrolled": "展开的两层",
    "RNNCell, unrolled": "展开的 RNNCell",
    "A loss at the end": "只在最后有损失",
    "The scissors": "剪刀",
    "Two windows of two streams": "两条文本流的两个窗口",
    "A language model": "语言模型",
    r"(\d+) steps": r"\1 个时间步",
    r"× (\d+) steps": r"× \1 步",
    r"one step, repeated (\d+) times": r"一个时间步，重复 \1 次",
    r"step t = (\d+)": r"时间步 t = \1",
    r"cut every (\d+) steps": r"每 \1 步切断一次",
    r"(\d+) operations": r"\1 个运算",
    r"(\d+) operations forward, (\d+) backward": r"前向 \1 个运算，反向 \2 个",
    r"batch (\d+)": r"批大小 \1",
    r"hidden (\d+)": r"隐藏单元 \1",
    r"state (\w \d+×\d+)": r"状态 \1",
    r"(\d+) parameters": r"\1 个参数",
    r"([\w.]+): (\d+) parameters": r"\1：\2 个参数",
    r"(\d+) terms": r"\1 项",
    r"cross-entropy( =)? ([\d.]+)": r"交叉熵\1 \2",
    r"mean ℓ = ([\d.]+)": r"ℓ 的平均 = \1",
    r"Σ, mean (-?[\d.]+)": r"Σ，平均 \1",
    r"window (\d+)": r"窗口 \1",
    r"rule of (\w+)": r"\1 的规则",
    r"rows of ([\w.]+)": r"\1 的行",
    "forward: values ↓": "前向：值 ↓",
    "backward: cotangents ↑": "反向：梯度 ↑",
    "returning gradient ‖∂L/∂·‖": "传回的梯度 ‖∂L/∂·‖",
    "gradient stops": "梯度到此为止",
    "value only, no gradient": "只有值，没有梯度",
    "cut": "切断",
    "loss": "损失",
    "lookup": "查表",
    "sums": "相加",
    "target": "目标",
    "zeros": "零",
}
NAMES = frozenset(
    {
        "CBOW",
        "RNNCell",
        "LSTMCell",
        "embedding",
        "output",
        "layers",
        "broadcast",
        "split",
        "tanh",
        "id",
        "ids",
        "Wx",
        "Wh",
    }
)
SAID = re.compile(r'(<text[^>]*>(?:<tspan>)?|aria-label=")([^<"]+)(?=<|")')


def in_chinese(picture: str) -> str:
    """Return a picture (SVG) that says in Chinese what it says in English.

    Raises:
        ValueError: naming all that is not in CHINESE and has words that are no NAMES.
    """
    said = {part for match in SAID.finditer(picture) for part in match[2].split(" · ")}
    chinese = {part: translated(part) for part in said}
    if missing := sorted(part for part, text in chinese.items() if text is None):
        raise ValueError(f"docs/make_course_pictures.py: no Chinese yet for {missing}: see CHINESE and NAMES")
    return SAID.sub(lambda match: match[1] + " · ".join(chinese[part] or "" for part in match[2].split(" · ")), picture)


def translated(text: str) -> str | None:
    """Return one thing that a picture says, in Chinese; None: it has words of which the Chinese is not known."""
    for pattern, chinese in CHINESE.items():
        if found := re.fullmatch(pattern, text):
            return found.expand(chinese)
    return None if set(re.findall("[A-Za-z]{2,}", text)) - NAMES else text


def name_of(lesson: Lesson) -> str:
    """Return the name of a lesson's picture, of the function above that draws it, and of the lesson's module."""
    return lesson.slug.replace("-", "_")


def main(lessons: Iterable[Lesson], folder: Path = FOLDER) -> None:
    """Draw the picture of each lesson in both languages; of one that lacks some Chinese, neither.

    Raises:
        ValueError: if a lesson has no function here, or its picture says something that has no Chinese yet.
    """
    for lesson in lessons:
        name = name_of(lesson)
        if name not in globals():
            raise ValueError(f"docs/make_course_pictures.py: no function {name}() draws lesson {lesson.number}")
        english = globals()[name]().svg()
        for language, picture in {"en": english, "zh": in_chinese(english)}.items():
            path = folder / language / f"{name}.svg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main([lesson_of(int(number)) for number in sys.argv[1:]] or LESSONS)
