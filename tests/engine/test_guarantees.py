"""What the engine promises, in the order of docs/architecture.md: tests for each guarantee but those of memory."""

import copy
import pickle
import threading
import weakref

import numpy as np
import pytest

import tinygrad_rnn as tr


def leaf(values, dtype=None, name=None):
    return tr.tensor(values, dtype=dtype, requires_grad=True, name=name)


# 1. dtypes


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
@pytest.mark.parametrize("f", [lambda x: x * 2.0, lambda x: 1 - x, lambda x: 3 / x, lambda x: x**2, lambda x: 2**x])
def test_python_numbers_take_the_dtype_of_the_tensor(f, dtype):
    x = leaf([1.0, 2.0], dtype)
    assert f(x).dtype == dtype
    assert tr.grad(f(x), x, cotangent=np.ones(2)).dtype == dtype


def test_a_float32_leaf_gets_a_float32_gradient_from_a_float64_graph():
    x = leaf([1.0, 2.0], np.float32)
    y = np.sum(x * np.array([1.0, 3.0]))
    assert y.dtype == np.float64
    y.backward()
    assert x.grad.dtype == np.float32


# 2. the engine un-broadcasts, casts, supplies zeros


def test_a_rule_of_ones_own_need_not_think_of_broadcasting():
    @tr.primitive()
    def product(a, b, /):
        return a * b

    @product.rule(keep="a b")
    def _(g, y, a, b):
        return g * b, g * a

    a, b = leaf(np.ones((3, 1)), np.float32), leaf(np.ones(4))
    da, db = tr.grad(product(a, b), [a, b], cotangent=np.ones((3, 4)))
    assert (da.shape, da.dtype, db.shape) == ((3, 1), np.float32, (4,))
    np.testing.assert_array_equal(da, np.full((3, 1), 4.0))


def test_unused_outputs_count_as_zero():
    x = leaf([1.0, 2.0, 3.0])
    _, middle, _ = tr.split(x, 3)
    np.testing.assert_array_equal(tr.grad(middle.sum(), x), [0, 1, 0])


def test_a_rule_sees_only_shape_and_dtype_of_what_it_did_not_keep():
    @tr.primitive()
    def twice(x, /):
        return 2 * x

    @twice.rule()
    def _(g, y, x):
        assert x.shape == (2,)
        assert x.ndim == 1
        assert not hasattr(x, "sum")
        return (g + g,)

    x = leaf([1.0, 2.0])
    assert tr.grad(twice(x).sum(), x).tolist() == [2, 2]


def test_a_rule_with_a_wrong_shape_is_named_with_the_line_that_recorded_it():
    @tr.primitive()
    def broken(x, /):
        return 2 * x

    @broken.rule()
    def _(g, y, x):
        return (np.ones(7),)

    x = leaf([1.0, 2.0])
    with pytest.raises(tr.GradientError, match=r"broken: .*shape \(7,\) .*shape \(2,\); .*test_guarantees.py:\d+"):
        tr.grad(broken(x).sum(), x)


def test_a_missing_rule_fails_when_the_forward_is_recorded():
    @tr.primitive()
    def ruleless(x, /):
        return 2 * x

    assert ruleless(tr.tensor(1.0)).item() == 2
    with pytest.raises(TypeError, match="ruleless: no derivative rule"):
        ruleless(leaf(1.0))


def test_a_primitive_needs_inputs_and_known_names():
    with pytest.raises(TypeError, match="positional-only"):

        @tr.primitive()
        def nothing(x):
            return x

    with pytest.raises(TypeError, match=r"keep names \['z'\]"):
        tr.primitive()(lambda x, /: x).rule(keep="z")(lambda g, y, x: (g,))


@pytest.mark.parametrize(
    ("function", "rule", "expected"),
    [
        (lambda x, /: x, lambda g: (g,), r"takes \(g, y, x\): .* this one takes \(g\)"),
        (lambda x, /: x, lambda: (), r"takes \(g, y, x\)"),
        (lambda x, /: x, lambda g, y: (g,), r"takes \(g, y, x\)"),
        (lambda a, b, /: a + b, lambda g, y, a: (g, g), r"takes \(g, y, a, b\)"),
        (lambda x, /: x, lambda g, y, x, by: (g,), r"takes \(g, y, x\)"),
        (lambda x, /: x, lambda g, y, *xs: (g,), r"takes \(g, y, x\)"),
        (lambda *xs: xs[0], lambda g, y, x: (g,), r"takes \(g, y, \*xs\)"),
        (lambda x, /, by: by * x, lambda g, y, x: (g,), r"takes \(g, y, x, \*, by\)"),
        (lambda x, /, by: by * x, lambda g, y, x, *, times: (g,), r"takes \(g, y, x, \*, by\)"),
    ],
)
def test_a_rule_that_cannot_be_called_is_refused_where_it_is_written(function, rule, expected):
    with pytest.raises(TypeError, match=f"primitive <lambda>: expected a rule that {expected}"):
        tr.primitive()(function).rule()(rule)


# 3. depth


@pytest.mark.no_cover  # long, through lines that others reach
def test_fifty_thousand_chained_operations(no_collector):
    x = leaf(1.0)
    y = x
    for _ in range(50_000):
        y = y + x
    assert tr.grad(y, x) == 50_001
    alive = weakref.ref(y.node)
    del y
    assert alive() is None


# 4. pure grad, accumulating backward


def test_grad_is_pure_and_repeatable_bit_by_bit():
    rng = np.random.default_rng(0)
    x = leaf(rng.standard_normal((3, 4)))
    y = np.sum(np.tanh(x @ x.T))
    first, second = tr.grad(y, x), tr.grad(y, x)
    assert x.grad is None
    assert first.tobytes() == second.tobytes()


def test_backward_adds_up_over_two_losses_and_over_shared_use():
    w = leaf([2.0])
    (w * w).backward()
    (w * 3).backward()
    np.testing.assert_array_equal(w.grad, [7])
    w.grad = None
    assert w.grad is None


def test_a_second_backward_is_an_error_unless_kept():
    w = leaf([2.0])
    y = w * w * w
    y.backward(retain_graph=True)
    y.backward()
    np.testing.assert_array_equal(w.grad, [24])
    with pytest.raises(tr.GradientError, match="multiply .*consumed by an earlier backward"):
        y.backward()
    np.testing.assert_array_equal(w.grad, [24])


def test_a_second_loss_over_a_consumed_part_is_an_error_too():
    w = leaf([2.0])
    shared = np.tanh(w)
    a, b = shared * 2, shared * 3
    a.backward()
    with pytest.raises(tr.GradientError, match="tanh"):
        b.backward()


def test_grad_takes_any_nesting_and_results_inside_the_graph():
    x, w = leaf([1.0]), leaf([2.0])
    h = x * w
    got = tr.grad(h * h, {"h": h, "leaves": (x, [w])})
    assert got["h"] == 4
    assert got["leaves"][0] == 8
    assert got["leaves"][1][0] == 4


def test_several_ys_with_cotangents_add_up():
    x = leaf([1.0, 2.0])
    assert tr.grad([x.sum(), x * x], x, cotangent=[2.0, np.array([1.0, 10.0])]).tolist() == [4, 42]


def test_gradients_share_no_memory_and_inputs_stay():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    seed = np.array([1.0, 1.0])
    da, db = tr.grad(a + b, [a, b], cotangent=seed)
    da[:] = 99
    assert db.tolist() == [1, 1]
    assert seed.tolist() == [1, 1]
    y = a + b
    y.backward(seed)
    a.grad[:] = 99
    assert b.grad.tolist() == [1, 1]


def test_third_order():
    x = leaf(2.0)
    y = x**4
    for expected in (32, 48, 48, 24):
        y = tr.grad(y, x, create_graph=True)
        assert y.item() == expected


# 7. named errors


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: (leaf([1.0, 2.0]) * 2).backward(), tr.GradientError, r"shape \(2,\), not a single element"),
        (lambda: (leaf([1.0, 2.0]) * 2).backward([1.0]), tr.ShapeError, r"cotangent of shape \(2,\).*got \(1,\)"),
        (lambda: tr.tensor(1.0).backward(), tr.GradientError, "no graph was recorded"),
        (
            lambda: tr.tensor([1, 2], requires_grad=True),
            tr.DTypeError,
            r"floating point dtype, got int64 of shape \(2,\)",
        ),
        (lambda: tr.tensor(["a"]), tr.DTypeError, "expected numbers"),
        (lambda: tr.tensor([[1.0], [1.0, 2.0]]), tr.DTypeError, "cannot make an array of numbers"),
        (lambda: tr.grad(leaf(1.0) * 2, leaf(1.0, name="w")), tr.GradientError, r"does not depend on xs\[0\] \(w\)"),
        (lambda: tr.grad(leaf(1.0) * 2, 3.0), tr.GradientError, r"xs\[0\] is a float"),
        (lambda: tr.grad(leaf(1.0) * 2, tr.tensor(1.0)), tr.GradientError, r"a constant of shape \(\)"),
        (lambda: tr.grad(3.0, leaf(1.0)), tr.GradientError, "y to be a Tensor or a list of Tensors, got a float"),
        (lambda: tr.grad(None, leaf(1.0)), tr.GradientError, "y to be a Tensor .*, got a NoneType"),
        (lambda: tr.grad({"a": leaf(1.0)}, leaf(1.0)), tr.GradientError, "y to be a Tensor .*, got a dict"),
        (
            lambda: tr.grad(np.ones(2), leaf(1.0)),
            tr.GradientError,
            r"got an ndarray of shape \(2,\); a number or an array was computed",
        ),
        (lambda: tr.grad(leaf(1.0) * 2, tr.Dropout(0.5)), tr.GradientError, r"a Dropout, whose .parameters\(\) can be"),
        (lambda: tr.grad([leaf(1.0)], [], cotangent=3.0), tr.GradientError, "list of 1 cotangents, .*, got a float"),
        (lambda: tr.grad(leaf(1.0) * 2, leaf(1.0), cotangent="1"), tr.DTypeError, "grad: cotangent: expected numbers"),
        (lambda: tr.grad(leaf(1.0) * 2, np.ones(2)), tr.GradientError, r"xs\[0\] is an ndarray of shape \(2,\)"),
        (lambda: tr.grad([leaf(1.0)], [], cotangent=[1.0, 2.0]), tr.GradientError, "expected 1 cotangents"),
        (lambda: tr.grad([3.0], []), tr.GradientError, "a float"),
        (lambda: setattr(leaf([1.0]) * 2, "requires_grad", False), tr.GradientError, "cut"),
        (lambda: setattr(leaf([1.0]) * 2, "data", [1.0]), tr.GradientError, "only a leaf"),
        (lambda: setattr(leaf([1.0]), "data", [1.0, 2.0]), tr.ShapeError, r"expected an array of shape \(1,\)"),
        (lambda: setattr(leaf([1.0]), "grad", [1.0, 2.0]), tr.ShapeError, r"expected shape \(1,\)"),
        (lambda: setattr(tr.tensor([1.0]), "grad", [1.0]), tr.GradientError, "leaf with requires_grad"),
        (lambda: leaf([1.0, 2.0]).item(), tr.ShapeError, r"one element, got shape \(2,\)"),
        (lambda: len(leaf(1.0)), tr.ShapeError, "0-d"),
        (lambda: iter(leaf(1.0)), tr.ShapeError, "0-d"),
        (lambda: copy.deepcopy(leaf(1.0) * 2), tr.GradientError, "deepcopy"),
        (lambda: pickle.dumps(leaf(1.0) * 2), tr.GradientError, "only leaves can be pickled"),
    ],
)
def test_errors(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_a_leaf_can_be_pickled():
    x = leaf([1.0, 2.0], np.float32)
    x.name = "x"
    np.sum(x * x).backward()
    frozen = leaf([3.0])
    frozen.requires_grad = False
    for one in (x, frozen, tr.tensor([1, 2])):
        again = pickle.loads(pickle.dumps(one))
        np.testing.assert_array_equal(again.data, one.data)
        assert (again.dtype, again.name) == (one.dtype, one.name)
        assert (again.requires_grad, again.is_frozen) == (one.requires_grad, one.is_frozen)
        assert (again.grad is None) == (one.grad is None)


def test_allow_unused_gives_zeros():
    x, w = leaf([1.0, 2.0]), leaf([1.0], np.float32)
    _, dw = tr.grad(x.sum(), [x, w], allow_unused=True)
    assert dw.dtype == np.float32
    assert dw.tolist() == [0]


def test_anomaly_mode_names_the_operation_and_the_line():
    x = leaf([1.0, 0.0])
    with (
        tr.anomaly_mode(),
        np.errstate(divide="ignore"),
        pytest.raises(tr.NonFiniteError, match=r"log: output has 1 non-finite value of 2 .*test_guarantees.py:\d+"),
    ):
        np.log(x)
    y = np.sqrt(x).sum()
    with (
        tr.anomaly_mode(),
        np.errstate(divide="ignore"),
        pytest.raises(tr.NonFiniteError, match=r"sqrt: cotangent has 1 non-finite value .*test_guarantees.py:\d+"),
    ):
        tr.grad(y, x)


# 8. complex


def test_complex_step_through_a_whole_model_equals_its_gradient():
    model = tr.RNNLM(5, 3, 4, np.random.default_rng(0), cell="lstm", layers=2, dtype=np.float64)
    ids, targets = np.array([[1, 2, 0], [4, 4, 3]]), np.array([[2, 0, 3], [4, 3, -1]])
    parameters = model.parameters()
    gradients = tr.grad(model.loss(ids, targets)[0], parameters)
    rng = np.random.default_rng(1)
    shifted = copy.deepcopy(model)
    directions = {name: rng.standard_normal(p.shape) for name, p in parameters.items()}
    for name, p in shifted.parameters().items():
        p._array = p.data + 1e-30j * directions[name]  # the public setter keeps the dtype
    tangent = shifted.loss(ids, targets)[0].data.imag / 1e-30
    assert tangent == pytest.approx(sum(np.sum(gradients[n] * directions[n]) for n in parameters), rel=1e-13)


# 9. randomness


def test_dropout_draws_from_the_generator_it_is_given():
    drop, x = tr.Dropout(0.5), leaf(np.ones(1000), np.float32)
    a, b = (drop(x, np.random.default_rng(7)) for _ in range(2))
    assert a.dtype == np.float32
    assert a.data.tobytes() == b.data.tobytes()
    assert set(a.data.tolist()) == {0.0, 2.0}
    assert 400 < np.count_nonzero(a.data) < 600
    np.testing.assert_array_equal(tr.grad(a.sum(), x), a.data)
    assert drop(x) is x


# recording on and off


def test_no_grad_records_nothing_also_as_a_decorator_and_per_thread():
    x = leaf([1.0])
    with tr.no_grad():
        assert not (x * 2).requires_grad
        with tr.enable_grad():
            assert (x * 2).requires_grad
        seen = []
        thread = threading.Thread(target=lambda: seen.append((x * 2).requires_grad))
        thread.start()
        thread.join()
        assert seen == [True]

    @tr.no_grad()
    def evaluate():
        return x * 2

    assert not evaluate().requires_grad
    assert not evaluate().requires_grad
    assert (x * 2).requires_grad


def test_nodes_know_their_step_their_scope_and_their_line():
    x = leaf([1.0])
    with tr.scope("model"), tr.scope("layer"), tr.at_step(3):
        y = np.tanh(x)
    assert (y.node.step, y.node.scope) == (3, ("model", "layer"))
    assert "test_guarantees.py:" in y.node.where()
    assert (x * 2).node.step is None


def test_a_consumed_graph_still_gives_errors_not_zeros_through_grad():
    x = leaf([1.0])
    y = np.tanh(x)
    y.backward()
    with pytest.raises(tr.GradientError, match="consumed"):
        tr.grad(y, x)
