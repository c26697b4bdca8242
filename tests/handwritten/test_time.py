from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from drawn import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_rnn.handwritten import TimeGRU, TimeLSTM, TimeRNN

# Each with the shapes of its weights in units of H: columns of Wx, Wh and b, and whether there is a bh.
CELLS = [
    pytest.param(TimeRNN, 1, False, id="rnn"),
    pytest.param(TimeLSTM, 4, False, id="lstm"),
    pytest.param(partial(TimeGRU, reset="after"), 3, True, id="gru-after"),
    pytest.param(partial(TimeGRU, reset="before"), 3, False, id="gru-before"),
]
every_cell = pytest.mark.parametrize(("layer_of", "gates", "has_bh"), CELLS)


def draw_weights(rng, D, H, gates, has_bh):
    shapes = [(D, gates * H), (H, gates * H), (gates * H,)] + [(H,)] * has_bh
    # Small, so that no unit saturates: there 1 - h^2 cancels, and backward's relative error is eps / (1 - h^2).
    return [0.3 * rng.standard_normal(shape) for shape in shapes]


@every_cell
def test_backward_over_a_sequence_is_the_complex_step(layer_of, gates, has_bh, complex_step, relative_error):
    rng = np.random.default_rng(1)
    N, T, D, H = 2, 4, 2, 3
    xs, dhs = rng.standard_normal((N, T, D)), rng.standard_normal((N, T, H))
    params = draw_weights(rng, D, H, gates, has_bh)

    def loss(xs, *params):
        return (layer_of(*params).forward(xs) * dhs).sum()

    layer = layer_of(*params)
    layer.forward(xs)
    actual = [layer.backward(dhs), *layer.grads]
    for got, expected in zip(actual, complex_step(loss, xs, *params), strict=True):
        assert relative_error(got, expected) <= 1e-12


@every_cell
def test_gradient_of_a_later_window_holds_the_carried_state_constant(
    layer_of, gates, has_bh, complex_step, relative_error
):
    rng = np.random.default_rng(2)
    N, T, D, H = 2, 3, 2, 3
    params = draw_weights(rng, D, H, gates, has_bh)
    layer = layer_of(*params, stateful=True)
    names = layer.step.state_names
    for _ in range(3):
        xs, dhs = rng.standard_normal((N, T, D)), rng.standard_normal((N, T, H))
        carried = [np.zeros((N, H)) if layer.h is None else getattr(layer, name) for name in names]

        def loss(xs, *arrays, dhs=dhs):
            state, params = arrays[: len(names)], arrays[len(names) :]
            model = layer_of(*params, stateful=True)
            model.set_state(*state)
            return (model.forward(xs) * dhs).sum()

        layer.forward(xs)
        dxs = layer.backward(dhs)
        # The state's gradient, which the truncation keeps from the window before, is checked as well.
        actual = [dxs, *(getattr(layer, f"d{name}") for name in names), *layer.grads]
        for got, expected in zip(actual, complex_step(loss, xs, *carried, *params), strict=True):
            assert relative_error(got, expected) <= 1e-12


@every_cell
@settings(max_examples=examples(25), deadline=None)
@given(
    N=st.integers(1, 3),
    T=st.integers(1, 6),
    D=st.integers(1, 4),
    H=st.integers(1, 4),
    seed=st.integers(0, 2**32 - 1),
)
def test_backward_is_the_slope_along_any_direction(layer_of, gates, has_bh, complex_slope, N, T, D, H, seed):
    rng = np.random.default_rng(seed)
    xs, dhs = rng.standard_normal((N, T, D)), rng.standard_normal((N, T, H))
    params = draw_weights(rng, D, H, gates, has_bh)
    layer = layer_of(*params, stateful=True)
    names = layer.step.state_names
    state = [rng.standard_normal((N, H)) for _ in names]
    arrays = [xs, *state, *params]
    directions = [rng.standard_normal(array.shape) for array in arrays]

    def loss(xs, *arrays):
        model = layer_of(*arrays[len(names) :], stateful=True)
        model.set_state(*arrays[: len(names)])
        return (model.forward(xs) * dhs).sum()

    layer.set_state(*state)
    layer.forward(xs)
    gradients = [layer.backward(dhs), *(getattr(layer, f"d{name}") for name in names), *layer.grads]
    products = [gradient * direction for gradient, direction in zip(gradients, directions, strict=True)]
    slope = sum(product.sum() for product in products)
    # The products may cancel in the sum: their size, not the sum's, is the measure of a rounding.
    size = sum(np.abs(product).sum() for product in products)
    assert abs(slope - complex_slope(loss, arrays, directions)) <= 1e-12 * size


