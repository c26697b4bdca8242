"""A browser for the tests of pages."""

import pytest
from pages import rnn_scene

from tinygrad_rnn.pictures.export.page import page
from tinygrad_rnn.pictures.export.svg import write_svg


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
