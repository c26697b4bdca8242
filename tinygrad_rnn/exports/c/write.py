"""`write`: a program as a source file and a header in C99."""

from __future__ import annotations

import re
from pathlib import Path

from ...checks import flag
from ...compiler.passes import PASSES
from ...compiler.plans.instructions import Slot, strides_of
from ...compiler.plans.layout import make_plan
from ...compiler.plans.plan import Plan
from ...errors import ConfigError, warn
from ...files import write_atomically
from ..program import Program, program_of
from ..source import Source
from .code import Code
from .constants import Constants, constants_of
from .freeze import frozen
from .kernels import write_schedule
from .literals import is_real
from .names import Names
from .page import Page
from .places import Places, Ref
from .quantize import quantized
from .schedule import Schedule, flat, schedule_of

_PASSES = [name for name in PASSES if name != "copy_transposed"]  # its copies would take memory at each call


def write(
    source: Source,
    path: Path,
    *,
    quantize: str | None = None,
    weights: str = "source",
    reentrant: bool = False,
) -> list[Path]:
    """Write one step as C99: NAME.c and NAME.h, where `path` is NAME.c.

    The source needs no library (libm only if the program computes sines, powers and the like),
    allocates nothing, and holds the weights as constant arrays. `NAME_step(x, state, y)` returns 0; or 1 if an id is
    out of range, and then the state is as before. `NAME_init(state)` writes the state before the first step.

    Args:
        source: what is written.
        path: NAME.c; NAME is the prefix of everything that the header declares.
        quantize: "int8": matrices that are multiplied with, or looked up in, in 8 bits with a scale for each column of
            x @ W, and a warning where there are none; None: as they are.
        weights: "source": in NAME.c; "blob": in NAME.bin, whose content is the first argument of `NAME_step`.
        reentrant: True: working memory is an argument, `NAME_work *`, so that several threads can use the model; False:
            it is a static variable.

    Raises:
        ConfigError: if an option is none of these.
        UnsupportedError: if the program has an operator or a dtype that C does not have here.
        OSError: if a file cannot be written.
    """
    _check(path, quantize, weights)
    flag("export", "reentrant", reentrant)
    program, plan = _planned(source)
    schedule = schedule_of(plan)
    names = Names()
    ports = {("input", number): names.give(program.inputs[number].name) for number in program.given}
    ports |= {("output", number): names.give(program.outputs[number].name) for number in program.results}
    constants = _constants(program, schedule, weights == "blob", quantize == "int8")
    work = "work->" if reentrant else "work."
    places = Places(program, plan, schedule, ports, work, constants.places)
    code = Code(places, constants.small)
    write_schedule(code, schedule)
    for slot, base, start in places.late:
        _copy(code, slot, base, start)
    page = Page(path.stem, code, source, program, places, constants, ports, reentrant, quantize)
    written = [(path, page.source()), (path.with_suffix(".h"), page.header())]
    if constants.parts:
        write_atomically(path.with_suffix(".bin"), constants.content())
    for file, text in written:
        write_atomically(file, text)
    return [file for file, _ in written] + ([path.with_suffix(".bin")] if constants.parts else [])


def _check(path: Path, quantize: str | None, weights: str) -> None:
    if path.suffix != ".c":
        raise ConfigError(f"export: a C source is a file whose name ends with .c, got {str(path)!r}")
    if not re.fullmatch(r"[\w.+ -]+", path.name, re.ASCII):
        raise ConfigError(f"export: a C source is named in ASCII letters, digits, and '_.+- ', got {path.name!r}")
    if quantize not in (None, "int8"):
        raise ConfigError(f"export: quantize must be 'int8' or None, got {quantize!r}")
    if weights not in ("source", "blob"):
        raise ConfigError(f"export: weights must be 'source' or 'blob', got {weights!r}")


def _planned(source: Source) -> tuple[Program, Plan]:
    """Return the program and its plan, in which what is carried is written over itself where that can be."""
    kept: set[int] = set()  # inputs that must not be written over
    while True:
        program = program_of(source, _PASSES)
        carried = {one.output: one.input for one in program.carried}
        plan = make_plan(frozen(program), set(carried.values()) - kept)
        donated = [(number, slot.buffer) for number, slot in enumerate(plan.outputs) if slot.buffer.kind == "donated"]
        wrong = {buffer.index for number, buffer in donated if carried.get(number) != buffer.index}
        if not wrong:
            return program, plan
        kept |= wrong


def _constants(program: Program, schedule: Schedule, blob: bool, int8: bool) -> Constants:
    """Return the constants of a program, placed."""
    known = {weight.value: weight.name for weight in program.weights}
    floating = [weight.array.dtype for weight in program.weights if is_real(weight.array.dtype)]
    constants = Constants(Names(), known, floating[0] if blob and floating else None)
    small = quantized(item for item, _ in flat(schedule)) if int8 else {}
    if int8 and not small:
        warn(
            "export: quantize='int8' changes nothing here: no matrix of constants is only multiplied with or looked up "
            "in (products of a few numbers are written out, and keep their own)",
        )
    constants.add_all(constants_of(schedule), small)
    return constants


def _copy(code: Code, slot: Slot, base: str, start: int) -> None:
    """Append the copy of a result to where it belongs, at the end of the step."""
    if 0 in slot.shape:
        return
    steps = [step // slot.dtype.itemsize for step in strides_of(slot.shape, slot.dtype.itemsize)]
    with code.loops(slot.shape, "i") as index:
        place = Ref(base, slot.dtype, start, tuple(steps)).at(*index)
        code.line(f"{place} = {code.ref(slot).at(*index)};")
