"""Trainer: any loss, any batches, metrics, early stop, callbacks, checkpoints that go on to the same bits."""

import inspect
import math

import numpy as np
import pytest
from training.runs import Reader, endless, fitted, line, linear, reader, sequences, squared

import tinygrad_rnn as tr
from tinygrad_rnn.optim import SGD, Adam, Averaged


def test_learns_any_loss_on_any_batches():
    history = fitted(epochs=30)
    assert history.best.valid["loss"] < 1e-3
    assert history.best.valid["loss"] == min(record.valid["loss"] for record in history.records)
    assert [record.step for record in history.records] == [6 * epoch for epoch in range(1, 31)]


@pytest.mark.parametrize("compile", [True, False])
def test_is_the_plain_loop(compile):
    model, twin = linear(), linear()
    batches = list(line(np.random.default_rng(1)))
    tr.Trainer(model, squared, batches, optimizer=SGD(0.1), epochs=2, compile=compile, progress=False).fit()
    losses = []
    for _ in range(2):
        losses.append([])
        for batch in batches:
            loss = squared(twin, batch)
            for name, g in tr.grad(loss, twin.parameters()).items():
                twin.parameters()[name].data = twin.parameters()[name].data - 0.1 * g
            losses[-1].append(loss.item())
    assert np.mean(losses[1]) < np.mean(losses[0])  # the second epoch is the best: its weights are kept
    for name, parameter in twin.parameters().items():
        np.testing.assert_allclose(model.parameters()[name].data, parameter.data, rtol=1e-12)


def test_metrics_of_the_loss_and_of_its_own():
    trainer = reader(metrics={"first": lambda model, batch: batch.lengths[0]})
    record = trainer.fit().records[0]
    assert record.train.keys() == {"loss", "accuracy", "logit"}
    assert record.valid.keys() == {"loss", "accuracy", "logit", "first"}
    lengths, weights = zip(*[(b.lengths[0], len(b.lengths)) for b in sequences(1).batches(7)], strict=True)
    assert record.valid["first"] == pytest.approx(np.average(lengths, weights=weights))


def test_the_weight_that_a_loss_names_is_the_weight_of_its_batch():
    def weighted(model, batch):
        return tr.tensor(1.0) * model.b[0] * 0 + batch["value"][0], None, {"weight": np.sum(batch["mask"])}

    batches = [{"value": np.array([1.0]), "mask": np.ones(3)}, {"value": np.array([5.0]), "mask": np.ones(1)}]
    record = tr.Trainer(linear(), weighted, batches, epochs=1, progress=False).fit().best
    assert (record.train["loss"], record.weight) == (2.0, 4.0)


@pytest.mark.parametrize("settings", [{}, {"accumulate": 3}, {"compile": False}])
def test_a_metric_is_of_all_elements_whatever_the_batches(settings):
    def fit(model, batch):
        y = model(batch["x"])
        return np.mean((y - batch["y"]) ** 2), None, {"rmse": tr.metrics.rmse(y, batch["y"])}

    whole = next(line(np.random.default_rng(3), batches=1, N=12))
    parts = [{name: array[a:b] for name, array in whole.items()} for a, b in ((0, 2), (2, 9), (9, 12))]
    found = []
    for batches in (parts, [whole]):
        trainer = tr.Trainer(
            linear(), fit, batches, batches, optimizer=SGD(1e-12), epochs=1, progress=False, **settings
        )
        found.append(trainer.fit().best)
    for record in found:
        assert record.valid["rmse"] == pytest.approx(math.sqrt(found[1].valid["loss"]))
        assert record.train["rmse"] == pytest.approx(record.valid["rmse"])


def test_monitor_a_metric_that_is_to_be_large():
    history = reader(monitor="accuracy", maximize=True).fit()
    assert history.best.valid["accuracy"] == max(record.valid["accuracy"] for record in history.records)
    with pytest.raises(tr.ConfigError, match="monitor must be one of loss, logit, accuracy, got 'f1'"):
        reader(monitor="f1").fit()


