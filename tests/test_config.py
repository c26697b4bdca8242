"""TrainConfig: checks, TOML, unknown names."""

import dataclasses
import math
import subprocess
import sys
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_rnn.config import TrainConfig, read_toml
from tinygrad_rnn.errors import ConfigError

FLOATS = st.floats(min_value=0, exclude_min=True, allow_infinity=False)


@given(
    corpus=st.text(st.characters(exclude_categories=["Cs"])),  # surrogates are no text
    lr=FLOATS,
    weight_decay=FLOATS,
    seed=st.integers(0, 2**62),
    tied=st.booleans(),
    cell=st.sampled_from(["rnn", "lstm", "gru"]),
)
def test_toml_round_trip(tmp_path_factory, **values):
    config = TrainConfig(**values)
    path = tmp_path_factory.mktemp("config") / "config.toml"
    path.write_bytes(config.to_toml().encode())
    assert TrainConfig.from_toml(path) == config


@pytest.mark.parametrize("corpus", ["a\x7f", '"', "\\", "\n\t\0", "\U0001f600", "\u2028"])
def test_characters_that_toml_wants_escaped(corpus):
    assert tomllib.loads(TrainConfig(corpus=corpus).to_toml())["corpus"] == corpus


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cell": "gnu"}, "cell must be one of rnn, lstm, gru, or module:Name; got 'gnu'"),
        ({"level": ""}, "level must be one of word, char, byte, token; got ''"),
        ({"epochs": 0}, "epochs must be an integer of 1 or more, got 0"),
        ({"epochs": 1.0}, "epochs must be an integer of 1 or more, got 1.0"),
        ({"epochs": True}, r"epochs must be an integer of 1 or more, got True \(bool\)"),
        ({"hidden_size": 10**7}, "hidden_size must be an integer from 1 to 1000000, got 10000000"),
        ({"lr": 0}, "lr must be a finite number above 0, got 0"),
        ({"lr": math.nan}, "lr must be a finite number above 0, got nan"),
        ({"lr": math.inf}, "lr must be a finite number above 0, got inf"),
        ({"lr": "0.1"}, r"lr must be a finite number above 0, got '0\.1' \(str\)"),
        ({"dropout": 1}, r"dropout must be a number in \[0, 1\), got 1"),
        ({"held_out": 0}, r"held_out must be a number in \(0, 1\), got 0"),
        ({"tied": 1}, "tied must be true or false, got 1"),
        ({"corpus": None}, "corpus must be a string, got None"),
        ({"corpus": "\ud800"}, r"corpus must be text that utf-8 can hold, got '\\ud800'"),
        (
            {"embedding_size": 5, "tied": True},
            r"tied weights need embedding_size equal to hidden_size \(200\) or 0, got 5",
        ),
    ],
)
def test_message_says_what_is_allowed(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**values)


def test_an_integer_will_do_for_a_number():
    assert type(TrainConfig(lr=1).lr) is float


def test_unknown_name_in_the_file(tmp_path):
    path = tmp_path / "my.toml"
    path.write_text("hiden_size = 3\n")
    with pytest.raises(ConfigError, match=r"my\.toml: unknown setting 'hiden_size'; did you mean 'hidden_size'\?"):
        TrainConfig.from_toml(path)
    path.write_text("[train]\nlr = 1\n")
    with pytest.raises(ConfigError, match=r"unknown setting 'train'"):
        TrainConfig.from_toml(path)
    path.write_text("zzz = 3\n")
    with pytest.raises(ConfigError, match=r"unknown setting 'zzz'; known settings: corpus, level"):
        TrainConfig.from_toml(path)


@pytest.mark.parametrize("content", [b"a = = 1", b"\xff\xfe", b"a = 1\na = 2"])
def test_file_that_is_not_toml(tmp_path, content):
    path = tmp_path / "my.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"my\.toml: is not TOML"):
        read_toml(path)


def test_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_toml(tmp_path)


def test_replace_checks_and_keeps():
    config = TrainConfig(cell="gru")
    assert config.replace(epochs=3) == TrainConfig(cell="gru", epochs=3)
    with pytest.raises(ConfigError):
        config.replace(epochs=-3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.epochs = 4


def test_embedding_follows_the_hidden_size():
    assert TrainConfig(hidden_size=7).embedding_width == 7
    assert TrainConfig(hidden_size=7, embedding_size=5, tied=False).embedding_width == 5


def test_needs_no_numpy():
    code = "import sys, tinygrad_rnn.config; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_byte_order_mark_is_dropped(tmp_path):
    path = tmp_path / "my.toml"
    path.write_bytes("\ufeffepochs = 3\n".encode())
    assert TrainConfig.from_toml(path).epochs == 3
