"""Lesson 6: why gradients vanish or explode over many steps, measured; and clipping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from ...engine.tape import Array
from ..exercises.exercise import Exercise, Lesson, Mistake, Output
from ..exercises.text import Text


def _norm_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.array([1.0, 0.0]), np.array([[0.5, 1.0], [0.0, 0.5]]), 3
    for H, T in ((2, 4), (3, 6)):
        yield rng.standard_normal(H), rng.standard_normal((H, H)), T


def _norms(g: Array, Wh: Array, T: int, *, lost: str = "") -> Array:
    """Return the norms of the gradient; `lost` names what a mistaken solution does otherwise."""
    found = []
    for k in range(T + 1):
        found.append(np.sum(g**2) if lost == "square" else np.abs(g).max() if lost == "max" else np.linalg.norm(g))
        step = Wh if lost == "turned" else Wh.T
        g = g * np.diag(Wh) if lost == "diagonal" else g * np.linalg.norm(Wh, 2) if lost == "bound" else g @ step
        if lost == "once" and k:
            found = [*found[:2], *[found[1]] * (T - 1)]
            break
        if lost == "unit":
            g = g / np.linalg.norm(g)
    return np.array(found)


_NORMS = Exercise(
    "gradient_norms",
    "def gradient_norms(g, Wh, T):",
    Text(
        """How large is a gradient after 0, 1, ..., T steps back?

        g (H,) arrives at the last state of the linear recurrence h_t = h_{t-1} @ Wh, with Wh (H, H). Return (T + 1,):
        the Euclidean norm of the gradient at the last state, at the one before it, and so on, T steps back.""",
        """往回走 0、1、……、T 步之后，梯度有多大？

        g (H,) 到达线性递推 h_t = h_{t-1} @ Wh 的最后一个状态，Wh (H, H)。返回 (T + 1,)：
        最后一个状态、它前一个状态，依此类推直到往回 T 步处，梯度的欧几里得范数。""",
    ),
    _norm_cases,
    _norms,
    (Output("norms", 0, backward=False),),
    (
        Mistake(
            Text("the gradient goes back through Wh, not its transpose", "梯度往回传时乘了 Wh，而不是它的转置"),
            Text("lesson 5 has the rule of a product", "第 5 课有乘积的求导规则"),
            partial(_norms, lost="turned"),
        ),
        Mistake(
            Text("squared norms", "返回的是范数的平方"),
            Text("what is the length of (3, 4)?", "(3, 4) 的长度是多少？"),
            partial(_norms, lost="square"),
        ),
        Mistake(
            Text("only the diagonal of Wh is used", "只用了 Wh 的对角线"),
            Text("* and @ do different things", "* 和 @ 做的事情不同"),
            partial(_norms, lost="diagonal"),
        ),
        Mistake(
            Text("the gradient goes back one step only", "梯度只往回走了一步"),
            Text("what do you multiply at the second step back?", "往回第二步时，你乘的是什么？"),
            partial(_norms, lost="once"),
        ),
        Mistake(
            Text("each step multiplies by the largest singular value", "每一步都乘以了最大奇异值"),
            Text("that bounds one step; does every gradient reach it?", "它是一步的上界；每个梯度都能达到它吗？"),
            partial(_norms, lost="bound"),
        ),
        Mistake(
            Text("the largest entry instead of the Euclidean norm", "取的是最大元素，而不是欧几里得范数"),
            Text("which norm is asked for?", "题目要的是哪种范数？"),
            partial(_norms, lost="max"),
        ),
        Mistake(
            Text("the gradient is normalized after each step", "每一步之后都把梯度归一化了"),
            Text("what would a norm show if it were reset at each step?", "如果每一步都重置，范数还能说明什么？"),
            partial(_norms, lost="unit"),
        ),
    ),
)


def _matrices(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield (np.array([[0.0, 2.0], [-2.0, 0.0]]),)
    yield (np.array([[0.5, 10.0], [0.0, -0.75]]),)
    for H in (3, 4):
        yield (rng.standard_normal((H, H)),)


def _radius(Wh: Array) -> float:
    return float(np.abs(np.linalg.eigvals(Wh)).max())


_RADIUS = Exercise(
    "spectral_radius",
    "def spectral_radius(Wh):",
    Text(
        """What decides whether the powers of Wh vanish or explode.

        Wh (H, H). Return its spectral radius: the largest absolute value of its eigenvalues, which may be complex.""",
        """决定 Wh 的幂是消失还是爆炸的量。

        Wh (H, H)。返回它的谱半径：特征值（可能是复数）绝对值的最大者。""",
    ),
    _matrices,
    _radius,
    (Output("radius"),),
    (
        Mistake(
            Text("the largest real part of the eigenvalues", "取的是特征值实部的最大者"),
            Text("a rotation has imaginary eigenvalues; does it vanish?", "旋转的特征值是虚数；它会消失吗？"),
            lambda Wh: np.linalg.eigvals(Wh).real.max(),
        ),
        Mistake(
            Text("the largest absolute real part", "取的是实部绝对值的最大者"),
            Text("what is the absolute value of a complex number?", "复数的绝对值是什么？"),
            lambda Wh: np.abs(np.linalg.eigvals(Wh).real).max(),
        ),
        Mistake(
            Text("the largest singular value", "取的是最大奇异值"),
            Text("it bounds one step; what bounds a hundred?", "它限制的是一步；一百步由什么限制？"),
            lambda Wh: np.linalg.norm(Wh, 2),
        ),
        Mistake(
            Text("the Frobenius norm", "取的是弗罗贝尼乌斯范数"),
            Text("is the identity of size 100 an explosion?", "100 阶单位矩阵会爆炸吗？"),
            lambda Wh: np.linalg.norm(Wh),
        ),
        Mistake(
            Text("the absolute determinant", "取的是行列式的绝对值"),
            Text("one direction may grow while another one vanishes", "一个方向可能增长，另一个方向可能消失"),
            lambda Wh: abs(np.linalg.det(Wh)),
        ),
        Mistake(
            Text("the smallest absolute eigenvalue", "取的是绝对值最小的特征值"),
            Text("which direction wins after many steps?", "走了很多步之后，哪个方向占上风？"),
            lambda Wh: np.abs(np.linalg.eigvals(Wh)).min(),
        ),
    ),
)


def _clip_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield [np.array([3.0]), np.array([4.0])], 1.0
    yield [np.array([0.3]), np.array([0.4])], 1.0
    yield [rng.standard_normal((2, 3)), 5 * rng.standard_normal(3)], 2.0


def _clip(grads: Sequence[Array], max_norm: float, *, lost: str = "") -> tuple[Array, ...]:
    total = sum(float(np.sum(g**2)) for g in grads)
    norm = total if lost == "square" else total**0.5
    if lost == "value":
        return tuple(np.clip(g, -max_norm, max_norm) for g in grads)
    if lost == "each":
        return tuple(g * min(1.0, max_norm / float(np.linalg.norm(g))) for g in grads)
    if lost == "always":
        return tuple(g * max_norm / norm for g in grads)
    scale = 1 / norm if lost == "unit" else max_norm / norm
    if lost == "zero":
        scale = 0.0
    return tuple(g * scale if norm > max_norm else g for g in grads)


_CLIP = Exercise(
    "clip",
    "def clip(grads, max_norm):",
    Text(
        """Clipping by the global norm (Pascanu et al. 2013).

        grads is a list of two arrays. Their global norm is that of all their entries together. If it is larger than
        max_norm, scale both by one factor, so that it becomes max_norm; else change nothing. Return both, as a tuple.""",
        """按全局范数做梯度裁剪（Pascanu 等，2013）。

        grads 是两个数组的列表。全局范数是它们所有元素合在一起的范数。如果它大于 max_norm，就用同一个因子缩放两个数组，
        使它等于 max_norm；否则不变。以元组返回两个数组。""",
    ),
    _clip_cases,
    _clip,
    (Output("first"), Output("second")),
    (
        Mistake(
            Text("each array is clipped by its own norm", "每个数组按各自的范数裁剪"),
            Text("does the gradient keep its direction then?", "这样梯度还保持方向吗？"),
            partial(_clip, lost="each"),
        ),
        Mistake(
            Text("the entries are clipped, not the norm", "裁剪的是元素，而不是范数"),
            Text("does the gradient keep its direction then?", "这样梯度还保持方向吗？"),
            partial(_clip, lost="value"),
        ),
        Mistake(
            Text("small gradients are scaled up", "小的梯度被放大了"),
            Text("what happens to a gradient that is short enough?", "足够短的梯度应当怎样处理？"),
            partial(_clip, lost="always"),
        ),
        Mistake(
            Text("the square root of the norm is missing", "范数缺少开平方"),
            Text("what is the norm of (3, 4)?", "(3, 4) 的范数是多少？"),
            partial(_clip, lost="square"),
        ),
        Mistake(
            Text(
                "large gradients are scaled to length 1, whatever max_norm is",
                "无论 max_norm 是多少，大的梯度都被缩放到长度 1",
            ),
            Text("how long shall a gradient be that was too long?", "过长的梯度应当变成多长？"),
            partial(_clip, lost="unit"),
        ),
        Mistake(
            Text("large gradients are dropped", "大的梯度被丢弃了"),
            Text("is the direction of a long gradient worthless?", "长梯度的方向就没有价值吗？"),
            partial(_clip, lost="zero"),
        ),
    ),
)

LESSON = Lesson(
    6,
    "long-sequences",
    Text("Why gradients vanish or explode", "梯度为何消失或爆炸"),
    (_NORMS, _RADIUS, _CLIP),
)
