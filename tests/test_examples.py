"""Every example runs, with small settings, and what it claims holds."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn import data

pytestmark = pytest.mark.no_cover  # they take many steps through lines that other tests reach in a few
FOLDER = Path(__file__).parents[1] / "examples"
PLOTS = importlib.util.find_spec("matplotlib") is not None


def load(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_help(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: {path.name}")


def test_chapter5_both_backward_passes_give_one_curve(tmp_path, capsys):
    picture = tmp_path / "new" / "curves.png"
    by_hand, graph = load("chapter5").main(["--epochs", "3", "--out", str(picture)])
    assert len(graph) == 3
    assert graph[2] < graph[1] < graph[0]
    assert graph == pytest.approx(by_hand, rel=1e-9)
    assert picture.exists() == PLOTS
    printed = capsys.readouterr().out
    assert f"    3 {by_hand[2]:10.4f} {graph[2]:14.4f}\n" in printed
    assert str(picture) in printed or not PLOTS


def test_chapter5_takes_a_file_and_a_seed(tmp_path, capsys):
    corpus = tmp_path / "words.txt"
    corpus.write_text("to be or not to be, that is the question:\n" * 10)
    first, second = (
        load("chapter5").main([str(corpus), "--epochs", "1", "--seed", seed, "--out", str(tmp_path / "x.png")])
        for seed in "01"
    )
    assert "130 words, V = 11; 2 windows an epoch; float64, seed 1" in capsys.readouterr().out
    assert first != second


def test_chapter5_windows_are_the_textbooks():
    """Against the chapter's loop over single positions, over the end of the corpus and back to its start."""
    example, ids = load("chapter5"), np.random.default_rng(0).integers(0, 99, 128)
    xs, ts, time = ids[:-1], ids[1:], 0
    for _, (inputs, targets) in zip(range(9), example.wrapping_windows(ids), strict=False):
        for t in range(example.T):
            for stream in range(example.N):
                place = (stream * (len(xs) // example.N) + time) % len(xs)
                assert inputs[stream, t] == xs[place]
                assert targets[stream, t] == ts[place]
            time += 1


def test_bptt_cost(tmp_path):
    picture = tmp_path / "cost.png"
    options = ["--steps", "20", "80", "--repeats", "1", "--distance", "30", "--out", str(picture)]
    costs, gradients = load("bptt_cost").main(options)
    full, inside, windows = (costs[name] for name in ("full BPTT", "cuts in one graph", "windows of 10"))
    assert all(cost.ms > 0 for rows in costs.values() for cost in rows)
    assert full[1].mib > 2.5 * full[0].mib
    assert inside[1].mib == pytest.approx(full[1].mib, rel=0.1)
    assert windows[1].mib < 1.5 * windows[0].mib
    assert picture.exists() == PLOTS
    for rows in gradients.values():
        assert (rows.cut[10:] == 0).all()
        assert (rows.cut[:10] == rows.small[:10]).all()
        assert (rows.small > 0).all()


@pytest.mark.parametrize("radius", [0.5, 0.9, 1.0, 1.1, 1.5])
def test_bptt_cost_the_factor_per_step_is_the_spectral_radius(radius):
    example = load("bptt_cost")
    assert example.factor_per_step(example.state_gradients(radius, 1e-12, 60)) == pytest.approx(radius, rel=0.02)
    assert example.factor_per_step(example.state_gradients(radius, 1.0, 60)) < min(radius, 0.8)


@pytest.mark.parametrize("distance", ["10", "35"])
def test_bptt_cost_refuses_a_distance_that_is_no_number_of_windows(distance, capsys):
    with pytest.raises(SystemExit):
        load("bptt_cost").main(["--distance", distance])
    assert f"--distance must be a multiple of 10 and at least 20, got {distance}" in capsys.readouterr().err


def test_word_order(tmp_path, capsys):
    picture = tmp_path / "order.png"
    results = load("word_order").main(["--tokens", "4000", "--updates", "20", "--seeds", "1", "--out", str(picture)])
    change = {name: result.change[0] for name, result in results.items()}
    assert change["CBOW sum, 2"] == 0
    assert max(change["CBOW sum, 4"], change["CBOW sum, 8"]) < 1e-5
    assert min(change[f"CBOW concat, {window}"] for window in (2, 4, 8)) > 1e-2
    assert change["RNN"] > 1e-2
    sizes = [results[f"CBOW concat, {window}"].output_size for window in (2, 4, 8)]
    assert sizes == [window * results["RNN"].output_size for window in (2, 4, 8)]
    assert results["CBOW sum, 8"].output_size == results["RNN"].output_size
    assert all(result.final[0] < result.halfway[0] for result in results.values())
    assert picture.exists() == PLOTS
    assert "from word frequencies alone: perplexity" in capsys.readouterr().out


def test_word_order_sum_gives_the_same_logits_in_both_orders():
    model = tr.CBOW(10, 4, 2, np.random.default_rng(0), combine="sum")
    you, say = 3, 7
    assert (model([[you, say]]).data == model([[say, you]]).data).all()


def test_word_order_pairs_occur_in_both_orders():
    example = load("word_order")
    corpus = data.Corpus.from_text(data.embedded_text(), "word", max_tokens=4000)
    ids = corpus.ids.astype(np.int64)
    contexts = example.contexts_of_reversible_pairs(ids, corpus.vocabulary)
    assert contexts.shape == (5, 8)
    text = " ".join(corpus.vocabulary.decode(ids))
    for context in contexts:
        words = corpus.vocabulary.decode(context)
        assert " ".join(words) in text
        assert f" {words[-1]} {words[-2]} " in text


@pytest.mark.parametrize("name", ["CBOW sum, 2", "CBOW concat, 8", "RNN"])
def test_word_order_perplexity_counts_the_same_words_for_every_model(name):
    """A model that knows word frequencies alone has the perplexity that they give to the words from the ninth on."""
    example, rng = load("word_order"), np.random.default_rng(0)
    model, ids = example.make_models(5, seed=0)[name], rng.integers(0, 5, 30)
    p = rng.dirichlet(np.ones(5))
    parameters = model.parameters()
    parameters["output.W"].data = np.zeros(parameters["output.W"].shape)
    parameters["output.b"].data = np.log(p)
    assert example.perplexity(model, ids) == pytest.approx(np.exp(-np.log(p[ids[8:]]).mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("chapter5", ["--epochs", "1"]),
        ("bptt_cost", ["--steps", "10", "--repeats", "1", "--distance", "20"]),
        ("word_order", ["--tokens", "4000", "--updates", "2", "--seeds", "1"]),
    ],
)
def test_without_matplotlib_the_tables_still_come(name, options, tmp_path, monkeypatch, capsys):
    example, picture = load(name), tmp_path / "picture.png"
    monkeypatch.setattr(example, "find_spec", lambda module: None)
    example.main([*options, "--out", str(picture)])
    assert 'pip install "tinygrad_rnn[plot]"' in capsys.readouterr().out
    assert not picture.exists()


@pytest.mark.parametrize("task", ["dates", "addition"])
def test_seq2seq_learns_a_little_and_shows_what_it_makes(task, capsys):
    accuracies = load("seq2seq").main(["--task", task, "--pairs", "256", "--epochs", "2", "--hidden-size", "16"])
    assert len(accuracies) == 2
    assert all(0 <= accuracy <= 1 for accuracy in accuracies)
    printed = capsys.readouterr().out
    assert printed.count("% of the test set right") == 2
    assert printed.count(" -> ") == 5


def test_seq2seq_pairs_are_right():
    example = load("seq2seq")
    rng = np.random.default_rng(0)
    assert all(eval(source) == int(target) for source, target in example.sums(100, rng))
    sources, lengths, targets = example.encoded([("1+22", "23"), ("9+0", "9")])
    assert sources.shape == (2, 4)
    assert lengths.tolist() == [4, 3]
    assert targets.tolist() == [[1, example.IDS["2"], example.IDS["3"], 2], [1, example.IDS["9"], 2, -1]]


def test_forecast_beats_the_naive_ones(tmp_path, capsys):
    errors = load("forecast").main(["--epochs", "12"])
    assert errors["GRU"] < min(errors["the last value"], errors["one cycle ago"])
    table = tmp_path / "own.csv"
    table.write_text("year,number\n" + "\n".join(f"{n},{50 + 40 * np.sin(n / 2):.3f}" for n in range(120)))
    errors = load("forecast").main([str(table), "--window", "10", "--epochs", "10", "--cycle", "10"])
    assert errors["linear, 10 values"] < 0.01  # a sine is linear in its last two values
    assert "120 values, 22 of them held out" in capsys.readouterr().out


def test_adding_is_learned_over_a_short_time(capsys):
    errors = load("adding").main(["--steps", "10", "--hidden-size", "24", "--epochs", "4", "--updates", "100"])
    assert errors[-1] < 0.03  # 0.167 by answering 1
    assert "answering 1 has an error of 0.167" in capsys.readouterr().out


def test_digits_of_different_heights_are_read(capsys):
    found = load("digits").main(["--count", "1200", "--hidden-size", "32", "--epochs", "10"])
    assert found > 0.4  # a tenth by chance
    assert "pictures of 9 to 24 rows" in capsys.readouterr().out


def test_pixels_are_pictures_and_are_read(capsys):
    example = load("pixels")
    inks, digits = example.pictures(50, np.random.default_rng(0))
    assert inks.shape == (50, 28, 28)
    assert 0 <= inks.min() < inks.max() <= 1
    assert (inks.reshape(50, -1) > 0.5).sum(axis=1).min() > 20
    assert set(digits.tolist()) == set(range(10))
    found = example.main(["--count", "120", "--hidden-size", "4", "--epochs", "1"])
    assert 0 <= found <= 1
    printed = capsys.readouterr().out
    assert "100 pictures of 784 pixels, 20 held out" in printed
    assert float(printed.split("nearest mean picture ")[1].split("%")[0]) > 40


def test_chorales_of_a_file(tmp_path, capsys):
    """Scales in two parts: the next step follows from the one before."""
    pieces = [[[48 + (start + t) % 12, 72 + (start + t) % 12] for t in range(20)] for start in range(8)]
    file = tmp_path / "pieces.json"
    file.write_text(json.dumps({"train": pieces, "valid": pieces[:3], "test": pieces[3:5]}))
    sizes = ["--hidden-size", "32", "--epochs", "120", "--dropout", "0", "0", "0", "--lr", "0.05"]
    assert load("chorales").main([str(file), *sizes]) < 3  # by the share of each note: 6.9
    assert "test: " in capsys.readouterr().out


@pytest.mark.nightly  # seconds; the law below is what it rests on
def test_influence_balancing(capsys):
    """The figures of Tallec and Ollivier 2018, section 5.1: short windows go the wrong way, however far they get."""
    example = load("influence_balancing")
    assert pytest.approx(-1 / 6) == example.SOLUTION
    paths = example.main(["--steps", "1300"])
    assert list(paths) == [
        "windowed:1",
        "windowed:10",
        "windowed:20/2",
        "windowed:50/5",
        "windowed:100/10",
        "rtrl",
        "uoro",
    ]
    for name in ("windowed:1", "windowed:10", "windowed:20/2"):
        assert (np.diff(paths[name]) >= 0).all()  # away from the solution, step after step
        assert example.verdict(paths[name]) == "diverges"
    assert len(paths["windowed:20/2"]) < len(paths["windowed:10"]) < len(paths["windowed:1"])
    for name in ("windowed:50/5", "windowed:100/10", "rtrl"):
        assert paths[name][-1] == pytest.approx(-1 / 6, abs=3e-3)
    assert paths["uoro"][-1] == pytest.approx(-1 / 6, abs=example.CLOSE)
    assert capsys.readouterr().out.count("reaches -1/6") == 4


def test_influence_balancing_under_rtrl_is_full_bptt():
    """While theta is at rest."""
    example = load("influence_balancing")
    assert example.thetas(tr.RTRL(every=None), 1e-4, 90) == pytest.approx(
        example.thetas(tr.Full(), 1e-4, 90), rel=1e-12
    )


@pytest.mark.nightly
def test_add_task():
    """The figures of Marschall, Cho and Savin 2020: RTRL finds both dependencies, no credit finds neither."""
    example = load("add_task")
    neither, first, both = example.entropies()
    assert (neither, first, both) == pytest.approx((0.6616, 0.5192, 0.4545), abs=5e-5)
    xs, targets = next(example.coins(np.random.default_rng(0)))
    flips = xs[:, :, 0]
    np.testing.assert_array_equal(targets[:, 10:, 0], 0.5 + 0.5 * flips[:, 4:-6] - 0.25 * flips[:, :-10])
    steps = 1200
    assert example.tenths(example.losses(tr.RTRL(), steps, 0))[-1] < first - 0.02
    assert example.tenths(example.losses(tr.Windowed(1), steps, 0))[-1] > first


def test_copy_task_wants_each_bit_20_steps_after_it_was_read(capsys, monkeypatch):
    example = load("copy_task")
    inputs, targets = example.sequences(np.random.default_rng(0), 3)
    np.testing.assert_array_equal(targets[:, 20:], (inputs[:, :20, 0] + 1) / 2)
    assert (targets[:, :20] == -1).all()  # nothing is wanted while bits are read
    assert not inputs[:, 20:, 0].any()  # and no bit is there while they are wanted
    monkeypatch.setattr(example, "POLICIES", example.POLICIES[1:])  # the other one takes long to compile
    assert list(example.main(["--updates", "5"])) == ["rtrl"]
    assert "sequences said right" in capsys.readouterr().out


def test_copy_task_under_rtrl_is_full_bptt():
    example = load("copy_task")
    (online, losses), (full, others) = (
        example.trained(policy, 3, seed=1) for policy in (tr.RTRL(every=40), tr.Full(every=40))
    )
    np.testing.assert_allclose(losses, others, rtol=1e-5)
    for name, p in online.parameters().items():
        np.testing.assert_allclose(p.data, full.parameters()[name].data, rtol=1e-2, atol=1e-3)  # Adam, in float32


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_copy_task_is_learned_with_credit_carried_forward_and_not_with_a_window_of_one_step(seed):
    example = load("copy_task")
    one, rtrl = (
        example.right(example.trained(policy, 1000, seed)[0], np.random.default_rng(seed + 1000))
        for policy in example.POLICIES
    )
    assert rtrl[0] > 0.98
    assert rtrl[1] > 0.85
    assert one[0] < 0.95
    assert one[1] < 0.4