@every_cell
def test_windows_with_a_carried_state_give_the_outputs_of_one_long_forward(layer_of, gates, has_bh):
    rng = np.random.default_rng(3)
    N, D, H = 3, 4, 5
    params = draw_weights(rng, D, H, gates, has_bh)
    xs = rng.standard_normal((N, 12, D))
    long = layer_of(*params)
    expected = long.forward(xs)
    layer = layer_of(*params, stateful=True)
    parts = [layer.forward(xs[:, start:stop]) for start, stop in [(0, 5), (5, 6), (6, 12)]]
    np.testing.assert_allclose(np.concatenate(parts, axis=1), expected, rtol=0, atol=1e-15)
    for name in layer.step.state_names:
        np.testing.assert_allclose(getattr(layer, name), getattr(long, name), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("layer_of", "gates", "has_bh"), [cell for cell in CELLS if cell.id != "lstm"]
)  # c of an LSTM is no output, so that its gradient cannot be handed to the window before
def test_dh_is_what_the_truncation_cuts_off(layer_of, gates, has_bh, relative_error):
    rng = np.random.default_rng(4)
    N, T, D, H = 2, 6, 3, 4
    params = draw_weights(rng, D, H, gates, has_bh)
    xs, dhs = rng.standard_normal((N, T, D)), rng.standard_normal((N, T, H))
    whole = layer_of(*params)
    whole.forward(xs)
    dxs = whole.backward(dhs)

    first, second = layer_of(*params, stateful=True), layer_of(*params, stateful=True)
    first.forward(xs[:, :4])
    second.set_state(first.h)
    second.forward(xs[:, 4:])
    dxs_second = second.backward(dhs[:, 4:])
    dhs_first = dhs[:, :4].copy()
    dhs_first[:, -1] += second.dh
    dxs_first = first.backward(dhs_first)
    assert relative_error(np.concatenate([dxs_first, dxs_second], axis=1), dxs) <= 1e-12
    for a, b, total in zip(first.grads, second.grads, whole.grads, strict=True):
        assert relative_error(a + b, total) <= 1e-12


@every_cell
def test_a_layer_that_is_not_stateful_starts_from_zeros_each_time(layer_of, gates, has_bh):
    rng = np.random.default_rng(5)
    xs = rng.standard_normal((2, 3, 4))
    layer = layer_of(*draw_weights(rng, 4, 3, gates, has_bh))
    hs = layer.forward(xs)
    np.testing.assert_array_equal(layer.h, hs[:, -1])
    np.testing.assert_array_equal(layer.forward(xs), hs)
    with pytest.raises(ValueError, match="build it with stateful=True"):
        layer.set_state(np.zeros((2, 3)))


@every_cell
def test_reset_state_starts_a_stateful_layer_from_zeros_again(layer_of, gates, has_bh):
    rng = np.random.default_rng(6)
    layer = layer_of(*draw_weights(rng, 4, 3, gates, has_bh), stateful=True)
    xs = rng.standard_normal((2, 3, 4))
    hs = layer.forward(xs)
    assert not np.array_equal(layer.forward(xs), hs)
    layer.reset_state()
    assert all(getattr(layer, name) is None for name in layer.step.state_names)
    np.testing.assert_array_equal(layer.forward(xs), hs)
    layer.reset_state()
    assert layer.forward(xs[:1]).shape == (1, 3, 3)


