"""The command line: results, exit codes, and that errors are one line and leave nothing behind."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import refused

import tinygrad_rnn as tr
from tinygrad_rnn.cli import main
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.training import load_model, save_model
from tinygrad_rnn.training.inference import replayed

TEXT = "to be or not to be that is the question\n" * 30
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--bptt", "5", "--epochs", "2", "--lr", "0.05", "--no-progress"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a text in it."""
    monkeypatch.chdir(tmp_path)
    Path("play.txt").write_text(TEXT)
    return tmp_path


def tree():
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


@pytest.mark.curve
def test_train_evaluate_generate(folder, capsys):
    assert main(["train", "play.txt", *SMALL]) == 0
    out = capsys.readouterr().out
    run = Path("runs/play-lstm-1")
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in run.iterdir()) == [
        "checkpoints",
        "config.toml",
        "curve.png",
        "metrics.jsonl",
        "model.npz",
    ]
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in metrics] == [1, 2]
    best = min(record["valid_perplexity"] for record in metrics)
    assert f"perplexity {best:.1f} (unigram " in out
    for part in ("297 training tokens", "33 held-out tokens", "0.0% of them unknown", "parameters", "sample", str(run)):
        assert part in out

    for model in (run, run / "model.npz"):
        assert main(["evaluate", str(model), "play.txt", "--held-out"]) == 0
        captured = capsys.readouterr()
        assert f"perplexity {best:.1f}" in captured.out
        assert "33 tokens" in captured.out
        assert captured.err == ""
    assert main(["evaluate", str(run), "play.txt"]) == 0
    assert "330 tokens" in capsys.readouterr().out

    texts = []
    for seed in ("1", "1", "2"):
        assert main(["generate", str(run), "--prompt", "To be", "--length", "12", "--seed", seed]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("to be")


def test_a_second_run_gets_a_folder_of_its_own(folder):
    assert [main(["train", "play.txt", *SMALL, "--epochs", "1"]) for _ in range(2)] == [0, 0]
    assert sorted(path.name for path in Path("runs").iterdir()) == ["play-lstm-1", "play-lstm-2"]


def test_character_level(folder, capsys):
    assert main(["train", "play.txt", "--level", "char", *SMALL, "--save", "m.npz", "--epochs", "1"]) == 0
    assert re.search(r"nats/character, .* bits/character", capsys.readouterr().out)
    assert main(["generate", "m.npz", "--prompt", "to ", "--length", "5", "--temperature", "0"]) == 0
    assert len(capsys.readouterr().out.rstrip("\n")) <= 8


def test_embedded_text(folder, capsys):
    small = ["--max-tokens", "3000", *SMALL, "--epochs", "1", "--save", "e", "--cell", "rnn"]
    assert main(["train", *small]) == 0
    out = capsys.readouterr().out
    assert "the Python reference" in out
    assert main(["evaluate", "e"]) == 0
    captured = capsys.readouterr()
    assert re.search(r"perplexity [\d.]+", out.partition("held out")[2])[0] in captured.out
    assert "the held-out part of the Python reference" in captured.out
    assert captured.err == ""
    assert main(["evaluate", "e", "play.txt", "--held-out"]) == 0
    assert "not the text that the model was trained on" in capsys.readouterr().err


def test_dry_run_writes_nothing(folder, capsys):
    before = tree()
    assert main(["train", "play.txt", *SMALL, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "epochs = 2\n" in out
    assert "2 epochs of 15 windows" in out
    assert "parameters" in out
    assert tree() == before


def test_flags_win_over_the_file_and_the_file_over_the_defaults(folder):
    Path("my.toml").write_text('cell = "gru"\nhidden_size = 6\nepochs = 1\nbatch_size = 4\nbptt = 5\ntied = false\n')
    assert main(["train", "play.txt", "--config", "my.toml", "--hidden-size", "7", "--save", "a"]) == 0
    config = load_model("a").config
    assert (config.cell, config.hidden_size, config.epochs, config.tied) == ("gru", 7, 1, False)
    assert config.optimizer == TrainConfig().optimizer
    # The resolved configuration is enough to do it again, corpus and all, bit by bit.
    assert main(["train", "--config", "a/config.toml", "--save", "b"]) == 0
    assert Path("a/model.npz").read_bytes() == Path("b/model.npz").read_bytes()
    assert Path("a/config.toml").read_bytes() == Path("b/config.toml").read_bytes()


def test_another_seed_is_another_model(folder):
    for seed in ("0", "1"):
        assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--seed", seed, "--save", seed]) == 0
    tables = [load_model(seed).model.embedding.W.data for seed in ("0", "1")]
    assert not np.array_equal(*tables)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train none.txt", "'none.txt' does not exist"),
        ("train empty.txt", "'empty.txt' is empty"),
        ("train latin.txt", "'latin.txt' is not utf-8 at byte offset 2"),
        ("train short.txt --bptt 5", "tokens"),
        ("train play.txt --bptt 500", "at least batch_size * bptt + 1 = 20 * 500 + 1 = 10001 values"),
        ("train play.txt --bptt 5 --save play.txt/run", "cannot be made"),
        ("train play.txt --bptt 5 --save .", "config.toml exists already"),
        ("train play.txt --save m.PT", "a model file ending with .npz or .safetensors, got 'm.PT'; export writes a"),
        ("train play.txt --dry-run --save a/m.onnx", "--save must be a folder, or a model file ending with"),
        ("train play.txt --lr -1", "lr must be a finite number above 0"),
        ("train play.txt --lr big", "argument --lr: invalid float value: 'big'"),
        ("train play.txt --cell gnu", "cell must be one of rnn, lstm, gru, or module:Name; got 'gnu'"),
        ("train play.txt --colour red", "unrecognized arguments: --colour red"),
        ("train play.txt --threads 0", "must be an integer of 1 or more, got '0'"),
        ("train play.txt --config config.toml", "unknown setting 'colour'"),
        ("train play.txt --config none.toml", "none.toml: cannot be read"),
        ("evaluate none.npz", "'none.npz' does not exist"),
        ("evaluate play.txt", "'play.txt' is not a model"),
        ("evaluate .", "model.npz' does not exist"),
        ("generate play.txt", "'play.txt' is not a model"),
        ("", "the following arguments are required: command"),
        ("tarin", "invalid choice: 'tarin'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder, capsys, arguments, message):
    Path("empty.txt").write_text("")
    Path("short.txt").write_text("to be")
    Path("latin.txt").write_bytes(b"to\xe9be")
    Path("config.toml").write_text('colour = "red"\n')
    before = tree()
    assert message in refused(capsys, *arguments.split())
    assert tree() == before


def test_earlier_results_are_kept_unless_forced(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--save", "a"]) == 0
    before = tree()
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--seed", "1", "--save", "a"]) == 2
    assert "a/model.npz exists already" in capsys.readouterr().err
    assert tree() == before
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--seed", "1", "--save", "a", "--force"]) == 0
    assert load_model("a").config.seed == 1


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    (path / "play.txt").write_text(TEXT)
    assert main(["train", str(path / "play.txt"), *SMALL, "--epochs", "1", "--save", str(path / "m.npz")]) == 0
    return str(path / "m.npz")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--temperature", "-1"], "temperature must be a finite number"),
        (["--length", "-1"], "length must be an integer of 0 or more"),
        (["--top-k", "-1"], "top_k"),
        (["--seed", "-1"], "--seed must be 0 or more"),
    ],
)
def test_generate_refuses(model_file, capsys, flags, message):
    assert main(["generate", model_file, *flags]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def test_evaluate_and_generate_say_the_same_compiled_and_not(model_file, capsys, monkeypatch):
    texts, made = set(), []
    monkeypatch.setattr(replayed, "compile", lambda function, **settings: made.append(settings) or tr.compile(function))
    for flags in ([], ["--executor", "numpy"], ["--executor", "auto"], ["--no-compile"]):
        assert main(["evaluate", model_file, str(Path(model_file).with_name("play.txt")), *flags]) == 0
        assert main(["generate", model_file, "--length", "9", *flags]) == 0
        texts.add(capsys.readouterr().out)
    assert len(texts) == 1
    assert [one["executor"] for one in made] == [None, None, "numpy", "numpy", *[None] * 4]
    with pytest.raises(SystemExit):
        main(["generate", model_file, "--executor", "gpu"])


def test_unknown_words_in_the_prompt_are_named(model_file, capsys):
    assert main(["generate", model_file, "--prompt", "to zebra or", "--length", "3"]) == 0
    captured = capsys.readouterr()
    assert "not in the vocabulary, read as <unk>: zebra" in captured.err
    assert captured.out.startswith("to zebra or")


def test_evaluation_of_a_text_without_a_default(model_file, capsys, tmp_path):
    assert main(["evaluate", model_file]) == 2
    assert "pass the text" in capsys.readouterr().err
    (tmp_path / "two.txt").write_text("to be")
    assert main(["evaluate", model_file, str(tmp_path / "two.txt")]) == 0
    assert "read as 1 stream instead of 4" in capsys.readouterr().out
    (tmp_path / "one.txt").write_text("to")
    assert main(["evaluate", model_file, str(tmp_path / "one.txt")]) == 2
    assert "2 tokens or more" in capsys.readouterr().err


def start(*arguments, **settings):
    """Start the program in a process of its own, through `python -m`."""
    command = [sys.executable, "-m", "tinygrad_rnn", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)


@pytest.mark.nightly
def test_ctrl_c_saves_and_exits_130(folder):
    with start("train", "play.txt", *SMALL, "--epochs", "100000", "--save", "a") as process:
        for line in process.stdout:
            if line.strip().startswith("1 "):  # the first epoch is done
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted" in out
    assert "saved" in out
    assert "Traceback" not in err
    load_model("a")
    assert all(json.loads(line) for line in Path("a/metrics.jsonl").read_text().splitlines())


def test_reader_that_goes_away(folder):
    with start("train", "play.txt", *SMALL, "--epochs", "100000", "--save", "a") as process:
        process.stdout.readline()
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(timeout=60) == 141
    assert err == ""


@pytest.mark.nightly
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(closed, folder):
    """A service may start a program without them."""
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "tinygrad_rnn"]
    done = subprocess.run([*command, "train", "play.txt", *SMALL, "--save", "a"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    load_model("a")
    done = subprocess.run([*command, "evaluate", "a", "-"], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_interrupt_elsewhere(monkeypatch, model_file, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("tinygrad_rnn.commands.generation.load_model", interrupted)
    assert main(["generate", model_file]) == 130
    assert capsys.readouterr().err == "tinygrad-rnn: interrupted\n"


def test_not_enough_memory(monkeypatch, model_file, capsys):
    def full(*_):
        raise MemoryError("Unable to allocate\n9 TiB")

    monkeypatch.setattr("tinygrad_rnn.commands.generation.load_model", full)
    assert main(["generate", model_file]) == 2
    assert capsys.readouterr().err.startswith("tinygrad-rnn: error: not enough memory (Unable to allocate 9 TiB)")


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--executor", "numpy"], "compiled, replayed by NumPy"),
        (["--no-compile"], "recorded anew for each window"),
        (["--truncation", "windowed:8/5"], "recorded anew for each window"),
        (["--truncation", "chunked:5", "--executor", "numpy"], "compiled, replayed by NumPy"),
    ],
)
def test_what_makes_the_updates_is_said(folder, capsys, flags, line):
    assert main(["train", "play.txt", *SMALL, *flags, "--save", "a"]) == 0
    assert re.search(rf"^updates +{line}$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.nightly
def test_native_executor_without_a_compiler(folder):
    command = [sys.executable, "-m", "tinygrad_rnn", "train", "play.txt", *SMALL, "--executor"]
    env = os.environ | {"CC": "/no/such/compiler", "TINYGRAD_RNN_CACHE": str(folder / "cache")}
    for executor, code in (("native", 2), ("auto", 0)):
        found = subprocess.run([*command, executor, "--save", executor], env=env, capture_output=True, text=True)
        assert found.returncode == code
        assert ("names a compiler that was not found" in found.stderr) == (executor == "native")
        assert ("replayed by NumPy" in found.stdout) == (executor == "auto")


# Whether a loss overflows or only grows beyond all bounds, and in which update, hangs on the order of sums.
@pytest.mark.sample(4)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("lr", ["1e37", "1e30", "1e6"])
@pytest.mark.parametrize("way", [["--executor", "numpy"], ["--no-compile"]])
def test_training_that_diverges(folder, capsys, optimizer, lr, way):
    before = tree()
    flags = ["--lr", lr, "--optimizer", optimizer, "--clip", "0", "--save", "a", *way]
    assert main(["train", "play.txt", *SMALL, *flags]) == 1
    captured = capsys.readouterr()
    assert re.match(r"tinygrad-rnn: error: (Trainer: training diverged|.* is (nan|inf|-inf))", captured.err)
    assert "lower lr or clip" in captured.err
    assert captured.err.endswith("; no epoch was kept\n")
    assert captured.err.count("\n") == 1
    assert not re.search(r"\d{12}", captured.out + captured.err)
    assert tree() == before


def test_truncation_report(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--save", "m", "--epochs", "1", "--truncation", "windowed:10/5"]) == 0
    assert "truncation windowed:10/5" in capsys.readouterr().out
    options = ["play.txt", "--steps", "20", "--batch-size", "2", "--policies", "full", "chunked:5", "windowed:6/3"]
    assert main(["truncation", "m", *options, "--plot", "report.png"]) == 0
    out = capsys.readouterr().out
    for part in ("the first 2 x 20 tokens of play.txt", "chunked:5", "windowed:6/3", "Credit", "Window"):
        assert part in out
    assert Path("report.png").read_bytes().startswith(b"\x89PNG")
    assert main(["truncation", "m", *options, "--json", "--fresh"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [policy["policy"] for policy in report["policies"]] == ["full", "chunked:5", "windowed:6/3"]


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--policies chunkd:3", "'chunkd:3' is not a policy"),
        ("--policies full play.txt", "got the file 'play.txt'; a text to measure on comes before --policies"),
        ("--steps 400", "need 1601 tokens"),
        ("--steps 0", "must be an integer of 1 or more"),
        ("--steps 9 --wanted-cosine 2", "wanted_cosine"),
    ],
)
def test_truncation_errors(folder, capsys, options, words):
    assert main(["train", "play.txt", *SMALL, "--save", "m", "--epochs", "1"]) == 0
    capsys.readouterr()
    try:
        code = main(["truncation", "m", "play.txt", *options.split()])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    error = capsys.readouterr().err
    assert re.search(words, error)
    assert error.count("\n") == 1


def test_a_warning_is_a_note_of_one_line(folder, capsys):
    Path("dna.txt").write_text("\n".join(f"{n:b}" * 5 for n in range(300)))
    assert main(["train", "dna.txt", *SMALL, "--dry-run"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("tinygrad-rnn: note: load_corpus: 2 words are very few for a text of")
    assert err.count("\n") == 1


def test_a_model_that_is_not_finite_is_not_evaluated_in_silence(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--save", "m"]) == 0
    model, config, vocabulary = load_model("m")
    weights = model.parameters()["layers.0.Wh"]
    weights.data = np.full(weights.shape, np.nan)
    save_model("m/model.npz", model, config, vocabulary)
    capsys.readouterr()
    assert main(["evaluate", "m", "play.txt"]) == 1
    assert "evaluate: the loss is nan: the parameter layers.0.Wh holds" in capsys.readouterr().err
    assert main(["generate", "m", "--temperature", "0"]) == 1
    captured = capsys.readouterr()
    assert "logits do not define a distribution" in captured.err
    assert captured.out == ""
