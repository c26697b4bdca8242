"""`make results`: what is kept is compared, what drifts fails, and data that is not part of the project is read."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr

ROOT = Path(__file__).parents[1]


@pytest.fixture
def reproduce(tmp_path, monkeypatch):
    """The program, with its page and its figures elsewhere."""
    spec = importlib.util.spec_from_file_location("reproduce", ROOT / "benchmarks" / "reproduce.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, path in (("KEPT", "kept.json"), ("PAGE", "page.md"), ("BUILD", "build")):
        monkeypatch.setattr(module, name, tmp_path / path)
    return module


def test_the_page_says_what_is_kept(reproduce):
    kept = json.loads((ROOT / "benchmarks" / "results" / "reproduce.json").read_text())
    assert reproduce.page(kept) == (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    names = {experiment.name for experiment in reproduce.EXPERIMENTS}
    assert names - kept.keys() == {"treebank"}, "all but what needs files that may not be shared"
    for experiment in reproduce.EXPERIMENTS:
        assert experiment.published, experiment.name
        assert (
            experiment.published.keys()
            <= kept.get(experiment.name, {"figures": experiment.published})["figures"].keys()
        )


@pytest.mark.parametrize(
    ("new", "old", "said"),
    [
        ([1.0, 1.2], [1.1], []),
        ([1.0], [1.05], []),
        ([1.0], [1.2], ["nats: 1, kept 1.2"]),
        ([-0.1], [0.1], ["nats: -0.1, kept 0.1"]),
    ],
)
def test_drift(reproduce, new, old, said):
    assert reproduce.drift(reproduce.EXPERIMENTS[0]._replace(tolerance=0.1), {"nats": new}, {"nats": old}) == said


def test_a_figure_that_comes_or_goes_has_drifted(reproduce):
    found = reproduce.drift(reproduce.EXPERIMENTS[0], {"a": [1.0]}, {"b": [1.0]})
    assert found == ["a: new", "b: gone"]


@pytest.fixture
def treebank(tmp_path):
    """Three files as the Penn Treebank has them: one sentence a line, words that are rare as <unk>."""
    rng, words = np.random.default_rng(0), ["the", "<unk>", "N", "company", "said", "of"]
    for name, lines in (("train", 80), ("valid", 20), ("test", 20)):
        text = "".join(f" {' '.join(rng.choice(words, 7))} \n" for _ in range(lines))
        (tmp_path / f"ptb.{name}.txt").write_text(text)
    return tmp_path


@pytest.mark.nightly
def test_files_of_the_reader(reproduce, treebank, capsys):
    arguments = ["treebank", "--data", str(treebank)]
    assert reproduce.main([*arguments, "--keep"]) == 0
    kept = json.loads(reproduce.KEPT.read_text())
    (perplexity,) = kept["treebank"]["figures"]["perplexity, test"]
    assert 1 < perplexity < 12, "six words and the end of a line, drawn at random"
    assert "| Penn Treebank, the small LSTM of Zaremba et al. | perplexity, test |" in reproduce.PAGE.read_text()
    assert reproduce.main(arguments) == 0, "the same numbers again"
    assert "drifted" not in capsys.readouterr().out

    kept["treebank"]["figures"]["perplexity, test"] = [1.1 * perplexity]
    reproduce.KEPT.write_text(json.dumps(kept))
    assert reproduce.main(arguments) == 1
    assert f"drifted: perplexity, test: {perplexity:.4g}, kept {1.1 * perplexity:.4g}" in capsys.readouterr().out


@pytest.mark.nightly
def test_characters_on_a_short_text(reproduce, tmp_path):
    (tmp_path / "tinyshakespeare.txt").write_text(tr.embedded_text()[:8000])
    found = reproduce.characters(0, tmp_path)
    assert found["nats a character, held out"] < 4.0
    assert found["bits a character, held out"] == pytest.approx(found["nats a character, held out"] / np.log(2))


def test_data_that_is_not_there_is_named(reproduce, capsys, tmp_path):
    assert reproduce.main(["characters", "treebank", "--data", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "characters: needs --data with tinyshakespeare.txt" in out
    assert "treebank: needs --data with ptb.train.txt, ptb.valid.txt, ptb.test.txt" in out
    assert not reproduce.KEPT.exists()
