"""The command line: tinygrad-rnn prepare, train, evaluate, score, truncation, generate, check, graph, export,
sweep and lesson.

This module holds only the parser. NumPy and everything that needs it are imported by the command itself, so that the
help appears at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TextIO

from . import __version__
from .config import TrainConfig, ready_configs
from .errors import DivergedError, NonFiniteError
from .exits import BAD_INPUT, INPUT_ERRORS, TerminatedError, status_of, terminable
from .flags import add_prepare, add_setting, add_sweep, count, natural
from .launch import launched, launched_rank

EXPORTS = {
    "c": "C99: a source file and a header, without dependencies and allocation, for servers and microcontrollers",
    "safetensors": "weights and configuration, which evaluate, generate and others read like the model itself",
    "torch": "a file of PyTorch code, an nn.Module, with its weights beside it",
    "onnx": "for ONNX Runtime and others: state in and out, any number of sequences and of steps",
    "wasm": "a WebAssembly module and its loader, for browsers and Node",
    "html": "a page that runs a model on the text or the numbers that its reader pastes, and trains it",
}
"""The formats of export, described; `exports/formats.py` says who writes them."""

_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


class _Parser(argparse.ArgumentParser):
    _retries = False

    def parse_known_args(  # type: ignore[override]  # its overloads are for namespaces of any class
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, again with flags between the other arguments if some of these were left over.

        argparse fills the positionals of one place at once, so that in "MODEL --json CORPUS" CORPUS would be left over.
        """
        found, rest = super().parse_known_args(args, namespace)
        if rest and namespace is None and self._subparsers is None and not self._retries:
            self._retries = True  # parse_known_intermixed_args calls this method
            try:
                again, left = self.parse_known_intermixed_args(args)
            finally:
                self._retries = False
            if not left:
                return again, left
        return found, rest

    def error(self, message: str) -> NoReturn:
        """Print one line, without the usage; of several processes the first one does."""
        self.exit(BAD_INPUT, f"tinygrad-rnn: error: {message} (see {self.prog} --help)\n" * (launched_rank() == 0))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: arguments without the program's name; None: those of the process.

    Returns:
        0; 1 if training diverged or met a non-finite value; 2 on bad input; 130 after Ctrl-C, 143 after SIGTERM; 141 if
        the reader of the output closed it.

    Raises:
        SystemExit: with 0 after --help and --version, with 2 on a wrong flag.

    >>> main(["generate", "poem.txt"])
    2
    """
    for stream, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, stream) is None:  # closed, as by a service or with >&-
            setattr(sys, stream, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115, PTH123 (until the end)
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command != "train" and launched() > 1:
        own = " (--processes N starts its own)" if arguments.command == "sweep" else ""
        parser.error(f"{arguments.command} runs in one process{own}; start it without mpiexec")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without utf-8 shows ? instead of stopping the run
    if arguments.threads or not any(name in os.environ for name in _THREADS):
        # One by default: two gain little on products this small, and on a busy machine they wait for each other.
        os.environ.update(dict.fromkeys(_THREADS, str(arguments.threads or 1)))
    try:
        with terminable():
            # Imported here: this loads NumPy, which then reads the number of threads.
            from . import commands

            with _notes():
                code: int = getattr(commands, arguments.command)(arguments)
            sys.stdout.flush()
        return code
    except BrokenPipeError as error:
        # The interpreter flushes stdout once more on exit, and needs something to write to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status_of(error)
    except KeyboardInterrupt as error:
        _say("terminated" if isinstance(error, TerminatedError) else "interrupted")
        return status_of(error)
    except (NonFiniteError, DivergedError, *INPUT_ERRORS) as error:
        _say(f"error: {' '.join(_text(error).split())}")
        return status_of(error)


def _text(error: Exception) -> str:
    """Return what an error says, without the number by which the system knows it."""
    if isinstance(error, MemoryError):
        return f"not enough memory ({error}); lower the sizes, batch_size or bptt"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(error)


@contextmanager
def _notes() -> Iterator[None]:
    """Print warnings for users as one-line notes, each once."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", UserWarning)
        usual, said = warnings.showwarning, set[str]()

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if category is UserWarning:
                if str(message) not in said:
                    _say(f"note: {message}")
                said.add(str(message))
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show  # the documented hook; catch_warnings restores the usual one
        yield


