"""The page in a real browser: what the panel says, what the search finds, what is saved."""

import time
from xml.etree import ElementTree

import pytest
from pages import HOSTILE, SHIFT, centre, hover, rnn_scene, text, until

from tinygrad_rnn.pictures.export.svg import write_svg


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
