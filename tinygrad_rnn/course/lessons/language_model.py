"""Lesson 9: Time layers, the language model, and perplexity."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from ...engine.tape import Array
from ..exercises.exercise import Exercise, Lesson, Mistake, Output
from ..exercises.text import Text


def _affine_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.ones((1, 2, 1)), np.array([[[2.0], [3.0]]]), np.array([[5.0]])
    for N, T, H, V in ((2, 2, 2, 3), (3, 4, 3, 3)):
        yield rng.standard_normal((N, T, V)), rng.standard_normal((N, T, H)), rng.standard_normal((H, V))


def _affine(dys: Array, xs: Array, W: Array, *, lost: str = "") -> tuple[Array, Array, Array]:
    """Return dxs, dW and db; `lost` names what a mistaken solution does otherwise."""
    rows, gs = xs.reshape(-1, xs.shape[-1]), dys.reshape(-1, dys.shape[-1])
    dW, db = rows.T @ gs, gs.sum(axis=0)
    if lost == "last":
        dW, db = xs[:, -1].T @ dys[:, -1], dys[:, -1].sum(axis=0)
    elif lost == "first":
        dW, db = xs[0].T @ dys[0], dys[0].sum(axis=0)
    elif lost == "mean":
        dW, db = dW / len(rows), db / len(rows)
    elif lost == "bias":
        db = gs.mean(axis=0)
    elif lost == "reshaped":
        dW = xs.reshape(xs.shape[-1], -1) @ gs
    return dys @ (W if lost == "turned" and W.shape[0] == W.shape[1] else W.T), dW, db


_AFFINE = Exercise(
    "time_affine_backward",
    "def time_affine_backward(dys, xs, W):",
    Text(
        """The backward pass of the Time Affine layer, y_t = x_t @ W + b at every step.

        dys (N, T, V) arrive at the outputs, xs (N, T, H) are the inputs, W (H, V). Return dxs (N, T, H), dW (H, V) and
        db (V,).""",
        """Time Affine 层的反向传播：每一步 y_t = x_t @ W + b。

        dys (N, T, V) 到达输出，xs (N, T, H) 是输入，W (H, V)。返回 dxs (N, T, H)、dW (H, V) 和 db (V,)。""",
    ),
    _affine_cases,
    _affine,
    (Output("dxs", 1), Output("dW"), Output("db")),
    (
        Mistake(
            Text("the gradients of the parameters hold the last step alone", "参数的梯度只包含最后一步"),
            Text("how many steps use W?", "有几步用到了 W？"),
            partial(_affine, lost="last"),
        ),
        Mistake(
            Text("the gradients of the parameters hold the first sequence alone", "参数的梯度只包含第一个序列"),
            Text("how many sequences use W?", "有几个序列用到了 W？"),
            partial(_affine, lost="first"),
        ),
        Mistake(
            Text("the gradients of the parameters are averaged", "参数的梯度被取了平均"),
            Text("where was the mean already taken: in the loss, or here?", "平均已经在哪里取过了：损失里，还是这里？"),
            partial(_affine, lost="mean"),
        ),
        Mistake(
            Text("db is averaged", "db 被取了平均"),
            Text("b was added N * T times", "b 被加了 N * T 次"),
            partial(_affine, lost="bias"),
        ),
        Mistake(
            Text("xs is reshaped where it should be transposed", "xs 应当转置，却被 reshape 了"),
            Text("which entries does row 0 of x.reshape(H, N * T) hold?", "x.reshape(H, N * T) 的第 0 行是哪些元素？"),
            partial(_affine, lost="reshaped"),
        ),
        Mistake(
            Text("dxs goes through W, not its transpose", "dxs 乘的是 W，而不是它的转置"),
            Text("check the shapes for H = 2 and V = 3", "取 H = 2、V = 3，检查形状"),
            partial(_affine, lost="turned"),
        ),
    ),
    steps={"dys": 1, "xs": 1},
)


def _loss_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.zeros((1, 2, 4)), np.array([[0, 3]])
    yield rng.standard_normal((2, 3, 5)), np.array([[1, 0, -1], [4, -1, -1]])
    yield 4000 * rng.standard_normal((2, 2, 3)), np.array([[0, 1], [2, -1]])


def _loss(logits: Array, targets: Array, *, lost: str = "") -> float:
    m = np.zeros(()) if lost == "large" else logits.max(axis=-1, keepdims=True)
    if lost == "axis":
        m = logits.max(axis=1, keepdims=True)
    total = np.exp(logits - m).sum(axis=1 if lost == "axis" else -1, keepdims=True)
    logs = logits - m - np.log(total)
    n, t = np.indices(targets.shape)
    nats, kept = -logs[n, t, targets], targets != -1
    if lost == "masked":
        return float(nats.mean())
    if lost == "zero":
        return float(np.where(kept, nats, 0.0).mean())
    if lost == "means":
        return float(np.mean([row[at].mean() for row, at in zip(nats, kept, strict=True)]))
    count = {"sum": 1, "rows": len(targets)}.get(lost, kept.sum())
    scale = np.log(2) if lost == "bits" else 1.0
    return float(nats[kept].sum() / count / scale)


_LOSS = Exercise(
    "time_loss",
    "def time_loss(logits, targets):",
    Text(
        """The loss of a language model: the mean cross entropy, in nats, over all steps that count.

        logits (N, T, V), targets (N, T) word ids; a target of -1 marks a step that does not count (padding). Softmax of
        the logits, -log of the target's probability, mean over the steps that count. Large logits must not overflow.""",
        """语言模型的损失：所有有效步上交叉熵的平均，单位为奈特。

        logits (N, T, V)，targets (N, T) 是单词 ID；-1 表示该步不计入（填充）。对 logits 做 softmax，取目标概率的 -log，
        在有效步上取平均。logits 很大时不能溢出。""",
    ),
    _loss_cases,
    _loss,
    (Output("loss"),),
    (
        Mistake(
            Text(
                "steps that do not count are counted, with the last word as target",
                "不计入的步也被算了，目标成了最后一个单词",
            ),
            Text("what does an index of -1 mean in Python?", "在 Python 中下标 -1 是什么意思？"),
            partial(_loss, lost="masked"),
        ),
        Mistake(
            Text("the mean is over all steps, those that do not count as 0", "对所有步取了平均，不计入的步当成 0"),
            Text("by how many terms do you divide?", "你除以了几项？"),
            partial(_loss, lost="zero"),
        ),
        Mistake(
            Text("the losses are added up, not averaged", "损失被相加了，而不是取平均"),
            Text("should the loss of a longer text be larger?", "更长的文本，损失应当更大吗？"),
            partial(_loss, lost="sum"),
        ),
        Mistake(
            Text("divided by the number of sequences, not of steps", "除以了序列的个数，而不是步数"),
            Text("a perplexity is per word", "困惑度是对每个单词而言的"),
            partial(_loss, lost="rows"),
        ),
        Mistake(
            Text("each sequence counts the same, however many steps it has", "无论有多少步，每个序列的权重都相同"),
            Text(
                "may a sequence of one word weigh as much as one of fifty?", "一个词的序列能和五十个词的序列一样重吗？"
            ),
            partial(_loss, lost="means"),
        ),
        Mistake(
            Text("bits instead of nats", "单位是比特，而不是奈特"),
            Text("which logarithm gives nats?", "哪种对数给出奈特？"),
            partial(_loss, lost="bits"),
        ),
        Mistake(
            Text("softmax is taken over the steps, not over the words", "softmax 取在了时间步上，而不是单词上"),
            Text("the probabilities of what add up to 1?", "什么的概率加起来等于 1？"),
            partial(_loss, lost="axis"),
        ),
    ),
    steps={"logits": 1},
)


