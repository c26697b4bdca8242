"""Lesson 5: the same gradients by the graph: rules of operations, and the walk that applies them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from ...engine.tape import Array
from ..exercises.exercise import Exercise, Lesson, Mistake, Output
from ..exercises.text import Text


def _tanh_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.array([1.0, 2.0]), np.array([0.5, 0.0])
    for shape in ((3,), (2, 3)):
        yield rng.standard_normal(shape), np.tanh(rng.standard_normal(shape))


_TANH = Exercise(
    "tanh_rule",
    "def tanh_rule(g, y):",
    Text(
        """The rule of y = tanh(x): what goes back to x.

        g is dL/dy, y the result of tanh, both of one shape. Return dL/dx, computed from g and y alone.""",
        """y = tanh(x) 的求导规则：传回给 x 的梯度。

        g 是 dL/dy，y 是 tanh 的结果，两者形状相同。只用 g 和 y 计算并返回 dL/dx。""",
    ),
    _tanh_cases,
    lambda g, y: g * (1 - y * y),
    (Output("dx"),),
    (
        Mistake(
            Text("the slope alone, without g", "只有斜率，没有乘 g"),
            Text("what does the chain rule do with what arrives?", "链式法则怎样处理到达的梯度？"),
            lambda g, y: 1 - y * y,
        ),
        Mistake(
            Text("tanh is taken of y again", "对 y 又取了一次 tanh"),
            Text(
                "y is the result already; is the slope written in x or in y?",
                "y 已经是结果了；斜率是用 x 还是用 y 表示的？",
            ),
            lambda g, y: g * (1 - np.tanh(y) ** 2),
        ),
        Mistake(
            Text("1 - y instead of 1 - y^2", "写成了 1 - y，而不是 1 - y^2"),
            Text("what is the slope where y is -1?", "y 为 -1 时斜率是多少？"),
            lambda g, y: g * (1 - y),
        ),
        Mistake(
            Text("the sigmoid's slope, y * (1 - y)", "用了 sigmoid 的斜率 y * (1 - y)"),
            Text("how steep is tanh at 0?", "tanh 在 0 处有多陡？"),
            lambda g, y: g * y * (1 - y),
        ),
        Mistake(
            Text("the slope is subtracted from 1 the wrong way round", "减反了：y^2 - 1"),
            Text("does tanh rise or fall?", "tanh 是上升还是下降？"),
            lambda g, y: g * (y * y - 1),
        ),
        Mistake(
            Text("tanh itself is used as its slope", "把 tanh 本身当成了斜率"),
            Text("what is the slope where y is 0?", "y 为 0 时斜率是多少？"),
            lambda g, y: g * y,
        ),
    ),
)


def _product_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.array([[1.0, 2.0]]), np.array([[3.0, 4.0]]), np.array([[1.0, 0.0], [2.0, 1.0]])
    for N, H in ((2, 2), (3, 3)):
        yield rng.standard_normal((N, H)), rng.standard_normal((N, H)), rng.standard_normal((H, H))
    yield rng.standard_normal((2, 4)), rng.standard_normal((2, 3)), rng.standard_normal((3, 4))


def _product(g: Array, x: Array, W: Array, *, lost: str = "") -> tuple[Array, Array]:
    dW = g.T @ x if lost == "turned" else x.T @ g
    square = W.shape[0] == W.shape[1]
    dx = g @ W if lost == "W" and square else g @ W.T
    if lost == "mean":
        dW = dW / len(x)
    elif lost == "first":
        dW = np.outer(x[0], g[0])
    return (dW, dx) if lost == "swapped" else (dx, dW)


_PRODUCT = Exercise(
    "matmul_rule",
    "def matmul_rule(g, x, W):",
    Text(
        """The rule of y = x @ W: what goes back to x and to W.

        g (N, H) is dL/dy, x (N, D), W (D, H). Return dx (N, D) and dW (D, H).""",
        """y = x @ W 的求导规则：传回给 x 和 W 的梯度。

        g (N, H) 是 dL/dy，x (N, D)，W (D, H)。返回 dx (N, D) 和 dW (D, H)。""",
    ),
    _product_cases,
    _product,
    (Output("dx"), Output("dW")),
    (
        Mistake(
            Text("dx goes through W, not its transpose", "dx 乘的是 W，而不是它的转置"),
            Text("check the shapes for D = 3 and H = 4", "取 D = 3、H = 4，检查形状"),
            partial(_product, lost="W"),
        ),
        Mistake(
            Text("dW is transposed", "dW 被转置了"),
            Text("dW has the shape of W; which of its axes is D?", "dW 的形状与 W 相同；哪个轴是 D？"),
            partial(_product, lost="turned"),
        ),
        Mistake(
            Text("dW is averaged over the batch", "dW 对小批量取了平均"),
            Text("W is used once for each row; sum or mean?", "W 对每一行用一次；求和还是平均？"),
            partial(_product, lost="mean"),
        ),
        Mistake(
            Text("dW holds the first row of the batch alone", "dW 只包含小批量的第一行"),
            Text("what becomes of the other rows?", "其他行怎么办？"),
            partial(_product, lost="first"),
        ),
        Mistake(
            Text("dx and dW are returned in the wrong order", "dx 和 dW 的返回顺序反了"),
            Text("which one has the shape of x?", "哪个的形状与 x 相同？"),
            partial(_product, lost="swapped"),
        ),
    ),
)

_Calls = Sequence[tuple[str, int, int]]


def _walk_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.array([2.0, 3.0]), [("mul", 0, 1), ("add", 2, 0)]
    yield np.array([2.0, 5.0]), [("mul", 0, 0), ("mul", 2, 1), ("add", 3, 2)]
    for count in (4, 7):
        leaves = rng.integers(1, 4, 3).astype(float)
        calls = []
        for number in range(count):
            newest = 2 + number
            i = newest if number else 0
            calls.append((("mul", "add")[int(rng.integers(2))], i, int(rng.integers(newest + 1))))
        yield leaves, calls


def _values(leaves: Array, calls: _Calls) -> list[float]:
    values = [float(leaf) for leaf in leaves]
    for name, i, j in calls:
        values.append(values[i] * values[j] if name == "mul" else values[i] + values[j])
    return values


def _walk(leaves: Array, calls: _Calls, *, lost: str = "") -> Array:
    """Return the gradient of each leaf; `lost` names what a mistaken solution does otherwise."""
    values = _values(leaves, calls)
    gradients = [0.0] * len(values)
    gradients[-1] = 2.0 if lost == "seed" else 1.0
    order = list(enumerate(calls, len(leaves)))
    for k, (name, i, j) in order if lost == "order" else reversed(order):
        di, dj = (values[j], values[i]) if name == "mul" else (1.0, 1.0)
        if lost == "own":
            di, dj = dj, di
        elif lost == "sum" and name == "add":
            di = dj = 0.5
        if lost == "assign":
            gradients[i], gradients[j] = gradients[k] * di, gradients[k] * dj
        else:
            gradients[i] += gradients[k] * di
            gradients[j] += gradients[k] * dj if lost != "once" or i != j else 0.0
    return np.array(gradients[: len(leaves)])


_WALK = Exercise(
    "gradients",
    "def gradients(leaves, calls):",
    Text(
        """The engine in small: the gradient of the last value with respect to each leaf.

        The values v are numbered: first the leaves, (L,), then the result of each call. A call is (name, i, j): "add" for
        v[i] + v[j], "mul" for v[i] * v[j]; i and j are numbers of earlier values, and may be the same. Return (L,): the
        derivative of the last value with respect to each leaf.""",
        """一个小型的自动微分引擎：最后一个值对每个叶子的梯度。

        所有的值 v 依次编号：先是叶子 (L,)，再是每次调用的结果。一次调用是 (name, i, j)："add" 表示 v[i] + v[j]，
        "mul" 表示 v[i] * v[j]；i 和 j 是较早的值的编号，可以相同。返回 (L,)：最后一个值对每个叶子的导数。""",
    ),
    _walk_cases,
    _walk,
    (Output("gradients"),),
    (
        Mistake(
            Text("gradients are assigned, not added up", "梯度被覆盖，而没有累加"),
            Text("what if a value is read by two calls?", "如果一个值被两次调用读取呢？"),
            partial(_walk, lost="assign"),
        ),
        Mistake(
            Text("the calls are walked in the order of the forward pass", "按前向的顺序遍历了调用"),
            Text("when is a value's gradient complete?", "一个值的梯度什么时候才完整？"),
            partial(_walk, lost="order"),
        ),
        Mistake(
            Text(
                "a factor of a product gets itself back, not the other factor",
                "乘积的因子得到的是自己，而不是另一个因子",
            ),
            Text("what is the derivative of a * b with respect to a?", "a * b 对 a 的导数是什么？"),
            partial(_walk, lost="own"),
        ),
        Mistake(
            Text("a sum shares its gradient between its terms", "加法把梯度平分给了各项"),
            Text("if one term grows by 1, by how much does the sum grow?", "如果一项增加 1，和增加多少？"),
            partial(_walk, lost="sum"),
        ),
        Mistake(
            Text("a value that is multiplied by itself gets its gradient once", "与自己相乘的值只得到了一次梯度"),
            Text("what is the derivative of a * a?", "a * a 的导数是什么？"),
            partial(_walk, lost="once"),
        ),
        Mistake(
            Text("the walk does not begin with 1", "遍历的起点不是 1"),
            Text("what is the derivative of a value with respect to itself?", "一个值对自己的导数是多少？"),
            partial(_walk, lost="seed"),
        ),
    ),
)

LESSON = Lesson(5, "by-the-graph", Text("The same, by the graph", "用计算图做同样的事"), (_TANH, _PRODUCT, _WALK))
