"""The page in a real browser, opened from file://: how it looks, prints, and whom it asks (no one)."""

import base64
import io
import json
import re
import time

import matplotlib.image
import numpy as np
import pytest
from pages import centre, opacities, rnn_scene, until

from tinygrad_rnn.pictures.export.page import page
from tinygrad_rnn.pictures.export.svg import write_svg


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


def seconds(show, steps):
    """Return how long a page takes to open, and its slowest answer (the median of 8), in seconds."""
    scene = rnn_scene(steps=steps, cut_every=10)
    start = time.monotonic()
    browser = show(scene)
    opened = time.monotonic() - start
    medians = []
    for action in (
        f"document.getElementById('l' + ({steps // 2} + n)).focus()",
        "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))",
        "document.dispatchEvent(new KeyboardEvent('keydown', {key: '+'}))",
    ):
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
        medians.append(sorted(times)[4] / 1000)
    return opened, max(medians)


@pytest.mark.nightly
def test_ten_times_the_boxes_take_about_ten_times_as_long(show):
    small, large = seconds(show, 90), seconds(show, 900)  # 2,700 boxes
    # Work that grew with the square would take a hundred times as long; a frame takes 16 ms at least.
    assert large[0] < 50 * small[0]
    assert large[1] < 50 * max(small[1], 0.016)
