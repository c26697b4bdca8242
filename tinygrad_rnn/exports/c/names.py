"""Names in C: identifiers and comments made of whatever the user called something."""

from __future__ import annotations

import re

_WORDS = """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while bool true
    false and or not xor bitand bitor compl and_eq or_eq not_eq xor_eq asm catch class const_cast constexpr decltype
    delete dynamic_cast explicit export friend mutable namespace new noexcept nullptr operator private protected
    public reinterpret_cast static_assert static_cast template this thread_local throw try typeid typename using
    virtual wchar_t char16_t char32_t alignas alignof concept requires co_await co_return co_yield char8_t consteval
    constinit near far huge interrupt asm fortran main errno linux unix NULL EOF INFINITY NAN work
"""
_KEYWORDS = frozenset(_WORDS.split())
"""Words that C, C++, or a compiler for a small machine keeps for itself, and one that the generated code uses."""

_TAKEN = re.compile(r"[a-z]\d+|\w+_(f32|f64|t)|w_\w+|c_\d+|[A-Z0-9_]+")
"""Local variables, functions, types, weights and macros of the generated code."""

_LONGEST = 40  # characters: C99 tells identifiers apart by 63


class Names:
    """Hands out identifiers, no two the same."""

    def __init__(self) -> None:
        self._given: set[str] = set()

    def give(self, name: str, prefix: str = "") -> str:
        """Return an identifier for a name: the name itself if it is one that is free.

        >>> names = Names()
        >>> [names.give(name) for name in ("x", "state.0", "int", "x", '";drop', "")]
        ['x', 'state_0', 'int_', 'x_2', 'drop', 'value']
        """
        plain = prefix + identifier(name)
        found, number = plain, 1
        while found in self._given:
            number += 1
            found = f"{plain}_{number}"
        self._given.add(found)
        return found


def identifier(name: str) -> str:
    """Return what is left of a name in an identifier that the generated code has no other use for."""
    plain = letters(name)
    return f"{plain}_" if plain in _KEYWORDS or (_TAKEN.fullmatch(plain) and len(plain) > 1) else plain


def letters(name: str) -> str:
    """Return what is left of a name in the start of an identifier."""
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")[:_LONGEST] or "value"
    return f"n{plain}" if plain[0].isdigit() else plain


def comment(text: str) -> str:
    r"""Return a text that cannot end the comment that it stands in.

    >>> print(comment('gain */ int main(void) { // é'))
    gain * / int main(void) { / / \xe9
    """
    plain = text.encode("ascii", "backslashreplace").decode()
    plain = "".join(c if c.isprintable() else " " for c in plain)
    return re.sub(r"([*/?])(?=[*/?])", r"\1 ", plain).rstrip("\\")[:200]
