"""The space of a sweep: what its texts mean, and what is refused."""

import pytest

from tinygrad_rnn.errors import ConfigError
from tinygrad_rnn.training.language.search import Dimension, dimensions, parse_search


class Asked:
    """A trial that takes the first choice, or the low limit, and notes what it was asked."""

    def suggest_int(self, name, low, high, *, step=1, log=False):
        self.asked = ("int", name, low, high, step, log)
        return low

    def suggest_float(self, name, low, high, *, log=False):
        self.asked = ("float", name, low, high, log)
        return low

    def suggest_categorical(self, name, choices):
        self.asked = ("choice", name, choices)
        return choices[0]


@pytest.mark.parametrize(
    ("name", "text", "asked"),
    [
        ("lr", "log:1e-4:1e-1", ("float", "lr", 1e-4, 0.1, True)),
        ("dropout", "float:0:0.5", ("float", "dropout", 0.0, 0.5, False)),
        ("hidden_size", "int:50:400", ("int", "hidden_size", 50, 400, 1, False)),
        ("hidden_size", "int:50:400:50", ("int", "hidden_size", 50, 400, 50, False)),
        ("hidden_size", "log:16:512", ("int", "hidden_size", 16, 512, 1, True)),
        ("cell", "choice:rnn,lstm", ("choice", "cell", ["rnn", "lstm"])),
        ("layers", "choice:1,3", ("choice", "layers", [1, 3])),
        ("lr", "choice:0.1,1e-3", ("choice", "lr", [0.1, 0.001])),
        ("tied", "choice:true,False", ("choice", "tied", [True, False])),
    ],
)
def test_texts_of_values(name, text, asked):
    trial = Asked()
    value = Dimension.parse(name, text).propose(trial)
    assert trial.asked == asked
    assert value == (asked[2][0] if asked[0] == "choice" else asked[2])
    assert type(value) is type(asked[2][0] if asked[0] == "choice" else asked[2])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("hiden_size", "int:1:2", "unknown setting 'hiden_size'; did you mean 'hidden_size'"),
        ("hidden_size", "int:0:2", "hidden_size must be an integer from 1"),
        ("cell", "choice:rnn,gnu", "cell must be one of rnn, lstm, gru"),
        ("lr", "log:0:1", "'log:0:1': LOW must be above 0 for log, got 0$"),
        ("lr", "log:-1:1", "LOW must be above 0 for log, got -1$"),
        ("lr", "log:0.1:0.01", "'log:0.1:0.01': LOW must be below HIGH, got 0.1 and 0.01$"),
        ("lr", "log:nan:1", "LOW must be above 0"),
        ("dropout", "float:0.5:0.5", "LOW must be below HIGH, got 0.5 and 0.5$"),
        ("hidden_size", "int:8:4", "'int:8:4': LOW must be below HIGH, got 8 and 4$"),
        ("lr", "log:a:1", "is none of log:LOW:HIGH"),
        ("lr", "float:1", "is none of"),
        ("lr", "float:0.1:0.2:0.01", "is none of"),
        ("lr", "int:1:2", "is none of"),
        ("hidden_size", "float:1:2", "is none of"),
        ("hidden_size", "int:1.5:2", "is none of"),
        ("hidden_size", "int:1:9:0", "STEP must be 1 or more, got 0$"),
        ("nope", "int:4:8", "unknown setting 'nope'; known settings: corpus, level"),
        ("hidden", "int:4:8", "unknown setting 'hidden'; did you mean 'hidden_size'"),
        ("embed", "int:4:8", "unknown setting 'embed'; did you mean 'embedding_size'"),
        ("hidden_size", "12", "is none of"),
        ("cell", "log:1:2", "is none of choice:A,B,... for a setting like 'lstm'"),
        ("tied", "choice:yes,no", "is none of choice:A,B"),
        ("tied", "int:0:1", "is none of choice:A,B"),
        ("layers", "choice:1,1", "the choices must differ, got 1, 1$"),
    ],
)
def test_what_is_refused(name, text, message):
    with pytest.raises(ConfigError, match="sweep: .*" + message.replace("(", r"\(")):
        Dimension.parse(name, text)


def test_spaces():
    assert parse_search(["hidden-size=int:1:2"]) == {"hidden_size": "int:1:2"}
    for texts, message in ((["lr"], "takes SETTING="), (["lr=log:1:2", "lr=log:1:3"], "has lr twice")):
        with pytest.raises(ConfigError, match=message):
            parse_search(texts)
    with pytest.raises(ConfigError, match="nothing is searched"):
        dimensions({})
    with pytest.raises(ConfigError, match="must be described by a text"):
        dimensions({"lr": 0.1})
