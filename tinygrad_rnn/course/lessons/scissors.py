"""Lesson 7: the scissors: truncated backpropagation through time, as sums and as masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ...engine.tape import Array
from ..exercises.exercise import Exercise, Lesson, Mistake, Output
from ..exercises.text import Text

_PAPER = (2.0, 1.0, np.array([1.0, -1, 2, 1, -2, 3]), np.array([1.0, 2, -1, 1, 3, 1]))


def _recurrence_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    for n in (3, 2):
        yield *_PAPER, n
    for T, n in ((5, 2), (7, 3), (8, 4)):
        w, h0, *xs = rng.integers(-3, 4, T + 2).astype(float)
        yield w + 0.5, h0 + 0.25, np.array(xs), rng.integers(1, 5, T).astype(float), n


def _weighted(
    w: float, h0: float, xs: Array, es: Array, allowed: Callable[[int, int], bool], *, reset: int = 0
) -> float:
    """Return the sum of the credits that the losses tau give to the uses t of w where that is allowed."""
    hs = [h0]
    for t, x in enumerate(xs):
        hs.append(w * (0.0 if reset and t and t % reset == 0 else hs[-1]) + x)
    before = [0.0 if reset and t and t % reset == 0 else hs[t] for t in range(len(xs))]
    pairs = [(tau, t) for tau in range(len(xs)) for t in range(tau + 1) if allowed(tau, t)]
    return float(sum(es[tau] * w ** (tau - t) * before[t] for tau, t in pairs))


def _chunked(w: float, h0: float, xs: Array, es: Array, n: int, *, shift: int = 0) -> float:
    return _weighted(w, h0, xs, es, lambda tau, t: (tau + shift) // n == (t + shift) // n)


def _windowed(w: float, h0: float, xs: Array, es: Array, h: int, *, more: int = 0) -> float:
    return _weighted(w, h0, xs, es, lambda tau, t: tau - t < h + more)


_FULL = Mistake(
    Text("nothing is cut: this is the full gradient", "什么都没有截断：这是完整的梯度"),
    Text("where does the walk back stop?", "往回走到哪里停下？"),
    lambda w, h0, xs, es, n: _weighted(w, h0, xs, es, lambda tau, t: True),
)

_CHUNKED = Exercise(
    "truncated",
    "def truncated(w, h0, xs, es, n):",
    Text(
        """The textbook's truncated BPTT: the backward connection is cut every n steps, the forward one is not.

        h_t = w * h_{t-1} + x_t, L = sum of es[t] * h_t, as in lesson 4. The steps are 0, 1, ..., T - 1; the gradient does
        not go from step n to step n - 1, from 2n to 2n - 1, and so on. Return dw.""",
        """教科书的截断 BPTT：每 n 步切断一次反向的连接，正向的连接不断。

        h_t = w * h_{t-1} + x_t，L = es[t] * h_t 之和，与第 4 课相同。时间步为 0、1、……、T - 1；梯度不从第 n 步传到
        第 n - 1 步，不从 2n 传到 2n - 1，依此类推。返回 dw。""",
    ),
    _recurrence_cases,
    _chunked,
    (Output("dw"),),
    (
        _FULL,
        Mistake(
            Text("the forward connection is cut too", "正向的连接也被切断了"),
            Text("which state does the first step of a block read?", "一个块的第一步读取的是哪个状态？"),
            lambda w, h0, xs, es, n: _weighted(w, h0, xs, es, lambda tau, t: tau // n == t // n, reset=n),
        ),
        Mistake(
            Text("cut one step too early", "早切了一步"),
            Text("how many steps does the first block have?", "第一个块有几步？"),
            partial(_chunked, shift=1),
        ),
        Mistake(
            Text("cut one step too late", "晚切了一步"),
            Text("how many steps does the first block have?", "第一个块有几步？"),
            partial(_chunked, shift=-1),
        ),
        Mistake(
            Text("each loss has a window of n steps of its own", "每个损失都有自己的 n 步窗口"),
            Text("that is the next exercise; where do the fixed cuts stand?", "那是下一题；固定的切口在哪里？"),
            _windowed,
        ),
        Mistake(
            Text("only the losses at the ends of blocks are counted", "只算了各块末尾的损失"),
            Text("how many losses does L have?", "L 里有几个损失？"),
            lambda w, h0, xs, es, n: _weighted(
                w, h0, xs, es, lambda tau, t: tau // n == t // n and (tau % n == n - 1 or tau == len(xs) - 1)
            ),
        ),
    ),
    steps={"xs": 0, "es": 0},
)

_WINDOWED = Exercise(
    "windowed",
    "def windowed(w, h0, xs, es, h):",
    Text(
        """A window for each loss (Williams and Peng 1990): loss t reaches the uses of w at steps t, t - 1, ..., t - h + 1.

        The recurrence and the losses are those of the first exercise. Return dw. For h = 1 a loss reaches only the use
        of w at its own step.""",
        """每个损失一个窗口（Williams 和 Peng，1990）：损失 t 到达 w 在第 t、t - 1、……、t - h + 1 步的使用。

        递推式和损失与第一题相同。返回 dw。h = 1 时，损失只到达它自己那一步对 w 的使用。""",
    ),
    _recurrence_cases,
    _windowed,
    (Output("dw"),),
    (
        _FULL,
        Mistake(
            Text("the window is one step too long", "窗口长了一步"),
            Text("with h = 1, how many uses of w does a loss reach?", "h = 1 时，一个损失到达 w 的几次使用？"),
            partial(_windowed, more=1),
        ),
        Mistake(
            Text("the window is one step too short", "窗口短了一步"),
            Text("with h = 1, how many uses of w does a loss reach?", "h = 1 时，一个损失到达 w 的几次使用？"),
            partial(_windowed, more=-1),
        ),
        Mistake(
            Text("cut every h steps, as in the first exercise", "像第一题那样每 h 步切断"),
            Text(
                "does the window of the next loss begin where this one's did?",
                "下一个损失的窗口和这个损失的窗口从同一处开始吗？",
            ),
            _chunked,
        ),
        Mistake(
            Text("only the farthest use of the window is counted", "只算了窗口中最远的一次使用"),
            Text("a window has h steps", "一个窗口有 h 步"),
            lambda w, h0, xs, es, h: _weighted(w, h0, xs, es, lambda tau, t: tau - t == h - 1),
        ),
        Mistake(
            Text("only the last loss is counted", "只算了最后一个损失"),
            Text("each loss has a window", "每个损失都有一个窗口"),
            lambda w, h0, xs, es, h: _weighted(w, h0, xs, es, lambda tau, t: tau == len(xs) - 1 and tau - t < h),
        ),
    ),
    steps={"xs": 0, "es": 0},
)


def _mask_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield 4, 2
    for _ in range(3):
        T = int(rng.integers(5, 9))
        yield T, int(rng.integers(2, 4))


def _mask(T: int, allowed: Callable[[int, int], bool]) -> Array:
    return np.array([[float(allowed(tau, t)) for t in range(T)] for tau in range(T)])


_MASK = Exercise(
    "mask",
    "def mask(T, n):",
    Text(
        """Truncated BPTT as a picture: which loss gives credit to which step.

        Return M (T, T): M[tau, t] is 1 if the loss at step tau reaches the use of the weights at step t when the backward
        connection is cut every n steps, else 0.""",
        """把截断 BPTT 画成一张图：哪个损失对哪一步有贡献。

        返回 M (T, T)：每 n 步切断反向连接时，如果第 tau 步的损失能到达第 t 步对权重的使用，M[tau, t] 为 1，否则为 0。""",
    ),
    _mask_cases,
    lambda T, n: _mask(T, lambda tau, t: t <= tau and tau // n == t // n),
    (Output("M"),),
    (
        Mistake(
            Text("losses reach later steps", "损失到达了后面的步"),
            Text("can a loss depend on what was read after it?", "损失会依赖于它之后才读到的东西吗？"),
            lambda T, n: _mask(T, lambda tau, t: tau // n == t // n),
        ),
        Mistake(
            Text("nothing is cut", "什么都没有切断"),
            Text("which entries does a cut before step n make 0?", "第 n 步之前的切口使哪些元素变成 0？"),
            lambda T, n: _mask(T, lambda tau, t: t <= tau),
        ),
        Mistake(
            Text("each loss has a window of n steps of its own", "每个损失都有自己的 n 步窗口"),
            Text("the cuts stand at fixed steps", "切口在固定的步"),
            lambda T, n: _mask(T, lambda tau, t: 0 <= tau - t < n),
        ),
        Mistake(
            Text("rows and columns are swapped", "行和列颠倒了"),
            Text("which index is the loss?", "哪个下标是损失？"),
            lambda T, n: _mask(T, lambda tau, t: t >= tau and tau // n == t // n),
        ),
        Mistake(
            Text("a loss does not reach its own step", "损失没有到达它自己的那一步"),
            Text("are the weights used at step tau?", "第 tau 步用到权重了吗？"),
            lambda T, n: _mask(T, lambda tau, t: t < tau and tau // n == t // n),
        ),
        Mistake(
            Text("cut one step too early", "早切了一步"),
            Text("how many steps does the first block have?", "第一个块有几步？"),
            lambda T, n: _mask(T, lambda tau, t: t <= tau and (tau + 1) // n == (t + 1) // n),
        ),
    ),
)

LESSON = Lesson(7, "scissors", Text("The scissors: truncated BPTT", "剪刀：截断的 BPTT"), (_CHUNKED, _WINDOWED, _MASK))
