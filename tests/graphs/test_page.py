"""The page as text: what stands in it, what it says, and that nothing of a scene can break out of its place."""

import base64
import hashlib
import json
import re
import subprocess
import sys
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_rnn
from tinygrad_rnn.config import ready_configs
from tinygrad_rnn.pictures.export.page import _runs, page, page_data
from tinygrad_rnn.pictures.export.svg import write_svg
from tinygrad_rnn.pictures.scene.scene import Box, Edge, Region, Row, Scene


class Reader(HTMLParser):
    """Collects every element with its attributes, and the text of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.inside, self._open = [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._open = (tag, dict(attrs))

    def handle_endtag(self, tag):
        self._open = None

    def handle_data(self, data):
        if self._open:
            self.inside.append((*self._open, data))


def box(id, kind, title, x=0.0, rows=()):
    return Box(id, x, 50, 40, 30, kind, title, rows=tuple(Row(text) for text in rows))


def line(id, tail, head, kind="gradient"):
    return Edge(id, tail, head, ((0, 0), (9, 9)), kind)


def cut_scene():
    """Two steps with a cut between them; only l_2 is told of."""
    return Scene(
        "rnn",
        "2 steps",
        300,
        200,
        regions=[Region("r1", 50, 50, 90, 90, "step", "t = 1"), Region("r2", 250, 50, 90, 90, "step", "t = 2")],
        boxes=[
            box("n1", "state", "h_{1}", 50),
            box("n2", "state", "h_{2}", 250),
            box("c", "cut", "", 150),
            box("l", "loss", "l_{2}", 250),
            box("p", "parameter", "cell, shared", 0, ["Wx\t3×4", "Wh\t4×4", "b\t4"]),
        ],
        edges=[
            line("n1-c", "n1", "c", "cut"),
            line("c-n2", "c", "n2", "cut"),
            line("n2-l", "n2", "l"),
            line("p-n2", "p", "n2"),
            line("p-n1", "p", "n1"),
        ],
        reach={"l": frozenset({"n2", "n2-l", "p-n2", "p"})},
    )


def test_the_page_holds_everything_and_asks_for_nothing():
    reader = Reader(page(cut_scene(), write_svg(cut_scene())))
    for tag, attributes in reader.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "image", "use")
        assert not {"src", "href", "xlink:href", "srcset", "action", "style"} & set(attributes), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    for tag, attributes, text in reader.inside:
        assert "url(" not in text or tag != "style"
        assert "@import" not in text
        assert not re.search(r"https?:", text), (tag, attributes)


def test_the_policy_allows_this_script_and_no_other():
    reader = Reader(page(cut_scene(), write_svg(cut_scene())))
    policy = next(a["content"] for tag, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy")
    script = next(text for tag, a, text in reader.inside if tag == "script" and "type" not in a)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy


def test_the_script_never_makes_markup_from_text_or_talks_to_anyone():
    script = (Path(tinygrad_rnn.__file__).parent / "pictures" / "export" / "page.js").read_text(encoding="utf-8")
    words = [
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "fetch(",
        "XMLHttp",
    ]
    assert [word for word in words if word in script] == []


HOSTILE = [
    "</script><b>x</b>",
    "<!--<script>",
    '"><script>alert(1)</script>',
    "' onload='alert(1)",
    "&lt;b&gt;",
    "\u2028]]>",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_the_scene_stay_text(name):
    scene = Scene(name, name, 200, 100, boxes=[box("l", "loss", name), box("p", "parameter", name)])
    scene.boxes.append(Box("t", 9, 9, 9, 9, "input", "x", tooltip=name))
    scene.reach["l"] = frozenset({"p"})
    reader = Reader(page(scene, write_svg(scene)))
    assert [tag for tag, _ in reader.elements if tag in ("script", "b")] == ["script", "script"]
    assert all("onload" not in attributes for _, attributes in reader.elements)
    data = json.loads(next(text for tag, a, text in reader.inside if tag == "script" and "type" in a))
    assert data["names"] == [name, name, "x"]
    assert data["losses"]["l"]["says"] == f"{name} teaches {name}."


def test_a_loss_lights_what_it_reaches_and_the_cut_where_it_stops():
    data = page_data(cut_scene())
    loss = data["losses"]["l"]
    lit = [data["ids"][first + n] for first, count in zip(*[iter(loss["lit"])] * 2, strict=True) for n in range(count)]
    assert sorted(lit) == ["c", "c-n2", "l", "n2", "n2-l", "p", "p-n2"]
    assert [data["ids"][n] for n in loss["stops"]] == ["c"]
    assert loss["says"] == "l_{2} teaches h_{2}, Wx, Wh, b; stops at the cut before step 2."


def test_a_scaled_cut_lets_the_gradient_through_and_stops_nothing():
    scene = cut_scene()
    scene.boxes[2] = Box("c", 150, 50, 34, 34, "cut", "× 0.5", factor=0.5)
    scene.reach["l"] |= {"c", "c-n2", "n1-c", "n1", "p-n1"}
    loss = page_data(scene)["losses"]["l"]
    assert loss["stops"] == []
    assert loss["says"] == "l_{2} teaches h_{2}, h_{1}, Wx, Wh, b."


@pytest.mark.parametrize(
    ("regions", "where"),
    [
        ([], "h_{2}"),
        ([Region("r", 250, 50, 90, 90, "step", "last")], "h_{2}"),
        ([Region("r", 250, 50, 90, 90, "window", "window 2")], "h_{2}"),
        ([Region("r", 250, 50, 90, 90, "step", "t = 35")], "step 35"),
    ],
)
def test_where_it_stops_is_told_by_the_step_or_else_by_name(regions, where):
    scene = cut_scene()
    scene.regions = regions
    assert page_data(scene)["losses"]["l"]["says"].endswith(f"; stops at the cut before {where}.")


def test_many_names_are_shortened_newest_first_and_a_loss_may_teach_nothing():
    states = [box(f"n{t}", "state", f"h_{{{t}}}", x=10.0 * t) for t in range(1, 36)]
    scene = Scene("", "", boxes=[*states, box("l", "loss", "L"), box("k", "loss", "K")])
    scene.reach = {"l": frozenset(f"n{t}" for t in range(1, 36)), "k": frozenset(), "gone": frozenset()}
    losses = page_data(scene)["losses"]
    assert losses["l"]["says"] == "L teaches h_{35}, h_{34}, h_{33}, …, h_{1}."
    assert losses["k"]["says"] == "K teaches nothing."
    assert set(losses) == {"l", "k"}


def test_elided_steps_are_told_of():
    states = [box(f"n{t}", "state", f"h_{{{t}}}", x=10.0 * t) for t in (1, 2, 34, 35)]
    scene = Scene("", "", boxes=[*states, box("e", "elision", "…", 50), box("l", "loss", "L"), box("k", "loss", "K")])
    scene.reach = {"l": frozenset({"n1", "n2", "n34", "n35", "e"}), "k": frozenset({"n34", "n35", "e"})}
    losses = page_data(scene)["losses"]
    assert losses["l"]["says"] == "L teaches h_{35}, h_{34}, …, h_{2}, h_{1}."
    assert losses["k"]["says"] == "K teaches h_{35}, h_{34}; stops in a step that is not shown."


def test_tables_of_parameters_are_told_apart_and_found_by_title_and_name():
    tables = [
        box("p", "parameter", "layers.0: 28 parameters", rows=["Wx\t3×4\t‖∇‖ 0.3", "b\t4"]),
        box("q", "parameter", "output: 12 parameters", rows=["b\t12"]),
    ]
    scene = Scene("", "", boxes=[*tables, box("l", "loss", "L")], reach={"l": frozenset({"p", "q"})})
    data = page_data(scene)
    assert data["losses"]["l"]["says"] == "L teaches layers.0 (Wx, b), output (b)."
    assert data["names"] == ["layers.0: 28 parameters Wx b", "output: 12 parameters b", "L"]
    del scene.boxes[1]
    assert page_data(scene)["losses"]["l"]["says"] == "L teaches Wx, b."


def test_parameters_in_boxes_of_their_own_are_told_by_their_full_names():
    own = [Box(id, 0, 0, 9, 9, "parameter", "W", tooltip=f"{id}.W\nshape: 3") for id in ("embedding", "output")]
    reach = {"l": frozenset({"embedding", "output"})}
    scene = Scene("", "", boxes=[*own, box("l", "loss", "L")], reach=reach)
    assert page_data(scene)["losses"]["l"]["says"] == "L teaches embedding.W, output.W."


def test_of_operations_only_results_with_an_index_are_told():
    scene = Scene("", "", boxes=[box("a", "operation", "+"), box("y", "operation", "y_{1}"), box("l", "loss", "L")])
    scene.reach["l"] = frozenset({"a", "y"})
    assert page_data(scene)["losses"]["l"]["says"] == "L teaches y_{1}."


@pytest.mark.parametrize(
    ("title", "file"),
    [("rnn.unrolled", "rnn.unrolled.svg"), ("../../etc a/b", "etc_a_b.svg"), ("h_{3}", "h_3.svg"), ("", "graph.svg")],
)
def test_the_saved_picture_has_a_safe_name(title, file):
    assert page_data(Scene(title, ""))["file"] == file


@given(count=st.integers(0, 200), part=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_runs_give_back_the_numbers(count, part, seed):
    numbers = np.flatnonzero(np.random.default_rng(seed).random(count) < part).tolist()
    runs = iter(_runs(numbers))
    pairs = list(zip(runs, runs, strict=True))
    assert [first + n for first, length in pairs for n in range(length)] == numbers
    assert len(pairs) == sum(n - 1 not in numbers for n in numbers)


def test_every_part_of_the_page_that_the_script_uses_is_there():
    reader = Reader(page(cut_scene(), write_svg(cut_scene())))
    parts = {attributes["data-part"] for _, attributes in reader.elements if "data-part" in attributes}
    script = next(text for tag, a, text in reader.inside if tag == "script" and "type" not in a)
    assert set(re.findall(r"\bpart\.(\w+)", script)) == parts


def test_a_wheel_holds_script_style_and_configurations(tmp_path):
    root = Path(tinygrad_rnn.__file__).parents[1]
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"tinygrad_rnn/pictures/export/page.{kind}" for kind in ("js", "css", "html")} <= set(names)
    assert {f"tinygrad_rnn/configs/{name}.toml" for name in ready_configs()} <= set(names)
