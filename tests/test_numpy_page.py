"""docs/numpy.md says of every NumPy function what it does with a Tensor, and says the truth."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.engine.refused import INSTEAD
from tinygrad_rnn.ops import constants

PAGE = (Path(__file__).parents[1] / "docs" / "numpy.md").read_text(encoding="utf-8")
TABLE = tr.supported()
DEPRECATED = {"in1d", "row_stack", "trapz"}  # of older versions, under names that are on the page


def public_functions():
    """Return {function: names} of the ufuncs of NumPy, and of what asks its arguments for an implementation."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for prefix, module in (("", np), ("linalg.", np.linalg)):
            for name in sorted(dir(module)):
                function = getattr(module, name)
                if (
                    name[0] != "_"
                    and name not in DEPRECATED
                    and (isinstance(function, np.ufunc) or type(function) is type(np.sum))
                ):
                    found.setdefault(function, []).append(prefix + name)
    return found


def section(title):
    """Return the names of functions in a section of the page."""
    text = PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    if title == "Refused":
        spans = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    elif "| --- |" in text:
        spans = [line.split("|")[2] for line in text.splitlines() if line.startswith("| ") and "`" in line]
    else:
        spans = [part for part in text.split("\n\n") if part.strip().startswith("`")]
    return [name for part in spans for name in re.sub(r"[^`]*`([^`]*)`[^`]*", r"\1 ", part).split()]


SECTIONS = {
    title: section(title) for title in ("With a gradient", "With the gradient 0", "Without a gradient", "Refused")
}
FUNCTIONS = public_functions()


def function_named(name):
    """Return a NumPy function, or None where the NumPy that is installed has none of this name."""
    home = np.linalg if name.startswith("linalg.") else np
    return getattr(home, name.removeprefix("linalg."), None)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: FUNCTIONS[function][0])
def test_every_function_is_on_the_page_once(function):
    names = FUNCTIONS[function]
    found = [title for title, listed in SECTIONS.items() for name in names if name in listed]
    assert len(found) == 1, f"{names} stand in {found} of docs/numpy.md"
    constant = TABLE.get(function) in constants.ANSWERS
    expected = "Refused" if function not in TABLE else "Without a gradient" if constant else "With a gradient"
    assert found[0] in (expected, "With the gradient 0" if expected == "With a gradient" else expected)


def test_no_name_on_the_page_is_made_up():
    """A name that this NumPy does not have is one of a NumPy that is newer or older."""
    new = {"bitwise_count", "matvec", "vecmat", "cumulative_sum", "cumulative_prod", "unstack"}
    old = {"fix"}
    for names in SECTIONS.values():
        for name in names:
            assert function_named(name) is not None or name in {*new, *old, "add.reduce", "np.fft"}, name


@pytest.mark.parametrize("name", SECTIONS["With the gradient 0"])
def test_what_is_said_to_have_the_gradient_0_has_it(name):
    x = tr.tensor([0.3, -1.6], requires_grad=True)
    function = function_named(name)
    arguments = (x, 0.7) if isinstance(function, np.ufunc) and function.nin == 2 else (x,)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        y = function(*arguments)
    assert tr.grad(np.sum(y), x).tolist() == [0, 0]


@pytest.mark.parametrize("name", INSTEAD)
def test_the_page_and_the_message_say_what_to_write_instead(name):
    listed = [
        line for line in PAGE.splitlines() if INSTEAD[name] in line and re.search(rf"\b{re.escape(name)}\b", line)
    ]
    assert listed, f"docs/numpy.md lacks {name}: {INSTEAD[name]}"


def test_messages_of_refused_functions_name_the_replacement():
    x = tr.tensor([1.0, 2.0], requires_grad=True)
    for call, words in [
        (lambda: np.convolve(x, x), r"np\.convolve: has no .*in its place: the sum of shifted slices"),
        (lambda: np.add.reduce(x), r"np\.add\.reduce: .*in its place: `np\.sum`"),
        (lambda: np.linalg.det(x), r"np\.linalg\.det: .*in its place: nothing with a gradient"),
        (lambda: np.fft.fft(x), r"np\.fft\.fft: .*write it with the functions of tinygrad_rnn"),
        (lambda: np.add(x, x, where=np.array([True, False])), r"choose elements with np\.where"),
    ]:
        with pytest.raises(tr.UnsupportedError, match=words):
            call()
