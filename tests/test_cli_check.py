"""`tinygrad-rnn check`: tables, counter-examples that can be pasted, exit codes, and nothing left behind."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tinygrad_rnn.cli import main
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.data.vocabulary import Vocabulary
from tinygrad_rnn.testing import GradCheckError
from tinygrad_rnn.training import save_model
from tinygrad_rnn.training.language.build import make_model

CELL = """
import numpy as np
import tinygrad_rnn as tr

@tr.primitive()
def mix(h, n, a, /):
    return (1 - a) * h + a * n

@mix.rule(keep="h n a")
def _(g, y, h, n, a):
    return g * (1 - a), g * a, g * (n - h)

class Leaky(tr.Module):
    def __init__(self, input_size, hidden_size, rng):
        self.input_size = input_size
        self.Wx = tr.tensor(rng.standard_normal((input_size, hidden_size)), requires_grad=True)
        self.Wh = tr.tensor(rng.standard_normal((hidden_size, hidden_size)), requires_grad=True)
        self.leak = tr.tensor(np.zeros(hidden_size), requires_grad=True)

    def initial_state(self, batch_size):
        return np.zeros((batch_size, len(self.leak)))

    def __call__(self, x, h):
        h = mix(h, np.tanh(x @ self.Wx + h @ self.Wh), tr.sigmoid(self.leak))
        return h, h

def make(input_size, hidden_size, rng):
    return Leaky(input_size, hidden_size, rng)

class Broken(Leaky):
    def __call__(self, x, h):
        raise RuntimeError("no step today")

class Halved(tr.Policy):
    grain = 1
    def scale(self, edge, end):
        return 0.5

class Fading(Halved):
    def mask(self, T):
        return tr.Full().mask(T)

class Taper(tr.Policy):
    every = grain = 1
    h = reach = 3
    def scale(self, edge, end):
        back = end - edge
        return max(0, self.h - back) / (self.h - back + 1)  # beyond its reach it divides by 0

class NoState:
    def __init__(self, *sizes): ...

cell = Leaky(2, 3, np.random.default_rng(0))
model = tr.RNNLM(5, 2, 3, np.random.default_rng(0))
policy = Halved()
fading = Fading()
taper = Taper()
number = 7
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with modules of the user's: one right, one with a fault, one that cannot be imported."""
    monkeypatch.chdir(tmp_path)
    name = f"cells_{tmp_path.name}"
    Path(f"{name}.py").write_text(CELL)
    Path(f"wrong_{name}.py").write_text(CELL.replace("g * (n - h)", "g * n"))
    Path(f"raises_{name}.py").write_text("import no_such_module_at_all")
    return name


@pytest.fixture
def saved(folder):
    config, vocabulary = TrainConfig(hidden_size=6), Vocabulary(["<unk>", "to", "be", "or", "not"])
    Path("book").mkdir()
    save_model("book/model.npz", make_model(config, len(vocabulary)), config, vocabulary)
    return "book"


def without_seconds(table):
    return re.sub(r" +[\d.]+  (ok|wrong)", r" \1", table)


