"""`draw`: pictures of recorded graphs, and what can be done with one: look at it, save it, hand it on."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import graphviz

from ..engine.collector import collector_paused
from ..errors import DrawingError
from ..files import write_atomically
from ..pictures.export.dot import write_dot
from ..pictures.export.page import page
from ..pictures.export.svg import write_svg
from ..pictures.scene.scene import Scene
from ..truncation import Policy
from .model.flow import Flow, flow_of
from .model.graph import Graph
from .model.record import record
from .operations.backward import backward
from .operations.view import operations
from .options import Options
from .rolled.view import rolled
from .unrolled.view import unrolled

ViewName = Literal["auto", "unrolled", "rolled", "ops", "backward"]

MOST_BOXES = 3000
"""A picture with more boxes is refused: nobody could read it."""

_VIEWS: dict[str, Callable[[Graph, Flow | None, Options], Scene]] = {
    "unrolled": unrolled,
    "rolled": rolled,
    "ops": operations,
    "backward": backward,
}
_FORMATS = ("svg", "html", "dot", "png", "pdf")


class Drawing:
    """A picture of a graph; a notebook shows it.

    Attributes:
        scene: its parts, with their positions.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    >>> picture = tr.draw(cell, np.ones((2, 5, 3), np.float32))
    >>> picture
    <Drawing 'RNNCell, unrolled': 18 boxes, 1103 by 639 points>
    >>> picture.dot.splitlines()[0]
    'digraph "RNNCell, unrolled" {'
    """

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    @cached_property
    def dot(self) -> str:
        """The picture as DOT text with positions; any Graphviz draws it as it stands."""
        return write_dot(self.scene, self.scene.title)

    def svg(self) -> str:
        """Return the picture as SVG text; Graphviz is not needed."""
        return write_svg(self.scene)

    def html(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML page that needs no network: pan, zoom, and hover a loss to see what learns from it.

        Raises:
            OSError: if the file cannot be written; an old one is as it was.
        """
        write_atomically(path, page(self.scene, self.svg()))

    def graphviz(self) -> graphviz.Source:
        """Return the picture for the `graphviz` package, to render or to show with it."""
        return graphviz.Source(self.dot)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file whose suffix says how: .svg, .html or .dot, or, with Graphviz, .png or .pdf.

        Raises:
            DrawingError: if the suffix is another one, or Graphviz is needed and missing.
            OSError: if the file cannot be written; an old one is as it was.
        """
        suffix = Path(path).suffix[1:].lower()
        if suffix == "html":
            self.html(path)
        elif suffix in ("svg", "dot"):
            write_atomically(path, self.svg() if suffix == "svg" else self.dot)
        elif suffix in ("png", "pdf"):
            write_atomically(path, _render(self.dot, suffix))
        else:
            raise DrawingError(f"Drawing.save: {str(path)!r} must end in one of .{', .'.join(_FORMATS)}")

    def __repr__(self) -> str:
        scene = self.scene
        return f"<Drawing {scene.title!r}: {len(scene.boxes)} boxes, {scene.width:.0f} by {scene.height:.0f} points>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return the picture for a notebook; never raise, for an error here would hide the user's own output."""
        bundle = {"text/plain": repr(self)}
        try:
            bundle["image/svg+xml"] = self.svg()
        except Exception as error:  # whatever it is, the notebook goes on
            bundle["text/plain"] += f" (no SVG: {type(error).__name__}: {error})"
        return bundle


