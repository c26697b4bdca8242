"""Names of arrays that a step reads: only its input is called x."""

import numpy as np
import pytest

import tinygrad_rnn as tr

MASK = np.array([[True, False, True, True], [False, True, False, True]])
CONSTANTS = {
    "mask of weights": (
        lambda x, h, Wx, W: np.tanh(h @ (W * np.tri(4)) + x @ Wx),
        "tanh(h·(W ⊙ const) + x·Wx)",
    ),
    "scales": (
        lambda x, h, Wx, W: np.tanh(x @ Wx + h @ W) * np.array([1.0, 2.0, 3.0, 4.0]),
        "tanh(x·Wx + h·W) ⊙ const",
    ),
    "norm": (lambda x, h, Wx, W: np.tanh(h @ (W / np.linalg.norm(W, axis=0)) + x @ Wx), "10 operations"),
    "mask": (lambda x, h, Wx, W: np.where(MASK, np.tanh(x @ Wx + h @ W), h), "where(mask, tanh(x·Wx + h·W), h)"),
    "matrix": (lambda x, h, Wx, W: np.tanh(np.tri(2) @ (h @ W) + x @ Wx), "tanh(const·(h·W) + x·Wx)"),
    "offset": (lambda x, h, Wx, W: np.tanh(np.ones(4) + h @ W + x @ Wx), "tanh(data + h·W + x·Wx)"),
    "none": (lambda x, h, Wx, W: np.tanh(x @ Wx + h @ W), "tanh(x·Wx + h·W)"),
    "input without weights": (lambda x, h, Wx, W: np.tanh(x[:, :1] + h @ W), "tanh(x + h·W)"),
}


class Cell(tr.Module):
    def __init__(self, step):
        rng = np.random.default_rng(0)
        self.Wx = tr.tensor(rng.standard_normal((3, 4)), requires_grad=True, name="Wx")
        self.W = tr.tensor(rng.standard_normal((4, 4)) / 2, requires_grad=True, name="W")
        self.step = step

    def initial_state(self, batch_size):
        return np.zeros((batch_size, 4))

    def __call__(self, x, h):
        h = self.step(x, h, self.Wx, self.W)
        return h, h


XS = np.random.default_rng(1).standard_normal((2, 4, 3))


def by_draw(cell, **options):
    return tr.draw(cell, XS, **options).scene


def by_unroll(cell, xs=XS, **options):
    return tr.draw(np.sum(tr.unroll(cell, xs)[0]), **options).scene


def shapes(scene):
    """Return the first row of each box of data, by the box's title."""
    return {box.title: box.rows[0].text for box in scene.boxes if box.kind in ("input", "constant") and box.rows}


@pytest.mark.parametrize("record", [by_draw, by_unroll])
@pytest.mark.parametrize("name", CONSTANTS)
def test_a_formula_names_constants_apart_from_the_input(name, record):
    step, formula = CONSTANTS[name]
    scene = record(Cell(step), view="unrolled")
    assert {box.rows[0].text for box in scene.boxes if box.kind == "state"} == {formula}
    D = 1 if name == "input without weights" else 3
    inputs = {title: text for title, text in shapes(scene).items() if title[0] in "xcdm"}
    assert inputs == {f"x_{{{t}}}": f"2×{D} float64" for t in range(1, 5)}


@pytest.mark.parametrize("record", [by_draw, by_unroll])
@pytest.mark.parametrize(
    ("name", "other", "shape"),
    [
        ("mask of weights", "const", "4×4"),
        ("scales", "const", "4"),
        ("mask", "mask", "2×4"),
        ("matrix", "const", "2×2"),
    ],
)
def test_all_views_use_the_same_names(name, other, shape, record):
    cell = Cell(CONSTANTS[name][0])
    assert shapes(record(cell, view="rolled")) == {"x_{t}": "2×3", other: shape}
    found = shapes(record(cell, view="ops", steps=3))
    assert {title: text for title, text in found.items() if title[0] in "xcdm"} == {"x_{3}": "2×3", other: shape}


def test_a_sequence_that_does_not_change_is_still_the_input():
    cell, xs = Cell(CONSTANTS["scales"][0]), np.ones((2, 4, 3))
    for scene in (tr.draw(cell, xs).scene, by_unroll(cell, xs, view="unrolled")):
        assert {box.rows[0].text for box in scene.boxes if box.kind == "state"} == {"tanh(x·Wx + h·W) ⊙ const"}


def test_an_input_that_is_not_read_has_no_box():
    scene = by_draw(Cell(lambda x, h, Wx, W: np.tanh(h @ (W * np.tri(4)) + np.sum(Wx, axis=0))))
    assert not any(title.startswith("x") for title in shapes(scene))


def test_masks_that_change_are_no_input():
    rng = np.random.default_rng(2)
    draws = rng.random((4, 2, 4)) < 0.5
    masks = iter(np.concatenate([draws, draws]))
    cell = Cell(lambda x, h, Wx, W: np.where(next(masks), np.tanh(x @ Wx + h @ W), h))
    scene = by_unroll(cell, view="rolled")
    assert shapes(scene) == {"x_{t}": "2×3", "mask_{t}": "2×4"}


def test_in_the_first_step_the_initial_state_is_called_by_its_name():
    scene = by_draw(Cell(CONSTANTS["none"][0]), view="ops", steps=1)
    assert shapes(scene).keys() >= {"x_{1}", "s_{0}"}
    assert {row.text for box in scene.boxes for row in box.rows} >= {"x·Wx", "s·W"}


def test_a_cell_that_reads_itself_through_attention_shows_its_input():
    def step(x, h, Wx, W):
        weights = tr.softmax(np.reshape(h, (2, 1, 4)) @ np.reshape(h, (2, 4, 1)), axis=-1)
        return np.tanh(x @ Wx + (weights @ np.reshape(h, (2, 1, 4)))[:, 0] @ W)

    assert shapes(by_draw(Cell(step))).items() >= {f"x_{{{t}}}": "2×3 float64" for t in range(1, 5)}.items()
