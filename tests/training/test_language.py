"""Trainer and its files: the best epoch, early stop, Ctrl-C, metrics, and what stands on the disk."""

import json
import math
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, replace

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.data import load_corpus
from tinygrad_rnn.errors import ConfigError, CorpusError, DivergedError, NonFiniteError
from tinygrad_rnn.training import (
    LanguageTrainer,
    RunFiles,
    evaluate,
    load_model,
    make_schedule,
    run_epoch,
    save_curve,
)
from tinygrad_rnn.training.runs import trainer as trainer_module

TRAIN, HELD_OUT = load_corpus("to be or not to be that is the question\n" * 30, "word")
CONFIG = TrainConfig(hidden_size=8, tied=True, batch_size=4, bptt=5, epochs=3, lr=0.05, dropout=0.2)


def trainer(config=CONFIG, **settings):
    return LanguageTrainer(TRAIN, HELD_OUT, config, progress=False, **settings)


def scripted(monkeypatch, nats):
    """Let the evaluations say these losses, one an epoch."""
    losses = iter(nats)

    monkeypatch.setattr(trainer_module.Measure, "__call__", lambda *_: ({"loss": next(losses)}, 1.0))


def test_learns_and_reports_what_evaluate_says(tmp_path):
    files = RunFiles.at(tmp_path / "run")
    seen = []
    run = trainer(files=files, on_epoch=seen.append)
    result = run.run()
    assert [record.epoch for record in result.records] == [1, 2, 3]
    assert tuple(seen) == result.records
    assert result.records[2].train_nats < result.records[0].train_nats
    assert [record.step for record in result.records] == [len(run.windows) * epoch for epoch in (1, 2, 3)]
    for record in result.records:
        assert math.isclose(record.valid_perplexity, math.exp(record.valid_nats))
        assert math.isclose(record.train_perplexity, math.exp(record.train_nats))
        assert math.isclose(record.valid_bits, record.valid_nats / math.log(2))
    assert [json.loads(line) for line in files.metrics.read_text().splitlines()] == [asdict(r) for r in result.records]
    loaded, config, vocabulary = load_model(tmp_path / "run")
    assert (config, vocabulary) == (CONFIG, TRAIN.vocabulary)
    assert TrainConfig.from_toml(files.config) == CONFIG
    for model in (loaded, run.model):
        assert math.isclose(evaluate(model, HELD_OUT.ids, 4, 5).nats, result.best.valid_nats, rel_tol=1e-6)


def test_a_resumed_run_continues_its_own_files(tmp_path):
    files = RunFiles.at(tmp_path / "run")
    trainer(CONFIG.replace(epochs=2), files=files).run()
    with pytest.raises(tr.ConfigError, match="exists already"):
        trainer(files=files).run()
    result = trainer(files=files).resume().run()
    assert [record.epoch for record in result.records] == [1, 2, 3]
    assert [json.loads(line)["epoch"] for line in files.metrics.read_text().splitlines()] == [1, 2, 3]


def test_same_seed_same_bits_other_seed_others():
    arrays = []
    for seed in (0, 0, 1):
        run = trainer(CONFIG.replace(seed=seed, epochs=2))
        run.run()
        arrays.append({name: p.data for name, p in run.model.parameters().items()})
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(arrays[1][name], array)
    assert not np.array_equal(arrays[2]["embedding.W"], arrays[0]["embedding.W"])


def test_best_epoch_is_kept(monkeypatch, tmp_path):
    scripted(monkeypatch, [3.0, 1.0, 2.0])
    snapshots = []
    run = trainer(
        files=RunFiles.at(tmp_path),
        on_epoch=lambda _: snapshots.append({name: p.data for name, p in run.model.parameters().items()}),
    )
    result = run.run()
    assert (result.best.epoch, result.stopped_early) == (2, False)
    saved = load_model(tmp_path).model.parameters()
    for name, p in run.model.parameters().items():
        np.testing.assert_array_equal(p.data, snapshots[1][name])
        np.testing.assert_array_equal(saved[name].data, snapshots[1][name])


def test_patience(monkeypatch):
    scripted(monkeypatch, [3.0, 2.0, 2.0, 2.5, 1.0])
    result = trainer(CONFIG.replace(epochs=5, patience=2)).run()
    assert (len(result.records), result.best.epoch, result.stopped_early, result.interrupted) == (4, 2, True, False)


def test_halving_sees_the_held_out_loss(monkeypatch):
    scripted(monkeypatch, [3.0, 3.0, 2.0, 2.0])
    result = trainer(CONFIG.replace(epochs=4, schedule="halving", lr=0.04)).run()
    assert [record.lr for record in result.records] == [0.04, 0.04, 0.02, 0.02]


@pytest.mark.parametrize(("schedule", "warmup"), [("constant", 0), ("cosine", 0), ("cosine", 7), ("halving", 3)])
def test_rate_follows_the_schedule(schedule, warmup):
    config = CONFIG.replace(schedule=schedule, warmup=warmup, epochs=1)
    run = trainer(config)
    steps = len(run.windows)
    assert run.run().records[0].lr == make_schedule(config, steps).lr(steps - 1)


