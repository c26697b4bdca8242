"""Texts in the languages of the course."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)


class Text(NamedTuple):
    """What the course says, in English and in Simplified Chinese.

    >>> Text("a cut", "截断")["zh"], Text("{count} steps", "{count} 步").filled(count=3).en
    ('截断', '3 steps')
    """

    en: str
    zh: str

    def __getitem__(self, language: object) -> str:  # type: ignore[override]
        """Return the text in a language."""
        return self.zh if language == "zh" else self.en

    def filled(self, **parts: object) -> Text:
        """Return the text with parts put in, as `str.format` does; of a part that is a Text, that in each language."""

        def fill(language: Language) -> str:
            given = {name: part[language] if isinstance(part, Text) else part for name, part in parts.items()}
            return self[language].format(**given)

        return Text(fill("en"), fill("zh"))
