"""The format "html": one self-contained page that runs a recorded step, and trains it if it is a model with a state."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from ...checks import integer, number
from ...data.text import check_level
from ...engine.tape import Array
from ...engine.tree import flatten
from ...errors import ConfigError
from ...files import write_atomically
from ...graphs import draw
from ...nn.cells import initial_state
from ...nn.module import Module
from ...optim import Adam
from ..program import program_of
from ..source import Source, source_of_module
from .executor import executor
from .image import Image, image_of
from .module import runtime
from .training import LOSSES, training_source

RHYME = """This is the house that Jack built.
This is the malt that lay in the house that Jack built.
This is the rat that ate the malt that lay in the house that Jack built.
This is the cat that killed the rat that ate the malt that lay in the house that Jack built.
This is the dog that worried the cat that killed the rat that ate the malt that lay in the house that Jack built.
This is the cow with the crumpled horn that tossed the dog that worried the cat that killed the rat that ate the \
malt that lay in the house that Jack built.
"""
"""The text of a page that is given none: a rhyme that everyone knows, and a small network learns within seconds."""

TITLES = {
    "text": "Watch a network learn your text",
    "series": "Watch a network learn your numbers",
    "run": "Give it your numbers",
}
"""Headings by kind of page."""

_BETAS = (0.9, 0.999)
_ROWS = 240  # of the numbers that a page shows if it is given none


def write_html(
    source: Source,
    path: Path,
    *,
    text: str | Path | None = None,
    title: str | None = None,
    lr: float = 0.01,
    batch_size: int = 8,
    bptt: int = 12,
    level: str | None = None,
    loss: str = "mse",
) -> list[Path]:
    """Write a page that runs a model or a function on what its reader pastes, and trains a model that has a state.

    It needs no network and no Python. A model starts with the weights that it has now, and is trained by Adam on
    windows of N streams, as `OffsetBatches(..., batch_size, bptt, drop_last=True)` yields them. There are three kinds:

    - A language model reads a text, learns to say the next token, and writes. If it comes with a vocabulary, that and
      its level are kept; else each text gets its own vocabulary, of its V - 1 commonest tokens.
    - A module with a state reads numbers (N, D), one row at a time, and its outputs (N, K) are drawn against time. A
      row of D numbers: it learns to say the next row (if K = D), and goes on after the last one by itself; a row of
      D + K: it learns to say the last K from the first D. With the loss "cross_entropy" a row is D numbers and a class.
    - Anything else is run: each row is one call, with the numbers of all inputs one after another. What a function
      carries is kept from row to row, so a training step trains.

    Args:
        source: what is written.
        path: of the page.
        text: that it shows at first, or a file with it: a text, or rows of numbers with commas between them. None: a
            rhyme, or waves.
        title: its heading.
        lr: learning rate of Adam.
        batch_size: N.
        bptt: T, the steps of a window, which are drawn; 2 to 40.
        level: of the tokens of a language model without a vocabulary: "char", "word", "token" or "byte", as for
            `tokenize`; None: "char".
        loss: of a module that reads numbers: "mse" or "cross_entropy".

    Raises:
        ConfigError: if a setting is out of range, or the model knows its level already.
        UnsupportedError: if it has an operation that the executor does not know.
    """
    batch_size, bptt = integer("export", "batch_size", batch_size), integer("export", "bptt", bptt, 2, 40)
    optimizer = Adam(number("export", "lr", lr, low=0, above=True), _BETAS)
    if loss not in LOSSES:
        raise ConfigError(f"export: loss must be one of {', '.join(LOSSES)}, got {loss!r}")
    if source.module is not None and hasattr(source.module, "vocab_size"):
        made = _language(source, source.module, level, (bptt, batch_size), optimizer)
    else:
        if level is not None:
            raise ConfigError("export: level is the kind of token of a language model, which this is not")
        made = _numbers(source, loss, (bptt, batch_size), optimizer)
    given = text.read_text(encoding="utf-8") if isinstance(text, Path) else text
    code = executor()
    data = {
        "code": _packed(code),
        "learner": None if made.learner is None else _packed(made.learner.section(code)),
        "writer": _packed(made.writer.section(code)),
        "N": batch_size,
        "T": bptt,
        "lr": lr,
        "betas": _BETAS,
        "text": made.text if given is None else given,
        **made.facts,
    }
    write_atomically(path, _page(made, TITLES[made.kind] if title is None else title, bptt, data))
    return [path]


@dataclass(frozen=True)
class _Made:
    """The parts of a page: a key of TITLES, its programs, its text, what the script must know, and the drawing."""

    kind: str
    writer: Image
    learner: Image | None
    text: str
    facts: dict[str, object]
    module: Module | None
    drawn: tuple[Array, ...] = ()


def _language(source: Source, model: Module, level: str | None, window: tuple[int, int], optimizer: Adam) -> _Made:
    if source.saved is not None and level is not None:
        raise ConfigError("export: the model comes with its vocabulary and its level; leave level out")
    kept = "char" if level is None else level
    vocabulary = None
    if source.saved is not None:
        kept, vocabulary = source.saved.config.level, source.saved.vocabulary.to_list()
    check_level("export", kept)
    size = int(getattr(model, "vocab_size", 0))
    ids = np.zeros(window, np.int64)
    learner = image_of(program_of(training_source(model, optimizer, ids, ids, size, "cross_entropy")), "html")
    writer = image_of(program_of(source_of_module(model)), "html")
    example = np.arange(2 * 5).reshape(2, 5) % size
    facts: dict[str, object] = {"kind": "text", "V": size, "level": kept, "vocabulary": vocabulary}
    return _Made("text", writer, learner, RHYME, facts, model, (example[:, :-1], example[:, 1:]))


def _numbers(source: Source, loss: str, window: tuple[int, int], optimizer: Adam) -> _Made:
    """Return the parts of a page that reads rows of numbers; it trains if there is a module with a state to train."""
    module, learner = source.module, None
    drawn: tuple[Array, ...] = ()
    facts: dict[str, object] = {"kind": "run", "loss": loss}
    row = _row(source)
    if row is not None and module is not None:
        source = source_of_module(module, row)
    program = program_of(source)
    results = [program.outputs[number] for number in program.results]
    sizes = [math.prod(program.inputs[number].shape) for number in program.given]
    if row is not None and module is not None and [len(one.shape) for one in results] == [2]:
        K = results[0].shape[1]
        inputs = np.zeros((*window, *row.shape[1:]), row.dtype)
        targets = np.zeros(window, np.int64) if loss == "cross_entropy" else np.zeros((*window, K), results[0].dtype)
        learner = image_of(program_of(training_source(module, optimizer, inputs, targets, K, loss)), "html")
        facts |= {"kind": "series", "D": sizes[0], "K": K}
        drawn = (np.moveaxis(inputs, 0, 1)[:1, :4],)
    waves = _waves(sum(sizes), facts, [program.inputs[number].dtype.kind for number in program.given], sizes)
    return _Made(str(facts["kind"]), image_of(program, "html"), learner, waves, facts, module, drawn)


def _row(source: Source) -> Array | None:
    """Return an example of one row that a module with parameters and a state reads; None if it is not one."""
    module = source.module
    if (
        module is None
        or not source.carried
        or not module.parameters()
        or not flatten(initial_state(module, 1, "export"))
    ):
        return None
    x = np.asarray(source.args[0])
    return np.zeros((1,) if x.dtype.kind in "iu" else (1, x.shape[-1]), x.dtype)


def _waves(columns: int, facts: dict[str, object], kinds: Sequence[str], sizes: Sequence[int]) -> str:
    """Return rows of numbers to begin with: waves, and if the page trains on targets, means of what came before."""
    t = np.arange(_ROWS)[:, None]
    periods = 24.0 / 1.4 ** np.arange(columns)
    rows = 0.6 * np.sin(2 * np.pi * t / periods) + 0.3 * np.sin(2 * np.pi * t / (2.7 * periods))
    whole = np.repeat([kind in "iub" for kind in kinds], sizes)
    rows = np.where(whole, rows > 0, np.round(rows, 3))
    if facts["kind"] == "series" and (facts["loss"] == "cross_entropy" or facts["K"] != columns):
        means = np.zeros((_ROWS, columns))
        for step in range(_ROWS):
            means[step] = 0.8 * means[step - 1] + 0.2 * rows[step]
        if facts["loss"] == "cross_entropy":
            added = (means[:, :1] > 0).astype(int) % int(str(facts["K"]))
        else:
            added = np.round(means[:, np.arange(int(str(facts["K"]))) % columns], 3)
        return "".join(
            ",".join(f"{value:g}" for value in (*row, *more)) + "\n" for row, more in zip(rows, added, strict=True)
        )
    return "".join(",".join(f"{value:g}" for value in row) + "\n" for row in rows)


def _cells(part: object) -> Iterator[str]:
    """Yield the names of the classes of a module's layers, or of the layers of those; that of one without layers."""
    layers = part if isinstance(part, list | tuple) else getattr(part, "layers", None)
    if isinstance(layers, list | tuple):
        for layer in layers:
            yield from _cells(layer)
    elif isinstance(layers, Module):
        yield from _cells(layers)
    else:
        yield type(part).__name__


