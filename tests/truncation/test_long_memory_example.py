"""The example on long memory: what its table says of credit and of memory is what the gradients and graphs show."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr

PATH = Path(__file__).parents[2] / "examples" / "long_memory.py"


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("long_memory", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("gap", [5, 8, 20])
def test_the_answer_is_the_marked_symbol_k_steps_back(example, gap):
    xs, answers = example.sequences(np.random.default_rng(0), 50, gap)
    symbols, marks = xs[..., :-1], xs[..., -1]
    assert xs.dtype == np.float32
    assert (symbols.sum(axis=2) == 1).all()
    assert (marks == np.eye(2 * gap)[gap - 1]).all()
    assert (answers[:, :-1] == -1).all()
    assert (answers[:, -1] == symbols[:, -1 - gap].argmax(axis=1)).all()
    assert set(answers[:, -1]) == set(range(example.SYMBOLS))
    np.testing.assert_array_equal(example.sequences(np.random.default_rng(0), 50, gap)[0], xs)


@pytest.mark.parametrize(
    ("kind", "credit"),
    [
        *(("Full", 1), ("Chunked", 0), ("Windowed", 1), ("Checkpointed", 1), ("Randomized", 1)),
        *(("Decay(0.9)", 0.9), ("Decay(0.5)", 0.5)),
    ],
)
@pytest.mark.parametrize("gap", [5, 7, 20, 24])
def test_credit_of_the_marked_step(example, kind, credit, gap):
    (policy,) = [policy for name, policy in example.policies(gap, 0).items() if name.startswith(kind)]
    assert policy.expected_mask(2 * gap)[-1, gap - 1] == pytest.approx(credit**gap, rel=1e-12)


@pytest.mark.parametrize("number", range(8))
def test_the_weights_that_read_the_mark_get_the_gradient_that_the_mask_states(example, number):
    """They are used at the marked step only, so their gradient is that of full BPTT times M: 0 for Chunked."""
    gap = 6
    policy, again = (list(example.policies(gap, 0).values())[number] for _ in range(2))  # draws are the same
    model, batch = example.Recaller(np.random.default_rng(0), 0.5), example.sequences(np.random.default_rng(1), 4, gap)
    full, found = (
        tr.bptt(model.step, model.parameters(), batch, model.cell.initial_state(4), p).gradients["cell.Wx"][-1]
        for p in (tr.Full(), policy)
    )
    assert np.abs(full).max() > 1e-5
    expected = full * again.mask(2 * gap)[-1, gap - 1]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("policy", "most"),
    [(tr.Full(), 16), (tr.Chunked(4), 4), (tr.Windowed(10, every=5), 10), (tr.Checkpointed(4), 4), (tr.Decay(0.5), 16)],
    ids=repr,
)
def test_steps_alive(example, policy, most):
    assert example.steps_alive(example.Recaller(np.random.default_rng(0), 0.0), policy, 8) == most


@pytest.mark.nightly
def test_full_learns_the_task_and_a_chunk_that_does_not_reach_back_does_not(example):
    scores = {}
    for name, policy in list(example.policies(12, 0).items())[:2]:
        model = example.Recaller(np.random.default_rng(0), 0.5)
        scores[name], updates, seconds = example.train(model, policy, 12, 150, 0)
        assert (updates < 150) == (scores[name] >= example.LEARNED)
        assert seconds > 0
    assert scores["Full()"] >= example.LEARNED
    assert scores["Chunked(6)"] < 0.5


def test_main_prints_a_row_for_each_policy_with_all_seeds(example, capsys):
    results = example.main(["--gap", "5", "--steps", "2", "--seeds", "2"])
    printed = capsys.readouterr().out
    assert list(results) == list(example.policies(5, 0))
    for name, result in results.items():
        assert f"\n{name} " in printed
        assert len(result.accuracy) == len(result.seconds) == 2
        assert result.updates == [2, 2]
    assert printed.count("did not learn (0 of 2)") == len(results)


def test_a_gap_that_is_too_short_is_refused(example, capsys):
    with pytest.raises(SystemExit):
        example.main(["--gap", "3"])
    assert "--gap must be at least 5" in capsys.readouterr().err
