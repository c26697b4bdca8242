"""The configurations that come with the package: each builds the model of its source, and trains."""

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn import cli
from tinygrad_rnn.config import TrainConfig, config_file, ready_configs
from tinygrad_rnn.data import load_corpus
from tinygrad_rnn.errors import ConfigError
from tinygrad_rnn.optim import Averaged
from tinygrad_rnn.training import LanguageTrainer, make_model, make_optimizer, make_schedule
from tinygrad_rnn.training.language.build import make_policy, updates_per_pass

TEXT = " no it was n't <unk> a cat N\n but it was n't a dog\n\n" * 300

# V of the source, and the number of parameters: by hand, and as the source says it where it does.
# Per LSTM layer 4 H (D + H + 1); output H V + V, tied: V.
PARAMETERS = [
    ("zaremba-small", 10_000, 10_000 * 200 + 2 * 800 * 401 + 200 * 10_000 + 10_000, "4.65M"),
    ("zaremba-medium", 10_000, 10_000 * 650 + 2 * 2600 * 1301 + 650 * 10_000 + 10_000, "19.78M"),
    ("char-lstm", 65, 65 * 128 + 2 * 512 * 257 + 128 * 65 + 65, "0.28M"),
    ("awd-like", 10_000, 10_000 * 401 + 4600 * 1551 + 4600 * 2301 + 1600 * 1551, "24.21M"),
]


def test_all_of_them_are_tested():
    assert sorted(name for name, *_ in PARAMETERS) == list(ready_configs())


@pytest.mark.parametrize(("name", "V", "count", "written"), PARAMETERS)
def test_the_model_has_the_parameters_of_the_source(name, V, count, written):
    model = make_model(TrainConfig.from_toml(config_file(name)), V)
    assert model.parameter_count() == count
    assert f"{count / 1e6:.2f}M" == written


@pytest.mark.parametrize("name", list(ready_configs()))
def test_two_updates(name):
    small = {"hidden_size": 12, "embedding_size": 8, "batch_size": 2, "bptt": 6, "epochs": 1}
    config = TrainConfig.from_toml(config_file(name)).replace(**small)
    train, held_out = load_corpus(TEXT, config.level, 1, 0.1, 28)
    assert LanguageTrainer(train, held_out, config, progress=False).run().best.step == 2


def test_weights_start_uniformly():
    config = TrainConfig.from_toml(config_file("zaremba-small"))
    for parameter in make_model(config, 50).parameters().values():
        assert 0.09 < np.abs(parameter.data).max() <= 0.1
        assert abs(parameter.data.mean()) < 0.02


def test_weights_of_awd_start_as_in_its_code():
    model = make_model(TrainConfig.from_toml(config_file("awd-like")).replace(hidden_size=64, embedding_size=25), 50)
    for layer, limit in zip(model.layers, (1 / 8, 1 / 8, 1 / 5), strict=True):
        for parameter in layer.parameters().values():
            assert 0.9 * limit < np.abs(parameter.data).max() <= limit
    assert 0.09 < np.abs(model.embedding.data).max() <= 0.1
    assert not model.output.data.any()


def test_the_last_short_window_is_left_out_as_in_the_papers():
    """Its mean, and so the update, would weigh as much as that of a whole window, just before an evaluation."""
    train, held_out = load_corpus(TEXT, "token", 1, 0.1)
    assert (len(train) - 1) // 20 % 20
    config = TrainConfig.from_toml(config_file("zaremba-small")).replace(hidden_size=4)
    windows = [LanguageTrainer(train, held_out, config.replace(drop_last=d)).windows for d in (True, False)]
    assert len(windows[1]) == len(windows[0]) + 1
    assert {xs.shape for xs, _ in windows[0]} == {(20, 20)}
    policy = make_policy(config.replace(truncation="chunked:5"))
    assert updates_per_pass(windows[0], policy) == 4 * len(windows[0])


@pytest.mark.parametrize(("name", "rates"), [("zaremba-small", [20] * 4 + [10, 5, 2.5]), ("zaremba-medium", [35] * 6)])
def test_the_rate_of_each_epoch(name, rates):
    config = TrainConfig.from_toml(config_file(name))
    schedule = make_schedule(config, config.epochs * 7)
    assert [schedule.lr(7 * epoch) for epoch in range(len(rates))] == rates
    assert [schedule.lr(7 * epoch + 6) for epoch in range(len(rates))] == rates


def test_averaging_begins_when_the_held_out_loss_stops_falling():
    config = TrainConfig.from_toml(config_file("awd-like")).replace(
        hidden_size=12, embedding_size=8, batch_size=4, bptt=10, epochs=8, nonmonotone=1, lr=60.0, seed=2
    )
    train, held_out = load_corpus(TEXT[:6000], "token", 1)
    trainer = LanguageTrainer(train, held_out, config, progress=False)
    assert isinstance(trainer.trainer.optimizer, Averaged)
    result = trainer.run()
    losses = [record.valid_nats for record in result.records]
    began = next(n for n in range(1, 8) if losses[n] > min(losses[:n]))
    assert trainer.trainer.optimizer.since == result.records[began].step


def test_the_optimizer_of_asgd_averages_nothing_before_it_begins():
    optimizer = make_optimizer(TrainConfig(optimizer="asgd", lr=0.5))
    x = tr.tensor([1.0], requires_grad=True)
    for _ in range(2):
        optimizer.update({"x": x}, {"x": np.array([1.0])})
    assert optimizer.averages()["x"] == x.data == 0.0
    optimizer.begin()
    for _ in range(2):
        optimizer.update({"x": x}, {"x": np.array([1.0])})
    assert optimizer.averages()["x"] == (-0.5 + -1.0) / 2


def test_a_name_and_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT)
    assert cli.main(["train", "text.txt", "--config", "zaremba-small", "--dry-run"]) == 0
    assert "20 x 20 tokens" in capsys.readouterr().out
    (tmp_path / "zaremba-small").write_text('level = "token"\nbptt = 7')  # a file comes before a name
    assert cli.main(["train", "text.txt", "--config", "zaremba-small", "--dry-run"]) == 0
    assert "20 x 7 tokens" in capsys.readouterr().out


def test_the_list(capsys):
    assert cli.main(["train", "--config", "list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(ready_configs())


def test_an_unknown_name(capsys):
    assert cli.main(["train", "--config", "zaremba-large"]) == 2
    message = "zaremba-large: is neither a file nor one of awd-like, char-lstm, zaremba-medium, zaremba-small"
    assert message in capsys.readouterr().err
    with pytest.raises(ConfigError, match="is neither a file nor"):
        config_file("")
