"""Flags of the command line: those of settings, and those of the commands prepare and sweep; standard library only."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TypeAlias, TypeVar

from .config import TrainConfig

Setting: TypeAlias = bool | int | float | str
"""The value of a setting of a run."""

_P = TypeVar("_P", bound=argparse.ArgumentParser)


def add_prepare(commands: argparse._SubParsersAction[_P]) -> _P:
    """Add the command prepare."""
    prepare = commands.add_parser(
        "prepare", help="make a corpus of texts of any size, which train and evaluate read in parts", allow_abbrev=False
    )
    prepare.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help="text files, utf-8, read in order as one text; .gz is unpacked; - is stdin",
    )
    prepare.add_argument(
        "--out", metavar="FOLDER", help="the folder to write; a preparation that was killed goes on there"
    )
    levels = TrainConfig.__dataclass_fields__["level"].metadata
    prepare.add_argument("--level", choices=levels["limits"].choices, help=f"{levels['help']} (default: word)")
    prepare.add_argument(
        "--min-count",
        type=count,
        default=TrainConfig.min_count,
        metavar="INT",
        help="tokens rarer than this in the training part become <unk> (default: %(default)s)",
    )
    prepare.add_argument(
        "--vocab-size",
        type=natural,
        default=0,
        metavar="INT",
        help="V, of the most frequent tokens; 0: all (the default)",
    )
    prepare.add_argument(
        "--held-out",
        type=float,
        default=TrainConfig.held_out,
        metavar="FLOAT",
        help="share of the tokens, at the end, that the vocabulary does not see; 0: none (default: %(default)s)",
    )
    prepare.add_argument(
        "--vocabulary", metavar="MODEL|FOLDER", help="take that of a model or of another corpus, for a text to evaluate"
    )
    prepare.add_argument("--force", action="store_true", help="replace what is in the folder")
    prepare.add_argument("--check", action="store_true", help="read these prepared folders, and say if one is damaged")
    prepare.add_argument("--no-progress", action="store_true", help="show no progress bar")
    return prepare


def add_sweep(commands: argparse._SubParsersAction[_P]) -> _P:
    """Add the command sweep."""
    sweep = commands.add_parser(
        "sweep", help="search settings of train, in any number of processes, with Optuna", allow_abbrev=False
    )
    for field in dataclasses.fields(TrainConfig):
        add_setting(sweep, field)
    sweep.add_argument("--config", metavar="FILE.toml|NAME", help="settings to start from, as for train")
    sweep.add_argument(
        "--search",
        nargs="+",
        metavar="SETTING=VALUES",
        help="what is searched: log:LOW:HIGH, float:LOW:HIGH, int:LOW:HIGH[:STEP] or choice:A,B,...",
    )
    sweep.add_argument("--space", metavar="FILE.toml", help='the same in a file, such as lr = "log:1e-4:1e-1"')
    sweep.add_argument("--trials", type=count, default=20, metavar="N", help="how many in all (default: %(default)s)")
    sweep.add_argument("--processes", type=count, default=1, metavar="N", help="at once (default: %(default)s)")
    sweep.add_argument(
        "--out",
        metavar="FOLDER",
        help="of the sweep; where there is one already, this process goes on with it (default: a new one in sweeps/)",
    )
    sweep.add_argument("--sampler", choices=("tpe", "random"), help="who proposes settings (default: tpe)")
    sweep.add_argument("--pruner", choices=("median", "halving", "none"), help="who ends bad runs (default: median)")
    sweep.add_argument("--json", action="store_true", help="print the table as JSON")
    sweep.add_argument("--worker", type=natural, help=argparse.SUPPRESS)
    return sweep


def count(text: str) -> int:
    """Return the integer of 1 or more that a text is."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be an integer of 1 or more, got {text!r}")
    return int(text)


def natural(text: str) -> int:
    """Return the integer of 0 or more that a text is."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be an integer of 0 or more, got {text!r}")
    return int(text)


def add_setting(
    parser: argparse.ArgumentParser, field: dataclasses.Field[Setting], default: Setting = argparse.SUPPRESS
) -> None:
    """Add the flag of a setting of a run, with what the table of settings says of it."""
    help_text = field.metadata["help"]
    if field.name == "corpus":
        parser.add_argument("corpus", nargs="?", default=argparse.SUPPRESS, help=help_text)
        return
    flag = "--" + field.name.replace("_", "-")
    described = f"{help_text} (default: {str(field.default).lower()})"
    # SUPPRESS keeps flags that were not given out of the namespace, where they would hide the TOML file's values.
    if isinstance(field.default, bool):
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=default, help=described)
        return
    limits = field.metadata["limits"]
    choices = None if limits.own else limits.choices or None
    parser.add_argument(
        flag,
        type=type(field.default),
        choices=choices,
        default=default,
        metavar="|".join(choices) if choices else type(field.default).__name__.upper(),
        help=described,
    )