def _say(text: str) -> None:
    print(f"tinygrad-rnn: {text}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="tinygrad-rnn", description="Train and use recurrent language models.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"tinygrad-rnn {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")

    train = commands.add_parser("train", help="train a language model on a text", allow_abbrev=False)
    for field in dataclasses.fields(TrainConfig):
        add_setting(train, field)
    train.add_argument(
        "--config",
        metavar="FILE.toml|NAME",
        help="settings to start from, which flags override: a file, or a ready configuration: "
        f"{', '.join(ready_configs())}; list: describe these",
    )
    train.add_argument(
        "--save",
        metavar="PATH",
        help="a model file ending with .npz or .safetensors, or a folder (default: a new one in runs/)",
    )
    train.add_argument("--resume", metavar="PATH", help="continue the run in this folder, or of this model file")
    train.add_argument(
        "--repeat", type=count, default=1, metavar="N", help="train with N seeds, print mean and standard deviation"
    )
    train.add_argument("--force", action="store_true", help="overwrite files of an earlier run")
    train.add_argument("--dry-run", action="store_true", help="print what would be done, and write nothing")
    train.add_argument("--csv", action="store_true", help="write the metrics of each epoch to metrics.csv too")
    train.add_argument("--tensorboard", action="store_true", help="write the metrics to event files of TensorBoard too")
    train.add_argument("--no-progress", action="store_true", help="show no progress bar")

    evaluate = commands.add_parser("evaluate", help="measure a model on a text", allow_abbrev=False)
    truncation = commands.add_parser(
        "truncation", help="measure how truncation policies change a model's gradient", allow_abbrev=False
    )
    for command in (evaluate, truncation):
        command.add_argument("model", help="a model file, or the folder that holds it")
        command.add_argument(
            "corpus", nargs="?", help="text file, utf-8 (default: the held-out part of the text that Python carries)"
        )
        command.add_argument(
            "--held-out",
            action="store_true",
            help="use only what training held out: the end of the corpus or, without one, the text of train --valid",
        )
    evaluate.add_argument(
        "--batch-size", type=count, help="N, streams that the text is read as; 1 is slower (default: that of training)"
    )
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of the rows")
    score = commands.add_parser("score", help="print the nats of each line of a text", allow_abbrev=False)
    score.add_argument("model", help="a model file, or the folder that holds it")
    score.add_argument("corpus", help="text file, utf-8; - for stdin")
    score.add_argument("--json", action="store_true", help="print JSON instead of the lines")
    for command in (evaluate, score):
        command.add_argument(
            "--baseline",
            metavar="FILE",
            help="text that the n-gram models count, to which the model is compared (default: its training text)",
        )
    truncation.add_argument("--fresh", action="store_true", help="use fresh weights, not the trained ones")
    truncation.add_argument("--steps", type=count, default=100, help="T, steps of the sequence (default: %(default)s)")
    truncation.add_argument("--batch-size", type=count, default=4, help="N, streams of text (default: %(default)s)")
    truncation.add_argument(
        "--policies", nargs="+", metavar="POLICY", help="such as chunked:35 windowed:70/35 (default: some of each kind)"
    )
    truncation.add_argument(
        "--wanted-cosine", type=float, default=0.99, help="for the recommended window (default: %(default)s)"
    )
    truncation.add_argument("--json", action="store_true", help="print JSON instead of the table")
    truncation.add_argument("--plot", metavar="FILE", help="draw the masks, the credit profile and bias against cost")

    generate = commands.add_parser("generate", help="write text with a model", allow_abbrev=False)
    generate.add_argument("model", help="a model file, or the folder that holds it")
    generate.add_argument("--prompt", default="", help="text to continue (default: a new line)")
    generate.add_argument("--prompts", metavar="FILE", help="continue each line of a file; - for stdin")
    generate.add_argument("--length", type=int, default=100, help="tokens to write (default: %(default)s)")
    generate.add_argument(
        "--temperature", type=float, default=0.8, help="0 always takes the likeliest token (default: %(default)s)"
    )
    generate.add_argument("--top-k", type=int, default=0, help="draw from the k likeliest tokens; 0: all (the default)")
    generate.add_argument(
        "--top-p",
        type=float,
        default=1.0,
        help="draw from the likeliest tokens of this total probability (default: all)",
    )
    generate.add_argument("--seed", type=int, default=0, help="seed of the draws (default: %(default)s)")

    for command in (evaluate, score, generate):
        for field in dataclasses.fields(TrainConfig):
            if field.name in ("compile", "executor"):
                add_setting(command, field, getattr(TrainConfig, field.name))

    check = commands.add_parser(
        "check", help="check gradients, of everything built in or of a cell of your own", allow_abbrev=False
    )
    check.add_argument(
        "target",
        nargs="?",
        metavar="MODULE:NAME|MODEL",
        help="a cell, model or policy in a module of yours, or a class or function f(input_size, hidden_size, rng) "
        "that makes a cell; or a model file or its folder (default: everything built in)",
    )
    check.add_argument(
        "--examples", type=count, default=20, metavar="N", help="at most N examples for each (default: %(default)s)"
    )
    check.add_argument("--seed", type=natural, default=0, metavar="S", help="seed of all draws (default: %(default)s)")
    check.add_argument(
        "--order", type=int, choices=(1, 2), default=1, help="order of derivatives (default: %(default)s)"
    )

    graph = commands.add_parser("graph", help="draw the graph of a model or a cell", allow_abbrev=False)
    graph.add_argument(
        "model",
        nargs="?",
        default="rnn",
        metavar="MODEL|CELL",
        help="a model file or its folder; or a cell: rnn, lstm, gru, or mymodule:MyCell (default: %(default)s)",
    )
    graph.add_argument(
        "corpus", nargs="?", help="text file that a saved model reads (default: the held-out part of Python's own text)"
    )
    graph.add_argument(
        "--held-out",
        action="store_true",
        help="use only what training held out: the end of the corpus or, without one, the text of train --valid",
    )
    graph.add_argument(
        "--view",
        choices=("auto", "unrolled", "rolled", "ops", "backward"),
        default="auto",
        help="what to draw (default: %(default)s)",
    )
    graph.add_argument("--steps", type=count, default=8, help="T, steps of the sequence (default: %(default)s)")
    graph.add_argument("--show", metavar="STEPS", help="how many steps to show, or which ones, such as 1,2,8")
    graph.add_argument("--batch-size", type=count, default=4, help="N, streams of text (default: %(default)s)")
    graph.add_argument("--layers", type=count, default=1, help="of a cell that is named (default: %(default)s)")
    graph.add_argument("--depth", type=int, choices=(1, 2), help="2 opens cells to their operations")
    graph.add_argument("--gradients", action="store_true", help="show how much gradient flows along each line")
    graph.add_argument("--truncation", metavar="POLICY", help="such as chunked:4 or decay:0.9 (default: none)")
    graph.add_argument(
        "--out", default="graph.html", metavar="FILE", help=".html, .svg, .png, .pdf or .dot (default: %(default)s)"
    )
    for command in (
        train,
        evaluate,
        score,
        truncation,
        generate,
        check,
        graph,
        _add_export(commands),
        add_prepare(commands),
        add_sweep(commands),
    ):
        command.add_argument(
            "--threads",
            type=count,
            metavar="INT",
            help="threads of products and of compiled updates (default: OPENBLAS_NUM_THREADS, or 1)",
        )
    _add_lesson(commands)
    return parser


