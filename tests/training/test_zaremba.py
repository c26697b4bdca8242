"""The configurations of Zaremba et al. 2014, run as commands, take the steps of the paper, written here in PyTorch.

Source: Zaremba, Sutskever and Vinyals 2014, Recurrent neural network regularization, arXiv:1409.2329: the loss is
summed over the steps of a window and averaged over the streams; the norm of the gradient is at most 5; the rate is 1
for the first epochs, and shrinks by a factor in each epoch after them; the state is carried from window to window, and
is 0 at the start of an epoch; what does not fill a window is left out. Weights start from the same numbers, and dropout
draws the same masks. One epoch's figures depend on all updates before, so equal figures mean equal updates.
"""

import json
import math

import numpy as np
import pytest

from tinygrad_rnn.cli import main
from tinygrad_rnn.config import TrainConfig, config_file
from tinygrad_rnn.data import Corpus
from tinygrad_rnn.training import load_model, make_model
from tinygrad_rnn.training.loop.streams import stream

torch = pytest.importorskip("torch", reason="PyTorch is for development only")

N, LAYERS = 20, 2


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Paper(torch.nn.Module):
    """Embedding, two LSTM layers and an output, with dropout on what is not recurrent; one bias for each gate."""

    def __init__(self, weights, H):
        super().__init__()
        places = np.r_[0 : 2 * H, 3 * H : 4 * H, 2 * H : 3 * H]  # columns i, f, o, g become rows i, f, g, o
        self.embedding = torch.nn.Parameter(torch.tensor(weights["embedding.W"]))
        self.cells = torch.nn.ModuleList(torch.nn.LSTM(H, H, batch_first=True).double() for _ in range(LAYERS))
        for n, cell in enumerate(self.cells):
            cell.weight_ih_l0.data = torch.tensor(weights[f"layers.{n}.Wx"].T[places])
            cell.weight_hh_l0.data = torch.tensor(weights[f"layers.{n}.Wh"].T[places])
            cell.bias_ih_l0.data = torch.tensor(weights[f"layers.{n}.b"][places])
            cell.bias_hh_l0 = torch.nn.Parameter(torch.zeros(4 * H).double(), requires_grad=False)
        self.W = torch.nn.Parameter(torch.tensor(weights["output.W"]))
        self.b = torch.nn.Parameter(torch.tensor(weights["output.b"]))

    def forward(self, ids, targets, states, masks):
        """Return the nats of each token, and the states after them."""
        hs, after = self.embedding[ids] * masks[0], []
        for cell, state, mask in zip(self.cells, states, masks[1:], strict=True):
            hs, new = cell(hs, state)
            hs = hs * mask
            after.append(tuple(part.detach() for part in new))
        logits = hs @ self.W + self.b
        nats = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
        return nats.reshape(targets.shape), after

    def mean(self, ids, streams):
        """Return the mean nats of each token of a text but the first; the state is 0 at the start of each stream.

        The paper leaves out what does not fill a window, 159 of the 73,759 tokens of the Penn Treebank's valid.txt.
        """
        xs, targets = (torch.tensor(part.reshape(streams, -1)) for part in (ids[:-1], ids[1:]))
        with torch.no_grad():
            return self(xs, targets, [None] * LAYERS, [1.0] * 3)[0].mean().item()


