"""Write `tinygrad_rnn/__init__.pyi`, which type checkers read, from the table of public names in `__init__.py`."""

from pathlib import Path

import tinygrad_rnn

STUB = Path(tinygrad_rnn.__file__).with_suffix(".pyi")


def stub() -> str:
    """Return the text of the stub: one import for each public name, and the rooms."""
    lines = ['"""Written by `make stub` from the table in `__init__.py`."""', ""]
    lines += [f"from . import {room} as {room}" for room in sorted(tinygrad_rnn._ROOMS)]
    for module, names in tinygrad_rnn._HOME.items():
        lines += [f"from .{module} import {name} as {name}" for name in names.split()]
    return "\n".join([*lines, "", "__all__: list[str]", "__version__: str", ""])


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
