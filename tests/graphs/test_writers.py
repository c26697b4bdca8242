import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from graph_cases import CASES
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font

from tinygrad_rnn.graphs.drawing import VIEWS
from tinygrad_rnn.graphs.model.flow import flow_of
from tinygrad_rnn.graphs.model.graph import read
from tinygrad_rnn.graphs.model.options import Options
from tinygrad_rnn.graphs.unrolled.view import unrolled
from tinygrad_rnn.pictures.export.dot import write_dot
from tinygrad_rnn.pictures.export.svg import write_svg
from tinygrad_rnn.pictures.scene.scene import Label, Scene
from tinygrad_rnn.pictures.scene.text import text_width, title_runs

GOLDEN = Path(__file__).parent / "golden"
SVG = "{http://www.w3.org/2000/svg}"
CLASSES = {"box", "edge", "region", "heading", "dot", "bar", "label", "legend"}


def scene_of(name, **options):
    graph = read(CASES[name]().losses)
    return unrolled(flow_of(graph), Options(**options))


def groups(svg):
    return [g for g in ET.fromstring(svg).iter(f"{SVG}g") if g.get("class")]


@pytest.mark.parametrize("name", CASES)
def test_every_part_of_a_scene_is_a_group_with_its_id(name):
    scene = scene_of(name)
    found = groups(write_svg(scene))
    assert {g.get("class").split()[0] for g in found} <= CLASSES
    for kind, parts in (("box", scene.boxes), ("region", scene.regions), ("dot", scene.dots)):
        assert [g.get("id") for g in found if g.get("class").split()[0] == kind] == [part.id for part in parts]
    edges = {g.get("id"): g for g in found if g.get("class").startswith("edge")}
    for edge in scene.edges:
        assert (edges[edge.id].get("data-tail"), edges[edge.id].get("data-head")) == (edge.tail, edge.head)
    ids = [g.get("id") for g in found if g.get("id")]
    assert len(ids) == len(set(ids))
    known = {part.id for part in (*scene.boxes, *scene.edges, *scene.dots)}
    assert all(lit <= known for lit in scene.reach.values())


def test_the_ground_is_white_and_nothing_else_is_loaded():
    svg = write_svg(scene_of("rnn"))
    first = next(iter(ET.fromstring(svg)))
    assert (first.get("class"), first.get("fill")) == ("background", "#ffffff")
    assert not re.search(r"<script|\bon\w+=|href|url\(|@import", svg)


def test_tooltips_are_titles_of_names_and_facts():
    svg = write_svg(scene_of("rnn"))
    box = next(g for g in groups(svg) if g.get("class") == "box kind-state")
    lines = box.find(f"{SVG}title").text.split("\n")
    assert lines[0] == "h_1"
    assert {line.split(": ")[0] for line in lines[1:]} >= {"shape", "dtype", "mean", "gradient norm"}


@pytest.mark.parametrize("name", ["rnn cut", "rnn scaled cuts", "lstm", "model", "bidirectional", "rnn last loss"])
def test_dot_text_is_what_it_was(name, request):
    text = write_dot(scene_of(name), name)
    text = re.sub(r"recorded: [^\\\"]*", "recorded: here", text)  # lines of the sources move
    path = GOLDEN / f"{name.replace(' ', '_')}.dot"
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "if the change is meant: pytest tests/graphs --update-golden"


@pytest.mark.parametrize("view", [view for view in VIEWS if view != "unrolled"])
@pytest.mark.parametrize("name", ["rnn cut", "lstm"])
def test_dot_text_of_the_other_views_is_what_it_was(name, view, request):
    kept = CASES[name]()  # alive while it is drawn: leaves keep their names
    graph = read(kept.losses)
    text = write_dot(VIEWS[view](flow_of(graph), Options(steps=2)), name)
    text = re.sub(r"recorded: [^\\\"]*", "recorded: here", text)
    path = GOLDEN / f"{view}_{name.replace(' ', '_')}.dot"
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), "if the change is meant: pytest tests/graphs --update-golden"


def test_the_same_program_gives_the_same_text():
    assert write_dot(scene_of("model")) == write_dot(scene_of("model"))
    assert write_svg(scene_of("model")) == write_svg(scene_of("model"))


needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="the dot program is not installed")


@needs_dot
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", ["rnn cut", "rnn scaled cuts", "model", "masked"])
def test_graphviz_takes_every_position_as_it_is(name, depth):
    scene = scene_of(name, depth=depth)
    done = subprocess.run(["dot", "-Tplain"], input=write_dot(scene).encode(), capture_output=True, check=True)
    assert done.stderr == b""
    placed = {}
    for line in done.stdout.decode().splitlines():
        if line.startswith("node "):
            _, id, x, y, width, height, *_ = line.split(" ")
            placed[id.strip('"')] = [float(part) * 72 for part in (x, y, width, height)]
    for box in scene.boxes:
        expected = [box.x, scene.height - box.y, box.width, box.height]
        np.testing.assert_allclose(placed[box.id], expected, atol=0.6)


@needs_dot
def test_the_drawing_of_graphviz_is_as_large_as_ours():
    scene = scene_of("rnn cut")
    done = subprocess.run(["dot", "-Tsvg"], input=write_dot(scene).encode(), capture_output=True, check=True)
    root = ET.fromstring(done.stdout)
    assert float(root.get("width")[:-2]) == pytest.approx(scene.width, abs=4)
    assert float(root.get("height")[:-2]) == pytest.approx(scene.height, abs=4)


@pytest.mark.parametrize("bold", [False, True])
def test_text_is_never_wider_than_reckoned(bold):
    font = FT2Font(f"{get_data_path()}/fonts/ttf/DejaVuSans{'-Bold' if bold else ''}.ttf")
    font.set_size(10, 72)
    texts = ["tanh(x·Wx + h·Wh + b)", "cross-entropy 2.86", "LSTMCell", "30 steps", "layers.0: 1,360 parameters"]
    texts += ["‖∇‖ 1.2e-4", "mean ℓ = 2.77", "GRUCell and RNNCell, unrolled", "W[ids] ⊙ x", "8×32 float64"]
    for text in texts:
        real = sum(font.load_char(ord(character)).linearHoriAdvance / 65536 for character in text)
        assert real <= text_width(text, 10, bold) * 1.01
        assert text_width(text, 10, bold) <= real * 1.2


def test_what_stands_in_braces_is_a_subscript():
    assert [run.text for run in title_runs("h_{1…35}, c_{2}") if run.subscript] == ["1…35", "2"]


def test_words_beside_a_symbol_are_written_in_one_piece():
    scene = Scene("", "", 100, 50, labels=[Label(50, 25, "cut before t = 5", size=9)])
    assert ">cut before t = 5<" in write_svg(scene)
    assert ">cut before t = 5<" in write_dot(scene)
