"""Lesson 1: what CBOW reads, and the order of words that it loses."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ...engine.tape import Array
from ..exercises.exercise import Exercise, Lesson, Mistake, Output
from ..exercises.text import Text


def _context_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.array([10, 11, 12, 13, 14]), 1
    for length, window in ((6, 2), (5, 2), (9, 3)):
        yield rng.permutation(20)[:length], window


def _contexts(ids: Array, window: int, *, lost: str = "") -> tuple[Array, Array]:
    """Return contexts and targets; `lost` names what a mistaken solution does otherwise."""
    positions = range(window, len(ids) - window - (lost == "last"))
    around = [*range(-window, 0), *range(1, window + 1)]
    if lost == "target":
        around = list(range(-window, window + 1))
    elif lost == "left":
        around = list(range(-window, 0))
    elif lost == "turned":
        around = [*range(1, window + 1), *range(-window, 0)]
    contexts = [[ids[t + k] for k in around] for t in positions]
    targets = [ids[t + 1 if lost == "next" else t] for t in positions]
    return np.array(contexts), np.array(targets)


_CONTEXTS = Exercise(
    "contexts",
    "def contexts(ids, window):",
    Text(
        """The training data of CBOW: the words around each word.

        ids (T,) is a text as word ids, window a number of words on each side. For each position that has a full window
        on both sides: return contexts (M, 2 * window), first the words before it, then those after it, each in the
        order of the text, and targets (M,), the words in the middle.""",
        """CBOW 的训练数据：每个单词周围的单词。

        ids (T,) 是用单词 ID 表示的文本，window 是每一侧的单词数。对两侧窗口都完整的每个位置：返回 contexts (M, 2 * window)，
        先是它前面的单词，再是它后面的单词，都按文本中的顺序；以及 targets (M,)，即中间的单词。""",
    ),
    _context_cases,
    _contexts,
    (Output("contexts"), Output("targets")),
    (
        Mistake(
            Text("the target is part of its own context", "目标词也出现在它自己的上下文里"),
            Text("how hard is it to guess a word that one is shown?", "如果已经看到了答案，猜它有多难？"),
            partial(_contexts, lost="target"),
        ),
        Mistake(
            Text("only the words before the target are taken", "只取了目标词前面的单词"),
            Text("how many words does a context of window = 1 have?", "window = 1 时，一个上下文有几个单词？"),
            partial(_contexts, lost="left"),
        ),
        Mistake(
            Text("the words after the target come first", "目标词后面的单词被排在了前面"),
            Text("in which order do the words stand in the text?", "这些单词在文本中按什么顺序出现？"),
            partial(_contexts, lost="turned"),
        ),
        Mistake(
            Text("the last target is missing", "缺少最后一个目标词"),
            Text(
                "range leaves out its end; which position is the last with a full window?",
                "range 不包含终点；最后一个窗口完整的位置是哪个？",
            ),
            partial(_contexts, lost="last"),
        ),
        Mistake(
            Text("the targets are the words after the middle", "目标词取成了中间单词的下一个"),
            Text("compare the first target with the first context on paper", "在纸上对照第一个目标词和第一个上下文"),
            partial(_contexts, lost="next"),
        ),
    ),
)


def _hidden_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.array([0, 1]), np.array([[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]])
    yield np.array([4, 1, 4]), rng.standard_normal((6, 3))
    for count in (2, 3, 4):
        yield rng.integers(0, 6, count), rng.standard_normal((6, 3))


def _hidden(context: Array, W: Array, *, how: str = "mean") -> Array:
    rows: Array = W[context]
    if how == "order":
        rows = rows * np.arange(1, len(rows) + 1)[:, None]
    elif how == "first":
        rows = rows[:1]
    elif how == "unique":
        rows = W[np.unique(context)]
    elif how == "half":
        rows = rows * len(rows) / 2
    elif how == "max":
        rows = rows.max(axis=0, keepdims=True)
    made: Array = rows.sum(axis=0) if how == "sum" else rows.mean(axis=0)
    return made


_HIDDEN = Exercise(
    "hidden",
    "def hidden(context, W):",
    Text(
        """The hidden layer of CBOW: the mean of the embeddings of the context.

        context (C,) holds word ids, W (V, H) the embeddings, a row for each word. Return h (H,).""",
        """CBOW 的隐藏层：上下文中各单词嵌入向量的平均。

        context (C,) 是单词 ID，W (V, H) 是嵌入矩阵，每个单词一行。返回 h (H,)。""",
    ),
    _hidden_cases,
    _hidden,
    (Output("h"),),
    (
        Mistake(
            Text("the embeddings are added up, not averaged", "嵌入向量被相加了，而不是取平均"),
            Text("should h grow with the number of words in the context?", "h 应当随上下文单词数的增加而变大吗？"),
            partial(_hidden, how="sum"),
        ),
        Mistake(
            Text("always divided by 2", "总是除以 2"),
            Text("how many words may a context have?", "上下文可以有几个单词？"),
            partial(_hidden, how="half"),
        ),
        Mistake(
            Text("only the first word is looked up", "只查了第一个单词"),
            Text("how many rows of W does a context name?", "一个上下文指定了 W 的几行？"),
            partial(_hidden, how="first"),
        ),
        Mistake(
            Text("a word that occurs twice counts once", "出现两次的单词只算了一次"),
            Text("what does a set do to a word that is said twice?", "集合会怎样处理说了两次的单词？"),
            partial(_hidden, how="unique"),
        ),
        Mistake(
            Text("the largest entry is taken instead of the mean", "取了最大值，而不是平均值"),
            Text("which NumPy function is the mean along an axis?", "NumPy 中沿某个轴求平均的函数是哪个？"),
            partial(_hidden, how="max"),
        ),
        Mistake(
            Text("words are weighted by their position", "按位置给单词加了权"),
            Text("a good idea, but does CBOW know of positions?", "好主意，但是 CBOW 知道位置吗？"),
            partial(_hidden, how="order"),
        ),
    ),
)


def _bag_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.array([3, 1, 2]), np.array([1, 2, 3])
    yield np.array([1, 1, 2]), np.array([1, 2, 2])
    yield np.array([1, 4]), np.array([2, 3])
    yield np.array([1, 2]), np.array([1, 2, 1, 2])
    yield np.array([5, 0, 5, 1]), np.array([5, 5, 1, 0])
    yield np.array([1, 2, 3]), np.array([1, 2, 4])
    yield np.array([7, 7]), np.array([7, 7])
    yield np.array([0, 3, 3]), np.array([1, 2, 3])


def _means(a: Array, b: Array) -> bool:
    """Return whether the means of one-hot rows are equal: then those of any embeddings are."""
    size = max(a.max(), b.max()) + 1
    return bool(np.allclose(np.eye(size)[a].mean(axis=0), np.eye(size)[b].mean(axis=0)))


_BAGS = Exercise(
    "same_to_cbow",
    "def same_to_cbow(a, b):",
    Text(
        """Can CBOW tell two contexts apart?

        a and b are arrays of word ids, perhaps of different lengths. Return True if CBOW, which takes the mean of the
        embeddings, computes the same hidden layer from both, whatever the embeddings are; else False.""",
        """CBOW 能区分两个上下文吗？

        a 和 b 是单词 ID 的数组，长度可能不同。如果无论嵌入矩阵是什么，对嵌入取平均的 CBOW 从两者算出的隐藏层都相同，
        返回 True；否则返回 False。""",
    ),
    _bag_cases,
    _means,
    (Output("same"),),
    (
        Mistake(
            Text("contexts are compared in order", "按顺序比较了上下文"),
            Text("does a mean change if its terms are put in another order?", "换一下各项的顺序，平均值会变吗？"),
            lambda a, b: np.array_equal(a, b),
        ),
        Mistake(
            Text("only which words occur is compared, not how often", "只比较了出现哪些单词，没有比较次数"),
            Text("is the mean of (a, a, b) that of (a, b, b)?", "(a, a, b) 的平均等于 (a, b, b) 的平均吗？"),
            lambda a, b: set(a) == set(b),
        ),
        Mistake(
            Text("counts are compared, not shares", "比较的是次数，而不是比例"),
            Text("what is the mean of (a, b), and that of (a, b, a, b)?", "(a, b) 的平均是什么？(a, b, a, b) 呢？"),
            lambda a, b: np.array_equal(np.sort(a), np.sort(b)),
        ),
        Mistake(
            Text("the sums of the ids are compared", "比较的是 ID 之和"),
            Text(
                "the ids are names; is the word 1 and the word 4 the same as 2 and 3?",
                "ID 只是名字；单词 1 和 4 与单词 2 和 3 一样吗？",
            ),
            lambda a, b: a.sum() == b.sum(),
        ),
        Mistake(
            Text("the means of the ids are compared", "比较的是 ID 的平均值"),
            Text(
                "whatever the embeddings are: could two words' rows make the difference?",
                "无论嵌入是什么：两个单词的行会不会带来差别？",
            ),
            lambda a, b: a.mean() == b.mean(),
        ),
        Mistake(
            Text("only the lengths are compared", "只比较了长度"),
            Text("do two contexts of three words always have the same mean?", "两个三词的上下文平均值总是相同吗？"),
            lambda a, b: len(a) == len(b),
        ),
    ),
)

LESSON = Lesson(
    1,
    "word-order",
    Text("Word order, and why CBOW loses it", "词序，以及 CBOW 为何丢失它"),
    (_CONTEXTS, _HIDDEN, _BAGS),
)
