"""Runs from the command line: resumed, started from other weights, repeated."""

import io
import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.cli import main
from tinygrad_rnn.data import NGrams, load_corpus, tokenize
from tinygrad_rnn.training import load_model
from tinygrad_rnn.training.files.archive import digest

TEXT = "to be or not to be that is the question\n" * 30
SMALL = ["--hidden-size", "8", "--batch-size", "4", "--bptt", "5", "--epochs", "2", "--lr", "0.05", "--no-progress"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with texts in it."""
    monkeypatch.chdir(tmp_path)
    Path("play.txt").write_text(TEXT)
    Path("other.txt").write_text("that is not the question to be\n" * 8)
    return tmp_path


def arrays(path):
    return {name: digest(p.data) for name, p in load_model(path).model.parameters().items()}


def failed(capsys, *arguments):
    assert main([*arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.nightly
def test_a_finished_run_is_made_longer(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--epochs", "4", "--save", "whole"]) == 0
    assert main(["train", "play.txt", *SMALL, "--save", "run"]) == 0
    capsys.readouterr()
    assert main(["train", "--resume", "run", "--epochs", "4", "--no-progress"]) == 0
    out = capsys.readouterr().out
    assert "resumed     after 30 updates" in out
    assert arrays("run") == arrays("whole")
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 4


def test_save_takes_a_file_of_either_format_or_a_folder(folder, capsys, monkeypatch):
    pytest.importorskip("safetensors", reason="the extra [safetensors]")
    Path("old.safetensors").mkdir()
    kept = {}
    for name in ("m.npz", "m.safetensors", "v0.5", "old.safetensors"):
        assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--save", name, "--force"]) == 0
        assert Path(name).is_dir() == (name in ("v0.5", "old.safetensors"))
        assert main(["train", "--resume", name, "--epochs", "2", "--no-progress"]) == 0
        assert main(["evaluate", name, "play.txt", "--held-out"]) == 0
        kept[name] = arrays(name)
    assert kept["m.npz"] == kept["m.safetensors"] == kept["v0.5"] == kept["old.safetensors"]
    monkeypatch.setitem(sys.modules, "safetensors", None)
    before = sorted(Path().rglob("*"))
    assert "tinygrad_rnn[safetensors]" in failed(capsys, "train", "play.txt", *SMALL, "--save", "new/n.safetensors")
    assert sorted(Path().rglob("*")) == before


def test_what_cannot_be_resumed(folder, capsys):
    assert "no checkpoint in run" in failed(capsys, "train", "--resume", "run")
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--save", "run.npz"]) == 0
    capsys.readouterr()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert "leave out --cell, --lr" in failed(capsys, "train", "--resume", "run.npz", "--lr", "1", "--cell", "rnn")
    assert "neither --config" in failed(capsys, "train", "--resume", "run.npz", "--force")
    message = failed(capsys, "train", "other.txt", "--resume", "run.npz", "--epochs", "3")
    assert "another model" in message or "not the one that the run was trained on" in message
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == before


def start(*arguments):
    command = [sys.executable, "-m", "tinygrad_rnn", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.nightly
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_the_run_can_be_resumed(folder, number, code, capsys):
    with start("train", "play.txt", *SMALL, "--epochs", "100000", "--save", "a") as process:
        for line in process.stdout:
            if line.strip().startswith("1 "):  # the first epoch is done
                break
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert "--resume goes on" in out
    done = len(Path("a/metrics.jsonl").read_text().splitlines())
    assert main(["train", "--resume", "a", "--epochs", str(done + 1), "--no-progress"]) == 0
    assert main(["train", "play.txt", *SMALL, "--epochs", str(done + 1), "--save", "whole"]) == 0
    assert arrays("a") == arrays("whole")


@pytest.mark.nightly
def test_a_second_process_leaves_the_run_alone(folder, capsys):
    with start("train", "play.txt", *SMALL, "--epochs", "100000", "--save", "a") as process:
        for line in process.stdout:
            if line.strip().startswith("1 "):
                break
        for arguments in (["--resume", "a"], ["play.txt", *SMALL, "--save", "a", "--force"]):
            found = subprocess.run(
                [sys.executable, "-m", "tinygrad_rnn", "train", *arguments], capture_output=True, text=True, check=False
            )
            assert found.returncode == 2
            assert "is writing there" in found.stderr
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    load_model("a")


def test_a_full_disk_leaves_the_files_as_they_were(folder):
    """Files may not grow beyond a limit, as on a disk that is full."""
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--save", "a"]) == 0
    before = {path: path.read_bytes() for path in Path("a").rglob("*") if path.is_file()}
    limit = min(path.stat().st_size for path in Path("a/checkpoints").iterdir()) // 2

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # an error of the write instead
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    # -B: Python would keep a part of what it compiles
    command = [sys.executable, "-B", "-m", "tinygrad_rnn", "train", "--resume", "a", "--epochs", "3", "--no-progress"]
    command += ["--checkpoint-every", "3"]
    found = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "File too large" in found.stderr
    after = {path: path.read_bytes() for path in Path("a").rglob("*") if path.is_file()}
    after.pop(Path("a/curve.png"), None)
    before.pop(Path("a/curve.png"), None)
    assert after == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--save", "a"]) == 0
    before = {path: path.read_bytes() for path in Path("a").rglob("*") if path.is_file()}
    Path("a").chmod(0o500)
    try:
        assert "cannot be written to" in failed(capsys, "train", "--resume", "a", "--epochs", "3")
        assert {path: path.read_bytes() for path in Path("a").rglob("*") if path.is_file()} == before
    finally:
        Path("a").chmod(0o700)


@pytest.mark.nightly
def test_start_from_another_model(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--epochs", "6", "--save", "a"]) == 0
    best = json.loads(Path("a/metrics.jsonl").read_text().splitlines()[-1])["valid_nats"]
    capsys.readouterr()
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--lr", "1e-9", "--init", "a", "--save", "b"]) == 0
    found = json.loads(Path("b/metrics.jsonl").read_text())["valid_nats"]
    assert math.isclose(found, best, rel_tol=1e-4)
    assert capsys.readouterr().err == ""
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--layers", "2", "--init", "a", "--save", "c"]) == 0
    assert "layers.1.Wh is not in a in this shape: it starts with fresh weights" in capsys.readouterr().err
    assert "'none.npz' does not exist" in failed(capsys, "train", "play.txt", *SMALL, "--init", "none.npz")


def test_held_out_and_test_texts_of_their_own(folder, capsys):
    command = ["train", "play.txt", *SMALL, "--valid", "other.txt", "--test", "other.txt", "--save", "a"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "330 training tokens" in out
    assert "64 held-out tokens" in out
    rows = {line.split(" ")[0]: line for line in out.splitlines()}
    assert rows["test"].endswith("63 tokens as one stream")
    assert main(["evaluate", "a", "other.txt", "--batch-size", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["batch_size"] == 1
    assert f"perplexity {found['perplexity']:.1f}" in rows["test"]
    best = min(json.loads(line)["valid_nats"] for line in Path("a/metrics.jsonl").read_text().splitlines())
    assert main(["evaluate", "a", "other.txt", "--json"]) == 0
    assert math.isclose(json.loads(capsys.readouterr().out)["nats"], best, rel_tol=1e-6)
    assert found["nats"] < best  # three tokens less without what comes before them


@pytest.mark.parametrize("corpus", ["play.txt", ""])
def test_what_a_run_with_a_validation_text_held_out(folder, capsys, corpus):
    """Nothing of the training text, which another text is measured instead of."""
    texts = [*([corpus] if corpus else []), "--valid", "other.txt", "--max-tokens", "3000"]
    assert main(["train", *texts, *SMALL, "--epochs", "1", "--save", "a"]) == 0
    best = json.loads(Path("a/metrics.jsonl").read_text())["valid_nats"]
    for arguments in (["--held-out"], ["other.txt", "--held-out"], *([] if corpus else [[]])):
        capsys.readouterr()
        assert main(["evaluate", "a", *arguments, "--json"]) == 0
        captured = capsys.readouterr()
        assert json.loads(captured.out)["nats"] == pytest.approx(best, rel=1e-6)
        assert captured.err == ""
    assert main(["evaluate", "a", "--held-out"]) == 0
    assert re.search(r"^text +other.txt, which training held out$", capsys.readouterr().out, re.MULTILINE)
    for command in ("evaluate", "truncation", "graph"):
        message = failed(capsys, command, "a", "play.txt", "--held-out")
        assert f"{command}: the model was trained with --valid other.txt, so no part of 'play.txt' was" in message
        if corpus:
            assert "(--held-out alone uses 'other.txt'" in failed(capsys, command, "a")
    assert main(["truncation", "a", "--held-out", "--steps", "9", "--policies", "full"]) == 0
    assert "the first 4 x 9 tokens of other.txt, which" in capsys.readouterr().out
    assert main(["graph", "a", "--held-out", "--out", "g.svg"]) == 0
    assert "4 x 8 tokens of other.txt, which" in capsys.readouterr().out


def test_text_from_stdin(folder, capsys, monkeypatch):
    def given(data):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    given(TEXT.encode())
    assert main(["train", "-", *SMALL, "--epochs", "1", "--save", "a"]) == 0
    capsys.readouterr()
    given(TEXT.encode())
    assert main(["evaluate", "a", "-", "--json"]) == 0
    from_stdin = json.loads(capsys.readouterr().out)
    assert main(["evaluate", "a", "play.txt", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == from_stdin
    assert from_stdin.keys() == {"nats", "bits", "perplexity", "tokens", "unknown_rate", "batch_size", "baselines"}
    assert math.isclose(from_stdin["perplexity"], math.exp(from_stdin["nats"]))
    given(b"to\xe9be")
    assert "stdin is not utf-8 at byte offset 2" in failed(capsys, "evaluate", "a", "-")


def test_a_text_from_stdin_is_needed_again(folder, capsys, monkeypatch):
    def given(data=b""):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    given(TEXT.encode())
    assert main(["train", "-", *SMALL, "--epochs", "1"]) == 0
    assert re.search(r"^corpus +stdin, word level$", capsys.readouterr().out, re.MULTILINE)
    run, resume = "runs/stdin-lstm-1", ["--resume", "runs/stdin-lstm-1", "--epochs", "2", "--no-progress"]
    given()
    assert "pass the same text there again, or name a file with it beside --resume" in failed(capsys, "train", *resume)
    for flags in ([], ["--held-out"]):
        message = failed(capsys, "evaluate", run, *flags)
        assert "the model was trained on a text from stdin; pass - with the same text on stdin again" in message
    given(TEXT.encode())
    assert main(["train", *resume]) == 0
    assert main(["train", "play.txt", *resume, "--epochs", "3"]) == 0
    given(TEXT.encode())
    capsys.readouterr()
    assert main(["evaluate", run, "-", "--held-out"]) == 0
    captured = capsys.readouterr()
    assert "the held-out part of stdin" in captured.out
    assert captured.err == ""  # the run has a file by now, which the baselines count


def test_stdin_is_read_once(folder, capsys, monkeypatch):
    def given(data):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))

    for level in ("word", "byte"):
        given(TEXT.encode())
        assert "another argument has read it" in failed(capsys, "train", "-", "--valid", "-", "--level", level, *SMALL)
    given(TEXT.encode())
    assert main(["train", "-", *SMALL, "--epochs", "1", "--repeat", "2"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "runs/stdin-lstm-1", "play.txt"]) == 0
    assert "no baselines: the training text was read from stdin; --baseline" in capsys.readouterr().err
    given(TEXT.encode())
    assert main(["train", "play.txt", "--valid", "-", *SMALL, "--epochs", "1", "--save", "b"]) == 0
    assert "(- --held-out uses 'stdin', which" in failed(capsys, "evaluate", "b")
    assert "held out a text from stdin; pass - --held-out with the same" in failed(
        capsys, "evaluate", "b", "--held-out"
    )
    given(TEXT.encode())
    assert main(["evaluate", "b", "-", "--held-out"]) == 0
    assert "stdin, which training held out" in capsys.readouterr().out
    given(b"")
    assert "pass the same text there again" in failed(capsys, "train", "--resume", "b", "--epochs", "2")
    for text in (["-"], ["play.txt", "--test", "-"]):
        message = failed(capsys, "sweep", *text, *SMALL[:-1], "--search", "lr=log:1e-3:1e-1")
        assert "must be a file, since each trial reads it; got '-', stdin" in message


def test_score_says_the_nats_of_each_line(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--save", "a"]) == 0
    Path("three.txt").write_text("to be or not to be\nthat is the question\nquestion the not\n")
    capsys.readouterr()
    assert main(["score", "a", "three.txt"]) == 0
    head, *lines, result, unigram, trigram = capsys.readouterr().out.splitlines()
    assert head.split() == ["nats", "tokens", "unigram", "3-gram"]
    assert [line.split()[1] for line in lines] == ["6", "5", "4"]  # the first token has none before it
    assert main(["score", "a", "three.txt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert math.isclose(sum(line["nats"] for line in found["lines"]), found["nats"] * found["tokens"])
    for line, printed in zip(found["lines"], lines, strict=True):
        assert float(printed.split()[0]) == pytest.approx(line["nats"], abs=1e-3)
        assert float(printed.split()[3]) == pytest.approx(line["3-gram"], abs=1e-3)
        assert printed.split()[4:] == line["text"].split() != []
    for printed, name in ((unigram, "unigram"), (trigram, "3-gram")):
        total = sum(line[name] for line in found["lines"])
        assert math.isclose(total, found["baselines"][name] * found["tokens"])
        assert printed.startswith(f"{name:<11} {found['baselines'][name]:.3f} nats/token")
    assert f"perplexity {found['perplexity']:.1f}" in result
    model, _, vocabulary = load_model("a")
    ids = vocabulary.encode(tr.data.tokenize(Path("three.txt").read_text(), "word"))
    whole = tr.evaluate(model, ids, batch_size=1, bptt=5)
    assert (found["tokens"], found["nats"]) == (whole.tokens, pytest.approx(whole.nats, rel=1e-6))
    assert found["lines"][2]["nats"] / 4 > found["lines"][1]["nats"] / 5  # never seen in this order


def test_baselines_count_the_training_part_or_another_text(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--save", "a"]) == 0
    capsys.readouterr()

    def found(*arguments):
        assert main(["evaluate", "a", *arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["baselines"]

    vocabulary = load_model("a").vocabulary
    train, held_out = load_corpus(TEXT, "word", 2)
    expected = NGrams(train.ids, len(vocabulary), 3).nats(held_out.ids).mean()
    assert found("play.txt", "--held-out") == {
        "unigram": pytest.approx(2.0, abs=0.4),
        "3-gram": pytest.approx(expected),
    }
    ids = vocabulary.encode(tokenize(Path("other.txt").read_text(), "word"))
    other = found("play.txt", "--held-out", "--baseline", "other.txt")
    assert other["3-gram"] == pytest.approx(NGrams(ids, len(vocabulary), 3).nats(held_out.ids).mean())
    Path("play.txt").rename("moved.txt")
    assert main(["evaluate", "a", "moved.txt"]) == 0
    captured = capsys.readouterr()
    assert "unigram" not in captured.out
    assert "no baselines: the training text play.txt is not there; --baseline FILE counts another one" in captured.err
    assert "missing.txt" in failed(capsys, "evaluate", "a", "moved.txt", "--baseline", "missing.txt")


def test_prompts_from_a_file(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--save", "a"]) == 0
    Path("prompts.txt").write_text("to be\nthat is the\n")
    capsys.readouterr()
    assert main(["generate", "a", "--prompts", "prompts.txt", "--length", "6", "--seed", "3"]) == 0
    together = capsys.readouterr().out.splitlines()
    for prompt, line in zip(("to be", "that is the"), together, strict=False):
        assert main(["generate", "a", "--prompt", prompt, "--length", "6", "--seed", "3"]) == 0
        assert line == capsys.readouterr().out.splitlines()[0]
    assert "not both" in failed(capsys, "generate", "a", "--prompts", "prompts.txt", "--prompt", "to")


def test_top_p_of_nearly_nothing_is_the_likeliest(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--save", "a"]) == 0
    capsys.readouterr()
    texts = []
    for flags in (["--temperature", "0"], ["--top-p", "1e-9"], ["--top-k", "1"]):
        assert main(["generate", "a", "--length", "20", *flags]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1] == texts[2]
    assert "top_p must be a number in (0, 1]" in failed(capsys, "generate", "a", "--top-p", "0")


def test_repeated_with_several_seeds(folder, capsys):
    assert main(["train", "play.txt", *SMALL, "--epochs", "1", "--repeat", "3"]) == 0
    out = capsys.readouterr().out
    best = [json.loads(Path(f"runs/play-lstm-{n}/metrics.jsonl").read_text())["valid_perplexity"] for n in (1, 2, 3)]
    assert out.endswith(f"{np.mean(best):.2f}, standard deviation {np.std(best, ddof=1):.2f} over 3 seeds\n")
    assert [load_model(f"runs/play-lstm-{n}").config.seed for n in (1, 2, 3)] == [0, 1, 2]
    assert "leave out --save" in failed(capsys, "train", "play.txt", *SMALL, "--repeat", "2", "--save", "a")


def test_accumulated_windows_make_one_update(folder):
    for name, flags in {"a": ["--accumulate", "3"], "b": ["--accumulate", "3", "--no-compile"]}.items():
        assert main(["train", "play.txt", *SMALL, "--epochs", "1", *flags, "--save", name]) == 0
    one, other = (json.loads(Path(name, "metrics.jsonl").read_text()) for name in "ab")
    assert one["step"] == other["step"] == 5
    assert one["valid_nats"] == pytest.approx(other["valid_nats"], rel=1e-4)
