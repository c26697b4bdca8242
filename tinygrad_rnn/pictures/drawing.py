"""`Drawing`: a picture to display, save, or pass to Graphviz."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DrawingError
from ..files import write_atomically
from .export.dot import write_dot
from .export.page import page
from .export.svg import write_svg
from .scene.scene import Scene

if TYPE_CHECKING:
    import graphviz

_FORMATS = ("svg", "html", "dot", "png", "pdf")


class Drawing:
    """A picture of a graph, which a notebook displays.

    Attributes:
        scene: its parts, with their positions.

    >>> import numpy as np, tinygrad_rnn as tr
    >>> cell = tr.RNNCell(3, 4, np.random.default_rng(0))
    >>> picture = tr.draw(cell, np.ones((2, 5, 3), np.float32))
    >>> picture
    <Drawing 'RNNCell, unrolled': 18 boxes, 1070 by 639 points>
    >>> picture.dot.splitlines()[0]
    'digraph "RNNCell, unrolled" {'
    """

    def __init__(self, scene: Scene) -> None:
        self.scene: Scene = scene

    @cached_property
    def dot(self) -> str:
        """The picture as DOT text with positions, which Graphviz draws without a layout of its own."""
        return write_dot(self.scene, self.scene.title)

    def svg(self) -> str:
        """Return the picture as SVG text; Graphviz is not needed."""
        return write_svg(self.scene)

    def html(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML page that needs no network: pan, zoom, and hover over a loss to see what learns from it.

        Raises:
            OSError: if the file cannot be written; an old one is as it was.
        """
        write_atomically(path, page(self.scene, self.svg()))

    def graphviz(self) -> graphviz.Source:
        """Return the picture for the `graphviz` package, which renders or displays it."""
        import graphviz  # it takes a while, and drawing does without

        return graphviz.Source(self.dot)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the picture in the format of the file's suffix: .svg, .html or .dot, or, with Graphviz, .png or .pdf.

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

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> dict[str, str]:
        """Return the picture for a notebook; never raise, for an error here would hide the user's own output."""
        bundle = {"text/plain": repr(self)}
        try:
            bundle["image/svg+xml"] = self.svg()
        except Exception as error:  # whatever the error is, the notebook continues
            bundle["text/plain"] += f" (no SVG: {type(error).__name__}: {error})"
        return bundle


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