def test_updates_end_a_run_in_the_middle_of_an_epoch():
    history = fitted(epochs=None, updates=10)
    assert [record.step for record in history.records] == [6, 10]


def test_an_endless_stream_is_cut_into_epochs():
    trainer = tr.Trainer(linear(), squared, endless(), epoch_updates=5, updates=12, progress=False)
    assert [record.step for record in trainer.fit().records] == [5, 10, 12]
    assert trainer._train.read == 12  # and each batch is read once


class Held:
    """What another library has in place of an array, as a table of pandas."""

    def __init__(self, values):
        self.values = values

    def to_numpy(self):
        return self.values


@pytest.mark.parametrize("compile", [True, False])
def test_batches_of_another_library_are_taken_as_they_come(compile):
    """In training and evaluation; all of them have one plan."""
    batches = list(line(np.random.default_rng(1)))
    foreign = [{name: Held(array) for name, array in batch.items()} for batch in batches]
    found = []
    for one in (batches, foreign):
        trainer = tr.Trainer(linear(), squared, one, one, epochs=2, compile=compile, progress=False)
        found.append([{**record.train, "valid": record.valid["loss"]} for record in trainer.fit().records])
        assert trainer.step.plans == compile
    assert found[0] == found[1]


def test_batches_of_pytorch_are_taken_as_they_come():
    torch = pytest.importorskip("torch", reason="PyTorch is for development only")
    data = torch.utils.data.TensorDataset(torch.ones(10, 3), torch.zeros(10, 1))
    loader = torch.utils.data.DataLoader(data, batch_size=5)
    loss = lambda model, batch: tr.mse(model(batch[0]), batch[1])  # noqa: E731
    model = tr.Linear(3, 1, np.random.default_rng(0))
    assert tr.Trainer(model, loss, loader, loader, epochs=2, progress=False).fit().records[-1].step == 4


def test_the_signature_says_what_there_is():
    assert "accumulate" in inspect.signature(tr.Trainer).parameters


def test_an_iterator_serves_one_epoch():
    with pytest.raises(tr.CorpusError, match="an iterator can be used for one pass only"):
        tr.Trainer(linear(), squared, line(np.random.default_rng(0)), epochs=2, progress=False).fit()


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_batches_are_one_batch(accumulate):
    batches = list(line(np.random.default_rng(0), batches=8))
    joined = [
        {name: np.concatenate([batch[name] for batch in batches[n : n + accumulate]]) for name in "xy"}
        for n in range(0, 8, accumulate)
    ]
    found = []
    for data, size in ((batches, accumulate), (joined, 1)):
        model = linear()
        optimizer = Adam(0.1)
        trainer = tr.Trainer(model, squared, data, optimizer=optimizer, epochs=1, accumulate=size, progress=False)
        found.append((trainer.fit().best, model.W.data))
        assert optimizer.steps == 8 // accumulate
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-10)
    assert found[0][0].train["loss"] == pytest.approx(found[1][0].train["loss"], rel=1e-10)


def test_callbacks_are_told_of_the_end_of_a_run_even_if_an_error_ends_it():
    ended = []

    class Watcher(tr.Callback):
        def on_end(self, trainer):
            ended.append(trainer.run.updates)

    class Crashes(tr.Callback):
        def on_epoch(self, trainer, record):
            raise RuntimeError

    fitted(epochs=2, callbacks=[Watcher()])
    with pytest.raises(RuntimeError):
        fitted(epochs=2, callbacks=[Crashes(), Watcher()])
    assert ended[0] == 2 * ended[1] > 0


def test_callbacks_see_updates_and_epochs_and_end_a_run():
    class Watcher(tr.Callback):
        updates, epochs = 0, 0

        def on_update(self, trainer, result):
            self.updates += 1
            assert trainer.run.updates == self.updates == result.step + 1

        def on_epoch(self, trainer, record):
            self.epochs += 1
            return self.epochs == 2

    watcher, seen = Watcher(), []
    history = fitted(epochs=9, callbacks=[watcher, seen.append])
    assert (watcher.updates, watcher.epochs, len(history.records)) == (12, 2, 2)
    assert tuple(seen) == history.records


