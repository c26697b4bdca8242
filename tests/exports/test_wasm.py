"""The format wasm in Node and in a browser: streams, windows, training steps, and what is refused."""

import functools
import http.server
import json
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn import cli
from tinygrad_rnn.exports.web import executor as build

pytest.importorskip("ziglang")
NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(NODE is None, reason="node is not on the path")

RNG = np.random.default_rng
V, D, H = 11, 5, 8

DRIVER = """
import { readFileSync, writeFileSync } from "node:fs";
const [loader, given, made] = process.argv.slice(2);
const model = await (await import(loader)).load();
const results = JSON.parse(readFileSync(given)).map((inputs) => Object.values(model.step(inputs)).map((y) => [...y]));
writeFileSync(made, Float64Array.from(results.flat(Infinity), Number));
"""


class Decaying(tr.Module):
    """A user's cell: an exponential moving average whose rate is learned."""

    input_size = D

    def __init__(self):
        self.W = tr.parameter(RNG(0).standard_normal((D, H)), np.float32)
        self.rate = tr.parameter(np.linspace(-2, 2, H), np.float32)

    def initial_state(self, batch_size):
        return {"mean": np.zeros((batch_size, H), np.float32), "age": np.zeros((batch_size, 1), np.float32)}

    def __call__(self, x, state):
        a = tr.sigmoid(self.rate)
        mean = (1 - a) * state["mean"] + a * np.tanh(x @ self.W) * np.log1p(state["age"])
        return np.cos(mean), {"mean": mean, "age": state["age"] + 1}


def language_model(cell, layers=1):
    return tr.RNNLM(V, D, H, RNG(1), cell=cell, layers=layers)


MODELS = {
    "rnn": lambda: language_model("rnn"),
    "lstm": lambda: language_model("lstm"),
    "gru": lambda: language_model("gru"),
    "two layers": lambda: language_model("lstm", 2),
    "a user's cell": Decaying,
    "lru": lambda: tr.LRUCell(D, H, RNG(2)),
}


@pytest.fixture(scope="session", autouse=True)
def executor():
    """The executor, compiled once; it stays in the cache folder."""
    return build.executor()


