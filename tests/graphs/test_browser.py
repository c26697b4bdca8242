"""The page in a real browser, opened from file://: what is lit, where it moves, what it says, whom it asks (no one)."""

import base64
import io
import json
import os
import re
import time
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from chromium import Chromium, find_chromium

import tinygrad_rnn as tr
from tinygrad_rnn.graphs import draw
from tinygrad_rnn.pictures.export.page import page
from tinygrad_rnn.pictures.export.svg import write_svg
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


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    program = find_chromium()
    if program is None:
        message = "no Chromium on the path (install chromium, or name one in the environment variable CHROMIUM)"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    browser = Chromium(program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def show(chromium, tmp_path):
    """Open scenes in the browser; in the end no error may have come, and nothing but the page been asked for."""
    media = [{"name": "prefers-reduced-motion", "value": "reduce"}, {"name": "prefers-color-scheme", "value": "light"}]
    chromium.call("Emulation.setEmulatedMedia", media="screen", features=media)
    chromium.mouse("mouseMoved", 1, 1)

    def open_scene(scene):
        path = tmp_path / "page.html"
        path.write_text(page(scene, write_svg(scene)), encoding="utf-8")
        chromium.open(path)
        return chromium

    yield open_scene
    events = chromium.events
    assert [
        p for name, p in events if name in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
    ] == []
    asked = {p["request"]["url"].partition(":")[0] for name, p in events if name == "Network.requestWillBeSent"}
    assert asked <= {"file", "blob"}
    assert (
        sum(p["request"]["url"].startswith("file:") for name, p in events if name == "Network.requestWillBeSent") == 1
    )


@pytest.fixture
def browser(show):
    return show(rnn_scene())


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


LIT_4 = {"l4", "h4", "h3", "h4-l4", "h3-h4", "p", "p-h3", "p-h4", "d3", "d4", "c3", "c3-h3"}
SAYS_4 = f"ℓ4 teaches h4, h3, {HOSTILE}; stops at the cut before step 3."


def test_hovering_a_loss_lights_what_it_teaches_and_dims_the_rest(browser):
    assert set(opacities(browser).values()) == {1}
    hover(browser, "l4")
    until(browser, "document.querySelector('svg.lit')")
    found = opacities(browser)
    assert {id for id, opacity in found.items() if opacity == 1} == LIT_4
    assert all(opacity < 0.3 for id, opacity in found.items() if id not in LIT_4)
    assert text(browser, "says") == SAYS_4
    assert browser.js("getComputedStyle(document.querySelector('#c3 > rect')).strokeWidth") == "3.6px"
    assert browser.js("document.querySelector('[data-part=says]').getAttribute('aria-live')") == "polite"
    hover(browser, "l1")
    until(browser, "document.querySelector('#l1.on')")
    assert {id for id, opacity in opacities(browser).items() if opacity == 1} == {
        "l1",
        "h1",
        "h1-l1",
        "p",
        "p-h1",
        "d1",
    }
    assert text(browser, "says") == f"ℓ1 teaches h1, {HOSTILE}."
    browser.mouse("mouseMoved", 1270, 700)
    until(browser, "!document.querySelector('svg.lit')")
    assert set(opacities(browser).values()) == {1}
    assert text(browser, "says") == ""


def test_the_page_of_a_real_model_lights_each_window_up_to_its_cut(show):
    model = tr.RNNLM(10, 4, 6, np.random.default_rng(0))
    ids = np.arange(12).reshape(2, 6) % 10
    drawing = draw(model, ids[:, :5], ids[:, 1:], gradients=True, cut_every=3)
    browser = show(drawing.scene)
    lit = {}
    for box in drawing.scene.boxes:
        if box.kind == "loss" and not box.strong:
            hover(browser, box.id)
            until(browser, f"document.querySelector('#{box.id}.over')")
            names = browser.js(
                "[...document.querySelectorAll('.box.on.kind-state')].map(e => e.querySelector('text').textContent)"
            )
            lit[text(browser, "says").split(" ")[0]] = (
                sorted(names),
                browser.js("document.querySelectorAll('.stop').length"),
            )
    assert [lit[f"ℓ{t}"] for t in range(1, 6)] == [
        (["h1"], 0),
        (["h1", "h2"], 0),
        (["h1", "h2", "h3"], 0),
        (["h4"], 1),
        (["h4", "h5"], 1),
    ]
    assert re.search(r"^ℓ5 teaches .*h5, h4, .*Wx, Wh, b.*; stops at the cut before step 4\.$", text(browser, "says"))


def test_a_click_pins_and_escape_clears(browser):
    browser.click(*centre(browser, "l4"))
    until(browser, "document.querySelector('#l4.pinned')")
    assert browser.js("document.getElementById('l4').getAttribute('aria-pressed')") == "true"
    hover(browser, "l1")
    until(browser, "document.querySelector('#l1.over')")
    assert {id for id, opacity in opacities(browser).items() if opacity == 1} == LIT_4 | {"l1"}
    assert text(browser, "says") == f"Pinned: {SAYS_4}"
    browser.press("Escape")
    until(browser, "!document.querySelector('svg.lit')")
    assert set(opacities(browser).values()) == {1}
    assert browser.js("document.getElementById('l4').getAttribute('aria-pressed')") == "false"


def test_a_second_click_or_one_beside_the_boxes_unpins(browser):
    hover(browser, "l4")
    until(browser, "document.querySelector('svg.lit')")
    for says in (f"Pinned: {SAYS_4}", SAYS_4, f"Pinned: {SAYS_4}"):
        browser.click(*centre(browser, "l4"))
        assert text(browser, "says") == says
    browser.click(1270, 700)
    until(browser, "!document.querySelector('svg.lit')")


def test_tab_reaches_each_loss_and_nothing_else_of_the_picture(browser):
    seen = []
    for _ in range(12):
        browser.press("Tab")
        seen.append(browser.js("document.activeElement.dataset.part || document.activeElement.id"))
    assert seen[:10] == ["find", "out", "in", "fit", "save", "dark", "l1", "l2", "l3", "l4"]


def test_the_keyboard_lights_pins_and_clears(browser):
    for _ in range(10):
        browser.press("Tab")
    until(browser, "document.querySelector('#l4.on')")
    assert {id for id, opacity in opacities(browser).items() if opacity == 1} == LIT_4
    ring = browser.js("(s => [s.outlineStyle, parseFloat(s.outlineWidth)])(getComputedStyle(document.activeElement))")
    assert ring[0] == "solid"
    assert ring[1] * transform(browser)[2] == pytest.approx(3, abs=1)
    browser.press("Enter")
    assert text(browser, "says") == f"Pinned: {SAYS_4}"
    browser.press("Tab", modifiers=SHIFT)
    assert text(browser, "says") == f"Pinned: {SAYS_4}"
    browser.press("Escape")
    until(browser, "!document.querySelector('svg.lit')")
    assert text(browser, "says") == ""


def test_shift_and_arrows_go_from_part_to_part(browser):
    for _ in range(8):
        browser.press("Tab")
    seen = []
    for key in ("ArrowDown", "ArrowRight", "ArrowLeft", "ArrowUp"):
        browser.press(key, modifiers=SHIFT)
        seen.append(browser.js("document.activeElement.id"))
    assert seen == ["h2", "c3", "h2", "l2"]
    assert browser.js("document.getElementById('h2').getAttribute('aria-label')") == "h 2\nshape: 8×32"


def test_the_picture_is_fitted_and_stays_so_when_the_window_changes(browser):
    def margins():
        picture = "document.querySelector('.view > svg').getBoundingClientRect()"
        room = "document.querySelector('.view').getBoundingClientRect()"
        return browser.js(
            f"((a, b) => [a.left - b.left, b.right - a.right, a.top - b.top, b.bottom - a.bottom])({picture}, {room})"
        )

    def fitted():
        left, right, top, bottom = margins()
        return min(left, right, top, bottom) >= 10 and abs(left - right) < 1 and abs(top - bottom) < 1

    assert fitted()
    size = {"deviceScaleFactor": 1, "mobile": False}
    try:
        browser.call("Emulation.setDeviceMetricsOverride", width=700, height=600, **size)
        until(browser, "innerWidth === 700")
        end = time.monotonic() + 5
        while not fitted():
            assert time.monotonic() < end, margins()
    finally:
        browser.call("Emulation.setDeviceMetricsOverride", width=1280, height=900, **size)


def test_the_wheel_zooms_at_the_pointer(browser):
    x, y = centre(browser, "l4")
    _, _, before = transform(browser)
    browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200)
    until(
        browser, f"new DOMMatrix(getComputedStyle(document.querySelector('.view > svg')).transform).a > {before * 1.1}"
    )
    assert transform(browser)[2] == pytest.approx(before * np.exp(0.3), rel=1e-3)
    assert centre(browser, "l4") == pytest.approx([x, y], abs=0.5)
    assert text(browser, "zoom") == f"{round(transform(browser)[2] * 100)} %"


