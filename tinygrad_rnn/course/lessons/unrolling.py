"""Lesson 3: unrolling, a cell repeated over the steps of a batch of sequences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from ...engine.tape import Array
from ..exercises.exercise import Exercise, Lesson, Mistake, Output
from ..exercises.text import Text

_Layer = tuple[Array, Array, Array]


def _unrolled_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    for N, T, D, H in ((1, 2, 1, 1), (2, 2, 2, 2), (3, 3, 2, 4), (2, 5, 3, 3)):
        xs, h0 = rng.standard_normal((N, T, D)), rng.uniform(-1, 1, (N, H))
        yield xs, h0, rng.standard_normal((D, H)), rng.standard_normal((H, H)), rng.standard_normal(H)


def _unrolled(xs: Array, h0: Array, Wx: Array, Wh: Array, b: Array, *, lost: str = "") -> Array:
    """Return all states (N, T, H); `lost` names what a mistaken solution does otherwise."""
    hs, h = [], h0
    steps = [xs[:, t] for t in range(xs.shape[1])]
    for x in reversed(steps) if lost == "order" else steps:
        if lost == "before":
            hs.append(h)
        h = np.tanh(x @ Wx + (h0 if lost == "forget" else h) @ Wh + b)
        if lost != "before":
            hs.append(h)
    if lost == "last":
        hs = [h] * len(hs)
    return np.stack(hs, axis=0 if lost == "axis" else 1)


_UNROLLED = Exercise(
    "unroll",
    "def unroll(xs, h0, Wx, Wh, b):",
    Text(
        """The recurrent layer h_t = tanh(x_t @ Wx + h_{t-1} @ Wh + b), unrolled over a batch.

        xs (N, T, D) are N sequences of T steps, h0 (N, H) their first states; Wx (D, H), Wh (H, H), b (H,).
        Return hs (N, T, H): the states after each step.""",
        """循环层 h_t = tanh(x_t @ Wx + h_{t-1} @ Wh + b)，在一个小批量上展开。

        xs (N, T, D) 是 N 个 T 步的序列，h0 (N, H) 是它们的初始状态；Wx (D, H)，Wh (H, H)，b (H,)。
        返回 hs (N, T, H)：每一步之后的状态。""",
    ),
    _unrolled_cases,
    _unrolled,
    (Output("hs", 1, backward=False),),
    (
        Mistake(
            Text("each step starts from h0", "每一步都从 h0 开始"),
            Text("what is carried from one step to the next?", "从一步到下一步，传递的是什么？"),
            partial(_unrolled, lost="forget"),
        ),
        Mistake(
            Text("the states before each step are returned", "返回的是每一步之前的状态"),
            Text(
                "is the first state that you keep h0, or what the first step makes?",
                "你保存的第一个状态是 h0，还是第一步算出来的？",
            ),
            partial(_unrolled, lost="before"),
        ),
        Mistake(
            Text("the steps are read from the last to the first", "从最后一步读到了第一步"),
            Text("in which order does the forward pass go?", "前向传播按什么顺序进行？"),
            partial(_unrolled, lost="order"),
        ),
        Mistake(
            Text("the last state stands at every step", "每一步放的都是最后的状态"),
            Text("do your steps share one array that is written again?", "各步是不是共用了一个被反复改写的数组？"),
            partial(_unrolled, lost="last"),
        ),
        Mistake(
            Text("time is the first axis of the result", "结果的第一个轴是时间"),
            Text("along which axis do you stack?", "你沿哪个轴堆叠？"),
            partial(_unrolled, lost="axis"),
        ),
    ),
    steps={"xs": 1},
)


def _stacked_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    for N, T, H in ((1, 2, 1), (1, 3, 2), (2, 4, 3)):
        layers = [(rng.standard_normal((H, H)), rng.standard_normal((H, H)), rng.standard_normal(H)) for _ in range(2)]
        yield rng.standard_normal((N, T, H)), [rng.uniform(-1, 1, (N, H)) for _ in range(2)], layers


def _stacked(xs: Array, h0s: Sequence[Array], layers: Sequence[_Layer], *, lost: str = "") -> Array:
    below, above = layers
    h0 = h0s[0] if lost == "h0" else h0s[1]
    hs = _unrolled(xs, h0s[0], *below)
    if lost == "late":
        hs = np.concatenate([h0s[0][:, None], hs[:, :-1]], axis=1)
    elif lost == "beside":
        return _unrolled(xs, h0, *above)
    elif lost == "one":
        return hs
    return _unrolled(hs, h0, *(below if lost == "shared" else above)) + (hs if lost == "sum" else 0.0)


_STACKED = Exercise(
    "two_layers",
    "def two_layers(xs, h0s, layers):",
    Text(
        """Two recurrent layers, one above the other.

        xs (N, T, D); h0s holds the first states of both layers, each (N, H); layers holds (Wx, Wh, b) of both, the lower
        one first. The upper layer reads the states of the lower one. Return the states of the upper layer, (N, T, H).""",
        """两个上下叠放的循环层。

        xs (N, T, D)；h0s 是两层的初始状态，各为 (N, H)；layers 是两层的 (Wx, Wh, b)，下层在前。上层读取下层的状态。
        返回上层的状态 (N, T, H)。""",
    ),
    _stacked_cases,
    _stacked,
    (Output("hs", 1, backward=False),),
    (
        Mistake(
            Text("the lower layer's states are returned", "返回的是下层的状态"),
            Text("how many layers has your input passed?", "你的输入经过了几层？"),
            partial(_stacked, lost="one"),
        ),
        Mistake(
            Text("the upper layer reads the inputs, not the lower layer", "上层读取的是输入，而不是下层"),
            Text("what is the input of the upper layer?", "上层的输入是什么？"),
            partial(_stacked, lost="beside"),
        ),
        Mistake(
            Text("both layers use the weights of the lower one", "两层都用了下层的权重"),
            Text("steps share weights; do layers?", "各时间步共享权重；各层也共享吗？"),
            partial(_stacked, lost="shared"),
        ),
        Mistake(
            Text("the upper layer starts from the lower one's first state", "上层从下层的初始状态开始"),
            Text("h0s has two entries", "h0s 有两个元素"),
            partial(_stacked, lost="h0"),
        ),
        Mistake(
            Text("the upper layer reads the lower one's state of the step before", "上层读取的是下层上一步的状态"),
            Text(
                "at step t, is the lower layer done before the upper one starts?",
                "在第 t 步，上层开始之前下层算完了吗？",
            ),
            partial(_stacked, lost="late"),
        ),
        Mistake(
            Text("the lower layer's states are added to the upper one's", "把下层的状态加到了上层的状态上"),
            Text("a residual connection is a good idea, but not in the task", "残差连接是个好主意，但题目里没有"),
            partial(_stacked, lost="sum"),
        ),
    ),
    steps={"xs": 1},
)


def _last_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.arange(6.0).reshape(1, 6, 1), np.array([3])
    for N, T, H in ((3, 4, 2), (4, 5, 3)):
        lengths = rng.integers(2, T, N)
        lengths[0] = T - 1
        yield rng.standard_normal((N, T, H)), lengths


def _last(hs: Array, lengths: Array, *, shift: int = -1) -> Array:
    found: Array = hs[np.arange(len(hs)), lengths + shift]
    return found


def _mean(hs: Array, lengths: Array) -> Array:
    return np.stack([rows[:length].mean(axis=0) for rows, length in zip(hs, lengths, strict=True)])


_LAST = Exercise(
    "last_states",
    "def last_states(hs, lengths):",
    Text(
        """The state of each sequence at its own end.

        hs (N, T, H) are states after each step; sequence n has lengths[n] steps, 1 <= lengths[n] <= T, and padding
        after them. Return (N, H): the state after the last true step of each sequence.""",
        """每个序列在自己结尾处的状态。

        hs (N, T, H) 是每一步之后的状态；第 n 个序列有 lengths[n] 步，1 <= lengths[n] <= T，之后是填充。
        返回 (N, H)：每个序列最后一个真实步之后的状态。""",
    ),
    _last_cases,
    _last,
    (Output("states"),),
    (
        Mistake(
            Text("the state at the end of the padding is taken", "取了填充末尾处的状态"),
            Text("does a short sequence end where the array ends?", "短序列在数组的末尾结束吗？"),
            lambda hs, lengths: hs[:, -1],
        ),
        Mistake(
            Text("one step too late", "晚了一步"),
            Text(
                "counting from 0, which index has the last of three steps?", "从 0 开始数，三步中最后一步的下标是几？"
            ),
            partial(_last, shift=0),
        ),
        Mistake(
            Text("one step too early", "早了一步"),
            Text("which index has the only step of a sequence of length 1?", "长度为 1 的序列，它唯一一步的下标是几？"),
            partial(_last, shift=-2),
        ),
        Mistake(
            Text("the first state is taken", "取了第一个状态"),
            Text("how many words has the first state seen?", "第一个状态看到了几个单词？"),
            lambda hs, lengths: hs[:, 0],
        ),
        Mistake(
            Text("the states are averaged", "对各个状态取了平均"),
            Text("which one state has read the whole sequence?", "哪一个状态读完了整个序列？"),
            _mean,
        ),
        Mistake(
            Text("the longest sequence's end is taken for all", "对所有序列都取了最长序列的结尾"),
            Text("lengths has an entry for each sequence", "lengths 中每个序列都有一个元素"),
            lambda hs, lengths: hs[:, lengths.max() - 1],
        ),
    ),
    steps={"hs": 1},
)

LESSON = Lesson(3, "unrolling", Text("Unrolling", "展开"), (_UNROLLED, _STACKED, _LAST))