def test_everything_built_in_is_right(folder, capsys):
    assert main(["check", "--examples", "1"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert rows[0].split() == ["target", "examples", "leaves", "error/bound", "seconds", "verdict"]
    assert rows[-1] == f"all {len(rows) - 3} right"
    verdicts = {row[:24].strip(): row.split()[-1] for row in rows[1:-2]}
    assert set(verdicts.values()) == {"ok"}
    for name in ("cell lstm", "cell stacked", "RNNLM gru", "CBOW sum", "Dropout", "cross_entropy", "Randomized"):
        assert name in verdicts


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", ["Leaky", "make", "cell", "model", "policy", "taper"])
def test_what_is_right_of_a_users_module_passes(folder, capsys, name):
    assert main(["check", f"{folder}:{name}", "--examples", "4"]) == 0
    assert re.search(r"right$", capsys.readouterr().out.rstrip())


def test_a_saved_model_in_both_spellings_and_orders(saved, capsys):
    assert main(["check", saved, "--examples", "3"]) == 0
    assert main(["check", f"{saved}/model.npz", "--examples", "3", "--order", "2"]) == 0
    assert capsys.readouterr().out.count(" ok\n") == 2


def test_a_fault_is_shown_shrunk_with_a_line_that_repeats_it(folder, capsys, monkeypatch):
    target = f"wrong_{folder}:Leaky"
    assert main(["check", target]) == 1
    out = capsys.readouterr().out
    assert "  wrong\n" in out
    assert "f = with_noise(Leaky(1, 1, default_rng(0)), 0)" in out
    assert re.search(r"xs = normal\(\(1, [12], 1\), 0\)", out)
    assert "leak" in out
    line = out.partition("reproduce: ")[2].partition("\n")[0]
    monkeypatch.syspath_prepend(Path.cwd())
    with pytest.raises(GradCheckError, match="leak"):
        exec(line)


@pytest.mark.sample(1)
@pytest.mark.parametrize(("name", "shown"), [("cell", "check_grads(cell, "), ("fading", "truncation=fading")])
def test_what_is_not_drawn_is_named_in_the_line(folder, capsys, monkeypatch, name, shown):
    assert main(["check", f"wrong_{folder}:{name}"]) == 1
    line = capsys.readouterr().out.partition("reproduce: ")[2].partition("\n")[0]
    assert shown in line
    monkeypatch.syspath_prepend(Path.cwd())
    with pytest.raises(GradCheckError):
        exec(line)


def test_the_same_seed_draws_the_same(folder, capsys):
    outputs = []
    for seed in ("3", "3", "4"):
        assert main(["check", f"wrong_{folder}:cell", "--seed", seed]) == 1
        outputs.append(without_seconds(capsys.readouterr().out))
    assert outputs[0] == outputs[1] != outputs[2]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            "no_such_module:Cell",
            "importing 'no_such_module' raised ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("raises_{}:Cell", "raised ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("{}:Missing", "has no 'Missing'; it has: mix, Leaky, make, Broken, Halved, Fading, Taper, NoState, cell"),
        ("{}:", "has no ''"),
        ("{}:number", "is 7; expected a cell"),
        ("{}:Halved", "expected a cell, a class or function"),
        ("{}:NoState", "which has no __call__ and no initial_state and no parameters"),
        ("{}:np.zeros", "(2, 3, rng) raised"),
        ("{}:Broken", "raised RuntimeError: no step today, f = with_noise(Broken(1, 1, default_rng(0)), 0)"),
        ("nothing.npz", "'nothing.npz' does not exist"),
        ("{}.py", "is not a model of tinygrad_rnn"),
        ("{}:policy --order 2", "a truncated gradient has no second order"),
        ("--examples 0", "must be an integer of 1 or more, got '0'"),
        ("--seed -1", "argument --seed: "),
        ("--order 3", "invalid choice: 3"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(folder, capsys, target, message):
    try:
        code = main(["check", *target.format(folder).split()])
    except SystemExit as stopped:
        code = stopped.code
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert error.startswith("tinygrad-rnn: error: ")
    assert error.count("\n") == 1


@pytest.mark.nightly
def test_processes_agree_and_leave_nothing_behind(folder):
    before = sorted(Path().iterdir())
    command = [sys.executable, "-B", "-m", "tinygrad_rnn", "check", f"{folder}:Leaky", "--examples", "2"]
    first, second = (subprocess.run(command, capture_output=True, text=True) for _ in range(2))
    assert first.returncode == 0
    assert first.stderr == ""
    assert first.stdout.count(" ok\n") == 2
    assert without_seconds(first.stdout) == without_seconds(second.stdout)
    assert sorted(Path().iterdir()) == before


def test_without_hypothesis_it_says_what_to_install(folder):
    code = "import sys; sys.modules['hypothesis'] = None; from tinygrad_rnn.cli import main; sys.exit(main(['check']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == 'tinygrad-rnn: error: check: needs Hypothesis: pip install "tinygrad_rnn[testing]"\n'