def test_keys_and_buttons_zoom_and_pan(browser):
    x, y, k = fitted = transform(browser)
    browser.press("+")
    assert transform(browser)[2] == pytest.approx(1.25 * k, abs=1e-3)
    browser.press("-")
    assert transform(browser) == pytest.approx(fitted, abs=1e-3)
    browser.press("ArrowRight")
    browser.press("ArrowDown")
    assert transform(browser) == pytest.approx((x - 60, y - 60, k), abs=1e-3)
    browser.press("0")
    assert transform(browser) == pytest.approx(fitted, abs=1e-3)
    browser.click(
        *browser.js("(r => [r.x + 5, r.y + 5])(document.querySelector('[data-part=in]').getBoundingClientRect())")
    )
    assert transform(browser)[2] == pytest.approx(1.25 * k, abs=1e-3)
    browser.click(
        *browser.js("(r => [r.x + 5, r.y + 5])(document.querySelector('[data-part=fit]').getBoundingClientRect())")
    )
    assert transform(browser) == pytest.approx(fitted, abs=1e-3)


def test_dragging_moves_the_picture_keeps_what_is_pinned_and_never_loses_the_picture(browser):
    browser.click(*centre(browser, "l4"))
    x, y, k = transform(browser)
    start_x, start_y = centre(browser, "l2")
    browser.mouse("mouseMoved", start_x, start_y)
    browser.mouse("mousePressed", start_x, start_y, button="left", buttons=1, clickCount=1)
    for n in range(1, 6):
        browser.mouse("mouseMoved", start_x + 20 * n, start_y + 8 * n, button="left", buttons=1)
    browser.mouse("mouseReleased", start_x + 100, start_y + 40, button="left", clickCount=1)
    assert transform(browser) == pytest.approx((x + 100, y + 40, k), abs=0.5)
    assert browser.js("[...document.querySelectorAll('.pinned')].map(e => e.id)") == ["l4"]
    for _ in range(60):
        browser.press("ArrowLeft")
    assert browser.js("document.querySelector('.view > svg').getBoundingClientRect().left") <= 1280 - 60