def _perplexity_cases(rng: np.random.Generator) -> Iterator[tuple[object, ...]]:
    yield np.log([4.0, 9.0]), np.array([1, 1])
    for count in (2, 5):
        yield rng.uniform(1, 6, count), rng.integers(1, 50, count)


_PERPLEXITY = Exercise(
    "perplexity",
    "def perplexity(losses, counts):",
    Text(
        """Perplexity of a text that was read in batches.

        losses (B,) are the mean losses of the batches, in nats per word, counts (B,) their numbers of words. Return the
        perplexity of the whole text: exp of the mean loss per word.""",
        """分批读完一段文本的困惑度。

        losses (B,) 是各批的平均损失，单位为奈特每词，counts (B,) 是各批的单词数。返回整段文本的困惑度：
        每词平均损失的 exp。""",
    ),
    _perplexity_cases,
    lambda losses, counts: np.exp(np.average(losses, weights=counts)),
    (Output("perplexity"),),
    (
        Mistake(
            Text("the batches' perplexities are averaged", "对各批的困惑度取了平均"),
            Text("exp of a mean, or mean of exps?", "是平均的 exp，还是 exp 的平均？"),
            lambda losses, counts: np.average(np.exp(losses), weights=counts),
        ),
        Mistake(
            Text("each batch counts the same, however many words it has", "无论有多少单词，每批的权重都相同"),
            Text("may a batch of one word weigh as much as one of fifty?", "一个词的批能和五十个词的批一样重吗？"),
            lambda losses, counts: np.exp(losses.mean()),
        ),
        Mistake(
            Text("divided by the number of batches, not of words", "除以了批数，而不是单词数"),
            Text(
                "what did you add up: losses of batches, or of words?", "你加起来的是各批的损失，还是各个单词的损失？"
            ),
            lambda losses, counts: np.exp(np.sum(losses * counts) / len(counts)),
        ),
        Mistake(
            Text("the mean loss itself: exp is missing", "返回的是平均损失本身：缺少 exp"),
            Text(
                "between how many words does a model hesitate that guesses among four?",
                "在四个词中瞎猜的模型，在几个词之间犹豫？",
            ),
            lambda losses, counts: np.average(losses, weights=counts),
        ),
        Mistake(
            Text("2 to the power of nats", "用 2 做底，却用了奈特"),
            Text("which base belongs to nats?", "奈特对应的底是什么？"),
            lambda losses, counts: 2 ** np.average(losses, weights=counts),
        ),
        Mistake(
            Text("exp of the summed loss", "对损失之和取了 exp"),
            Text("is the perplexity of a longer text larger?", "更长的文本困惑度更大吗？"),
            lambda losses, counts: np.exp(losses.sum()),
        ),
        Mistake(
            Text("the sum of losses is divided by the number of words", "损失之和除以了单词数"),
            Text("each loss is a mean already; of how many words?", "每个损失已经是平均值了；是多少个词的平均？"),
            lambda losses, counts: np.exp(losses.sum() / counts.sum()),
        ),
    ),
)

LESSON = Lesson(
    9,
    "language-model",
    Text("Time layers, the language model, perplexity", "Time 层、语言模型与困惑度"),
    (_AFFINE, _LOSS, _PERPLEXITY),
)