def draw(
    target: Any,
    *example: Any,
    view: ViewName = "auto",
    steps: int | Sequence[int] | None = None,
    gradients: bool = False,
    depth: int | None = None,
    truncation: Policy | str | None = None,
    cut_every: int | None = None,
    title: str | None = None,
) -> Drawing:
    """Return a picture of a recorded graph, or of a model or cell on an example.

    A loss is drawn as it was recorded. A model is recorded here, position by position, so that embedding, cells, head
    and loss of each step stand in one column; its loss is the mean over all targets that are not -1. A cell has no
    loss: the sum of all its outputs stands for one. Nothing is recorded for drawing unless `draw` is called.

    Views: "unrolled", time in columns; "rolled", one step with its loop; "ops", the operations of one step, or of a
    graph without time; "backward", the recorded backward graph beside the forward one; "auto", unrolled if a step
    reads what another one computed, else ops.

    Args:
        target: a loss (Tensor); several losses (list); a model, with ids and targets (N, T) and perhaps a first state;
            or a cell, with xs (N, T, D) and perhaps a first state; or any other callable, with its arguments.
        example: what a model or cell is recorded on.
        view: see above.
        steps: counted from 1. Unrolled: how many to show, or which; None: all up to eight, else 1, 2, T-2, T-1 and T.
            Other views: which one.
        gradients: draw how much gradient flows along each edge, as thickness and colour on a logarithmic scale: the
            norm of the cotangent that comes back along it.
        depth: 1, a cell is one box; 2, opened to its operations; None: 1 where time is unrolled.
        truncation: a policy, or its text such as "windowed:20", of which the cuts of the pass behind the last step
            are drawn; for models and cells.
        cut_every: steps between cuts; for models and cells.
        title: headline; None: the view's own.

    Raises:
        DrawingError: if a target, view or step does not exist, or there would be more than 3000 boxes.
        ConfigError: if cut_every is not an integer of 1 or more.
        GradientError: if a loss was not recorded, or, with `gradients`, its graph was consumed by backward().

    >>> import numpy as np, tinygrad_rnn as tr
    >>> model = tr.RNNLM(10, 4, 4, np.random.default_rng(0))
    >>> ids = np.arange(24).reshape(2, 12) % 10
    >>> picture = tr.draw(model, ids[:, :-1], ids[:, 1:], gradients=True, cut_every=5)
    >>> [box.title for box in picture.scene.boxes if box.kind == "elision"]
    ['⋯']
    """
    if view != "auto" and view not in _VIEWS:
        raise DrawingError(f"draw: view must be auto, {', '.join(_VIEWS)}, got {view!r}")
    if depth not in (None, 1, 2):
        raise DrawingError(f"draw: depth must be 1 or 2, got {depth}")
    with collector_paused():
        recording = record(target, example, truncation, cut_every)
        graph = recording.graph()
        flow = flow_of(graph) if gradients else None
        name = view if view != "auto" else "unrolled" if is_recurrent(graph) else "ops"
        options = Options(title or "", recording.note, steps, depth)
        scene = _VIEWS[name](graph, flow, options)
    if len(scene.boxes) > MOST_BOXES:
        raise DrawingError(
            f"draw: the {name} view has {len(scene.boxes):,} boxes, and more than {MOST_BOXES:,} cannot be read; "
            'choose fewer steps with steps=, or view="rolled", which draws one step'
        )
    return Drawing(scene)


def is_recurrent(graph: Graph) -> bool:
    """Return whether a step reads what another step computed, so that there is a time to unroll."""
    for node in graph.nodes:
        if node.step is None:
            continue
        for number in range(len(node.edges)):
            place = graph.edge(node, number).place
            if place is not None and place[0].step is not None and place[0].step != node.step:
                return True
    return False


def _render(dot: str, suffix: str) -> bytes:
    """Return the picture as PNG or PDF, made by Graphviz: the program, or the one inside pygraphviz."""
    program = shutil.which("dot")
    if program is not None:
        flags = ["-Gdpi=144"] if suffix == "png" else []
        done = subprocess.run([program, f"-T{suffix}", *flags], input=dot.encode(), capture_output=True, check=False)
        if done.returncode or not done.stdout:
            raise DrawingError(f"Drawing.save: dot failed: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout
    try:
        pygraphviz = importlib.import_module("pygraphviz")
    except ImportError:
        raise DrawingError(
            f"Drawing.save: a {suffix} file needs Graphviz: install its dot program (graphviz.org), or "
            'pip install "tinygrad_rnn[viz]"; svg, html and dot files need neither'
        ) from None
    rendered: bytes = pygraphviz.AGraph(string=dot).draw(format=suffix, prog="nop2")
    return rendered
