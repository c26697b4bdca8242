"""Lesson 2: the recurrent cell, which reads one word after another and keeps a state."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ...engine.tape import Array
from ..exercises.exercise import Exercise, Lesson, Mistake, Output
from ..exercises.text import Text


def _weights(rng: np.random.Generator, D: int, H: int) -> tuple[Array, Array, Array]:
    return rng.standard_normal((D, H)), rng.standard_normal((H, H)), rng.standard_normal(H)


def _step_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.array([[1.0]]), np.array([[0.5]]), np.array([[0.25]]), np.array([[2.0]]), np.array([-0.5])
    for N, D, H in ((1, 2, 2), (2, 3, 2), (3, 2, 2)):
        yield rng.standard_normal((N, D)), rng.uniform(-1, 1, (N, H)), *_weights(rng, D, H)


def _step(x: Array, h: Array, Wx: Array, Wh: Array, b: Array, *, lost: str = "") -> Array:
    """Return the next state; `lost` names what a mistaken solution does otherwise."""
    before = {"h": 0.0 * h, "Wh": h, "turned": h @ Wh.T}.get(lost, h @ Wh)
    a: Array = x @ Wx + before + (0.0 if lost == "b" else b)
    if lost == "tanh":
        return a
    made: Array = 1 / (1 + np.exp(-a)) if lost == "sigmoid" else np.tanh(a)
    return made


_STEP = Exercise(
    "rnn_step",
    "def rnn_step(x, h, Wx, Wh, b):",
    Text(
        """One step of the recurrent cell: tanh(x @ Wx + h @ Wh + b).

        x (N, D) is the input of N sequences, h (N, H) their states before the step; Wx (D, H), Wh (H, H), b (H,).
        Return the states after the step, (N, H).""",
        """循环单元的一步：tanh(x @ Wx + h @ Wh + b)。

        x (N, D) 是 N 个序列的输入，h (N, H) 是这一步之前的状态；Wx (D, H)，Wh (H, H)，b (H,)。
        返回这一步之后的状态 (N, H)。""",
    ),
    _step_cases,
    _step,
    (Output("h"),),
    (
        Mistake(
            Text("tanh is missing", "缺少 tanh"),
            Text("what keeps the state between -1 and 1?", "是什么把状态限制在 -1 和 1 之间？"),
            partial(_step, lost="tanh"),
        ),
        Mistake(
            Text("the sigmoid is taken instead of tanh", "用了 sigmoid，而不是 tanh"),
            Text("can a state of this cell be negative?", "这个单元的状态可以是负数吗？"),
            partial(_step, lost="sigmoid"),
        ),
        Mistake(
            Text("the state before the step is not read", "没有读取前一个状态"),
            Text("what makes the cell recurrent?", "是什么让这个单元成为“循环”的？"),
            partial(_step, lost="h"),
        ),
        Mistake(
            Text("the state is added without Wh", "加上状态时没有乘 Wh"),
            Text("which three parameters does the cell have?", "这个单元有哪三个参数？"),
            partial(_step, lost="Wh"),
        ),
        Mistake(
            Text("the state is multiplied by the transpose of Wh", "状态乘的是 Wh 的转置"),
            Text(
                "rows or columns: which axis of Wh belongs to the state before?",
                "行还是列：Wh 的哪个轴对应前一个状态？",
            ),
            partial(_step, lost="turned"),
        ),
        Mistake(
            Text("the bias is missing", "缺少偏置"),
            Text("what is the state if x and h are 0?", "如果 x 和 h 都是 0，状态是什么？"),
            partial(_step, lost="b"),
        ),
    ),
)


def _read_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    for T, D, H in ((1, 1, 1), (2, 1, 2), (3, 2, 2), (6, 3, 4)):
        yield rng.standard_normal((T, D)), rng.uniform(-1, 1, H), *_weights(rng, D, H)


def _read(xs: Array, h0: Array, Wx: Array, Wh: Array, b: Array, *, lost: str = "") -> Array:
    h = total = np.zeros_like(h0) if lost == "h0" else h0
    for x in {"order": xs[::-1], "early": xs[:-1], "late": xs[1:]}.get(lost, xs):
        h = np.tanh(x @ Wx + (h0 if lost == "forget" else h) @ Wh + b)
        total = total + h
    return (total - h0) / len(xs) if lost == "mean" else h


_READ = Exercise(
    "read",
    "def read(xs, h0, Wx, Wh, b):",
    Text(
        """Read a whole sequence: the state after its last step.

        xs (T, D) is one sequence, h0 (H,) the state before its first step. Apply the cell of the first exercise to one
        step after another, and return the last state, (H,).""",
        """读完整个序列：最后一步之后的状态。

        xs (T, D) 是一个序列，h0 (H,) 是第一步之前的状态。把第一题的单元依次用在每一步上，返回最后的状态 (H,)。""",
    ),
    _read_cases,
    _read,
    (Output("h"),),
    (
        Mistake(
            Text("each step starts from h0", "每一步都从 h0 开始"),
            Text("which state does the second step read?", "第二步读取的是哪个状态？"),
            partial(_read, lost="forget"),
        ),
        Mistake(
            Text("the sequence is read from its end", "从末尾开始读序列"),
            Text("which step comes first?", "哪一步在先？"),
            partial(_read, lost="order"),
        ),
        Mistake(
            Text("the sequence starts from zeros instead of h0", "从零开始，而不是从 h0 开始"),
            Text("what was the state before the first step?", "第一步之前的状态是什么？"),
            partial(_read, lost="h0"),
        ),
        Mistake(
            Text("the last step is not read", "没有读最后一步"),
            Text("how many times is the cell applied?", "这个单元用了几次？"),
            partial(_read, lost="early"),
        ),
        Mistake(
            Text("the first step is not read", "没有读第一步"),
            Text("with which index does a sequence begin?", "序列从哪个下标开始？"),
            partial(_read, lost="late"),
        ),
        Mistake(
            Text("the states are averaged", "对各个状态取了平均"),
            Text(
                "that is what CBOW did with words; where is the past kept here?",
                "CBOW 对单词就是这么做的；这里的过去存放在哪里？",
            ),
            partial(_read, lost="mean"),
        ),
    ),
    steps={"xs": 0},
)


def _count_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield 10, 2, 3
    for _ in range(4):
        yield tuple(int(size) for size in rng.integers(2, 60, 3))


def _count(V: int, D: int, H: int) -> int:
    return V * D + D * H + H * H + H + H * V + V


_COUNT = Exercise(
    "count_parameters",
    "def count_parameters(V, D, H):",
    Text(
        """How many numbers does a recurrent language model learn?

        An embedding of V words of size D, a recurrent cell with D inputs and H units, and an output layer with a bias,
        from H units to V words. Return the number of all their parameters.""",
        """一个循环语言模型要学习多少个数？

        V 个单词、大小为 D 的嵌入层，D 个输入、H 个单元的循环单元，以及从 H 个单元到 V 个单词、带偏置的输出层。
        返回所有参数的个数。""",
    ),
    _count_cases,
    _count,
    (Output("count"),),
    (
        Mistake(
            Text("the biases are not counted", "没有算偏置"),
            Text("two of the layers add a vector", "有两个层会加上一个向量"),
            lambda V, D, H: _count(V, D, H) - H - V,
        ),
        Mistake(
            Text("the bias of the cell is not counted", "没有算循环单元的偏置"),
            Text("write the equation of the cell and count its arrays", "写出循环单元的公式，数一数它的数组"),
            lambda V, D, H: _count(V, D, H) - H,
        ),
        Mistake(
            Text("the bias of the output layer is not counted", "没有算输出层的偏置"),
            Text("how many outputs does the last layer have?", "最后一层有几个输出？"),
            lambda V, D, H: _count(V, D, H) - V,
        ),
        Mistake(
            Text("Wh is not counted", "没有算 Wh"),
            Text("which matrix carries the state from step to step?", "哪个矩阵把状态从一步带到下一步？"),
            lambda V, D, H: _count(V, D, H) - H * H,
        ),
        Mistake(
            Text("Wh is counted as a vector", "把 Wh 当成了向量"),
            Text("each of H units reads each of H units", "H 个单元中的每一个都读取 H 个单元中的每一个"),
            lambda V, D, H: _count(V, D, H) - H * H + H,
        ),
        Mistake(
            Text("the embedding is not counted", "没有算嵌入层"),
            Text("where do the D inputs of a word come from?", "一个单词的 D 个输入从哪里来？"),
            lambda V, D, H: _count(V, D, H) - V * D,
        ),
        Mistake(
            Text("the cell has a second bias", "循环单元多了一个偏置"),
            Text("some libraries have two; how many are in the equation?", "有些库有两个；公式里有几个？"),
            lambda V, D, H: _count(V, D, H) + H,
        ),
    ),
)

LESSON = Lesson(2, "recurrent-cell", Text("The recurrent cell", "循环单元"), (_STEP, _READ, _COUNT))
