"""Exported ONNX files in Netron, in a headless Chromium: the nodes, the names, the metadata, and no error."""

import contextlib
import io
import socket

import numpy as np
import pytest
from pages import until

import tinygrad_rnn as tr

netron = pytest.importorskip("netron", reason="netron is not installed (pip install netron)")
onnx = pytest.importorskip("onnx")

BOXES = "[...document.querySelectorAll('.node-item')]"


@pytest.fixture
def opened(chromium):
    """A function that opens a file and waits for its graph; nothing from outside of this machine is loaded."""
    chromium.call("Network.setBlockedURLs", urls=["https://*"])
    servers = []

    def show(path):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        with contextlib.redirect_stdout(io.StringIO()):
            servers.append(netron.start(str(path), address=port, browse=False))
        chromium.call("Page.navigate", url=f"http://localhost:{port}/")
        accept = "[...document.querySelectorAll('button')].find((button) => button.textContent === 'Accept')"
        until(chromium, f"!!{accept} || {BOXES}.length > 0")
        chromium.js(f"{accept}?.click()")
        until(chromium, f"document.body.classList.contains('default') && {BOXES}.length > 0")
        return chromium

    yield show
    with contextlib.redirect_stdout(io.StringIO()):
        for server in servers:
            netron.stop(server)
    chromium.call("Network.setBlockedURLs", urls=[])


@pytest.mark.nightly
@pytest.mark.parametrize(("cell", "node"), [("lstm", "LSTM"), ("gru", "GRU"), (tr.LRUCell, "Scan")])
def test_netron_shows_names_and_metadata(cell, node, opened, tmp_path):
    model = tr.RNNLM(10, 8, 16, np.random.default_rng(0), cell=cell)
    tr.export(model, tmp_path / "model.onnx", steps=3)
    browser = opened(tmp_path / "model.onnx")
    shown = browser.js(f"{BOXES}.map((box) => box.querySelector('text').textContent)")
    assert node in shown
    state = [port.name for port in onnx.load(tmp_path / "model.onnx").graph.input[1:]]
    assert {"x", "y", *state, *(f"{name}.next" for name in state)} <= set(shown)
    click = "dispatchEvent(new MouseEvent('click', { bubbles: true }))"
    browser.js(f"{BOXES}.find((box) => box.querySelector('text').textContent === 'x').{click}")
    until(browser, "!!document.querySelector('.sidebar')?.innerText.includes('GRAPH PROPERTIES')")
    browser.call(
        "Input.dispatchKeyEvent", type="rawKeyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, modifiers=2
    )
    until(browser, "!!document.querySelector('.sidebar')?.innerText.includes('METADATA')")
    properties = browser.js("document.querySelector('.sidebar').innerText")
    assert "ai.onnx v17" in properties
    assert f'{{"input": "{state[0]}", "output": "{state[0]}.next"' in properties
    assert not [given for name, given in browser.events if name == "Runtime.exceptionThrown"]
    assert not browser.js("document.body.classList.contains('alert')")