def _add_lesson(commands: argparse._SubParsersAction[_Parser]) -> None:
    lesson = commands.add_parser(
        "lesson",
        help="the course: its tasks, and grades for your solutions",
        description="The course. Without arguments: the lessons. With a number: the tasks of that lesson. With a file: "
        "grades for its functions, with what is wrong and a hint. With a folder: a table of the files in it.",
        allow_abbrev=False,
    )
    lesson.add_argument("number", nargs="?", type=count, help="of the lesson")
    lesson.add_argument("path", nargs="?", help="a Python file with your functions, or a folder of such files")
    lesson.add_argument("--start", metavar="FILE", help="write a new file with the functions to write")
    lesson.add_argument(
        "--language", choices=("en", "zh"), help="of what is printed (default: that of the environment)"
    )
    lesson.add_argument(
        "--seconds", type=float, default=10.0, metavar="S", help="time for a file, in seconds (default: 10)"
    )
    lesson.add_argument("--memory", type=count, default=2048, metavar="MB", help="memory for a file (default: 2048)")
    lesson.set_defaults(threads=None)


def _add_export(commands: argparse._SubParsersAction[_Parser]) -> _Parser:
    formats = "\n".join(f"  {name:<12} {what}" for name, what in EXPORTS.items())
    export = commands.add_parser(
        "export",
        help="write a model for another place",
        description="Write a model for another place.",
        epilog=f"formats:\n{formats}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    export.add_argument("model", help="a model file, or the folder that holds it")
    export.add_argument("--to", choices=tuple(EXPORTS), required=True, help="the format")
    export.add_argument("-o", "--out", metavar="PATH", help="file to write (default: beside the model)")
    export.add_argument("--streams", type=count, default=1, metavar="N", help="sequences side by side (default: 1)")
    export.add_argument("--steps", type=count, metavar="T", help="steps of a call (default: one, without an axis)")
    # Options of single formats have no default here (argparse.SUPPRESS): exports/formats.py says whose they are.
    missing = argparse.SUPPRESS
    export.add_argument("--quantize", choices=("int8",), default=missing, help="c: matrices in 8 bits")
    weights = "c, onnx: in the file, or in one of their own beside it"
    export.add_argument("--weights", choices=("source", "blob"), default=missing, help=weights)
    export.add_argument("--reentrant", action="store_true", default=missing, help="c: working memory is an argument")
    export.add_argument("--text", type=Path, metavar="FILE", default=missing, help="html: the text that it shows first")
    export.add_argument("--title", default=missing, help="html: its heading")
    export.add_argument(
        "--lr", type=float, default=missing, metavar="FLOAT", help="html: learning rate (default: 0.01)"
    )
    export.add_argument("--batch-size", type=count, default=missing, metavar="N", help="html: streams (default: 8)")
    export.add_argument(
        "--bptt", type=count, default=missing, metavar="T", help="html: steps of a window (default: 12)"
    )
    export.add_argument(
        "--loss", choices=("mse", "cross_entropy"), default=missing, help="html: of a model of numbers (default: mse)"
    )
    return export
