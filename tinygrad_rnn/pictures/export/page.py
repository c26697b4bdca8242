"""A scene as one self-contained page: pan, zoom, and highlight what learns from a loss. It loads no other file."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template

from ..scene.scene import Box, Edge, Scene
from ..scene.text import plain

_TAUGHT = ("loss", "operation", "state")  # and parameters, in the order in which a sentence names them
HELP = (
    ("drag, arrows", "move"),
    ("wheel, + −", "zoom"),
    ("0", "fit"),
    ("Tab", "next loss"),
    ("Enter", "pin"),
    ("Esc", "clear"),
    ("Shift+arrows", "box to box"),
    ("/", "find"),
    ("n", "next found"),
)


def page(scene: Scene, svg: str) -> str:
    """Return one HTML page that shows a picture and highlights what learns from each loss.

    The page opens from file:// and requests nothing else: it contains its script and style, and its content security
    policy forbids everything from outside. Without JavaScript it still shows the picture.

    Args:
        scene: what is drawn; `scene.reach` lists what each loss highlights.
        svg: the same scene as SVG: boxes and edges are `<g class="box ...">` and `<g class="edge ...">` with the
            scene's ids, their tooltips `<title>`.

    Returns:
        The page, to be written as UTF-8.

    Example:
        >>> from tinygrad_rnn.pictures.scene.scene import Box, Scene
        >>> scene = Scene("rnn", "1 step", boxes=[Box("n1", 40, 30, 60, 30, "loss", "l_{1}")])
        >>> text = page(scene, '<svg xmlns="http://www.w3.org/2000/svg"></svg>')
        >>> text.splitlines()[0], "http-equiv" in text, "https://" in text
        ('<!doctype html>', True, False)
    """
    room = files(__package__)
    script = room.joinpath("page.js").read_text(encoding="utf-8")
    style = room.joinpath("page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; base-uri 'none'"
    title = escape(plain(scene.title) or "graph")
    # Inside a script element only "<" can end it or open a comment; in JSON it can always be escaped.
    data = json.dumps(page_data(scene), ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    hint = "Point at a loss, or press Tab, to see what learns from it." if scene.reach else ""
    keys = "".join(f"<li><kbd>{escape(key)}</kbd> {escape(does)}</li>" for key, does in HELP)
    parts = {"policy": policy, "title": title, "style": style, "svg": svg[max(svg.find("<svg"), 0) :].strip()}
    parts |= {"hint": hint, "keys": keys, "data": data, "script": script}
    return Template(room.joinpath("page.html").read_text(encoding="utf-8")).substitute(parts)


def page_data(scene: Scene) -> dict[str, object]:
    """Return what the page's script needs to know about a scene, ready for JSON.

    Ids are written once and then referred to by index; what a loss highlights is a list of runs (first index, length,
    ...), so that the data stay short if many losses each highlight thousands of parts.

    Returns:
        ids: of boxes, then edges, then dots. names: the text of each box, for the search. losses: by id, `lit` (runs of
        indices), `stops` (indices of cuts) and `says` (the sentence shown). file: name of the saved SVG.

    Example:
        >>> from tinygrad_rnn.pictures.scene.scene import Edge
        >>> boxes = [Box("w", 0, 0, 9, 9, "parameter", "W"), Box("l", 0, 0, 9, 9, "loss", "L")]
        >>> edges = [Edge("w-l", "w", "l", ((0, 0), (9, 9)))]
        >>> scene = Scene("t", "", boxes=boxes, edges=edges, reach={"l": frozenset({"w", "w-l"})})
        >>> page_data(scene)["losses"]
        {'l': {'lit': [0, 3], 'stops': [], 'says': 'L teaches W.'}}
    """
    ids = [box.id for box in scene.boxes] + [edge.id for edge in scene.edges] + [dot.id for dot in scene.dots]
    place = {id: number for number, id in enumerate(ids)}
    boxes = {box.id: box for box in scene.boxes}
    closed = {box.id for box in scene.boxes if box.kind == "cut" and box.factor == 0}
    after_cuts = [edge for edge in scene.edges if edge.tail in closed and edge.head in boxes]
    losses = {}
    for loss, reached in scene.reach.items():
        if loss not in place:
            continue
        # A line from a closed cut to a lit box is lit too, and so are the scissors: they show where the gradient ends.
        stops = [edge for edge in after_cuts if edge.id in reached or edge.head in reached]
        lit = {loss, *reached, *(edge.id for edge in stops), *(edge.tail for edge in stops)}
        losses[loss] = {
            "lit": _runs(sorted(place[id] for id in lit if id in place)),
            "stops": sorted({place[edge.tail] for edge in stops}),
            "says": _says(scene, boxes[loss], [box for box in scene.boxes if box.id in reached], stops),
        }
    names = [" ".join(dict.fromkeys([box.title, *_names(box)])) for box in scene.boxes]
    file = re.sub(r"[^\w.-]+", "_", plain(scene.title)).strip("_.") or "graph"
    return {"ids": ids, "names": names, "losses": losses, "file": f"{file}.svg"}


def _says(scene: Scene, loss: Box, reached: Sequence[Box], stops: Sequence[Edge]) -> str:
    """Return in words what learns from a loss: "l_4 teaches h_4, h_3, Wx, Wh, b; stops at the cut before step 3."."""
    gaps = [box.x for box in scene.boxes if box.kind == "elision"]
    # Results have an index ("y_{4}"); boxes without one, such as a lone "+", are not named.
    indexed = [box for box in reached if box is not loss and (box.kind == "loss" or "_{" in box.title)]
    groups = [[box for box in indexed if box.kind == kind] for kind in _TAUGHT]
    parts = [_in_a_row(group, gaps) for group in groups]
    tables = [box for box in reached if box.kind == "parameter"]
    several = len(tables) > 1
    for box in tables:
        names = ", ".join(_names(box))
        if several and names != box.title:
            names = f"{box.title.partition(':')[0]} ({names})"
        elif several and box.tooltip.partition("\n")[0].endswith(f".{box.title}"):
            names = box.tooltip.partition("\n")[0]
        parts.append(names)
    taught = ", ".join(part for part in parts if part) or "nothing"
    borders = list(dict.fromkeys(_before(scene, edge.head) for edge in stops))
    entered = [box.x for box in reached if box.kind == "elision"]
    if borders:
        where = f"; stops at the cut before {' and before '.join(borders)}"
    elif entered and min(entered) < min((box.x for group in groups for box in group), default=-math.inf):
        where = "; stops in a step that is not shown"
    elif any(edge.kind == "influence" and edge.id in scene.reach[loss.id] for edge in scene.edges):
        where = "; and earlier steps, by what is carried forward"
    else:
        where = ""
    return f"{loss.title} teaches {taught}{where}."


def _in_a_row(boxes: Iterable[Box], gaps: Sequence[float]) -> str:
    """Return names newest first, as the gradient meets them: time runs to the right, `gaps` are elided steps."""
    names: list[str] = []
    last = math.inf
    for box in sorted(boxes, key=lambda box: (-box.x, box.y)):
        if names and any(box.x < gap < last for gap in gaps):
            names.append("…")
        names.append(box.title)
        last = box.x
    if len(names) > 8:
        names = [*names[:3], "…", names[-1]]
    return ", ".join(dict.fromkeys(names))


def _before(scene: Scene, head: str) -> str:
    """Return what comes right after a cut: "step 3" if it is in the region of a numbered step, else its name."""
    box = scene.box(head)
    for region in scene.regions:
        inside = 2 * abs(box.x - region.x) <= region.width and 2 * abs(box.y - region.y) <= region.height
        number = re.search(r"\d+$", region.label)
        if region.kind == "step" and inside and number:
            return f"step {number.group()}"
    return box.title


def _names(box: Box) -> list[str]:
    """Return the names in a box: in a table of parameters, the first cell of each row; otherwise its title."""
    names = [name for name, tab, _ in (row.text.partition("\t") for row in box.rows) if tab]
    return names if box.kind == "parameter" and names else [box.title]


def _runs(places: Iterable[int]) -> list[int]:
    """Return rising numbers as runs: first number, how many, first number, ...

    >>> _runs([0, 1, 2, 7, 9, 10])
    [0, 3, 7, 1, 9, 2]
    """
    runs: list[int] = []
    for place in places:
        if runs and runs[-2] + runs[-1] == place:
            runs[-1] += 1
        else:
            runs += [place, 1]
    return runs
