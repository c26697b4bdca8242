"""Pages of words, of numbers that a model learns, and of functions: the same numbers as in Python, in Chromium."""

import json

import numpy as np
import pytest
from pages import is_silent, losses_in_python, show, until

import tinygrad_rnn as tr
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.data.text import detokenize, tokenize
from tinygrad_rnn.exports.web.page import RHYME
from tinygrad_rnn.training import make_model, save_model

pytest.importorskip("ziglang")

N, T = 4, 6
ODD = "\n\n Don\u2019t PANIC (it's 42\u00bd!)  \n\n \nn\u00e4chste_Zeile <unk> \u4f60\u597d \U0001f600.\n"


class Net(tr.Module):
    """A GRU with a linear layer: x (N, D) -> (N, K)."""

    def __init__(self, D, K, seed=0):
        rng = np.random.default_rng(seed)
        self.cell, self.out, self.input_size = tr.GRUCell(D, 12, rng), tr.Linear(12, K, rng), D

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def __call__(self, x, h):
        h, state = self.cell(x, h)
        return self.out(h), state


def opened(browser, what, path, *args, **options):
    tr.export(what, path, *args, **options)
    show(browser, path)
    return path


def paste(browser, text):
    browser.js(
        f"(t => (t.value = {json.dumps(text)}, t.dispatchEvent(new Event('input'))))"
        "(document.querySelector('[data-part=text]'))"
    )


def in_page(browser, updates):
    for t in range(1, T):
        browser.js(f"trainer.keep[{t}] = 1")
    return browser.js(f"Array.from({{ length: {updates} }}, () => trainer.update().loss)")


@pytest.mark.parametrize("level", ["word", "token", "byte"])
def test_tokens_of_every_level_are_those_of_python(level, chromium, tmp_path):
    model = tr.RNNLM(60, 8, 12, np.random.default_rng(0), cell="gru")
    path = opened(chromium, model, tmp_path / "page.html", level=level, batch_size=N, bptt=T)
    for text in (ODD, RHYME):
        assert chromium.js(f"LEVELS.{level}.cut({json.dumps(text)})") == tokenize(text, level)
        tokens = json.dumps(tokenize(text, level))
        assert chromium.js(f"LEVELS.{level}.join({tokens})") == detokenize(json.loads(tokens), level)
    tokens = tokenize(RHYME, level)
    vocabulary = tr.Vocabulary.from_tokens(tokens)
    assert chromium.js("trainer.tokens") == list(vocabulary.tokens)
    windows = tr.OffsetBatches(vocabulary.encode(tokens).astype(np.int64), N, T, drop_last=True)
    expected = losses_in_python(model, windows, lambda model, batch, state: model.loss(*batch, state), N, 30)
    np.testing.assert_allclose(in_page(chromium, 30), expected, rtol=1e-4)
    is_silent(chromium, path)


def test_a_trained_model_of_words_writes(chromium, tmp_path):
    config, words = TrainConfig(hidden_size=6), tr.Vocabulary(["<unk>", "to", "be", ",", "<eos>"])
    save_model(tmp_path / "model.npz", make_model(config, 5), config, words)
    saved = tr.load_model(tmp_path / "model.npz")
    with pytest.raises(tr.ConfigError, match="leave level out"):
        tr.export(saved, tmp_path / "no.html", level="char")
    path = opened(chromium, saved, tmp_path / "page.html", text="To be,\nor not to be. " * 9)
    assert chromium.js("trainer.tokens") == words.to_list()
    assert set(tokenize(chromium.js("trainer.sample(40, 1.0)"), "word")) <= set(words.tokens)
    until(chromium, "document.querySelector('[data-part=sample]').textContent.includes('be')")
    is_silent(chromium, path)


def waves(rows, columns):
    return np.round(np.sin(np.arange(rows)[:, None] / (2.0 + np.arange(columns))), 3).astype(np.float32)


def lines(array):
    return "".join(",".join(f"{value:g}" for value in row) + "\n" for row in array)


def said(browser):
    text = browser.js("document.querySelector('[data-part=values]').value")
    return np.array([line.split(",") for line in text.split("\n")], float)