def test_averages_are_evaluated_and_kept():
    optimizer, weights = Averaged(SGD(0.1), decay=0.5), []
    model = linear()
    trainer = tr.Trainer(
        model, squared, line, line, optimizer=optimizer, epochs=1, progress=False,
        callbacks=[lambda _: weights.append(model.W.data)],
    )  # fmt: skip
    trainer.fit()
    np.testing.assert_array_equal(model.W.data, optimizer.averages()["W"])
    np.testing.assert_array_equal(weights[0], model.W.data)


def test_a_loss_that_is_not_finite_ends_with_the_best_weights():
    def explodes(model, batch):
        return squared(model, batch) * np.where(batch["y"][0, 0] > 1e3, np.inf, 1.0)

    batches = list(line(np.random.default_rng(0)))
    late = [*batches, {"x": batches[0]["x"], "y": batches[0]["y"] + 1e9}]
    epochs = iter([batches, late])
    model = linear()
    trainer = tr.Trainer(model, explodes, lambda: next(epochs), optimizer=SGD(0.05), epochs=3, progress=False)
    with (
        np.errstate(all="ignore"),
        pytest.raises(tr.NonFiniteError, match="update 12: .*; the model of epoch 1 is kept"),
    ):
        trainer.fit()
    np.testing.assert_array_equal(model.W.data, trainer.run.arrays["W"])


def test_a_loss_above_the_limit_is_divergence():
    with pytest.raises(tr.DivergedError, match="above the limit of 0.001; lower lr or clip; no epoch was kept"):
        fitted(limit=1e-3, optimizer=SGD(1e-9))


def test_policies_train_any_sequence_task():
    def steps(model, batch, state, rng):
        xs, ys = batch
        hs, state = tr.unroll(model.cell, xs, state)
        return np.mean((model.out(hs)[..., 0] - ys) ** 2), state, {"mae": np.mean(abs(model.out(hs)[..., 0] - ys))}

    rng = np.random.default_rng(0)
    data = [(x, x.sum(axis=2).cumsum(axis=1)) for x in rng.standard_normal((6, 3, 8, 2)).astype(np.float32)]
    for policy in (None, "chunked:4", "windowed:6/2", tr.Full()):
        model = Reader()
        trainer = tr.Trainer(
            model, steps, data, optimizer=Adam(0.02), policy=policy, epochs=6, progress=False,
            state=lambda model=model: model.cell.initial_state(3),
        )  # fmt: skip
        records = trainer.fit().records
        assert records[-1].train["loss"] < records[0].train["loss"]
        assert records[-1].train["mae"] < records[0].train["mae"]


def test_the_history_is_a_table():
    history = reader().fit()
    text = str(history).splitlines()
    assert (
        " ".join(text[0].split())
        == "epoch step train loss train logit train accuracy valid loss valid logit valid accuracy lr seconds"
    )
    assert len(text) == 5
    assert text[-1] == f"best epoch: {history.best.epoch}"
    html = history._repr_html_()
    assert html.count("<tr") == 4
    assert html.count("font-weight:bold") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": None}, "pass epochs=, updates= or both"),
        ({"epochs": 0}, "epochs must be an integer of 1 or more"),
        ({"clip": -1}, "clip must be a finite number of 0 or more"),
        ({"optimizer": "adam"}, "optimizer must be of type Optimizer"),
        ({"schedule": 0.1}, "schedule must be of type Schedule"),
        ({"accumulate": 0}, "accumulate must be an integer of 1 or more"),
        ({"rng": 3}, "rng must be a numpy.random.Generator"),
        ({"policy": "chunkd:3"}, "is not a policy"),
        ({"metrics": {"f1": 3}}, r"Trainer: metrics\['f1'\] must be a function\(model, batch\), got 3"),
        ({"checkpoints": 3}, "Checkpoints: folder must be a path, got 3"),
    ],
)
def test_settings_are_checked_at_once(settings, message):
    with pytest.raises(tr.ConfigError, match=message):
        fitted(**settings)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (3, tr.ConfigError, "loss: expected a function"),
        (lambda model: 1, tr.ConfigError, "must take a model and a batch"),
        (lambda model, batch: (1, 2, 3), tr.ConfigError, "with a dict of metrics, got .int, int, int"),
        (lambda model, batch: model(batch["x"]), tr.ShapeError, "must be a single element"),
        (lambda model, batch: 3.0, tr.GradientError, "the loss is a float, which no gradient flows through"),
    ],
)
def test_losses_that_are_none(loss, error, message):
    with pytest.raises(error, match=message):
        tr.Trainer(linear(), loss, line, epochs=1, progress=False).fit()


