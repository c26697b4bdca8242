"""The format html in a browser: the page trains as Python does, its scissors cut, and it asks nobody for anything."""

import json
import re

import numpy as np
import pytest
from leaky import LeakyCell
from pages import is_silent, losses_in_python, show, until

import tinygrad_rnn as tr
from tinygrad_rnn import cli
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.exports.web.page import RHYME
from tinygrad_rnn.exports.web.training import training_source
from tinygrad_rnn.training import make_model, save_model

pytest.importorskip("ziglang")

V, N, T = 40, 4, 8
WORDS = "seven silver sparrows sang softly; " * 12


def leaky():
    return tr.RNNLM(V, 12, 24, np.random.default_rng(0), cell=LeakyCell, embedding_scale=0.3)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    assert tr.export(leaky(), path, text=WORDS, batch_size=N, bptt=T) == [path]
    return path


@pytest.fixture
def opened(chromium, page):
    """The page, paused; in the end no error may have come, and nothing but the page been asked for."""
    show(chromium, page)
    yield chromium
    is_silent(chromium, page)


def text_of(browser, part):
    return browser.js(f"document.querySelector('[data-part={part}]').textContent")


def in_python(updates, cut_every):
    """The losses of the same updates by the library's own training step and its own batches."""
    model = leaky()
    letters = list(WORDS)
    vocabulary = tr.Vocabulary.from_tokens(letters)
    windows = tr.OffsetBatches(vocabulary.encode(letters).astype(np.int64), N, T, drop_last=True)

    def loss(model, batch, state):
        return model.loss(*batch, state, cut_every=cut_every)

    return losses_in_python(model, windows, loss, N, updates)


def test_the_loss_has_its_unit(opened):
    assert "nats per character" in opened.js("document.body.textContent")


@pytest.mark.parametrize("every", [T, 4])
def test_the_page_trains_as_python_does(opened, every):
    opened.js(
        f"(s => (s.value = {every}, s.dispatchEvent(new Event('input'))))(document.querySelector('[data-part=cuts]'))"
    )
    losses = opened.js("Array.from({ length: 80 }, () => trainer.update().loss)")
    expected = in_python(80, every)
    np.testing.assert_allclose(losses[:20], expected[:20], rtol=1e-5)
    perplexity = np.exp(np.mean(losses[-10:]))
    assert perplexity < 2.5
    assert perplexity == pytest.approx(np.exp(np.mean(expected[-10:])), rel=1e-5)


def test_cuts_are_those_of_an_unrolled_model():
    model, state = leaky(), leaky().initial_state(N)
    ids = np.random.default_rng(1).integers(0, V, (T + 1, N))
    source = training_source(model, tr.SGD(lr=0.5), *np.zeros((2, T, N), np.int64), V, "cross_entropy")
    args = dict(zip(source.names, source.args, strict=True))
    keep = np.ones((T, 1), np.float32)
    keep[[0, 3, 6]] = 0
    args |= {"inputs": ids[:-1], "targets": ids[1:], "keep": keep}
    loss, _, flow, read, new, *_ = tr.compile(source.function)(*args.values())
    whole, _ = model.loss(ids[:-1].T, ids[1:].T, state, cut_every=3)
    for name, gradient in tr.grad(whole, model.parameters()).items():
        np.testing.assert_allclose(
            new[name], model.parameters()[name].data - 0.5 * gradient, rtol=1e-5, atol=1e-7, err_msg=name
        )
    assert float(loss) == pytest.approx(whole.item(), rel=1e-6)
    assert flow.shape == read.shape == (T,)
    assert (flow > 0).all()
    args["keep"] = np.ones((T, 1), np.float32)
    uncut = tr.compile(source.function)(*args.values())[2]
    np.testing.assert_allclose(uncut[6:], flow[6:], rtol=1e-6)  # nothing changes where no cut comes after
    assert not np.allclose(uncut[:6], flow[:6], rtol=1e-3)


