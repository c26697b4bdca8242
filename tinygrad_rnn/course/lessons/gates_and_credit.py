"""Lesson 10: LSTM and GRU, a cell of your own, and credit that is carried forward."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ...engine.tape import Array
from ..exercises.exercise import Exercise, Lesson, Mistake, Output
from ..exercises.text import Text


def _sigmoid(a: Array) -> Array:
    made: Array = 0.5 * (np.tanh(0.5 * a) + 1)
    return made


def _lstm_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    for N, H in ((1, 1), (2, 2), (3, 4)):
        yield rng.standard_normal((N, 4 * H)), rng.standard_normal((N, H))


def _lstm(a: Array, c: Array, *, lost: str = "") -> tuple[Array, Array]:
    """Return the new h and c; `lost` names what a mistaken solution does otherwise."""
    i, f, o, g = np.split(a, 4, axis=-1)
    if lost == "order":
        i, f = f, i
    if lost == "blocks":
        o, g = g, o
    i, f, o = _sigmoid(i), _sigmoid(f), _sigmoid(o)
    g = _sigmoid(g) if lost == "sigmoid" else np.tanh(g)
    kept = {"f": c, "forget": 0.0 * c}.get(lost, f * c)
    before, c = c, kept + (g if lost == "i" else i * g)
    h = o * (c if lost == "tanh" else np.tanh(before if lost == "late" else c))
    return (np.tanh(c) if lost == "o" else h), c


_LSTM = Exercise(
    "lstm_step",
    "def lstm_step(a, c):",
    Text(
        """The LSTM after its products (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

        a (N, 4H) holds, side by side, the sums of the gates i, f, o and of the candidate g; c (N, H) is the cell state
        before the step. i, f, o are sigmoids, g is a tanh; c' = f * c + i * g and h' = o * tanh(c'). Return h' and c'.""",
        """LSTM 在矩阵乘积之后的部分（Hochreiter 和 Schmidhuber，1997；Gers 等，2000）。

        a (N, 4H) 中并排放着门 i、f、o 和候选 g 的加权和；c (N, H) 是这一步之前的记忆单元。i、f、o 用 sigmoid，g 用 tanh；
        c' = f * c + i * g，h' = o * tanh(c')。返回 h' 和 c'。""",
    ),
    _lstm_cases,
    _lstm,
    (Output("h"), Output("c")),
    (
        Mistake(
            Text("the gates i and f are swapped", "门 i 和 f 颠倒了"),
            Text("in which order do the blocks of a stand?", "a 中各块按什么顺序排列？"),
            partial(_lstm, lost="order"),
        ),
        Mistake(
            Text("the blocks are taken in the order i, f, g, o", "各块按 i、f、g、o 的顺序取了"),
            Text("which block does the task name last?", "题目中最后一块是哪个？"),
            partial(_lstm, lost="blocks"),
        ),
        Mistake(
            Text("the forget gate is missing", "缺少遗忘门"),
            Text("how does the cell forget?", "这个单元怎样遗忘？"),
            partial(_lstm, lost="f"),
        ),
        Mistake(
            Text("the cell state before the step is not kept", "没有保留之前的记忆单元"),
            Text("along which path does a memory last for a hundred steps?", "一段记忆沿哪条路径保持一百步？"),
            partial(_lstm, lost="forget"),
        ),
        Mistake(
            Text("h is made of the cell state before the step", "h 用的是这一步之前的记忆单元"),
            Text("can h show at once what the candidate has brought?", "候选刚带来的东西，h 马上就能显示吗？"),
            partial(_lstm, lost="late"),
        ),
        Mistake(
            Text("the input gate is missing", "缺少输入门"),
            Text("what decides whether the candidate enters?", "由什么决定候选是否进入？"),
            partial(_lstm, lost="i"),
        ),
        Mistake(
            Text("the candidate is a sigmoid", "候选用了 sigmoid"),
            Text("may the candidate be negative?", "候选可以是负数吗？"),
            partial(_lstm, lost="sigmoid"),
        ),
        Mistake(
            Text("h is o * c, without tanh", "h 是 o * c，缺少 tanh"),
            Text("how large may c become, and how large h?", "c 可以有多大？h 呢？"),
            partial(_lstm, lost="tanh"),
        ),
        Mistake(
            Text("the output gate is missing", "缺少输出门"),
            Text("what decides how much of the cell is shown?", "由什么决定显示多少记忆单元？"),
            partial(_lstm, lost="o"),
        ),
    ),
)