@every_cell
def test_grads_are_overwritten_in_place_and_not_summed_over_windows(layer_of, gates, has_bh):
    rng = np.random.default_rng(7)
    layer = layer_of(*draw_weights(rng, 4, 3, gates, has_bh))
    xs, dhs = rng.standard_normal((2, 5, 4)), rng.standard_normal((2, 5, 3))
    held = list(layer.grads)
    layer.forward(xs)
    layer.backward(dhs)
    first = [grad.copy() for grad in held]
    layer.forward(xs)
    layer.backward(dhs)
    for now, array, then in zip(layer.grads, held, first, strict=True):
        assert now is array
        np.testing.assert_array_equal(now, then)


@every_cell
def test_the_last_state_sends_its_own_gradient(layer_of, gates, has_bh, complex_step, relative_error):
    rng = np.random.default_rng(9)
    N, T, D, H = 2, 3, 2, 3
    xs, dhs, params = (
        rng.standard_normal((N, T, D)),
        rng.standard_normal((N, T, H)),
        draw_weights(rng, D, H, gates, has_bh),
    )
    layer = layer_of(*params)
    names = layer.step.state_names
    dstate = tuple(rng.standard_normal((N, H)) for _ in names)

    def loss(xs, *params):
        layer = layer_of(*params)
        by_hs = (layer.forward(xs) * dhs).sum()
        return by_hs + sum((getattr(layer, name) * d).sum() for name, d in zip(names, dstate, strict=True))

    layer.forward(xs)
    actual = [layer.backward(dhs, dstate), *layer.grads]
    for got, expected in zip(actual, complex_step(loss, xs, *params), strict=True):
        assert relative_error(got, expected) <= 1e-12


@every_cell
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_of_the_weights_is_kept(layer_of, gates, has_bh, dtype):
    rng = np.random.default_rng(8)
    layer = layer_of(*[w.astype(dtype) for w in draw_weights(rng, 4, 3, gates, has_bh)], stateful=True)
    xs, dhs = rng.standard_normal((2, 5, 4)).astype(dtype), rng.standard_normal((2, 5, 3)).astype(dtype)
    for _ in range(2):
        hs, dxs = layer.forward(xs), layer.backward(dhs)
        assert {array.dtype for array in [hs, dxs, layer.h, layer.dh, *layer.grads]} == {np.dtype(dtype)}


def test_the_given_state_is_copied():
    layer = TimeRNN(np.ones((1, 1)), np.ones((1, 1)), np.zeros(1), stateful=True)
    h = np.array([[2.0]])
    layer.set_state(h)
    h[...] = 7
    np.testing.assert_array_equal(layer.forward(np.full((1, 1, 1), -2.0)), [[[0.0]]])


def test_arguments_that_do_not_fit_are_refused():
    layer = TimeRNN(np.ones((3, 4)), np.ones((4, 4)), np.ones(4), stateful=True)
    with pytest.raises(ValueError, match=r"TimeRNN.backward: nothing to differentiate; call forward first"):
        layer.backward(np.ones((2, 5, 4)))
    with pytest.raises(ValueError, match=r"TimeRNN.forward: xs must have shape \(N, T, D=3\), got \(2, 3\)"):
        layer.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"TimeRNN.forward: .* axis 1 \(T\) is empty"):
        layer.forward(np.ones((2, 0, 3)))
    with pytest.raises(ValueError, match=r"TimeRNN.set_state: h must have shape \(N, H=4\), got \(2, 3\)"):
        layer.set_state(np.ones((2, 3)))
    layer.forward(np.ones((2, 5, 3)))
    with pytest.raises(ValueError, match=r"TimeRNN.backward: dhs must have shape \(N=2, T=5, H=4\), got \(2, 4, 4\)"):
        layer.backward(np.ones((2, 4, 4)))
    with pytest.raises(ValueError, match=r"TimeRNN.backward: dstate of h must have shape \(N=2, H=4\), got \(2, 3\)"):
        layer.backward(np.ones((2, 5, 4)), (np.ones((2, 3)),))
    with pytest.raises(ValueError, match=r"batch N=1, but the carried state has N=2; .* reset_state\(\)"):
        layer.forward(np.ones((1, 5, 3)))
