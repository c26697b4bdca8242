"""Lesson 8: why data must stay in order, and offset mini-batches."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ...engine.tape import Array
from ..exercises.exercise import Exercise, Lesson, Mistake, Output
from ..exercises.text import Text


def _offset_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield 1000, 2
    for _ in range(4):
        yield int(rng.integers(50, 200)), int(rng.integers(3, 8))


_OFFSETS = Exercise(
    "offsets",
    "def offsets(length, N):",
    Text(
        """Where do the N streams of a mini-batch begin?

        A text of `length` inputs is divided into N stretches of length // N each; what is left over is not used. Return
        (N,): the position at which each stretch begins.""",
        """小批量中的 N 个数据流各从哪里开始？

        长度为 `length` 的输入被分成 N 段，每段 length // N 个；剩下的不用。返回 (N,)：每一段开始的位置。""",
    ),
    _offset_cases,
    lambda length, N: np.arange(N) * (length // N),
    (Output("offsets"),),
    (
        Mistake(
            Text("the streams begin side by side", "各个数据流从相邻的位置开始"),
            Text("how long may a stream run before it meets the next one?", "一个数据流走多远才会碰到下一个？"),
            lambda length, N: np.arange(N),
        ),
        Mistake(
            Text("all streams begin at 0", "所有数据流都从 0 开始"),
            Text("what would the batch then hold N times?", "那样小批量里会有 N 份什么？"),
            lambda length, N: np.zeros(N, int),
        ),
        Mistake(
            Text("the positions are not whole numbers", "位置不是整数"),
            Text("what is length // N, and what is length / N?", "length // N 是什么？length / N 又是什么？"),
            lambda length, N: np.arange(N) * length / N,
        ),
        Mistake(
            Text("the first stretch is left out", "漏掉了第一段"),
            Text("where does the first stream begin?", "第一个数据流从哪里开始？"),
            lambda length, N: np.arange(1, N + 1) * (length // N),
        ),
        Mistake(
            Text("the streams are spread from the first to the last input", "数据流从第一个输入铺到了最后一个输入"),
            Text("how much text does the last stream have?", "最后一个数据流有多少文本？"),
            lambda length, N: np.linspace(0, length - 1, N).astype(int),
        ),
        Mistake(
            Text("the stretches have length N", "每段的长度成了 N"),
            Text("how many stretches are there, and how long is each?", "有几段？每段多长？"),
            lambda length, N: np.arange(N) * N,
        ),
    ),
)


def _batch_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.arange(100, 113), 2, 3, 0
    yield np.arange(100, 113), 2, 3, 1
    for N, T, i in ((3, 2, 1), (4, 3, 2)):
        yield rng.permutation(N * T * 4 + 2), N, T, i
    yield rng.permutation(24), 3, 2, 1  # N divides the number of words, not that of inputs


def _batch(ids: Array, N: int, T: int, i: int, *, lost: str = "") -> tuple[Array, Array]:
    """Return inputs and targets; `lost` names what a mistaken solution does otherwise."""
    jump = (len(ids) - (lost != "words")) // N
    start = {"again": 0, "slide": i}.get(lost, i * T)
    places = np.arange(N)[:, None] * jump + start + np.arange(T)
    if lost == "cut":
        places = (i * N + np.arange(N))[:, None] * T + np.arange(T)
    elif lost == "turned":
        places = start + np.arange(N)[:, None] + N * np.arange(T)
    xs = ids[places % len(ids)]
    return xs, xs if lost == "same" else ids[(places + (2 if lost == "far" else 1)) % len(ids)]


_BATCH = Exercise(
    "batch",
    "def batch(ids, N, T, i):",
    Text(
        """Mini-batch number i of N offset streams.

        ids (L,) is a text. The inputs are ids[:-1], the targets ids[1:]: each word predicts the next. The L - 1 inputs are
        divided into N stretches as in the first exercise; batch i holds the steps i * T, ..., i * T + T - 1 of each
        stretch. Return xs and ts, both (N, T).""",
        """N 个错开的数据流的第 i 个小批量。

        ids (L,) 是一段文本。输入是 ids[:-1]，目标是 ids[1:]：每个单词预测下一个单词。L - 1 个输入像第一题那样分成 N 段；
        第 i 个小批量包含每段的第 i * T 到 i * T + T - 1 步。返回 xs 和 ts，形状都是 (N, T)。""",
    ),
    _batch_cases,
    _batch,
    (Output("xs"), Output("ts")),
    (
        Mistake(
            Text("every batch is the first one", "每个小批量都是第一个"),
            Text("where did the batch before end?", "上一个小批量在哪里结束？"),
            partial(_batch, lost="again"),
        ),
        Mistake(
            Text("batches overlap: each is one step further", "小批量有重叠：每次只前进一步"),
            Text("by how many steps does a batch move on?", "一个小批量前进多少步？"),
            partial(_batch, lost="slide"),
        ),
        Mistake(
            Text("the text is cut into windows that are put side by side", "把文本切成窗口再并排放置"),
            Text(
                "does row 0 of the next batch continue row 0 of this one?",
                "下一个小批量的第 0 行接着这一个的第 0 行吗？",
            ),
            partial(_batch, lost="cut"),
        ),
        Mistake(
            Text("the streams are interleaved word by word", "数据流是逐词交错的"),
            Text("are two neighbours in a row neighbours in the text?", "一行中相邻的两个，在文本中也相邻吗？"),
            partial(_batch, lost="turned"),
        ),
        Mistake(
            Text("the stretches are as long as if all words were inputs", "每段的长度按全部单词算，而不是按输入算"),
            Text("can the last word of the text be an input?", "文本的最后一个单词能作输入吗？"),
            partial(_batch, lost="words"),
        ),
        Mistake(
            Text("the targets are the inputs", "目标就是输入本身"),
            Text("which word is to be predicted?", "要预测的是哪个单词？"),
            partial(_batch, lost="same"),
        ),
        Mistake(
            Text("the targets are two words ahead", "目标往后多移了一个单词"),
            Text("with which word of ids do the targets begin?", "目标从 ids 的哪个单词开始？"),
            partial(_batch, lost="far"),
        ),
    ),
)


def _reset_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([True, False])
    for N, H in ((3, 3), (4, 2)):
        ended = rng.random(N) < 0.5
        ended[:2] = True, False
        yield rng.standard_normal((N, H)), ended
    yield rng.standard_normal((2, 2)), np.array([False, False])


_RESET = Exercise(
    "next_state",
    "def next_state(h, ended):",
    Text(
        """The state that the next batch starts from.

        h (N, H) is the state after the last step of a batch, ended (N,) says which streams came to the end of their text
        there. A stream that goes on keeps its state; one that begins a new text starts from zeros. Return (N, H).""",
        """下一个小批量的初始状态。

        h (N, H) 是一个小批量最后一步之后的状态，ended (N,) 表示哪些数据流在那里到达了文本的末尾。继续的数据流保留状态；
        开始新文本的数据流从零开始。返回 (N, H)。""",
    ),
    _reset_cases,
    lambda h, ended: np.where(ended[:, None], 0.0, h),
    (Output("h"),),
    (
        Mistake(
            Text("every stream starts from zeros", "每个数据流都从零开始"),
            Text("what was the order of the data kept for?", "保持数据的顺序是为了什么？"),
            lambda h, ended: np.zeros_like(h),
        ),
        Mistake(
            Text("every stream keeps its state", "每个数据流都保留了状态"),
            Text(
                "does the first word of a text follow the last one of another?",
                "一篇文本的第一个词是接在另一篇最后一个词之后的吗？",
            ),
            lambda h, ended: h.copy(),
        ),
        Mistake(
            Text("the streams that go on are reset", "重置的是继续的数据流"),
            Text("read `ended` aloud for one stream", "对一个数据流念一念 `ended` 的意思"),
            lambda h, ended: np.where(ended[:, None], h, 0.0),
        ),
        Mistake(
            Text("if one stream ends, all are reset", "只要有一个数据流结束，就全部重置"),
            Text("do the streams know of each other?", "各个数据流之间有关系吗？"),
            lambda h, ended: h * (not ended.any()),
        ),
        Mistake(
            Text("new texts start from the mean of the other states", "新文本从其他状态的平均开始"),
            Text("what is known before the first word?", "读第一个单词之前知道什么？"),
            lambda h, ended: np.where(ended[:, None], h[~ended].mean(axis=0), h),
        ),
    ),
)

LESSON = Lesson(
    8, "order-of-data", Text("Why data must stay in order", "数据为何必须保持顺序"), (_OFFSETS, _BATCH, _RESET)
)