def test_scissors_by_keyboard_pointer_and_slider(opened):
    def cuts():
        return opened.js("[...trainer.keep].flatMap((keep, t) => (keep ? [] : [t]))")

    assert cuts() == [0, 4]
    slots = "[...document.querySelectorAll('.slot')]"
    opened.js(f"{slots}[4].focus()")
    opened.press("ArrowRight", 39)
    assert cuts() == [0, 5]
    opened.press(" ", 32)
    assert cuts() == [0]
    x, y = opened.js(
        f"(s => (s.scrollIntoView({{ block: 'center' }}), (r => [r.x + r.width / 2, r.y + r.height / 2])"
        f"(s.getBoundingClientRect())))({slots}[2])"
    )
    opened.click(x, y)
    assert cuts() == [0, 2]
    column = opened.js(f"{slots}[3].getBoundingClientRect().x - {slots}[2].getBoundingClientRect().x")
    held = {"button": "left", "buttons": 1, "clickCount": 1}
    opened.mouse("mousePressed", x, y, **held)
    for part in (0.4, 1.1, 2.0):
        opened.mouse("mouseMoved", x + part * column, y, **held)
    opened.mouse("mouseReleased", x + 2 * column, y, **held | {"buttons": 0})
    assert cuts() == [0, 4]
    before = opened.js("[...document.querySelectorAll('.whole')].map((edge) => edge.getAttribute('d'))")
    opened.js("(s => (s.value = 3, s.dispatchEvent(new Event('input'))))(document.querySelector('[data-part=cuts]'))")
    assert cuts() == [0, 3, 6]
    assert before != opened.js("[...document.querySelectorAll('.whole')].map((edge) => edge.getAttribute('d'))")
    assert text_of(opened, "updates") == "0", "looking changes nothing"


def test_a_pasted_text_starts_anew_with_characters_of_its_own(opened):
    opened.js("document.querySelector('[data-part=one]').click()")
    assert text_of(opened, "updates") == "1"
    text = "zażółć gęślą jaźń </script> " * 9
    opened.js(
        f"(t => (t.value = {json.dumps(text)}, t.dispatchEvent(new Event('input'))))"
        "(document.querySelector('[data-part=text]'))"
    )
    until(opened, "trainer.updates === 0")
    assert opened.js("trainer.tokens") == list(tr.Vocabulary.from_tokens(list(text)).tokens)
    first = opened.js("trainer.update().loss")
    assert opened.js("Array.from({ length: 60 }, () => trainer.update().loss).at(-1)") < 0.5 * first
    written = opened.js("trainer.sample(80, 0.5)")
    assert len(written) == 80
    assert set(written) <= set(text)


def test_it_fits_a_telephone_and_is_dark_where_that_is_wanted(opened):
    opened.call("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True)
    try:
        assert opened.js("document.documentElement.scrollWidth") == 360
        opened.js("document.querySelector('[data-part=theme]').click()")
        assert opened.js("getComputedStyle(document.body).backgroundColor") == "rgb(21, 22, 26)"
        assert opened.js("document.querySelector('[data-part=theme]').textContent") == "Light page"
        unnamed = (
            "[...document.querySelectorAll('button, input, textarea, [role=button]')].filter((e) => !("
            "e.textContent.trim() || e.ariaLabel || e.labels?.length || e.hasAttribute('aria-labelledby'))).length"
        )
        assert opened.js(unnamed) == 0
    finally:
        opened.call("Emulation.setDeviceMetricsOverride", width=1280, height=900, deviceScaleFactor=1, mobile=False)


def test_a_trained_model_keeps_its_vocabulary(tmp_path, capsys):
    config = TrainConfig(level="char", hidden_size=6, cell="lstm", layers=2)
    letters = tr.Vocabulary(["<unk>", *"abc \n"])
    save_model(tmp_path / "model.npz", make_model(config, len(letters)), config, letters)
    (tmp_path / "text.txt").write_text("abc cab </script>\n" * 20)
    arguments = ["--to", "html", "--text", str(tmp_path / "text.txt"), "--title", "A <b> & c", "--bptt", "6"]
    assert cli.main(["export", str(tmp_path / "model.npz"), *arguments]) == 0
    assert "model.html" in capsys.readouterr().out
    page = (tmp_path / "model.html").read_text()
    data = json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL).group(1))
    assert data["vocabulary"] == letters.to_list()
    assert data["text"].startswith("abc cab </script>")
    assert "A &lt;b&gt; &amp; c" in page
    assert not re.search(r"""(?:src|href)=|https?://(?!www\.w3\.org/)|@import|url\(""", page)


@pytest.mark.parametrize(
    ("what", "options", "message"),
    [
        (tr.RNNLM(5, 3, 4, np.random.default_rng(0)), {"bptt": 1}, "bptt"),
        (tr.RNNLM(5, 3, 4, np.random.default_rng(0)), {"lr": 0.0}, "lr"),
        (tr.RNNLM(5, 3, 4, np.random.default_rng(0)), {"level": "line"}, "level"),
        (tr.GRUCell(3, 4, np.random.default_rng(0)), {"level": "char"}, "level is the kind of token"),
        (tr.GRUCell(3, 4, np.random.default_rng(0)), {"loss": "hinge"}, "cross_entropy, mse"),
    ],
)
def test_what_is_refused(tmp_path, what, options, message):
    with pytest.raises(tr.ConfigError, match=message):
        tr.export(what, tmp_path / "page.html", **options)
    assert not [*tmp_path.iterdir()]


def test_the_rhyme_is_a_text():
    assert RHYME.count("Jack built") == 6
