"""The page in a real browser: what lights up, is pinned, and is reached with the keyboard."""

import re

import numpy as np
import pytest
from pages import HOSTILE, SHIFT, centre, hover, opacities, text, transform, until

import tinygrad_rnn as tr
from tinygrad_rnn.graphs import draw

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
