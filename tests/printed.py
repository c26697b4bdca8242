"""What a page says that its code prints."""

import re

import pytest

NUMBER = re.compile(r"\d+(\.\d+)?")


def assert_prints(printed, expected, code):
    """Compare word by word; numbers that follow from the interpreter's own text, which each Python has in a form of its
    own, within a tenth.
    """
    found, wanted = printed.split(), expected.split()
    if "embedded_text" not in code:
        assert found == wanted
        return
    assert [NUMBER.sub("0", word) for word in found] == [NUMBER.sub("0", word) for word in wanted]
    for one, other in zip(found, wanted, strict=True):
        for number, known in zip(NUMBER.finditer(one), NUMBER.finditer(other), strict=True):
            assert float(number[0]) == pytest.approx(float(known[0]), rel=0.1), (one, other)
