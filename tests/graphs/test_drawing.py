import shutil
import subprocess
import sys
from typing import get_args

import numpy as np
import pytest
from graph_cases import TwoSpeeds, model, rnn, two_losses, xs

import tinygrad_rnn as tr
from tinygrad_rnn.errors import ConfigError, DrawingError
from tinygrad_rnn.graphs import Drawing, draw
from tinygrad_rnn.graphs.drawing import VIEWS, ViewName
from tinygrad_rnn.graphs.model import options


def language_model(**kwargs):
    return tr.RNNLM(9, 4, 4, np.random.default_rng(0), **kwargs)


def text(T=6, N=2):
    ids = np.random.default_rng(1).integers(0, 9, (N, T + 1))
    return ids[:, :-1].copy(), ids[:, 1:].copy()


TARGETS = {
    "loss": lambda: draw(rnn().losses[0], gradients=True),
    "losses": lambda: draw(two_losses().losses),
    "whole sequence": lambda: draw(model(layers=2).losses[0]),
    "model": lambda: draw(language_model(cell="lstm", layers=2, dropout=0.2), *text()),
    "cell": lambda: draw(tr.GRUCell(3, 4, np.random.default_rng(0)), xs().astype(np.float32), gradients=True),
    "stacked cell": lambda: draw(
        tr.Stacked([tr.RNNCell(3, 4, np.random.default_rng(0)), tr.LSTMCell(4, 5, np.random.default_rng(0))]), xs()
    ),
    "own cell": lambda: draw(TwoSpeeds(), xs()),
    "own cell and state": lambda: draw(TwoSpeeds(), xs(), {"fast": np.ones((2, 4)), "slow": (np.ones((2, 4)), 3)}),
    "function": lambda: draw(scaled, xs(), np.zeros((2, 3))),
    "loss function": lambda: draw(lambda xs, ys: tr.cross_entropy(reader()(xs), ys), xs(), np.array([0, 1])),
    "module and its batch": lambda: draw(reader(), batch()),
    "module and a pair": lambda: draw(reader(PairReader), (batch().inputs, batch().targets)),
    "module and a dict": lambda: draw(reader(), batch()._asdict()),
}
WEIGHT = tr.tensor(np.ones(3), requires_grad=True, name="weight")


def scaled(x, state):
    state = state * WEIGHT + x
    return state, state


def batch():
    (found,) = tr.Sequences(xs(), [0, 1]).batches(2)
    return found


class Reader(tr.SequenceModel):
    def loss(self, batch):
        inputs, targets = (batch[name] if isinstance(batch, dict) else getattr(batch, name) for name in KINDS)
        return tr.cross_entropy(self(inputs), targets)


class PairReader(tr.SequenceModel):
    def loss(self, inputs, targets):
        return tr.cross_entropy(self(inputs), targets)


KINDS = ("inputs", "targets")


def reader(kind=Reader):
    return kind("gru", 3, 4, 2, np.random.default_rng(0), last=True)


@pytest.mark.parametrize("name", TARGETS)
def test_what_can_be_drawn(name):
    made = TARGETS[name]()
    assert "unrolled" in made.scene.title
    assert made.svg().startswith("<svg")
    assert made.dot.startswith("digraph")


def test_the_loss_of_a_model_is_its_own_and_each_step_has_a_column():
    made = language_model()
    ids, targets = text()
    targets[0, 2] = targets[1, 4] = -1
    scene = draw(made, ids, targets).scene
    total = next(box for box in scene.boxes if box.title == "L")
    loss, _ = made.loss(ids, targets)
    assert f"{loss.item():.3g}" in total.rows[0].text
    assert [box.title for box in scene.boxes if box.title.startswith("ℓ")] == [f"ℓ_{{{t}}}" for t in range(1, 7)]


def test_a_step_in_which_nothing_is_counted_has_no_loss():
    ids, targets = text()
    targets[:, 2] = -1
    scene = draw(language_model(), ids, targets).scene
    assert "ℓ_{3}" not in {box.title for box in scene.boxes}
    assert "h_{3}" in {box.title for box in scene.boxes}


@pytest.mark.parametrize(
    ("kwargs", "factors", "note"),
    [
        ({"cut_every": 2}, [0, 0], "cut every 2 steps"),
        ({"truncation": tr.Chunked(3)}, [0], "truncation chunked:3"),
        ({"truncation": "decay:0.5"}, [0.5] * 5, "truncation decay:0.5"),
        ({"truncation": tr.Full()}, [], "truncation full"),
    ],
)
def test_cuts_of_a_policy_stand_on_the_state_edges(kwargs, factors, note):
    scene = draw(language_model(), *text(), gradients=True, **kwargs).scene
    assert [box.factor for box in scene.boxes if box.kind == "cut"] == factors
    assert note in scene.subtitle


def test_auto_unrolls_what_is_recurrent_and_shows_operations_otherwise():
    linear = tr.Linear(3, 2, np.random.default_rng(0))
    cbow = tr.CBOW(9, 4, 2, np.random.default_rng(0))
    ops = draw(linear, np.ones((4, 3)), view="ops").scene.title
    assert draw(rnn().losses[0]).scene.title == "RNNCell, unrolled"
    assert draw(linear, np.ones((4, 3))).scene.title == ops
    assert draw(cbow, np.array([[1, 2]]), np.array([3])).scene.title == ops


def test_every_view_can_be_named():
    assert get_args(ViewName) == ("auto", *VIEWS)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_draws_a_model(view):
    made = draw(language_model(), *text(), view=view, gradients=True)
    assert made.scene.boxes
    assert made.svg()
    assert made.dot


