"""The format "html": one self-contained page that trains a language model, and shows what the gradient does."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

import numpy as np

from ...checks import integer, number
from ...data.vocabulary import UNKNOWN
from ...errors import ConfigError
from ...files import write_atomically
from ...graphs import draw
from ...nn.module import Module
from ...optim import Adam
from ..program import program_of
from ..source import Source, source_of_module
from .executor import executor
from .image import image_of
from .module import runtime
from .training import training_source

TITLE = "Watch a network learn your text"

RHYME = """This is the house that Jack built.
This is the malt that lay in the house that Jack built.
This is the rat that ate the malt that lay in the house that Jack built.
This is the cat that killed the rat that ate the malt that lay in the house that Jack built.
This is the dog that worried the cat that killed the rat that ate the malt that lay in the house that Jack built.
This is the cow with the crumpled horn that tossed the dog that worried the cat that killed the rat that ate the \
malt that lay in the house that Jack built.
"""
"""The text of a page that is given none: a rhyme that everyone knows, and a small network learns within seconds."""

_BETAS = (0.9, 0.999)


def write_html(
    source: Source,
    path: Path,
    *,
    text: str | Path = RHYME,
    title: str = TITLE,
    lr: float = 0.01,
    batch_size: int = 8,
    bptt: int = 12,
) -> list[Path]:
    """Write a page that trains a character model on the text that its reader pastes, and writes text with it.

    It needs no network and no Python. The model starts with the weights that it has now. If it comes with a vocabulary
    of characters, that is kept; else each text gets its own, of its V - 1 commonest characters. Updates are Adam's, on
    windows of N streams, as `OffsetBatches(ids, batch_size, bptt, drop_last=True)` yields them.

    Args:
        source: of a model that takes ids (N, T) and returns logits (N, T, V), such as an `RNNLM`.
        path: of the page.
        text: that it shows at first, or a file with it.
        title: its heading.
        lr: learning rate of Adam.
        batch_size: N.
        bptt: T, the steps of a window, which are drawn; 2 to 40.

    Raises:
        ConfigError: if it is no language model, its tokens have several characters, or a setting is out of range.
        UnsupportedError: if it has an operation that the executor does not know.
    """
    model = source.module
    if model is None or not hasattr(model, "vocab_size"):
        raise ConfigError(
            "export: a page trains a language model (with a vocab_size), such as an RNNLM; others can go to wasm"
        )
    vocabulary = None if source.saved is None else source.saved.vocabulary.to_list()
    if vocabulary and any(len(token) > 1 for token in vocabulary if token != UNKNOWN):
        raise ConfigError("export: a page reads characters, and this model reads words; train it with --level char")
    batch_size, bptt = integer("export", "batch_size", batch_size), integer("export", "bptt", bptt, 2, 40)
    optimizer = Adam(number("export", "lr", lr, low=0, above=True), _BETAS)
    code = executor()
    learner = image_of(program_of(training_source(model, optimizer, batch_size, bptt)), "html").section(code)
    writer = image_of(program_of(source_of_module(model)), "html").section(code)
    data = {
        "code": _packed(code),
        "learner": _packed(learner),
        "writer": _packed(writer),
        "N": batch_size,
        "T": bptt,
        "V": model.vocab_size,
        "lr": lr,
        "betas": _BETAS,
        "vocabulary": vocabulary,
        "text": text.read_text(encoding="utf-8") if isinstance(text, Path) else text,
    }
    write_atomically(path, _page(model, title, bptt, data))
    return [path]


def _page(model: Module, title: str, bptt: int, data: dict[str, object]) -> str:
    room = files(__package__)
    parts = {name: room.joinpath(name).read_text(encoding="utf-8") for name in ("trainer.js", "page.js", "page.css")}
    script = '"use strict";\n' + runtime() + parts["trainer.js"] + parts["page.js"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    scripts = f"script-src 'sha256-{digest}' 'wasm-unsafe-eval'"
    policy = f"default-src 'none'; {scripts}; style-src 'unsafe-inline'; base-uri 'none'"
    ids = np.arange(2 * 5).reshape(2, 5) % int(getattr(model, "vocab_size", 1))
    cells = list(dict.fromkeys(type(cell).__name__ for cell in getattr(model, "layers", [model])))
    svg = draw(model, ids[:, :-1], ids[:, 1:], view="rolled", title=", ".join(cells)).svg()
    inserted = {
        "policy": policy,
        "title": escape(title),
        "style": parts["page.css"],
        "bptt": str(bptt),
        "every": str(bptt // 2),
        "cell": escape(", ".join(cells)),
        "drawing": svg[max(svg.find("<svg"), 0) :],
        "model": escape(f"{type(model).__name__} of {', '.join(cells)}"),
        "parameters": f"{model.parameter_count():,}",
        "script": script,
        # Inside a script element only "<" can end it or open a comment; JSON can always spell it otherwise.
        "data": json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return Template(room.joinpath("page.html").read_text(encoding="utf-8")).substitute(inserted)


def _packed(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()