def _leaky_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.array([[1.0]]), np.array([[0.5]]), np.array([[0.25]]), np.array([[2.0]]), np.array([-0.5]), 0.25
    for N, D, H in ((2, 2, 2), (3, 2, 3)):
        weights = rng.standard_normal((D, H)), rng.standard_normal((H, H)), rng.standard_normal(H)
        yield rng.standard_normal((N, D)), rng.uniform(-1, 1, (N, H)), *weights, float(rng.uniform(0.1, 0.4))


def _leaky(x: Array, h: Array, Wx: Array, Wh: Array, b: Array, alpha: float, *, lost: str = "") -> Array:
    new: Array = x @ Wx + h @ Wh + b
    if lost != "linear":
        new = np.tanh(new)
    if lost == "outside":
        new = np.tanh((1 - alpha) * h + alpha * (x @ Wx + h @ Wh + b))
    if lost in ("outside", "plain"):
        return new
    old: Array = {"swapped": alpha, "whole": 1.0}.get(lost, 1 - alpha) * h
    return old + {"swapped": 1 - alpha, "full": 1.0}.get(lost, alpha) * new


_LEAKY = Exercise(
    "leaky_step",
    "def leaky_step(x, h, Wx, Wh, b, alpha):",
    Text(
        """A cell of your own: a leaky unit, which changes slowly.

        h' = (1 - alpha) * h + alpha * tanh(x @ Wx + h @ Wh + b), for x (N, D), h (N, H) and a number alpha between
        0 and 1: the share of the state that is new at each step. Return h' (N, H).""",
        """你自己的单元：变化缓慢的泄漏单元。

        h' = (1 - alpha) * h + alpha * tanh(x @ Wx + h @ Wh + b)，其中 x (N, D)，h (N, H)，alpha 是 0 与 1 之间的数：
        每一步状态中新的部分所占的比例。返回 h' (N, H)。""",
    ),
    _leaky_cases,
    _leaky,
    (Output("h"),),
    (
        Mistake(
            Text("alpha and 1 - alpha are swapped", "alpha 和 1 - alpha 颠倒了"),
            Text("how much changes if alpha is small?", "alpha 很小时变化有多大？"),
            partial(_leaky, lost="swapped"),
        ),
        Mistake(
            Text("nothing leaks: this is the plain cell", "没有泄漏：这是普通的单元"),
            Text("what remains of h?", "h 还剩下多少？"),
            partial(_leaky, lost="plain"),
        ),
        Mistake(
            Text("the whole old state is kept", "保留了整个旧状态"),
            Text("do the two shares add up to 1?", "两个比例加起来等于 1 吗？"),
            partial(_leaky, lost="whole"),
        ),
        Mistake(
            Text("the whole new value is added", "加上了整个新值"),
            Text("do the two shares add up to 1?", "两个比例加起来等于 1 吗？"),
            partial(_leaky, lost="full"),
        ),
        Mistake(
            Text("tanh is taken of the mixture", "对混合之后的结果取了 tanh"),
            Text("what if the state decays through tanh at each step?", "如果状态每一步都经过 tanh 衰减，会怎样？"),
            partial(_leaky, lost="outside"),
        ),
        Mistake(
            Text("tanh is missing", "缺少 tanh"),
            Text("what bounds the new value?", "新值由什么限制？"),
            partial(_leaky, lost="linear"),
        ),
    ),
)