def _page(made: _Made, title: str, bptt: int, data: dict[str, object]) -> str:
    room = files(__package__)
    names = ("trainer.js", "text.js" if made.kind == "text" else "series.js", "page.js", "page.css")
    parts = [room.joinpath(name).read_text(encoding="utf-8") for name in names]
    script = '"use strict";\n' + runtime() + "".join(parts[:-1])
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"script-src 'sha256-{digest}' 'wasm-unsafe-eval'"
    policy = f"default-src 'none'; {scripts}; style-src 'unsafe-inline'; base-uri 'none'"
    module = made.module
    cells = list(dict.fromkeys(_cells(module)))
    svg = draw(module, *made.drawn, view="rolled", title=", ".join(cells)).svg() if made.drawn else ""
    name = "A function" if module is None else type(module).__name__
    model = name if cells == [name] or module is None else f"{name} of {', '.join(cells)}"
    inserted = {
        "policy": policy,
        "title": escape(title),
        "style": parts[-1],
        "kind": made.kind,
        "token": {"char": "character", "byte": "byte", "word": "word"}.get(str(data.get("level")), "token"),
        "bptt": str(bptt),
        "every": str(bptt // 2),
        "cell": escape(", ".join(cells)),
        "drawing": svg[max(svg.find("<svg"), 0) :],
        "model": escape(model if module is None else f"{model} · {module.parameter_count():,} parameters"),
        "script": script,
        # Inside a script element only "<" can end it or open a comment; JSON can always spell it otherwise.
        "data": json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return Template(room.joinpath("page.html").read_text(encoding="utf-8")).substitute(inserted)


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()
