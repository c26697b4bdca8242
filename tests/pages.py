"""A scene for pages, and what tests do with it in a browser."""

import re
import time

import tinygrad_rnn as tr
from tinygrad_rnn.pictures.scene.scene import Box, Dot, Edge, Region, Row, Scale, Scene

HOSTILE = "</script><b>Wx</b>"
SHIFT = 8


def rnn_scene(steps=4, cut_every=2):
    """An unrolled RNN with a cut between windows; a parameter has a hostile name."""
    scene = Scene("rnn.unrolled", f"{steps} steps · cut every {cut_every}", 180.0 * steps + 60, 460)
    scene.boxes.append(
        Box("p", 90, 420, 150, 44, "parameter", HOSTILE, (Row("16×32", 2.1),), f"{HOSTILE}\nshape: 16×32\n{HOSTILE}: 1")
    )
    for t in range(1, steps + 1):
        x, first = 180.0 * t - 60, (t - 1) % cut_every == 0
        scene.regions.append(Region(f"step{t}", x, 240, 150, 320, "step", f"t = {t}"))
        scene.boxes += [
            Box(
                f"x{t}",
                x,
                350,
                60,
                34,
                "input",
                f"x_{{{t}}}",
                (Row("8×16"),),
                f"x_{t}\nshape: 8×16\ndtype: float32",
            ),
            Box(
                f"h{t}",
                x,
                240,
                120,
                44,
                "state",
                f"h_{{{t}}}",
                (Row("tanh(x·Wx + h·Wh + b)"),),
                f"h_{{{t}}}\nshape: 8×32",
            ),
            Box(
                f"l{t}", x, 120, 90, 40, "loss", f"ℓ_{{{t}}}", (Row("cross-ent 2.86"),), f"ℓ_{{{t}}}\nvalue: 2.86 nats"
            ),
        ]
        scene.dots.append(Dot(f"d{t}", x - 40, 390, 1.0))
        scene.edges += [
            Edge(f"x{t}-h{t}", f"x{t}", f"h{t}", ((x, 333), (x, 262))),
            Edge(f"h{t}-l{t}", f"h{t}", f"l{t}", ((x, 218), (x, 140)), "gradient", 0.4),
            Edge(
                f"p-h{t}",
                "p",
                f"h{t}",
                ((x - 40, 390), (x - 40, 262)),
                "gradient",
                0.1 * 4.0 ** (t % 5),
                tooltip=f"term {t}\nnorm: {t}",
            ),
        ]
        if first and t > 1:
            scene.boxes.append(Box(f"c{t}", x - 90, 240, 30, 30, "cut", "", tooltip="cut\ngradient: stops here"))
            scene.edges.append(Edge(f"h{t - 1}-c{t}", f"h{t - 1}", f"c{t}", ((x - 120, 240), (x - 105, 240)), "cut"))
            scene.edges.append(Edge(f"c{t}-h{t}", f"c{t}", f"h{t}", ((x - 75, 240), (x - 60, 240)), "cut"))
        elif t > 1:
            scene.edges.append(
                Edge(f"h{t - 1}-h{t}", f"h{t - 1}", f"h{t}", ((x - 120, 240), (x - 60, 240)), "gradient", 1.0)
            )
        start = t - (t - 1) % cut_every
        reached = {"p", f"h{t}-l{t}", *(f"h{u - 1}-h{u}" for u in range(start + 1, t + 1))}
        reached |= {id for u in range(start, t + 1) for id in (f"h{u}", f"p-h{u}", f"d{u}")}
        scene.reach[f"l{t}"] = frozenset(reached)
    scene.scale = Scale.of(edge.magnitude for edge in scene.edges if edge.magnitude)
    scene.legend = (230, 392)
    return scene


def until(browser, expression, timeout=5.0):
    """Wait until a JavaScript expression is true."""
    end = time.monotonic() + timeout
    while not browser.js(f"!!({expression})"):
        assert time.monotonic() < end, f"never true: {expression}"
        time.sleep(0.02)


def centre(browser, id):
    rect = f"document.getElementById('{id}').getBoundingClientRect()"
    return browser.js(f"(r => [r.left + r.width / 2, r.top + r.height / 2])({rect})")


def hover(browser, id):
    browser.mouse("mouseMoved", *centre(browser, id))


def opacities(browser):
    """Return the computed opacity of every box, edge and dot of the picture, by id."""
    every = "document.querySelectorAll('svg > .box, svg > .edge, svg > .dot')"
    return browser.js(f"Object.fromEntries([...{every}].map(e => [e.id, +getComputedStyle(e).opacity]))")


def text(browser, name):
    return browser.js(f"document.querySelector('[data-part={name}]').textContent")


def transform(browser):
    """Return x, y (pixels) and zoom of the picture."""
    matrix = browser.js("getComputedStyle(document.querySelector('.view > svg')).transform")
    a, b, c, d, x, y = (float(number) for number in re.findall(r"[-\d.e]+", matrix.removeprefix("matrix")))
    assert (b, c, a) == (0, 0, d)
    return x, y, a


def show(browser, path):
    """Open an exported page, paused, and wait until it is ready."""
    media = [{"name": "prefers-reduced-motion", "value": "reduce"}, {"name": "prefers-color-scheme", "value": "light"}]
    browser.call("Emulation.setEmulatedMedia", media="screen", features=media)
    browser.open(path)
    until(browser, "document.documentElement.dataset.ready === 'true'")


def is_silent(browser, path):
    """No error has come, and nothing but the page been asked for."""
    wrong = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    assert [given for name, given in browser.events if name in wrong] == []
    asked = [given["request"]["url"] for name, given in browser.events if name == "Network.requestWillBeSent"]
    asked = [url for url in asked if not url.startswith("blob:")]
    assert asked == [path.as_uri()], asked


def losses_in_python(model, batches, loss, N, updates):
    """Return the losses of the updates that a page makes, as the library makes them; each round starts from zeros."""
    step, losses = tr.TrainStep(model, loss, tr.Adam(lr=0.01)), []
    while True:
        state = model.initial_state(N)
        for batch in batches:
            result = step(batch, state)
            state = result.state
            losses.append(result.loss)
            if len(losses) == updates:
                return losses