def _credit_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield 2.0, 1.0, np.array([1.0, -1, 2, 1, -2, 3]), np.array([1.0, 2, -1, 1, 3, 1])
    for T in (2, 5, 7):
        w, h0, *xs = rng.integers(-3, 4, T + 2).astype(float)
        yield w + 0.5, h0 + 0.25, np.array(xs), rng.integers(1, 5, T).astype(float)


def _credit(w: float, h0: float, xs: Array, es: Array, *, lost: str = "") -> tuple[Array, float]:
    """Return the influence after each step, and dL/dw; `lost` names what a mistaken solution does otherwise."""
    J, h, dw, Js = 1.0 if lost == "one" else 0.0, h0, 0.0, []
    for t, (x, e) in enumerate(zip(xs, es, strict=True)):
        new = w * h + x
        past = {"w": J, "reset": 0.0}.get(lost, w * J)
        J = past + {"after": new, "input": x}.get(lost, h)
        h = new
        Js.append(J)
        if lost != "last" or t == len(xs) - 1:
            dw += e * J
    return np.array(Js), dw


_CREDIT = Exercise(
    "forward_credit",
    "def forward_credit(w, h0, xs, es):",
    Text(
        """Real-time recurrent learning on paper: the gradient without going back.

        h_t = w * h_{t-1} + x_t, L = sum of es[t] * h_t, as in lesson 4. Let J_t = dh_t/dw: find J_t from J_{t-1}, w and
        h_{t-1}, and carry it along with the state. Return J (T,), the influence after each step, and dw, the derivative of
        L, in one pass from the first step to the last.""",
        """在纸上做实时循环学习（RTRL）：不往回走也能得到梯度。

        h_t = w * h_{t-1} + x_t，L = es[t] * h_t 之和，与第 4 课相同。设 J_t = dh_t/dw：由 J_{t-1}、w 和 h_{t-1} 求出 J_t，
        并与状态一起向前传递。从第一步到最后一步只走一遍，返回 J (T,)（每一步之后的影响）和 dw（L 的导数）。""",
    ),
    _credit_cases,
    _credit,
    (Output("J", 0, backward=False), Output("dw")),
    (
        Mistake(
            Text("the influence is not multiplied by w", "影响没有乘 w"),
            Text("how does dh_{t-1}/dw reach h_t?", "dh_{t-1}/dw 怎样到达 h_t？"),
            partial(_credit, lost="w"),
        ),
        Mistake(
            Text("the influence starts anew at each step", "影响在每一步都重新开始"),
            Text("w was used at earlier steps too", "w 在更早的步也用过"),
            partial(_credit, lost="reset"),
        ),
        Mistake(
            Text("the state after the step is added, not the one before it", "加上的是这一步之后的状态，而不是之前的"),
            Text("what does w multiply at step t?", "第 t 步 w 乘的是什么？"),
            partial(_credit, lost="after"),
        ),
        Mistake(
            Text("the input is added instead of the state", "加上的是输入，而不是状态"),
            Text("which term of h_t contains w?", "h_t 的哪一项含有 w？"),
            partial(_credit, lost="input"),
        ),
        Mistake(
            Text("only the last loss is counted in dw", "dw 只算了最后一个损失"),
            Text("how many losses does L have?", "L 里有几个损失？"),
            partial(_credit, lost="last"),
        ),
        Mistake(
            Text("the influence starts at 1", "影响从 1 开始"),
            Text("what is dh_0/dw?", "dh_0/dw 是多少？"),
            partial(_credit, lost="one"),
        ),
    ),
    steps={"xs": 0, "es": 0},
)

LESSON = Lesson(
    10,
    "gates-and-credit",
    Text("LSTM, GRU, a cell of your own, and credit carried forward", "LSTM、GRU、你自己的单元，以及向前传递的贡献"),
    (_LSTM, _LEAKY, _CREDIT),
)
