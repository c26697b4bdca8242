"""generate: greedy, temperature, top-k, and what may not be drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn as tr
from tinygrad_rnn.data import Vocabulary
from tinygrad_rnn.errors import ConfigError, CorpusError, DTypeError, NonFiniteError, ShapeError
from tinygrad_rnn.training import generate

WORDS = Vocabulary(["<unk>", "a", "b", "c", "d"])
MODEL = tr.RNNLM(5, 4, 4, np.random.default_rng(1), cell="lstm")


def biased_model(*logits):
    """A model that gives every position these logits."""
    model = tr.RNNLM(len(logits), 2, 2, np.random.default_rng(0))
    model.output.W.data = np.zeros((2, len(logits)))
    model.output.b.data = np.array(logits)
    return model


@given(prompt=st.lists(st.integers(0, 4), min_size=1, max_size=5), length=st.integers(0, 6))
def test_greedy_is_the_argmax_of_the_whole_text(prompt, length):
    text = list(prompt)
    for _ in range(length):
        logits, _ = MODEL(np.array([text]))
        text.append(int(np.argmax(logits.data[0, -1, 1:])) + 1)  # never <unk>
    assert list(generate(MODEL, WORDS, prompt, length, temperature=0)) == text[len(prompt) :]


def test_frequencies_are_the_softmax():
    logits = np.array([9.0, 0.0, 1.0, 2.0, -1.0])
    ids = list(generate(biased_model(*logits), WORDS, [1], 4000, temperature=0.5, rng=np.random.default_rng(0)))
    expected = np.exp(logits / 0.5)
    expected[0] = 0.0  # <unk> is the likeliest, and is not drawn
    expected /= expected.sum()
    np.testing.assert_allclose(np.bincount(ids, minlength=5) / 4000, expected, atol=0.02)


@pytest.mark.parametrize(("top_k", "allowed"), [(1, {3}), (2, {3, 2}), (3, {1, 2, 3}), (9, {1, 2, 3, 4})])
def test_top_k(top_k, allowed):
    model = biased_model(9.0, 0.0, 0.1, 0.2, -0.1)
    ids = generate(model, WORDS, [1], 300, top_k=top_k, rng=np.random.default_rng(0))
    assert set(ids) == allowed


def test_unknown_if_it_is_allowed():
    model = biased_model(9.0, 0.0, 0.0, 0.0, 0.0)
    assert set(generate(model, WORDS, [1], 20, temperature=0, allow_unknown=True)) == {0}


@pytest.mark.parametrize("temperature", [1e-310, 1e300])
def test_extreme_temperatures(temperature):
    ids = list(generate(biased_model(0, 0, 1, 2, 3), WORDS, [1], 50, temperature=temperature, rng=rng()))
    assert set(ids) == ({4} if temperature < 1 else {1, 2, 3, 4})


def rng():
    return np.random.default_rng(0)


def test_same_seed_same_text():
    first, second = (list(generate(MODEL, WORDS, [1, 2], 30, rng=rng())) for _ in range(2))
    assert first == second


def test_recording_is_on_between_two_tokens():
    ids = generate(MODEL, WORDS, [1], 2, temperature=0)
    next(ids)
    assert (MODEL.layers[0].b * 2).requires_grad
    ids.close()


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"temperature": -0.1}, ConfigError, "temperature must be a finite number of 0 or more"),
        ({"temperature": float("nan")}, ConfigError, "temperature"),
        ({"temperature": float("inf")}, ConfigError, "temperature"),
        ({"top_k": -1}, ConfigError, "top_k"),
        ({"length": -1}, ConfigError, "length"),
        ({"length": 2.0}, ConfigError, "length"),
        ({"temperature": True}, ConfigError, "temperature"),
        ({"temperature": "0.8"}, ConfigError, "temperature"),
        ({"top_k": True}, ConfigError, "top_k"),
        ({"top_k": float("nan")}, ConfigError, "top_k"),
        ({"rng": None}, ConfigError, "rng is needed"),
        ({"rng": 0}, ConfigError, r"rng must be a numpy.random.Generator, got 0; pass np.random.default_rng\(0\)"),
        (
            {"vocabulary": Vocabulary(["<unk>", "a", "b"])},
            ConfigError,
            "logits for 5 tokens, but the vocabulary has V=3",
        ),
        ({"vocabulary": Vocabulary(list("abcdef"))}, ConfigError, "logits for 5 tokens, but the vocabulary has V=6"),
        ({"prompt": []}, CorpusError, "prompt is empty"),
        ({"prompt": [5]}, CorpusError, r"ids\[0\] is 5"),
    ],
)
def test_refuses_before_the_first_token(settings, error, message):
    arguments = {"vocabulary": WORDS, "prompt": [1], "length": 3, "rng": rng(), **settings}
    with pytest.raises(error, match=message):
        generate(MODEL, **arguments)


class Fixed:
    """A model that is no RNNLM and always gives these logits."""

    def __init__(self, *logits):
        self.logits = np.array(logits)

    def initial_state(self, batch_size):
        return None

    def __call__(self, ids, state):
        return tr.tensor(np.broadcast_to(self.logits, (*ids.shape, len(self.logits)))), state


@pytest.mark.parametrize("temperature", [0.0, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize("top_k", [0, 2])
@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ((0, 1, np.nan, 3, 4), "1 of 5 are NaN or .inf, the first that of 'b'"),
        ((np.nan,) * 5, "5 of 5 are NaN"),
        ((np.nan, 1, 2, 3, 4), "1 of 5 are NaN or .inf, the first that of '<unk>'"),
        ((0, 1, 2, np.inf, 4), "1 of 5 are NaN or .inf, the first that of 'c'"),
        ((0, np.inf, np.inf, 0, 0), "2 of 5"),
        ((-np.inf,) * 5, "all that may be drawn are -inf"),
        ((5, -np.inf, -np.inf, -np.inf, -np.inf), "all that may be drawn are -inf"),
    ],
)
def test_logits_that_are_no_distribution(temperature, top_k, logits, message):
    with pytest.raises(NonFiniteError, match=f"generate: the model's logits do not define a distribution: {message}"):
        next(generate(Fixed(*logits), WORDS, [1], 3, temperature=temperature, top_k=top_k, rng=rng()))


@pytest.mark.parametrize("temperature", [0.0, 1e-310, 1.0])
def test_a_token_that_cannot_come_does_not_come(temperature):
    model = Fixed(0, -np.inf, 1.0, -np.inf, -np.inf)
    assert set(generate(model, WORDS, [1], 20, temperature=temperature, rng=rng())) == {2}


@pytest.mark.parametrize("size", [3, 9])
def test_the_logits_of_any_model_are_counted(size):
    with pytest.raises(ConfigError, match=f"logits for {size} tokens, but the vocabulary has V=5"):
        next(generate(Fixed(*range(size)), WORDS, [1], 3, temperature=0))


def test_of_equal_tokens_the_lowest_ids_count_as_likelier():
    V = 200  # enough for every way that a CPU sorts
    words, model = Vocabulary([str(n) for n in range(V)]), Fixed(*[1.0] * V)
    assert list(generate(model, words, [7], 3, temperature=0)) == [0, 0, 0]
    assert set(generate(model, words, [7], 300, top_k=3, rng=rng())) == {0, 1, 2}


def test_a_vocabulary_of_the_unknown_token_only():
    with pytest.raises(CorpusError, match="the unknown token only"):
        generate(Fixed(1.0), Vocabulary(["<unk>"]), [0], 3, temperature=0)


# -- compiled, and several prompts at once ----------------------------------------------------------------------------

PROMPTS = [[1], [2, 3, 4], [4, 1], [3, 3, 2, 1, 4], [2]]
CELLS = {"rnn": {"cell": "rnn"}, "lstm": {"cell": "lstm", "layers": 2}, "gru": {"cell": "gru", "tied": True}}


def wide(name):
    """A model in float64, so that N rows and one are the same to far more than what decides a draw."""
    return tr.RNNLM(5, 4, 4, np.random.default_rng(2), dtype=np.float64, **CELLS[name])


@pytest.mark.parametrize("executor", ["native", "numpy"])
@pytest.mark.parametrize("name", CELLS)
def test_compiled_ids_are_the_ids(name, executor):
    model = wide(name)
    for settings in ({}, {"temperature": 0.5, "top_k": 3}, {"temperature": 0}):
        found = generate(model, WORDS, [2, 3, 1], 40, rng=rng(), executor=executor, **settings)
        assert list(found) == list(generate(model, WORDS, [2, 3, 1], 40, rng=rng(), compiled=False, **settings))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", CELLS)
def test_several_prompts_are_each_continued_as_alone(name, compiled):
    model = wide(name)
    rngs = [np.random.default_rng(n) for n in range(len(PROMPTS))]
    found = np.array(list(generate(model, WORDS, PROMPTS, 30, rng=rngs, compiled=compiled)))
    for n, prompt in enumerate(PROMPTS):
        assert found[:, n].tolist() == list(generate(model, WORDS, prompt, 30, rng=np.random.default_rng(n)))
    greedy = np.array(list(generate(model, WORDS, PROMPTS, 9, temperature=0, compiled=compiled)))
    for n, prompt in enumerate(PROMPTS):
        assert greedy[:, n].tolist() == list(generate(model, WORDS, prompt, 9, temperature=0))


def test_prompts_as_an_array_and_one_generator_for_all():
    model, prompts = wide("lstm"), np.array([[1, 2], [3, 4], [2, 2]])
    found = list(generate(model, WORDS, prompts, 6, rng=rng()))
    assert [(ids.shape, ids.dtype) for ids in found] == [((3,), np.int64)] * 6
    again = list(generate(model, WORDS, [tuple(ids) for ids in prompts], 6, rng=rng()))
    assert np.array_equal(found, again)
    numbers = np.random.default_rng(0).random((6, 3))  # at each token one for each prompt, in their order

    for n, prompt in enumerate(prompts):
        text = list(prompt)
        for t in range(6):
            weights = np.exp(model(np.array([text]))[0].data[0, -1])
            weights[0] = 0
            text.append(int((weights.cumsum() / weights.sum()).searchsorted(numbers[t, n], side="right")))
        assert text[2:] == [ids[n] for ids in found]


def test_one_prompt_in_a_list_is_several():
    (ids,) = generate(MODEL, WORDS, [[1, 2]], 1, temperature=0)
    assert ids.shape == (1,)
    assert ids.tolist() == list(generate(MODEL, WORDS, [1, 2], 1, temperature=0))


def test_the_ids_are_the_callers():
    found = []
    for ids in generate(wide("lstm"), WORDS, PROMPTS, 20, rng=rng()):
        found.append(ids.tolist())
        ids[:] = 0
    assert found == [ids.tolist() for ids in generate(wide("lstm"), WORDS, PROMPTS, 20, rng=rng())]


@pytest.mark.parametrize("compiled", [True, False])
def test_parameters_that_change_between_two_tokens_are_seen(compiled):
    model = wide("lstm")
    ids = generate(model, WORDS, [1], 3, temperature=0, compiled=compiled)
    next(ids)
    for wanted in (4, 2):
        model.output.b.data = np.where(np.arange(5) == wanted, 100.0, 0.0)
        assert next(ids) == wanted


def test_a_stepper_keeps_its_plan_from_call_to_call():
    step = tr.Stepper(wide("rnn"))
    texts = [list(generate(step, WORDS, [1, 2], 5, rng=rng())) for _ in range(3)]
    assert texts == [list(generate(step.model, WORDS, [1, 2], 5, rng=rng()))] * 3
    assert len(step.compiled.plans) == 1
    with pytest.raises(ConfigError, match="logits for 5 tokens, but the vocabulary has V=2"):
        generate(step, Vocabulary(["a", "b"]), [1], 5, rng=rng())


class Counting:
    """Its state has a number in it, so it cannot be compiled."""

    def __init__(self):
        self.model = wide("rnn")

    def initial_state(self, batch_size):
        return self.model.initial_state(batch_size), 0

    def __call__(self, ids, state):
        logits, inner = self.model(ids, state[0])
        return logits * (1 + state[1] % 3), (inner, state[1] + ids.shape[1])


def test_a_model_that_cannot_be_compiled_gives_the_same():
    model = Counting()
    wanted = list(generate(model, WORDS, [1, 2], 9, rng=rng(), compiled=False))
    with pytest.warns(UserWarning, match="Stepper: it runs operation by operation"):
        assert list(generate(model, WORDS, [1, 2], 9, rng=rng())) == wanted
    prompts = [[1, 2], [3, 4]]
    with pytest.warns(UserWarning, match="Stepper: it runs"):
        found = list(generate(model, WORDS, prompts, 9, temperature=0))
    for n, prompt in enumerate(prompts):
        alone = list(generate(model, WORDS, prompt, 9, temperature=0, compiled=False))
        assert [ids[n] for ids in found] == alone
    for compiled in (True, False):
        with pytest.raises(ShapeError, match="holds 1 and 2, and not an array with a row for each prompt"):
            list(generate(model, WORDS, [[1], [2, 3]], 2, temperature=0, compiled=compiled))


@pytest.mark.parametrize(
    ("prompts", "settings", "error", "message"),
    [
        ([], {}, CorpusError, "prompt is empty"),
        (np.empty((0, 3), int), {}, CorpusError, "there are no prompts"),
        ([[1], []], {}, CorpusError, "prompt 1 is empty"),
        ([[1], [2, 5]], {}, CorpusError, r"generate: prompt 1: ids\[1\] is 5"),
        ([[1], 2], {}, ShapeError, r"prompt 1: ids must have shape \(T,\), got \(\)"),
        ([[1], [0.5]], {}, DTypeError, "prompt 1: ids must have an integer dtype"),
        (np.zeros((1, 2, 3), int), {}, ShapeError, "ids must have shape"),
        ([[1], [2]], {"rng": [rng()]}, ConfigError, "one generator, or one for each of the 2 prompts, got 1"),
        ([[1], [2]], {"rng": [rng(), 0]}, ConfigError, r"rng\[1\] must be a numpy.random.Generator"),
        ([[1]], {"compiled": "no"}, ConfigError, "compiled"),
        ([[1]], {"executor": "gpu"}, ConfigError, "executor"),
    ],
)
def test_refuses_several_before_the_first_token(prompts, settings, error, message):
    with pytest.raises(error, match=message):
        generate(MODEL, WORDS, prompts, 3, **{"rng": rng(), **settings})


def test_which_prompt_has_logits_that_are_no_distribution():
    class Broken(Fixed):
        def __call__(self, ids, state):
            return tr.where((ids == 3)[..., None], np.nan, super().__call__(ids, state)[0]), state

    with pytest.raises(NonFiniteError, match="not define a distribution for prompt 2: 5 of 5 are NaN"):
        next(generate(Broken(*range(5)), WORDS, [[1], [2], [3]], 3, rng=rng()))
