"""Pictures of credit that is carried forward: a line beside the state, its size, and the policy's own gradient."""

import re
from pathlib import Path

import numpy as np
import pytest
from geometry import faults
from graph_cases import rng, xs

import tinygrad_rnn as tr
from tinygrad_rnn.errors import DrawingError
from tinygrad_rnn.graphs import draw
from tinygrad_rnn.graphs.drawing import VIEWS
from tinygrad_rnn.pictures.export.page import page_data

GOLDEN = Path(__file__).parent / "golden"
POLICIES = [
    tr.RTRL(),
    tr.SnAp(1),
    tr.EProp(),
    tr.RFLO(),
    tr.UORO(rng=1),
    tr.KroneckerFactored(rng=1),
    tr.ForwardGradient(rng=1),
]


def cell():
    return tr.RNNCell(3, 4, rng(), np.float64)


def picture(policy, view="unrolled", model=None, T=4, **options):
    return draw(model or cell(), xs(T), view=view, gradients=True, truncation=policy, **options)


def influence(scene):
    return [edge for edge in scene.edges if edge.kind == "influence"]


@pytest.mark.parametrize("view", ["unrolled", "rolled"])
def test_dot_text_of_carried_credit_is_what_it_was(view, request):
    text = re.sub(r"recorded: [^\\\"]*", "recorded: here", picture(tr.RTRL(), view).dot)
    path = GOLDEN / f"{view}_rtrl.dot"
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "if the change is meant: pytest tests/graphs --update-golden"


def test_rtrl_is_a_line_from_step_to_step_with_the_size_of_the_influence():
    scene = picture(tr.RTRL()).scene
    lines = influence(scene)
    boxes = {box.id: box.title for box in scene.boxes}
    assert [(boxes[line.tail], boxes[line.head]) for line in lines] == [
        (f"h_{{{t}}}", f"h_{{{t + 1}}}") for t in (1, 2, 3)
    ]
    size = 2 * 4 * (3 * 4 + 4 * 4 + 4)  # N streams, n numbers of state, P parameters: a dense Wh spreads to all
    assert [label.text for label in scene.labels].count(f"J: {size} numbers") == 3
    assert all(f"numbers: {size}" in line.tooltip.splitlines() for line in lines)


@pytest.mark.parametrize("view", ["unrolled", "rolled"])
def test_the_gradients_of_parameters_are_those_of_the_policy(view):
    def norms(scene):
        return {row.text.split()[0]: row.magnitude for box in scene.boxes for row in box.rows if row.magnitude}

    full = norms(picture(tr.Full(), view).scene)
    assert norms(picture(tr.RTRL(), view).scene) == pytest.approx(full, rel=1e-12)
    assert norms(picture(tr.SnAp(1), view).scene) != pytest.approx(full, rel=1e-3)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("policy", POLICIES, ids=repr)
def test_every_policy_in_every_view(policy, view):
    scene = picture(policy, view).scene
    assert repr(policy) in scene.subtitle
    assert not list(faults(scene))
    assert len(influence(scene)) == {"unrolled": 3, "rolled": 1}.get(view, 0)
    if view in ("unrolled", "rolled"):
        assert not any(box.kind == "cut" for box in scene.boxes)  # nothing is truncated
        assert not any(region.kind == "window" for region in scene.regions)


@pytest.mark.parametrize("model", ["lstm", "stacked"])
@pytest.mark.parametrize("view", ["unrolled", "rolled"])
def test_several_states_share_one_line_also_through_steps_that_are_not_shown(view, model):
    lstm = tr.LSTMCell(3, 4, rng(), np.float64)
    model = lstm if model == "lstm" else tr.Stacked([lstm, tr.GRUCell(4, 4, rng(), np.float64)])
    scene = picture(tr.SnAp(1), view, model, T=12).scene
    assert not list(faults(scene))
    assert len(influence(scene)) == (5 if view == "unrolled" else 1)  # two pieces around what is left out
    layers = [label.text for label in scene.labels if "of all layers" in label.text]  # the line is beside one of them
    assert bool(layers) == isinstance(model, tr.Stacked)
    assert not any("cut" in row.text for box in scene.boxes for row in box.rows)


def test_a_loss_lights_the_credit_that_is_carried_to_its_step():
    model = tr.RNNLM(5, 3, 4, rng(), dtype=np.float64)
    ids = np.array([[0, 1, 2, 3, 4]])
    scene = draw(model, ids[:, :-1], ids[:, 1:], truncation=tr.RTRL()).scene
    losses = [box.id for box in scene.boxes if box.title.startswith("ℓ")]
    lines = [edge.id for edge in influence(scene)]
    assert [[line in scene.reach[loss] for line in lines] for loss in losses] == [
        [False, False, False],
        [True, False, False],
        [False, True, False],
        [False, False, True],
    ]
    says = [page_data(scene)["losses"][loss]["says"] for loss in losses]
    assert [text.endswith("; and earlier steps, by what is carried forward.") for text in says] == [
        False,
        True,
        True,
        True,
    ]


def test_bars_show_the_norm_of_what_each_step_carries_on():
    bars = picture(tr.RTRL(), "rolled", T=6).scene.bars
    assert [bar.tooltip.splitlines()[0] for bar in bars] == [f"t = {t}" for t in range(1, 6)]
    assert all(bar.magnitude is None and bar.height > 0 for bar in bars)


def test_what_has_no_steps_or_no_parameters_carries_nothing():
    weight = tr.tensor(np.ones(3), requires_grad=True)
    function = (lambda x, h: (h, np.tanh(x + h * weight))), xs(), np.zeros((2, 3))
    whole = tr.CBOW(9, 4, 2, rng()), np.array([[1, 2]]), np.array([3])
    for example in (function, whole):
        with pytest.raises(DrawingError, match=r"RTRL.* carries credit from step to step.*parameters\(\)"):
            draw(*example, truncation=tr.RTRL())
