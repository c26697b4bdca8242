"""The page in a real browser: where the picture moves, and how large it is."""

import time

import numpy as np
import pytest
from pages import centre, text, transform, until


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