def test_two_fingers_zoom(browser):
    _, _, before = transform(browser)
    x, y = centre(browser, "h2")
    browser.call("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80), ("touchEnd", None)):
        points = [] if apart is None else [{"x": x - apart, "y": y, "id": 0}, {"x": x + apart, "y": y, "id": 1}]
        browser.call("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    browser.call("Emulation.setTouchEmulationEnabled", enabled=False)
    assert transform(browser)[2] == pytest.approx(2 * before, rel=0.02)
    assert centre(browser, "h2") == pytest.approx([x, y], abs=3)


@pytest.mark.parametrize(
    ("id", "heading", "facts"),
    [
        ("x2", "x2", ["shape", "8×16", "dtype", "float32"]),
        ("p-h3", "term 3", ["norm", "3"]),
        ("c3", "cut", ["gradient", "stops here"]),
        ("p", HOSTILE, ["shape", "16×32", HOSTILE, "1"]),
    ],
)
def test_the_panel_shows_a_tooltip_as_text_and_stays_in_view(browser, id, heading, facts):
    hover(browser, id)
    until(browser, "!document.querySelector('.panel').hidden")
    assert browser.js("document.querySelector('.panel strong').textContent") == heading
    assert browser.js("[...document.querySelectorAll('.panel dt, .panel dd')].map(e => e.textContent)") == facts
    assert browser.js("document.querySelectorAll('b').length") == 0
    inside = "(a, b) => a.left >= b.left && a.right <= b.right && a.top >= b.top && a.bottom <= b.bottom"
    rects = "['.panel', '.view'].map(name => document.querySelector(name).getBoundingClientRect())"
    assert browser.js(f"({inside})(...{rects})")
    assert browser.js("document.querySelectorAll('svg title').length") == 0
    browser.press("Escape")
    assert browser.js("document.querySelector('.panel').hidden")


def test_the_panel_stands_beside_its_box_and_hides_nothing_that_is_lit(browser):
    shared = """(a => [...document.querySelectorAll('.box.on')].map(e => e.getBoundingClientRect()).filter(
        b => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom).length)"""
    panel = "document.querySelector('.panel').getBoundingClientRect()"
    for id in ("l4", "l2"):
        hover(browser, id)
        until(browser, f"document.querySelector('#{id}.over')")
        assert browser.js(f"{shared}({panel})") == 0
    hover(browser, "x2")
    until(browser, "document.querySelector('#x2.over')")
    assert browser.js(f"{panel}.left - document.getElementById('x2').getBoundingClientRect().right") == pytest.approx(
        10, abs=1
    )


def test_the_pointer_can_go_over_to_the_panel(browser):
    hover(browser, "h2")
    until(browser, "!document.querySelector('.panel').hidden")
    browser.mouse(
        "mouseMoved", *browser.js("(r => [r.x + 9, r.y + 9])(document.querySelector('.panel').getBoundingClientRect())")
    )
    time.sleep(0.3)
    assert not browser.js("document.querySelector('.panel').hidden")
    browser.mouse("mouseMoved", 1270, 700)
    until(browser, "document.querySelector('.panel').hidden")


def test_a_thin_line_is_hit_from_a_few_pixels_away(browser):
    x, y = centre(browser, "p-h1")
    browser.mouse("mouseMoved", x - 4, y)
    until(browser, "document.querySelector('.edge.over')?.id === 'p-h1'")


@pytest.mark.parametrize("typed", ["h_3", "h3", "H3", "h_{3}"])
def test_search_finds_by_name(browser, typed):
    browser.press("/")
    browser.call("Input.insertText", text=typed)
    assert browser.js("[...document.querySelectorAll('.found')].map(e => e.id)") == ["h3"]
    assert text(browser, "count") == "1 found"
    browser.press("Enter")
    assert browser.js("document.activeElement.id") == "h3"
    assert not browser.js("document.querySelector('.panel').hidden")


def test_search_goes_on_to_the_next_brings_it_into_view_and_is_cleared(browser):
    for _ in range(4):
        browser.press("+")
    browser.press("/")
    browser.call("Input.insertText", text="h")
    browser.press("Enter")
    seen = [browser.js("document.activeElement.id")]
    for key, modifiers in (("n", 0), ("n", 0), ("n", 0), ("N", SHIFT)):
        browser.press(key, modifiers=modifiers)
        seen.append(browser.js("document.activeElement.id"))
        x, y = centre(browser, seen[-1])
        assert 0 < x < 1280
        assert 50 < y < 830
    assert seen == ["h1", "h2", "h3", "h4", "h3"]
    assert text(browser, "count").startswith("3 of ")
    browser.press("/")
    browser.press("Escape")
    assert browser.js("document.querySelectorAll('.found').length") == 0
    browser.call("Input.insertText", text="nowhere")
    assert text(browser, "count") == "nothing found"


def test_saving_writes_the_svg_as_it_was(browser, tmp_path):
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    hover(browser, "l4")
    until(browser, "document.querySelector('svg.lit')")
    browser.js("document.querySelector('[data-part=save]').click()")
    path, end = tmp_path / "rnn.unrolled.svg", time.monotonic() + 10
    while not (path.exists() and path.stat().st_size) and time.monotonic() < end:
        time.sleep(0.05)
    saved, written = (ElementTree.fromstring(source) for source in (path.read_text("utf-8"), write_svg(rnn_scene())))
    assert [(e.tag, e.attrib, (e.text or "").strip()) for e in saved.iter()] == [
        (e.tag, e.attrib, (e.text or "").strip()) for e in written.iter()
    ]


def pixels(browser, selector, scale=4):
    """Return the pixels of what stands at the first match of a selector, (n, 3), from 0 to 1."""
    rect = browser.js(
        f"(r => [r.x, r.y, r.width, r.height])(document.querySelector({json.dumps(selector)}).getBoundingClientRect())"
    )
    clip = dict(zip(("x", "y", "width", "height"), rect, strict=True), scale=scale)
    data = base64.b64decode(browser.call("Page.captureScreenshot", format="png", clip=clip)["data"])
    return matplotlib.image.imread(io.BytesIO(data))[..., :3].reshape(-1, 3)


def contrast(colours):
    """Return the contrast of the colour that is farthest from the most frequent one (WCAG 2, 1.4.3)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    light = linear @ [0.2126, 0.7152, 0.0722] + 0.05
    values, counts = np.unique(light, return_counts=True)
    ratios = values / values[counts.argmax()]
    return max(ratios.max(), 1 / ratios.min())


TEXTS = [
    *("#l1 text", "#l1 text + text", "#h1 text", "#h1 text + text", "#x1 text", "#x1 text + text", "#p text + text"),
    *(".heading text", ".heading text + text", ".region text", ".legend text"),
    *("label", "button", "output", ".hint", ".help li", ".help kbd"),
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_legible_on_a_white_and_on_a_dark_page(browser, scheme):
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    until(browser, f"document.documentElement.dataset.theme === '{scheme}'")
    assert {selector: ratio for selector in TEXTS if (ratio := contrast(pixels(browser, selector))) < 4.5} == {}


def test_the_dark_page_is_dark_the_white_one_white_and_the_button_switches(browser):
    assert pixels(browser, "svg .background", scale=0.5).mean() > 0.9
    browser.js("document.querySelector('[data-part=dark]').click()")
    assert browser.js("document.querySelector('[data-part=dark]').getAttribute('aria-pressed')") == "true"
    values, counts = np.unique(pixels(browser, "svg .background", scale=0.5), axis=0, return_counts=True)
    assert values[counts.argmax()] == pytest.approx([0.09] * 3, abs=0.01)
    # The strongest gradient stands out most on both: the ramp is turned round together with the page.
    strong, weak = (contrast(pixels(browser, f"#p-h{t}")) for t in (4, 1))
    assert strong > 7 > weak
    browser.js("document.querySelector('[data-part=dark]').click()")
    assert pixels(browser, "svg .background", scale=0.5).mean() > 0.9


def test_motion_is_only_for_those_who_do_not_mind(browser):
    fade = "getComputedStyle(document.getElementById('h1')).transitionDuration"
    assert browser.js(fade) == "0s"
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "no-preference"}])
    assert browser.js(fade) == "0.15s"


def test_it_prints_on_one_white_sheet_without_tools(show):
    browser = show(rnn_scene(steps=8))
    browser.js("document.querySelector('[data-part=dark]').click()")
    browser.click(*centre(browser, "l4"))
    for _ in range(5):
        browser.press("+")
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.js("getComputedStyle(document.querySelector('header')).display") == "none"
    assert browser.js("getComputedStyle(document.querySelector('.view')).filter") == "none"
    assert browser.js("getComputedStyle(document.querySelector('.view > svg')).transform") == "none"
    assert opacities(browser)["h1"] < 0.3
    assert browser.js("document.querySelector('.view > svg').getBoundingClientRect().right <= innerWidth")
    pdf = base64.b64decode(browser.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) == 1


def test_without_scripts_the_picture_is_there(show, chromium):
    chromium.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser = show(rnn_scene())
        document = browser.call("DOM.getDocument")["root"]["nodeId"]
        box = browser.call("DOM.querySelector", nodeId=document, selector="#h4")["nodeId"]
        assert browser.call("DOM.getBoxModel", nodeId=box)["model"]["width"] > 100
        tools = browser.call("DOM.querySelector", nodeId=document, selector="header")["nodeId"]
        with pytest.raises(RuntimeError, match="box model"):
            browser.call("DOM.getBoxModel", nodeId=tools)
    finally:
        chromium.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_policy_stops_what_would_reach_out(chromium, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page(rnn_scene(), write_svg(rnn_scene())), encoding="utf-8")
    chromium.open(path)
    broken = chromium.js(
        """new Promise(done => {
            const broken = [];
            addEventListener('securitypolicyviolation', event => {
                if (broken.push(event.effectiveDirective) === 3) done(broken.sort());
            });
            fetch('http://localhost:9/').catch(() => 0);
            new Image().src = 'http://localhost:9/';
            document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}));
        })"""
    )
    assert broken == ["connect-src", "img-src", "script-src-elem"]
    assert chromium.js("window.ran") is None


def test_three_thousand_boxes_answer_at_once(show):
    scene = rnn_scene(steps=900, cut_every=10)
    assert len(scene.boxes) > 2700
    start = time.monotonic()
    browser = show(scene)
    opened = time.monotonic() - start
    medians = {}
    for name, action in {
        "light": "document.getElementById('l' + (400 + n)).focus()",
        "pan": "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))",
        "zoom": "document.dispatchEvent(new KeyboardEvent('keydown', {key: '+'}))",
    }.items():
        times = browser.js(
            f"""(async () => {{
                const times = [];
                for (let n = 0; n < 8; n++) {{
                    const start = performance.now();
                    {action};
                    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
                    times.push(performance.now() - start);
                }}
                return times;
            }})()"""
        )
        medians[name] = sorted(times)[4]
    # Measured: 1.4 s to open, 20 to 40 ms a frame. The bounds only catch what is slow by kind.
    assert opened < 30
    assert max(medians.values()) < 1500, medians