@pytest.mark.parametrize(
    ("arguments", "kwargs", "message"),
    [
        ((3,), {}, "expected a loss"),
        ((language_model(),), {}, "with an example"),
        ((rnn().losses[0], 1), {}, "already been recorded"),
        ((rnn().losses[0],), {"cut_every": 2}, "already been recorded"),
        ((language_model(), *text()), {"cut_every": 2, "truncation": "full"}, "not both"),
        ((language_model(), *text()), {"view": "sideways"}, "view must be"),
        ((language_model(), *text()), {"steps": [7]}, "steps"),
        ((language_model(), text()[0], np.full((2, 6), -1)), {}, "every target is -1"),
        ((language_model(), text()[0], text()[1][:, :2]), {}, "one shape"),
    ],
)
def test_errors_say_what_to_do(arguments, kwargs, message):
    with pytest.raises(DrawingError, match=message):
        draw(*arguments, **kwargs)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [
        *(("steps", wrong) for wrong in ("1", 1.5, 0, True, [1.5], ["1"], [True], [0])),
        *(("depth", wrong) for wrong in ("1", 1.0, True, 3)),
        *(("gradients", wrong) for wrong in ("no", 1, None)),
        ("title", 5),
    ],
)
@pytest.mark.parametrize("view", ["unrolled", "rolled", "ops"])
def test_options_have_their_kind(option, wrong, view):
    with pytest.raises(ConfigError, match=f"draw: {option} must be .*, got"):
        draw(rnn().losses, view=view, **{option: wrong})


@pytest.mark.parametrize("wrong", [["ops"], 5, None])
def test_a_view_is_a_name(wrong):
    with pytest.raises(DrawingError, match="draw: view must be auto, unrolled"):
        draw(rnn().losses, view=wrong)


@pytest.mark.parametrize("wrong", [0, 2.5, True, "2"])
def test_an_interval_is_an_integer(wrong):
    with pytest.raises(ConfigError, match="draw: cut_every must be an integer of 1 or more, got"):
        draw(language_model(), *text(), cut_every=wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [("chunky:3", "'chunky:3' is not a policy; the forms are"), (3, "must be a truncation policy, such as")],
)
def test_a_truncation_is_a_policy_or_its_text(wrong, message):
    with pytest.raises(ConfigError, match=f"draw: truncation:? {message}"):
        draw(language_model(), *text(), truncation=wrong)


def test_too_many_boxes_are_refused_with_a_better_view(monkeypatch):
    monkeypatch.setattr(options, "MOST_BOXES", 20)
    with pytest.raises(DrawingError, match='view="rolled"'):
        draw(rnn(6).losses[0])


@pytest.mark.parametrize("suffix", ["svg", "html", "dot", "SVG"])
def test_files_that_need_no_graphviz(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    path = tmp_path / f"picture.{suffix}"
    draw(rnn().losses[0]).save(path)
    start = {"svg": "<svg", "html": "<!doctype html", "dot": "digraph"}[suffix.lower()]
    assert path.read_text(encoding="utf-8").lower().startswith(start)


@pytest.mark.skipif(shutil.which("dot") is None, reason="the dot program is not installed")
@pytest.mark.parametrize(("suffix", "start"), [("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_files_that_graphviz_makes(suffix, start, tmp_path):
    path = tmp_path / f"picture.{suffix}"
    draw(rnn(2).losses[0]).save(path)
    assert path.read_bytes().startswith(start)


def test_without_graphviz_a_png_names_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setitem(sys.modules, "pygraphviz", None)
    with pytest.raises(DrawingError, match=r"tinygrad_rnn\[viz\]"):
        draw(rnn(2).losses[0]).save(tmp_path / "picture.png")


def test_an_unknown_suffix_is_refused(tmp_path):
    with pytest.raises(DrawingError, match=r"\.svg"):
        draw(rnn(2).losses[0]).save(tmp_path / "picture.bmp")


def test_the_graphviz_package_gets_the_same_text():
    made = draw(rnn(2).losses[0])
    assert made.graphviz().source.rstrip("\n") == made.dot.rstrip("\n")


def test_a_notebook_gets_an_svg_and_never_an_error(monkeypatch):
    made = draw(rnn(2).losses[0])
    assert made._repr_mimebundle_()["image/svg+xml"].startswith("<svg")

    def broken(scene):
        raise RuntimeError("no")

    monkeypatch.setattr("tinygrad_rnn.pictures.drawing.write_svg", broken)
    bundle = made._repr_mimebundle_()
    assert "image/svg+xml" not in bundle
    assert "RuntimeError" in bundle["text/plain"]
    assert isinstance(made, Drawing)


def test_drawing_changes_nothing():
    made = language_model()
    ids, targets = text()
    before = {name: p.data.copy() for name, p in made.parameters().items()}
    draw(made, ids, targets, gradients=True)
    for name, p in made.parameters().items():
        np.testing.assert_array_equal(p.data, before[name])
        assert p.grad is None


def test_a_training_step_does_not_know_of_drawings():
    code = (
        "import sys, numpy as np, tinygrad_rnn as tr\n"
        "model = tr.RNNLM(5, 3, 3, np.random.default_rng(0))\n"
        "model.loss([[1, 2]], [[2, 3]])[0].backward()\n"
        "print([name for name in sys.modules if name.startswith('tinygrad_rnn.graphs') or name == 'graphviz'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr
