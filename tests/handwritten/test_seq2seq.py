from __future__ import annotations

import itertools

import numpy as np
import pytest

from tinygrad_rnn.handwritten import Decoder, Encoder, Seq2Seq

SOURCE_V, TARGET_V, D, H = 4, 5, 2, 3
KINDS = [{"attention": attention, "peek": peek} for attention, peek in itertools.product([False, True], repeat=2)]


def shapes_of(attention, peek):
    lstm = [(4 * H,)]
    encoder = [(SOURCE_V, D), (D, 4 * H), (H, 4 * H), *lstm]
    decoder = [(TARGET_V, D), (D + H * peek, 4 * H), (H, 4 * H), *lstm]
    return [*encoder, *decoder, (H * (1 + attention + peek), TARGET_V), (TARGET_V,)]


def weights_of(kind, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes_of(**kind)]


def model_of(kind, weights):
    return Seq2Seq(Encoder(*weights[:4]), Decoder(*weights[4:], **kind))


SOURCES = np.array([[1, 2, 3, 0], [3, 3, 1, 2]])
TARGETS = np.array([[0, 4, 2, 2], [0, 1, 3, -1]])


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_backward_is_the_complex_step(kind, complex_step, relative_error):
    weights = weights_of(kind)
    model = model_of(kind, weights)
    for _ in range(2):  # each forward starts anew, each backward overwrites
        loss = model.forward(SOURCES, TARGETS)
        model.backward()
    assert loss == model_of(kind, weights).forward(SOURCES, TARGETS)
    expected = complex_step(lambda *arrays: model_of(kind, arrays).forward(SOURCES, TARGETS), *weights)
    for got, wanted in zip(model.grads, expected, strict=True):
        assert relative_error(got, wanted) <= 1e-12


def test_encoder_backward_with_both_of_its_gradients_is_the_complex_step(complex_step, relative_error):
    weights = weights_of(KINDS[0])[:4]
    rng = np.random.default_rng(1)
    dhs, dc = rng.standard_normal((2, 4, H)), rng.standard_normal((2, H))

    def loss(*arrays):
        hs, c = Encoder(*arrays).forward(SOURCES)
        return (hs * dhs).sum() + (c * dc).sum()

    encoder = Encoder(*weights)
    encoder.forward(SOURCES)
    encoder.backward(dhs, dc)
    for got, expected in zip(encoder.grads, complex_step(loss, *weights), strict=True):
        assert relative_error(got, expected) <= 1e-12


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_decoder_backward_to_the_encoders_states_is_the_complex_step(kind, complex_step, relative_error):
    weights = weights_of(kind)[4:]
    rng = np.random.default_rng(2)
    ids, dlogits = rng.integers(0, TARGET_V, (2, 3)), rng.standard_normal((2, 3, TARGET_V))
    keys, c = rng.standard_normal((2, 4, H)), rng.standard_normal((2, H))
    decoder = Decoder(*weights, **kind)
    decoder.forward(ids, keys, c)
    expected = complex_step(lambda k, c: (Decoder(*weights, **kind).forward(ids, k, c) * dlogits).sum(), keys, c)
    for got, wanted in zip(decoder.backward(dlogits), expected, strict=True):
        assert relative_error(got, wanted) <= 1e-12


def test_training_in_place_learns_to_reverse():
    rng = np.random.default_rng(3)
    V, D, H = 4, 8, 16
    shapes = [(V, D), (D, 4 * H), (H, 4 * H), (4 * H,), (V, D), (D, 4 * H), (H, 4 * H), (4 * H,), (2 * H, V), (V,)]
    model = model_of({"attention": True}, [rng.standard_normal(shape) / np.sqrt(shape[0]) for shape in shapes])
    sources = rng.integers(0, V, (20, 3))
    targets = np.concatenate([np.zeros((20, 1), int), sources[:, ::-1]], axis=1)
    losses = []
    for _ in range(120):
        losses.append(float(model.forward(sources, targets)))
        model.backward()
        for param, grad in zip(model.params, model.grads, strict=True):
            param -= grad
    assert losses[0] > 1.3
    assert losses[-1] < 0.1


@pytest.mark.parametrize(
    ("kind", "position", "shape", "message"),
    [
        (KINDS[0], 1, (D + 1, 4 * H), r"Encoder: Wx must have shape \(D=2, 4H=12\), got \(3, 12\)"),
        (KINDS[0], 5, (D + H, 4 * H), r"Decoder: Wx must have shape \(D=2, 4H=12\), got \(5, 12\)"),
        (KINDS[1], 5, (D, 4 * H), r"Decoder: Wx must have shape \(D\+H=5, 4H=12\), got \(2, 12\)"),
        (KINDS[3], 8, (2 * H, TARGET_V), r"Decoder: W_out must have shape \(3H=9, V=5\), got \(6, 5\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(kind, position, shape, message):
    weights = weights_of(kind)
    weights[position] = np.ones(shape)
    with pytest.raises(ValueError, match=message):
        model_of(kind, weights)


def test_arguments_that_do_not_fit_are_refused():
    weights = weights_of(KINDS[0])
    model = model_of(KINDS[0], weights)
    narrow = Encoder(np.ones((SOURCE_V, D)), np.ones((D, 8)), np.ones((2, 8)), np.ones(8))
    with pytest.raises(ValueError, match="Seq2Seq: the encoder has H=2, the decoder H=3; give both the same H"):
        Seq2Seq(narrow, model.decoder)
    with pytest.raises(ValueError, match="nothing to differentiate; call forward first"):
        model.backward()
    with pytest.raises(ValueError, match=r"Seq2Seq.forward: targets must have shape \(N, T\+1\), got \(4,\)"):
        model.forward(SOURCES, TARGETS[0])
    with pytest.raises(ValueError, match=r"Decoder.forward: keys must have shape \(N=1, S, H=3\), got \(2, 4, 3\)"):
        model.forward(SOURCES, TARGETS[:1])
    with pytest.raises(ValueError, match=r"Decoder.forward: c must have shape \(N=2, H=3\), got \(1, 3\)"):
        model.decoder.forward(TARGETS[:, :2], np.ones((2, 4, H)), np.ones((1, H)))
    with pytest.raises(ValueError, match=r"Decoder.backward: nothing to differentiate|TimeAffine.backward: nothing"):
        Decoder(*weights[4:]).backward(np.ones((2, 3, TARGET_V)))