def interrupt(*_):
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_ends_after_the_window(tmp_path, monkeypatch):
    model = tr.RNNLM(len(TRAIN.vocabulary), 8, 8, np.random.default_rng(0), cell="lstm", tied=True, dropout=0.2)
    original, calls = model.loss, []

    def loss(*args, rng=None, **kwargs):
        calls.append(rng)
        if len(calls) == 3:
            interrupt()
        return original(*args, rng=rng, **kwargs)

    monkeypatch.setattr(model, "loss", loss)
    handler = signal.getsignal(signal.SIGINT)
    config = CONFIG.replace(compile=False)  # a compiled model's loss is called once, to record it
    result = trainer(config, model=model, files=RunFiles.at(tmp_path)).run()
    assert result.interrupted
    assert [(record.step, record.tokens, record.interrupted) for record in result.records] == [(3, 60, True)]
    assert load_model(tmp_path).config == config
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        trainer(files=RunFiles.at(tmp_path), on_epoch=lambda _: [interrupt(), interrupt()]).run()
    load_model(tmp_path)  # whole
    assert signal.getsignal(signal.SIGINT) is handler


def test_runs_outside_the_main_thread():
    results = []
    thread = threading.Thread(target=lambda: results.append(trainer(CONFIG.replace(epochs=1)).run()))
    thread.start()
    thread.join()
    assert len(results[0].records) == 1


@pytest.mark.parametrize(
    ("train", "held_out", "message"),
    [
        (TRAIN.split(0.96)[0], HELD_OUT, "21 values, got 12"),
        (TRAIN, HELD_OUT.split(0.02)[1], "2 held-out tokens"),
        (TRAIN, load_corpus("other words here " * 9, "word")[1], "different vocabularies"),
    ],
)
def test_texts_that_do_not_fit(train, held_out, message):
    with pytest.raises(CorpusError, match=message):
        LanguageTrainer(train, held_out, CONFIG)


def test_model_that_a_file_cannot_hold(tmp_path):
    model = tr.RNNLM(len(TRAIN.vocabulary), 4, 4, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="describes"):
        trainer(model=model, files=RunFiles.at(tmp_path))
    assert len(trainer(CONFIG.replace(epochs=1), model=model).run().records) == 1  # without files any model will do


def test_non_finite_evaluation(monkeypatch, tmp_path):
    scripted(monkeypatch, [2.0, math.nan])
    with pytest.raises(NonFiniteError, match="held-out loss after epoch 2 is nan"):
        trainer(files=RunFiles.at(tmp_path)).run()
    load_model(tmp_path)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def test_infinite_perplexity_is_null(monkeypatch, tmp_path):
    scripted(monkeypatch, [1e4])
    trainer(CONFIG.replace(epochs=1), files=RunFiles.at(tmp_path)).run()
    record = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert (record["valid_nats"], record["valid_perplexity"]) == (1e4, None)


def test_nothing_is_written_before_the_first_epoch(monkeypatch, tmp_path):
    scripted(monkeypatch, [math.nan])
    with pytest.raises(NonFiniteError):
        trainer(files=RunFiles.at(tmp_path / "run")).run()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["model.npz", "config.toml", "metrics.jsonl", "curve.png"])
def test_check_finds_earlier_files(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match=rf"{name} exists already; .*--force"):
        RunFiles.at(tmp_path).check()
    RunFiles.at(tmp_path, force=True).check()
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(name, "mine")]


def test_check_leaves_nothing_behind(tmp_path):
    RunFiles.at(tmp_path / "a" / "b").check()
    with RunFiles.at(tmp_path / "a" / "b").taken():
        assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be made"), RunFiles.at(tmp_path / "file" / "b").taken():
        pass
    (tmp_path / "c.npz").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        RunFiles.at(tmp_path / "c.npz", force=True).check()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.npz", "file"]


def test_a_forced_run_replaces_the_earlier_one(tmp_path):
    trainer(CONFIG.replace(epochs=2), files=RunFiles.at(tmp_path)).run()
    (tmp_path / "curve.png").write_text("of the earlier run")
    trainer(CONFIG.replace(epochs=1, seed=1), files=RunFiles.at(tmp_path, force=True)).run()
    assert load_model(tmp_path).config.seed == TrainConfig.from_toml(tmp_path / "config.toml").seed == 1
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1
    assert not (tmp_path / "curve.png").exists()


