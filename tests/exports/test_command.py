"""The command export: its table of formats, the file it writes, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn import cli
from tinygrad_rnn.commands.export import export
from tinygrad_rnn.config import TrainConfig
from tinygrad_rnn.exports import FORMATS, Format
from tinygrad_rnn.training import load_model, make_model, save_model

WORDS = tr.Vocabulary(["<unk>", "a", "b"])
CONFIG = TrainConfig(hidden_size=3, cell="gru", seed=5)


@pytest.fixture
def model(tmp_path):
    save_model(tmp_path / "model.npz", make_model(CONFIG, len(WORDS)), CONFIG, WORDS)
    return tmp_path / "model.npz"


def test_the_table_of_formats_is_that_of_the_parser():
    assert list(FORMATS) == list(cli.EXPORTS)
    flags = {name for chosen in FORMATS.values() for name in chosen.options}
    arguments = vars(cli._parser().parse_args(["export", "m", "--to", "safetensors"]))
    assert not flags & arguments.keys(), "an option that was not given is not there"


def test_beside_the_model_without_a_path(model, capsys):
    pytest.importorskip("safetensors")
    assert cli.main(["export", str(model.parent), "--to", "safetensors"]) == 0
    out = capsys.readouterr().out
    written = model.with_suffix(".safetensors")
    assert f"{written}, {written.stat().st_size:,} bytes" in out
    assert "gru, 1 layer of 3 units" in out
    again, config, vocabulary = load_model(written)
    assert (config, vocabulary) == (CONFIG, WORDS)
    for name, array in load_model(model).model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)


def test_any_module(tmp_path, capsys):
    pytest.importorskip("safetensors")
    cell = tr.LRUCell(2, 3, np.random.default_rng(0))
    tr.save(tmp_path / "cell.npz", cell)
    target = tmp_path / "there.safetensors"
    assert cli.main(["export", str(tmp_path / "cell.npz"), "--to", "safetensors", "-o", str(target)]) == 0
    for name, array in tr.load(target).state_dict().items():
        np.testing.assert_array_equal(array, cell.state_dict()[name])
    assert "LRUCell" in capsys.readouterr().out


def test_a_page_of_a_classifier_of_sequences(tmp_path):
    """Layers within layers, and no state."""
    pytest.importorskip("ziglang")
    model = tr.SequenceModel("gru", 2, 3, 4, np.random.default_rng(0), last=True, layers=2, bidirectional=True)
    tr.save(tmp_path / "model.npz", model)
    page = tmp_path / "page.html"
    assert cli.main(["export", str(tmp_path / "model.npz"), "--to", "html", "--steps", "5", "-o", str(page)]) == 0
    assert "SequenceModel of GRUCell" in page.read_text()


def test_an_option_of_another_format(model, monkeypatch, capsys):
    other = Format(".x", "weights", "write_safetensors", ("out_of_place",))
    monkeypatch.setitem(FORMATS, "other", other)
    arguments = cli._parser().parse_args(["export", str(model), "--to", "safetensors"])
    arguments.out_of_place = True
    with pytest.raises(tr.ConfigError, match="--out-of-place is an option of --to other, not of safetensors"):
        export(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.npz", "--to", "safetensors"], "'none.npz' does not exist"),
        (["model.npz", "--to", "safetensors", "-o", "m.txt"], "ends with .safetensors, got 'm.txt'"),
    ],
)
def test_what_is_refused(model, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(model.parent)
    assert cli.main(["export", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["model.npz"]


def test_eight_bits_that_change_nothing_are_said(tmp_path):
    tiny = tr.RNNCell(2, 2, np.random.default_rng(0))
    with pytest.warns(UserWarning, match="quantize='int8' changes nothing here"):
        tr.export(tiny, tmp_path / "a.c", quantize="int8")
    assert "int8_t" not in (tmp_path / "a.c").read_text()