def windows(ids, T):
    """Yield (ids, targets) of N streams of equal length, without what does not fill a window."""
    length = len(ids) // N
    table = torch.tensor(ids[: length * N].reshape(N, length))
    for start in range(0, (length - 1) // T * T, T):
        yield table[:, start : start + T], table[:, start + 1 : start + T + 1]


def masks_of(rng, p, shape):
    if not p:
        return [1.0] * 3
    return [torch.tensor((rng.random(shape, dtype=np.float32) >= p) / (1 - p)) for _ in range(3)]


def trained(model, ids, T, epoch, rate, p):
    """Train for an epoch; return the mean nats of its tokens, and the norms of its gradients."""
    states, nats, norms = [None] * LAYERS, [], []
    rng, parameters = stream(0, 1, epoch), [p for p in model.parameters() if p.requires_grad]
    for xs, targets in windows(ids, T):
        found, states = model(xs, targets, states, masks_of(rng, p, (N, T, model.W.shape[0])))
        gradients = torch.autograd.grad(found.sum(dim=1).mean(), parameters)
        norm = math.sqrt(sum(float((g * g).sum()) for g in gradients))
        with torch.no_grad():
            for parameter, g in zip(parameters, gradients, strict=True):
                parameter -= rate * min(1.0, 5 / norm) * g
        nats.append(found.detach().mean().item())
        norms.append(norm)
    return np.mean(nats), norms


def text(rng, tokens):
    """Return lines of a language in which each word is followed by one of three, or by a frequent one."""
    follows, word, words = np.random.default_rng(0).integers(0, 60, (60, 3)), 0, []
    while len(words) < tokens - 1:
        word = follows[word, rng.integers(3)]
        words.append("\n" if rng.random() < 0.05 else "<unk>" if word == 9 else f"w{word}")
        if rng.random() < 0.5:
            words[-1] = "the"  # so gradients begin above the norm at which they are clipped
    return " " + " ".join(words) + " \n"  # as the files of the Penn Treebank have it


@pytest.mark.sample(1)
@pytest.mark.parametrize(
    ("name", "H", "T", "epochs", "full", "factor", "p"),
    [
        ("zaremba-small", 12, 20, 7, 4, 1 / 2, 0.0),
        ("zaremba-medium", 12, 35, 8, 6, 1 / 1.2, 0.5),
        # That of 650 units is left out: from one of 200 on, rounding errors grow to 1e-7 within these updates.
        pytest.param("zaremba-small", 200, 20, 7, 4, 1 / 2, 0.0, marks=pytest.mark.nightly),
    ],
)
def test_the_command_takes_the_steps_of_the_paper(name, H, T, epochs, full, factor, p, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng, per_epoch = np.random.default_rng(1), 18
    # Seven steps of each stream and three tokens are left over in training.
    for file, tokens in {"train": N * (per_epoch * T + 8) + 3, "valid": N * 2 * T + 1, "test": 5 * T + 1}.items():
        (tmp_path / file).write_text(text(rng, tokens))
    settings = ["--hidden-size", str(H), "--epochs", str(epochs), "--dtype", "float64"]
    command = ["train", "train", "--valid", "valid", "--test", "test", "--config", name, *settings, "--save", "run"]
    assert main([*command, "--no-progress"]) == 0
    printed = capsys.readouterr().out

    config = TrainConfig.from_toml(config_file(name)).replace(hidden_size=H, dtype="float64")
    vocabulary = Corpus.from_text((tmp_path / "train").read_text(), "token").vocabulary
    train, valid, test = (
        vocabulary.encode((tmp_path / file).read_text().replace("\n", "<eos>").split()).astype(np.int64)
        for file in ("train", "valid", "test")
    )
    initial = make_model(config, len(vocabulary)).parameters()
    model, best = Paper({name: weight.data for name, weight in initial.items()}, H), math.inf
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [per_epoch * (n + 1) for n in range(epochs)]
    for epoch, line in enumerate(lines, start=1):
        rate = factor ** max(0, epoch - full)
        nats, norms = trained(model, train, T, epoch, rate, p)
        held_out = model.mean(valid, N)
        # Ours is a mean over the steps: the same updates with T times the rate and 1/T of the norm.
        found = [line["lr"] / T, line["train_nats"], line["valid_nats"], line["gradient_norm"] * T]
        np.testing.assert_allclose(found, [rate, nats, held_out, np.mean(norms)], rtol=1e-9)
        assert epoch > 1 or max(norms) > 5  # something was clipped
        if held_out < best:
            best, weights, on_test = held_out, model.W.detach().numpy().copy(), model.mean(test, 1)
    np.testing.assert_allclose(load_model("run").model.parameters()["output.W"].data, weights, rtol=0, atol=1e-9)
    assert f"perplexity {math.exp(on_test):.1f}, {5 * T} tokens as one stream" in printed