def test_curve(tmp_path):
    result = trainer(CONFIG.replace(epochs=2)).run()
    assert save_curve(result.records, tmp_path / "curve.png", baseline=9.0)
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_no_curve_without_matplotlib(tmp_path):
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from tinygrad_rnn.training import save_curve\n"
        f"sys.exit(save_curve([], {str(tmp_path / 'curve.png')!r}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("truncation", "updates", "cell"),
    [
        ("", 1.0, "lstm"),
        ("full", 1.0, "gru"),
        ("chunked:3", 5 / 3, "rnn"),
        ("windowed:10/5", 1.0, "lstm"),
        ("windowed:4/2", 2.5, "gru"),
        ("decay:0.9", 1.0, "rnn"),
        ("randomized:0.1", 1.0, "lstm"),
        ("adaptive:0.1/20", 1.0, "gru"),
        ("checkpointed:2", 1.0, "rnn"),
        ("checkpointed:states=2", 1.0, "lstm"),
        ("checkpointed:memory=1MB", 1.0, "gru"),
    ],
)
def test_every_policy_trains(truncation, updates, cell):
    config = CONFIG.replace(truncation=truncation, cell=cell, epochs=2, dropout=0.0, layers=2)
    result = LanguageTrainer(TRAIN, HELD_OUT, config, progress=False).run()
    plain = LanguageTrainer(TRAIN, HELD_OUT, config.replace(truncation=""), progress=False)
    assert result.records[-1].step == pytest.approx(2 * updates * len(plain.windows), abs=2 * updates)
    assert result.records[-1].train_nats < result.records[0].train_nats


def test_an_unknown_policy_is_refused_before_anything_is_trained():
    with pytest.raises(tr.ConfigError, match="'chunkd:3' is not a policy"):
        LanguageTrainer(TRAIN, HELD_OUT, CONFIG.replace(truncation="chunkd:3"))


@pytest.mark.parametrize("nats", [1e27, 40.0])
def test_training_that_diverged_keeps_the_last_good_model(monkeypatch, tmp_path, nats):
    scripted(monkeypatch, [2.0, nats])
    run = trainer(files=RunFiles.at(tmp_path), on_epoch=lambda _: good.update(parameters(run)))
    good = {}

    def trained(*args, epoch=[], **settings):  # noqa: B006 (counts its calls)
        epoch.append(1)
        found = run_epoch(*args, **settings)
        return replace(found, loss=nats) if len(epoch) == 2 else found

    monkeypatch.setattr(trainer_module, "run_epoch", trained)
    message = rf"training diverged: in epoch 2 the training loss is {nats:.3g} .*the model of epoch 1 is kept in .*npz"
    with pytest.raises(DivergedError, match=message.replace("+", r"\+")):
        run.run()
    saved = parameters(load_model(tmp_path))
    for name, array in parameters(run).items():
        np.testing.assert_array_equal(array, good[name])
        np.testing.assert_array_equal(array, saved[name])
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1


def parameters(owner):
    return {name: p.data for name, p in owner.model.parameters().items()}


@pytest.mark.parametrize("nats", [1e27, 40.0])
def test_a_bad_held_out_loss_alone_is_no_divergence(monkeypatch, nats):
    scripted(monkeypatch, [2.0, nats, 3.0])
    result = trainer().run()  # the model fits the training text ever better
    assert (result.best.epoch, len(result.records)) == (1, 3)


def test_a_run_that_fails_in_the_first_epoch_gives_the_first_weights_back(monkeypatch):
    scripted(monkeypatch, [math.nan])
    run = trainer()
    before = parameters(run)
    with pytest.raises(NonFiniteError, match="; no epoch was kept"):
        run.run()
    for name, array in parameters(run).items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("text", HELD_OUT, CONFIG), ConfigError, r"train must be of type Corpus, got 'text' \(str\); .*load_corpus"),
        ((TRAIN, TRAIN.ids, CONFIG), ConfigError, r"held_out must be of type Corpus, got array.* \(ndarray\)"),
        ((TRAIN, HELD_OUT, {"epochs": 3}), ConfigError, "config must be of type TrainConfig, got .* \\(dict\\)"),
        ((TRAIN, HELD_OUT, None), ConfigError, "config must be of type TrainConfig, got None"),
    ],
)
def test_arguments_of_the_wrong_kind(arguments, error, message):
    with pytest.raises(error, match=message):
        LanguageTrainer(*arguments)


def test_models_that_cannot_be_trained_on_the_text():
    V = len(TRAIN.vocabulary)
    for size in (V - 1, V + 1):
        with pytest.raises(ConfigError, match=f"the model has logits for {size} tokens, .* has V={V}"):
            trainer(model=tr.RNNLM(size, 8, 8, np.random.default_rng(0)))
    with pytest.raises(ConfigError, match="model must be a Module.*got str"):
        trainer(model="lstm")


@pytest.mark.parametrize("settings", [{}, {"executor": "numpy"}, {"compile": False}, {"truncation": "windowed:6/3"}])
def test_the_held_out_text_is_read_as_the_windows_are_trained(settings):
    run = trainer(CONFIG.replace(**settings))
    run.run()
    replayed = run.trainer._measure.replayed
    assert replayed.reason is None
    if settings == {"compile": False}:
        assert replayed.compiled is None
    else:
        assert len(replayed.compiled.plans) == 1  # in all epochs
        assert replayed.compiled.executor == settings.get("executor", replayed.compiled.executor)
