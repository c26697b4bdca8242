"""Lesson 4: backpropagation through time by hand, on numbers that fit on paper, and then on arrays."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ...engine.tape import Array
from ..exercises.exercise import Exercise, Lesson, Mistake, Output
from ..exercises.text import Text

# -- the recurrence h_t = w * h_{t-1} + x_t, with the losses e_t * h_t -------------------------------------------------

_PAPER = (2.0, 1.0, np.array([1.0, -1, 2, 1, -2, 3]))
_LOSSES = np.array([1.0, 2, -1, 1, 3, 1])


def _forward_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield _PAPER
    for T in (1, 2, 4, 7):
        w, h0, *xs = rng.integers(-3, 4, T + 2).astype(float)
        yield w + 0.5, h0 + 0.25, np.array(xs)


def _backward_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    for case in _forward_cases(rng):
        T = len(case[2])  # type: ignore[arg-type]
        yield *case, _LOSSES if case is _PAPER else rng.integers(1, 5, T).astype(float)


def _forward(w: float, h0: float, xs: Array) -> Array:
    hs, h = [], h0
    for x in xs:
        h = w * h + x
        hs.append(h)
    return np.array(hs)


def _late(w: float, h0: float, xs: Array) -> Array:
    return np.concatenate([[h0], _forward(w, h0, xs)[:-1]])


_FORWARD = Exercise(
    "forward",
    "def forward(w, h0, xs):",
    Text(
        """The recurrence h_t = w * h_{t-1} + x_t.

        w and h0 are numbers, xs is an array (T,). Return hs (T,): the state after each step.""",
        """递推式 h_t = w * h_{t-1} + x_t。

        w 和 h0 是数，xs 是形状为 (T,) 的数组。返回 hs (T,)：每一步之后的状态。""",
    ),
    _forward_cases,
    _forward,
    (Output("hs", 0, backward=False),),
    (
        Mistake(
            Text("each step starts from h0", "每一步都从 h0 开始"),
            Text("which state does step t read, and where do you keep it?", "第 t 步读的是哪个状态？你把它存在哪里？"),
            lambda w, h0, xs: w * h0 + xs,
        ),
        Mistake(
            Text("the state is added without w", "加上状态时没有乘 w"),
            Text("what is the state multiplied by on its way into the next step?", "状态进入下一步时要乘以什么？"),
            lambda w, h0, xs: _forward(1.0, h0, xs),
        ),
        Mistake(
            Text("h0 is forgotten", "忘了 h0"),
            Text("what does the first step read as the state before it?", "第一步读到的前一个状态是什么？"),
            lambda w, h0, xs: _forward(w, 0.0, xs),
        ),
        Mistake(
            Text(
                "the state before each step is returned, not the one after it", "返回的是每一步之前的状态，而不是之后的"
            ),
            Text("is a state stored before or after it is computed anew?", "你是在更新状态之前还是之后保存它？"),
            _late,
        ),
        Mistake(
            Text("w multiplies the input instead of the state", "w 乘在了输入上，而不是状态上"),
            Text("read the equation again: what stands beside w?", "再读一遍公式：w 旁边是什么？"),
            lambda w, h0, xs: _forward(1.0, h0, w * xs),
        ),
        Mistake(
            Text("the inputs are read from the last to the first", "输入是从最后一个读到第一个的"),
            Text("in which order does time pass in the forward pass?", "前向传播时，时间按什么顺序前进？"),
            lambda w, h0, xs: _forward(w, h0, xs[::-1]),
        ),
    ),
    steps={"xs": 0},
)


def _backward(w: float, h0: float, xs: Array, es: Array, *, lost: str = "", carry: float = 1.0) -> tuple[float, float]:
    """Return dL/dw and dL/dh0; `lost` names what a mistaken solution does otherwise."""
    hs = _forward(w, h0, xs)
    before = hs if lost == "after" else np.concatenate([[0.0 if lost == "h0" else h0], hs[:-1]])
    dw = dh = 0.0
    for t in reversed(range(len(xs))):
        dh = carry * dh + (0.0 if lost == "losses" and t < len(xs) - 1 else es[t])
        dw = dh * before[t] if lost == "sum" else dw + dh * before[t]
        dh *= 1.0 if lost == "w" else w
    return dw, es[0] if lost == "dh0" else dh


_BACKWARD = Exercise(
    "backward",
    "def backward(w, h0, xs, es):",
    Text(
        """Backpropagation through time, with numbers.

        h_t = w * h_{t-1} + x_t, and the loss is L = sum over t of es[t] * h_t. w and h0 are numbers, xs and es arrays
        (T,). Return dw and dh0: the derivatives of L with respect to w, which every step uses, and to h0.""",
        """用数值做基于时间的反向传播。

        h_t = w * h_{t-1} + x_t，损失为 L = 对 t 求和 es[t] * h_t。w 和 h0 是数，xs 和 es 是形状为 (T,) 的数组。
        返回 dw 和 dh0：L 对 w（每一步都用到它）的导数和对 h0 的导数。""",
    ),
    _backward_cases,
    _backward,
    (Output("dw"), Output("dh0")),
    (
        Mistake(
            Text("nothing comes back from later steps", "后面的步没有传回任何梯度"),
            Text(
                "a state is used twice: by its loss, and by whom else?",
                "一个状态被用了两次：一次是它的损失，另一次是谁？",
            ),
            partial(_backward, carry=0.0),
        ),
        Mistake(
            Text("the gradient is not multiplied by w on its way back", "梯度往回传时没有乘 w"),
            Text("what is the derivative of h_t with respect to h_{t-1}?", "h_t 对 h_{t-1} 的导数是什么？"),
            partial(_backward, lost="w"),
        ),
        Mistake(
            Text("dw holds one step alone", "dw 只包含了一步"),
            Text(
                "w is used at every step; what happens to the shares of the other steps?",
                "每一步都用到 w；其他步的贡献去哪里了？",
            ),
            partial(_backward, lost="sum"),
        ),
        Mistake(
            Text("dw is taken with the state after the step", "dw 用了这一步之后的状态"),
            Text("what does w multiply in the equation of step t?", "在第 t 步的公式里，w 乘的是什么？"),
            partial(_backward, lost="after"),
        ),
        Mistake(
            Text("only the last loss sends a gradient", "只有最后一个损失传回了梯度"),
            Text("how many losses are in L, and where does each one enter?", "L 里有几个损失？每个从哪里进入？"),
            partial(_backward, lost="losses"),
        ),
        Mistake(
            Text("the first step's state is taken as 0 in dw", "计算 dw 时第一步的前一个状态被当成了 0"),
            Text("what was the state before the first step?", "第一步之前的状态是什么？"),
            partial(_backward, lost="h0"),
        ),
        Mistake(
            Text("dh0 is the first loss's gradient alone", "dh0 只有第一个损失的梯度"),
            Text("through which states does h0 reach the later losses?", "h0 通过哪些状态影响后面的损失？"),
            partial(_backward, lost="dh0"),
        ),
    ),
    steps={"xs": 0, "es": 0},
)

# -- the layer on arrays ----------------------------------------------------------------------------------------------


def _layer_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    for N, T, D, H in ((1, 1, 1, 1), (1, 2, 2, 2), (2, 3, 3, 2), (3, 5, 3, 3)):
        xs, h0 = rng.standard_normal((N, T, D)), rng.standard_normal((N, H))
        Wx, Wh, b = 0.5 * rng.standard_normal((D, H)), 0.5 * rng.standard_normal((H, H)), rng.standard_normal(H)
        hs = np.empty((N, T, H))
        h = h0
        for t in range(T):
            hs[:, t] = h = np.tanh(xs[:, t] @ Wx + h @ Wh + b)
        yield rng.standard_normal((N, T, H)), xs, hs, h0, Wx, Wh


def _layer(
    dhs: Array, xs: Array, hs: Array, h0: Array, Wx: Array, Wh: Array, *, lost: str = "", carry: float = 1.0
) -> tuple[Array, ...]:
    """Return dxs, dWx, dWh, db, dh0; `lost` names what a mistaken solution does otherwise."""
    T = hs.shape[1]
    dxs, dWx, dWh, db = np.zeros_like(xs), np.zeros_like(Wx), np.zeros_like(Wh), np.zeros(Wh.shape[0])
    dh = np.zeros_like(h0)
    for t in range(T) if lost == "order" else reversed(range(T)):
        before = hs[:, t - 1] if t else np.zeros_like(h0) if lost == "h0" else h0
        slopes = {"tanh": np.ones_like(h0), "before": 1 - before**2, "root": 1 - hs[:, t]}
        slope = slopes.get(lost, 1 - hs[:, t] ** 2)
        da = (dhs[:, t] + carry * dh) * slope
        if lost == "sum":
            dWx, dWh, db = np.zeros_like(dWx), np.zeros_like(dWh), np.zeros_like(db)
        dWx, db = dWx + xs[:, t].T @ da, db + (da.mean(axis=0) if lost == "mean" else da.sum(axis=0))
        dWh = dWh + (hs[:, t] if lost == "after" else before).T @ da
        dxs[:, t], dh = da @ Wx.T, da @ (Wh if lost == "turned" else Wh.T)
    return dxs, dWx, dWh, db, dh


_LAYER = Exercise(
    "rnn_backward",
    "def rnn_backward(dhs, xs, hs, h0, Wx, Wh):",
    Text(
        """The backward pass of the recurrent layer h_t = tanh(x_t @ Wx + h_{t-1} @ Wh + b), for all steps.

        dhs (N, T, H) are the gradients that arrive at hs from the layer above; xs (N, T, D), hs (N, T, H) and
        h0 (N, H) are what the forward pass read and computed; Wx (D, H), Wh (H, H).
        Return dxs (N, T, D), dWx (D, H), dWh (H, H), db (H,), dh0 (N, H).""",
        """循环层 h_t = tanh(x_t @ Wx + h_{t-1} @ Wh + b) 所有时间步的反向传播。

        dhs (N, T, H) 是上一层传到 hs 的梯度；xs (N, T, D)、hs (N, T, H) 和 h0 (N, H) 是前向传播读入和算出的；
        Wx (D, H)，Wh (H, H)。返回 dxs (N, T, D)、dWx (D, H)、dWh (H, H)、db (H,)、dh0 (N, H)。""",
    ),
    _layer_cases,
    _layer,
    (Output("dxs", 1), Output("dWx"), Output("dWh"), Output("db"), Output("dh0")),
    (
        Mistake(
            Text("nothing comes back from later steps", "后面的步没有传回任何梯度"),
            Text("what do you add to dhs[:, t] before it goes through tanh?", "dhs[:, t] 通过 tanh 之前，要加上什么？"),
            partial(_layer, carry=0.0),
        ),
        Mistake(
            Text("the derivative of tanh is missing", "缺少 tanh 的导数"),
            Text("between a and h stands a function; what is its slope?", "a 和 h 之间有一个函数；它的斜率是什么？"),
            partial(_layer, lost="tanh"),
        ),
        Mistake(
            Text("the derivative of tanh is 1 - h, without the square", "tanh 的导数写成了 1 - h，少了平方"),
            Text(
                "differentiate tanh on paper, and write it in terms of its result",
                "在纸上对 tanh 求导，并用它的结果来表示",
            ),
            partial(_layer, lost="root"),
        ),
        Mistake(
            Text("the derivative of tanh is taken at the state before the step", "tanh 的导数取在了这一步之前的状态上"),
            Text(
                "which of the two states is the result of this step's tanh?", "两个状态中哪一个是这一步 tanh 的结果？"
            ),
            partial(_layer, lost="before"),
        ),
        Mistake(
            Text("dWh is taken with the state after the step", "dWh 用了这一步之后的状态"),
            Text("which state does Wh multiply at step t?", "第 t 步 Wh 乘的是哪个状态？"),
            partial(_layer, lost="after"),
        ),
        Mistake(
            Text("the gradients of the weights hold one step alone", "权重的梯度只包含了一步"),
            Text(
                "the same weights are used T times; do you add, or assign?", "同样的权重用了 T 次；你是累加还是赋值？"
            ),
            partial(_layer, lost="sum"),
        ),
        Mistake(
            Text("the steps are taken in the order of the forward pass", "按前向传播的顺序遍历了时间步"),
            Text("which step must be done before step t can be?", "要处理第 t 步，必须先处理哪一步？"),
            partial(_layer, lost="order"),
        ),
        Mistake(
            Text("the first step's dWh is taken with zeros in place of h0", "第一步的 dWh 用零代替了 h0"),
            Text("what was the state before the first step?", "第一步之前的状态是什么？"),
            partial(_layer, lost="h0"),
        ),
        Mistake(
            Text("dh goes back through Wh, not through its transpose", "dh 往回传时乘了 Wh，而不是它的转置"),
            Text(
                "write h @ Wh for one entry with indices; which index is summed on the way back?",
                "用下标写出 h @ Wh 的一个元素；往回时对哪个下标求和？",
            ),
            partial(_layer, lost="turned"),
        ),
        Mistake(
            Text("db is averaged over the batch", "db 对小批量取了平均"),
            Text(
                "b was broadcast over the batch; is the reverse a sum or a mean?",
                "b 被广播到整个小批量；反过来是求和还是平均？",
            ),
            partial(_layer, lost="mean"),
        ),
    ),
    steps={"dhs": 1, "xs": 1, "hs": 1},
)

LESSON = Lesson(
    4,
    "bptt-by-hand",
    Text("Backpropagation through time by hand", "手算基于时间的反向传播"),
    (_FORWARD, _BACKWARD, _LAYER),
)