@pytest.mark.parametrize(
    ("weight", "message"),
    [(0, "is 0 in all batches"), (-1, "must be finite and 0 or more, got -1.0"), (np.inf, "0 or more, got inf")],
)
def test_weights_that_are_no_number_of_elements(weight, message):
    def loss(model, batch):
        return squared(model, batch), None, {"weight": weight}

    with pytest.raises(tr.ConfigError, match=message):
        tr.Trainer(linear(), loss, line, epochs=1, progress=False).fit()


def test_what_a_loss_function_is_given():
    def names(function):
        seen = []
        model = linear()
        trainer = tr.Trainer(model, function(seen), line, epochs=1, updates=1, state=7, compile=False, progress=False)
        trainer.fit()
        return seen[0]

    assert names(lambda seen: lambda m, b, h: seen.append(h) or squared(m, b)) == 7
    assert isinstance(names(lambda seen: lambda m, b, rng: seen.append(rng) or squared(m, b)), np.random.Generator)
    assert names(lambda seen: lambda m, b, weight=2.0: seen.append(weight) or squared(m, b)) == 2.0
    assert names(lambda seen: lambda m, b, *, state: seen.append(state) or squared(m, b)) == 7


def test_the_trainer_of_earlier_versions_warns_once():
    train, held_out = tr.load_corpus("to be or not to be\n" * 60, "word")
    config = tr.TrainConfig(hidden_size=4, batch_size=4, bptt=5, epochs=1)
    with pytest.warns(DeprecationWarning, match="is LanguageTrainer"):
        trainer = tr.Trainer(train, held_out, config, progress=False)
    assert math.isfinite(trainer.run().best.valid_perplexity)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("chunked:3", r"Trainer: policy: .* got batch.lengths of shape \(2,\); .* cut in the loss"),
        ("windowed:3", r"Trainer: policy: .* got batch.lengths of shape \(2,\)"),
        ("full", r"expected inputs of shape \(N, T, ...\) .* inputs.lengths \(2,\)"),
    ],
)
def test_a_policy_names_what_it_cannot_cut(policy, words):
    rows = tr.Sequences([np.zeros((5, 2)), np.ones((8, 2))], [np.zeros(5, int), np.zeros(8, int)])
    model = tr.SequenceModel("gru", 2, 4, 2, np.random.default_rng(0))

    def loss(model, batch):
        return tr.cross_entropy(model(batch.inputs, lengths=batch.lengths), batch.targets)

    with pytest.raises(tr.ShapeError, match=words):
        tr.Trainer(model, loss, rows.batches(2), epochs=1, policy=policy, progress=False).fit()


def test_a_weight_that_is_frozen_between_updates_is_named():
    model = tr.SequenceModel("gru", 2, 4, 2, np.random.default_rng(0), last=True)
    step = tr.TrainStep(model, lambda model, batch: tr.mse(model(batch[0]), batch[1]), tr.Adam(0.01))
    batch = np.zeros((2, 3, 2), np.float32), np.ones((2, 2), np.float32)
    step(batch)
    model.output.W.requires_grad = False
    with pytest.raises(tr.ShapeError, match=r"\['output.W'\]; was one frozen, or thawed, since\? Make a new optimizer"):
        step(batch)