def replayed(folder, loader, inputs):
    """What Node makes of a list of inputs, the results of all steps in one row."""
    (folder / "drive.mjs").write_text(DRIVER)
    (folder / "given.json").write_text(
        json.dumps([{name: np.asarray(part).tolist() for name, part in step.items()} for step in inputs])
    )
    arguments = [NODE, str(folder / "drive.mjs"), loader.as_uri(), str(folder / "given.json"), str(folder / "made")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return np.fromfile(folder / "made")


def stream(model, steps, streams=2):
    rng = RNG(3)
    if hasattr(model, "vocab_size"):
        return rng.integers(0, V, (steps, streams))
    return rng.standard_normal((steps, streams, D)).astype(np.float32)


def check_stream(folder, name, steps):
    model = MODELS[name]()
    xs = stream(model, steps)
    _, loader = tr.export(model, folder / "model.wasm", streams=2)
    made = replayed(folder, loader, [{"x": x} for x in xs])
    stepper, state, expected = tr.Stepper(model), None, []
    for x in xs:
        y, state = stepper(x, state)
        expected.append(y)
    expected = np.array(expected)
    assert np.abs(made.reshape(expected.shape) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("name", ["lstm", "a user's cell"])
def test_a_stream_is_that_of_the_executor(tmp_path, name):
    check_stream(tmp_path, name, 300)


@pytest.mark.nightly
@pytest.mark.parametrize("name", MODELS)
def test_a_long_stream_is_that_of_the_executor(tmp_path, name):
    check_stream(tmp_path, name, 10_000)


def training():
    """A training step: full windows of BPTT, gradients clipped, and the rule of SGD."""
    model = language_model("gru")

    def update(params, ids, targets, state):
        loss, state = model.loss(ids, targets, state)
        gradients = tr.grad(loss, params)
        return loss, {name: p - 0.5 * gradients[name] for name, p in params.items()}, state

    return update, model, RNG(4).integers(0, V, (3, 41))


def test_a_training_step_carries_the_parameters(tmp_path):
    update, model, ids = training()
    params, state = model.parameters(), model.initial_state(3)
    windows = [(ids[:, t : t + 8], ids[:, t + 1 : t + 9]) for t in range(0, 40, 8)] * 4
    _, loader = tr.export(update, tmp_path / "train.wasm", params, *windows[0], state, carry=("params", "state"))
    made = replayed(tmp_path, loader, [{"ids": x, "targets": y} for x, y in windows])
    step, losses = tr.compile(update), []
    for x, y in windows:
        loss, new, state = step(params, x, y, state)
        model.load(new)
        losses.append(float(loss))
    assert losses[-1] < 0.95 * losses[0]
    np.testing.assert_allclose(made, losses, rtol=1e-5)


def test_a_window_is_a_loop_in_the_module(tmp_path):
    model = tr.LSTMCell(D, H, RNG(5))
    xs = RNG(6).standard_normal((1, 9, D)).astype(np.float32)
    _, loader = tr.export(model, tmp_path / "window.wasm", steps=9)
    made = replayed(tmp_path, loader, [{"x": xs}])
    np.testing.assert_allclose(made.reshape(1, 9, H), tr.unroll(model, xs)[0].data, rtol=1e-4, atol=1e-6)


def test_reductions_that_the_library_leaves_to_numpy(tmp_path):
    """Values of one axis and of all, with infinities; and gradients of softmax and of losses with kinks, in float32."""
    x = RNG(7).standard_normal((3, 5, 7)).astype(np.float32)
    x[0, :, 2], x[1, 3, 4] = -np.inf, np.inf

    def values(x):
        finite = np.maximum(np.minimum(x, np.float32(9)), np.float32(-9))
        return (
            *(part for axis in (0, 1, -1) for part in (np.max(x, axis=axis), np.min(x, axis=axis, keepdims=True))),
            *(tr.logsumexp(x, axis=axis) for axis in (0, 1, 2)),
            *(tr.logsumexp(finite), tr.log_softmax(finite, axis=1), np.max(finite), tr.softmax(finite[:, :, :1])),
        )

    _, loader = tr.export(values, tmp_path / "values.wasm", x)
    with np.errstate(all="ignore"):
        expected = np.concatenate([np.ravel(part) for part in values(x)])
    given = json.dumps({"x": x.tolist()}).replace("Infinity", "1e999")  # JSON has no other infinity
    found = run(
        tmp_path,
        f"import {{ load }} from './values.mjs'; const m = await load(); "
        f"const r = Object.values(m.step({given})).flatMap((y) => [...y]); console.log(JSON.stringify(r.map(String)));",
    )
    np.testing.assert_allclose(
        [float(value.replace("Infinity", "inf")) for value in found], expected, rtol=1e-5, atol=1e-6
    )

    def learn(p, x):
        shares = tr.softmax(p)
        loss = np.sum(shares * x) + tr.huber(p, x) + tr.mae(p, x) + np.sum(np.abs(p)) + tr.logsumexp(p)
        return loss, p - np.float32(0.1) * tr.grad(loss, [p])[0]

    p, rows = tr.parameter(RNG(8).standard_normal((4, 6)), np.float32), x[2, :4, :6]
    _, loader = tr.export(learn, tmp_path / "learn.wasm", p, rows, carry="p")
    made, losses = replayed(tmp_path, loader, [{"x": rows}] * 5), []
    for _ in range(5):
        loss, new = learn(p, rows)
        p.data = new.data
        losses.append(loss.item())
    np.testing.assert_allclose(made, losses, rtol=1e-5)


SCRIPT = """
const { load, Model } = await import(%s);
const told = [], fail = async (work) => { try { await work(); } catch (error) { told.push(String(error)); } };
const model = await load();
const [first, second] = [model.step({ x: 3 }), model.step({ x: [4] })];
const kept = model.state;
await fail(() => model.step({ x: [1, 2] }));
await fail(() => model.step({}));
await fail(() => model.step({ x: %d }));
await fail(() => model.step({ x: -1 }));
await fail(() => model.step({ x: 0.5 }));
await fail(() => model.step({ x: ["3"] }));
await fail(() => model.step({ x: 3, y: 4 }));
await fail(() => (model.state = { state: [0] }));
await fail(() => (model.weights = { W: [0] }));
const same = model.stateNames.every((name) => model.state[name].every((part, n) => part === kept[name][n]));
model.reset();
const again = [model.step({ x: 3 }), model.step({ x: 4 })];
model.state = kept;
console.log(JSON.stringify({
  told, same, again: String(again[1].y) === String(second.y), inputs: model.inputs.map(({ name }) => name),
  state: model.stateNames, weights: Object.keys(model.weights),
}));
"""


def run(folder, script):
    (folder / "script.mjs").write_text(script)
    done = subprocess.run([NODE, str(folder / "script.mjs")], capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_state_reset_and_errors(tmp_path):
    model = language_model("lstm")
    _, loader = tr.export(model, tmp_path / 'it\'s 100% "mine".wasm')
    told = run(tmp_path, SCRIPT % (json.dumps(loader.as_uri()), V))
    assert told["same"]
    assert told["again"]
    assert told["inputs"] == ["x"]
    assert told["state"] == ["state.0.0", "state.0.1"]
    assert sorted(told["weights"]) == sorted(model.parameters())
    assert told["told"][:4] == [
        "TypeError: step: x is int64 of shape (1), 1 numbers; got 2 of them",
        "TypeError: step: x is int64 of shape (1), 1 numbers; got nothing",
        *["RangeError: step: an id is out of range; the state is as it was before"] * 2,
    ]
    assert told["told"][4].startswith("RangeError")
    assert told["told"][5:8] == [
        "TypeError: step: x is int64 of shape (1), 1 numbers; got a string among them",
        "TypeError: step: nothing here is called y; there is x",
        "TypeError: state: nothing here is called state; there is state.0.0, state.0.1",
    ]
    assert told["told"][8].startswith("TypeError: weights: nothing here is called W; there is ")


class OfIds(tr.Module):
    """A cell that looks up its ids itself, one a step."""

    time_axis, vocab_size = False, V

    def __init__(self):
        self.embedding, self.cell = tr.Embedding(V, D, RNG(0)), tr.GRUCell(D, H, RNG(0))

    def initial_state(self, batch_size):
        return self.cell.initial_state(batch_size)

    def __call__(self, x, state):
        return self.cell(self.embedding(x), state)


@pytest.mark.parametrize("make", [lambda: language_model("gru"), OfIds])
def test_negative_ids_are_refused_where_python_refuses_them(tmp_path, make):
    _, loader = tr.export(make(), tmp_path / "window.wasm", steps=4)
    script = f"""
const {{ load }} = await import({json.dumps(loader.as_uri())});
const model = await load(), ids = [1, 2, -1, 3], told = [];
try {{ model.step({{ x: ids }}); }} catch (error) {{ told.push(error.name); }}
told.push(Math.max(...Object.values(model.state)[0]));
console.log(JSON.stringify(told));
"""
    assert run(tmp_path, script) == ["RangeError", 0]


def test_negative_ids_count_from_the_end_where_they_do_in_python(tmp_path):
    _, loader = tr.export(
        lambda rows, ids: rows[ids], tmp_path / "rows.wasm", np.eye(3, dtype=np.float32), np.array([0])
    )
    assert replayed(tmp_path, loader, [{"rows": np.eye(3), "ids": [-1]}]).tolist() == [0, 0, 1]


def test_names_harm_nothing(tmp_path):
    names = ["__proto__", '";drop', "int", "</script>", "constructor"]

    def step(x):
        return {name: x * number for number, name in enumerate(names)}

    _, loader = tr.export(step, tmp_path / "names.wasm", np.ones(2, np.float32))
    script = f"""
const {{ load }} = await import({json.dumps(loader.as_uri())});
const made = (await load()).step({{ x: [1, 2] }});
console.log(JSON.stringify(Object.keys(made).map((name) => [name, [...made[name]]])));
"""
    assert run(tmp_path, script) == [[f"y.{name}", [n, 2 * n]] for n, name in enumerate(names)]


def test_damage_is_found(tmp_path):
    path, loader = tr.export(language_model("rnn"), tmp_path / "model.wasm")
    script = f"""
import {{ readFileSync }} from "node:fs";
const {{ load }} = await import({json.dumps(loader.as_uri())});
const bytes = readFileSync({json.dumps(str(path))});
const told = {{}};
const count = async (given) => {{
  const said = await load(given).then(() => "loaded", (error) => error.message);
  told[said] = (told[said] ?? 0) + 1;
}};
for (let k = 0; k < 40; k++) {{
  const other = Uint8Array.from(bytes);
  other[8 + Math.floor((k / 40) * (bytes.length - 8))] ^= 1 << (k % 8);
  await count(other);
}}
await count(bytes.subarray(0, 1000));
await count(new TextEncoder().encode("not a module"));
await count(bytes);
console.log(JSON.stringify(told));
"""
    assert run(tmp_path, script) == {
        "load: the file is damaged; export the model anew": 41,
        "load: this is no WebAssembly module; export the model anew": 1,
        "loaded": 1,
    }


def test_a_classifier_that_reads_in_both_directions(tmp_path):
    model = tr.SequenceModel("lstm", D, H, 2, RNG(0), last=True, bidirectional=True)
    _, loader = tr.export(model, tmp_path / "model.wasm", steps=4)
    xs = RNG(1).standard_normal((1, 4, D)).astype(np.float32)
    np.testing.assert_allclose(replayed(tmp_path, loader, [{"x": xs}]), model(xs).data.ravel(), rtol=1e-5, atol=1e-6)


def test_the_command(tmp_path, capsys):
    tr.save(tmp_path / "cell.npz", tr.GRUCell(D, H, RNG(0)))
    assert cli.main(["export", str(tmp_path / "cell.npz"), "--to", "wasm", "--streams", "2"]) == 0
    assert f"{tmp_path / 'cell.mjs'}, " in capsys.readouterr().out
    assert len(replayed(tmp_path, tmp_path / "cell.mjs", [{"x": np.ones((2, D))}])) == 2 * H


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (lambda x: np.sort(x), tr.UnsupportedError, "wasm cannot compute argsort as it is used here"),
        (lambda x: tr.astype(x, np.float16), tr.UnsupportedError, "y is of float16: convert it"),
    ],
)
def test_what_is_refused(tmp_path, function, error, message):
    with pytest.raises(error, match=message):
        tr.export(function, tmp_path / "f.wasm", np.ones(3, np.float32))
    assert not [*tmp_path.iterdir()]


def test_without_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(build.shutil, "which", lambda name: None)
    build.executor.cache_clear()
    with pytest.raises(tr.ConfigError, match=r"pip install tinygrad_rnn\[native\]"):
        tr.export(tr.GRUCell(D, H, RNG(0)), tmp_path / "f.wasm")
    build.executor.cache_clear()


@pytest.fixture
def server(tmp_path):
    """The address of a server of files in a folder."""
    handler = functools.partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}"
        found.shutdown()
        thread.join()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path):
        return {".mjs": "text/javascript", ".wasm": "application/wasm"}.get(Path(path).suffix, "text/html")

    def log_message(self, format, *arguments):
        pass


def test_a_browser_computes_the_same_bits_as_node(tmp_path, server, chromium):
    model = language_model("gru")
    _, loader = tr.export(model, tmp_path / "model.wasm")
    xs = stream(model, 100, 1)
    expected = replayed(tmp_path, loader, [{"x": x} for x in xs])
    (tmp_path / "page.html").write_text("<!doctype html><title>model</title>")
    chromium.call("Page.navigate", url=f"{server}/page.html")
    chromium.wait("Page.loadEventFired")
    made = chromium.js(
        f"""(async () => {{
          const model = await (await import("./model.mjs")).load();
          return {json.dumps(xs.tolist())}.map((x) => [...model.step({{ x }}).y]);
        }})()"""
    )
    np.testing.assert_array_equal(np.ravel(made), expected)
