"""The formats of `export`, in one table."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, cast

Writer = Callable[..., list[Path]]


class Format(NamedTuple):
    """A format of `export`.

    Attributes:
        ending: of its file.
        module: the module in this room that writes it; imported when it is asked for.
        function: the function there: `write(source, path, **options) -> [paths]`. It writes its files completely or not
            at all.
        options: names of the options that it takes as keyword arguments; the command has a flag for each.
    """

    ending: str
    module: str
    function: str
    options: tuple[str, ...] = ()

    @property
    def write(self) -> Writer:
        """The function that writes it."""
        return cast(Writer, getattr(import_module(f".{self.module}", __package__), self.function))


FORMATS = {
    "c": Format(".c", "c.write", "write", ("quantize", "weights", "reentrant")),
    "safetensors": Format(".safetensors", "weights", "write_safetensors"),
    "torch": Format(".py", "torchfile", "write_torch"),
    "onnx": Format(".onnx", "onnx", "write", ("axes", "weights")),
    "wasm": Format(".wasm", "web.module", "write_wasm"),
    "html": Format(".html", "web.page", "write_html", ("text", "title", "lr", "batch_size", "bptt", "level", "loss")),
}
"""By name, as in `--to`; `cli.EXPORTS` describes each in a line."""