@pytest.mark.sample(1)
@pytest.mark.parametrize(("D", "K", "loss"), [(1, 1, "mse"), (2, 1, "mse"), (2, 3, "cross_entropy")])
def test_a_model_of_numbers_trains_as_in_python(D, K, loss, chromium, tmp_path):
    """D = K: the next row is wanted; else what stands after the inputs, numbers or a class."""
    xs = waves(110, D)
    classes = (np.arange(110) // 7 % K)[:, None]
    targets = None if D == K else classes if loss == "cross_entropy" else waves(110, D + K)[:, D:]
    text = lines(xs if targets is None else np.concatenate([xs, targets], axis=1))
    model = Net(D, K)
    path = opened(chromium, model, tmp_path / "page.html", text=text, loss=loss, batch_size=N, bptt=T)

    def before():
        state, found = model.initial_state(1), []
        for x in xs:
            y, state = model(x[None], state)
            found.append(tr.softmax(y).data[0] if loss == "cross_entropy" else y.data[0])
        return np.array(found)

    np.testing.assert_allclose(said(chromium)[:110], before(), rtol=1e-4, atol=1e-6)

    def of_batch(model, batch, state):
        outputs, state = tr.unroll(model, batch[0], state)
        wanted = batch[1][..., 0].astype(np.int64) if loss == "cross_entropy" else batch[1]
        return (tr.cross_entropy if loss == "cross_entropy" else tr.mse)(outputs, wanted), state

    batches = tr.OffsetBatches(xs, N, T, drop_last=True, targets=targets, dtype=np.float32)
    expected = losses_in_python(model, batches, of_batch, N, 40)
    np.testing.assert_allclose(in_page(chromium, 40), expected, rtol=2e-4, atol=1e-7)
    assert expected[-1] < 0.8 * expected[0]
    chromium.js("document.querySelector('[data-part=one]').click()")
    assert chromium.js("document.querySelector('[data-part=updates]').textContent") == "41"
    assert chromium.js("[...document.querySelectorAll('.answer .said')].every((line) => line.getAttribute('d'))")
    is_silent(chromium, path)


def smooth(x, level):
    """Return what is left of x (3,) after a mean that forgets, and its size."""
    level = np.float32(0.9) * level + np.float32(0.1) * x
    return (x - level, np.sum(level)), level


def test_a_function_runs_on_rows(chromium, tmp_path):
    xs, zeros = waves(50, 3), np.zeros(3, np.float32)
    path = opened(chromium, smooth, tmp_path / "page.html", zeros, zeros, carry="level", text=lines(xs))
    level, expected = zeros, []
    for x in xs:
        (rest, total), level = smooth(x, level)
        expected.append([*rest, total])
    np.testing.assert_allclose(said(chromium), expected, rtol=1e-5, atol=1e-6)
    assert chromium.js("document.querySelector('[data-part=train]').offsetParent") is None, "there is nothing to train"
    is_silent(chromium, path)


def test_a_training_step_is_a_function_too(chromium, tmp_path):
    """Each row is one update; the parameters are carried."""

    def learn(w, x, y):
        loss = tr.mse(np.sum(w * x, keepdims=True), y)
        return loss, w - np.float32(0.1) * tr.grad(loss, [w])[0]

    rows = np.concatenate([waves(60, 2), waves(60, 2) @ np.float32([[1], [-2]])], axis=1).round(3)
    args = tr.parameter(np.zeros(2), np.float32), np.zeros(2, np.float32), np.zeros(1, np.float32)
    path = opened(chromium, learn, tmp_path / "page.html", *args, carry="w", text=lines(rows))
    w, expected = args[0], []
    for row in rows.astype(np.float32):
        loss, new = learn(w, row[:2], row[2:])
        w.data = new.data
        expected.append(loss.item())
    np.testing.assert_allclose(said(chromium)[:, 0], expected, rtol=1e-4, atol=1e-7)
    assert expected[-1] < 1e-2 < max(expected)
    is_silent(chromium, path)


def test_pasted_numbers_are_read_or_refused(chromium, tmp_path):
    path = opened(chromium, Net(2, 2), tmp_path / "page.html", batch_size=N, bptt=T)
    about = "document.querySelector('[data-part=about]').textContent"
    for text, words in (
        ("1,2\n3,x", "Line 2: \u201cx\u201d is no number."),
        ("1,2\n\n3", "Line 3 has 1 numbers, and the lines before have 2."),
        ("1,2,3", "A line has 3 numbers; 2 or 4 are wanted."),
        ("", "There are no numbers yet."),
        ("1,2\n3,1e999", "Line 2: \u201c1e999\u201d is no number."),
        ("1,,2", "Line 1: \u201c\u201d is no number."),
    ):
        paste(chromium, text)
        until(chromium, f"{about} === {json.dumps(words)}")
        assert chromium.js("document.querySelector('[data-part=text]').ariaInvalid") == "true"
    paste(chromium, "time; heat\n" + "1;2\n3\t4\n5 6\n" * 3)
    until(chromium, f"{about}.startsWith('9 rows of 2 numbers; it learns to say the next row.')")
    assert chromium.js("trainer.names") == ["time", "heat"]
    assert chromium.js("trainer.rows.slice(0, 3)") == [[1, 2], [3, 4], [5, 6]]
    is_silent(chromium, path)


def test_what_is_too_many_to_draw_is_said(chromium, tmp_path):
    opened(chromium, Net(1, 8), tmp_path / "page.html", bptt=T)
    until(chromium, "document.querySelector('.keys').textContent.includes('output 6and 2 more, which are not drawn')")
    opened(chromium, Net(1, 8), tmp_path / "classes.html", bptt=T, loss="cross_entropy")
    paste(chromium, "0,0\n0,6\n0,6\n0,7\n")
    until(chromium, "document.querySelectorAll('.answer rect').length === 3")
    kinds = chromium.js("[...document.querySelectorAll('.answer rect')].map((stripe) => stripe.getAttribute('class'))")
    assert kinds == ["right line0", "right", "right"]
