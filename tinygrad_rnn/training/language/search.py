"""The space that a sweep searches: settings of a run, and the values that each may take."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

from ...config import TrainConfig
from ...errors import ConfigError

Value: TypeAlias = bool | int | float | str


class Trial(Protocol):
    """What proposes values: a trial of Optuna."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return an integer."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Return a number."""

    def suggest_categorical(self, name: str, choices: list[Value]) -> Value:
        """Return one of the choices."""


_KINDS = "log:LOW:HIGH, float:LOW:HIGH, int:LOW:HIGH, int:LOW:HIGH:STEP or choice:A,B,..."


@dataclass(frozen=True)
class Dimension:
    """A setting that is searched, and its values.

    Attributes:
        name: of the setting, of `TrainConfig`.
        choices: its values; (): all between the limits.
        low, high: limits, both included; of a setting of whole numbers they are whole.
        log: equal chances for equal ratios.
        step: between two whole numbers.
    """

    name: str
    choices: tuple[Value, ...] = ()
    low: float = 0
    high: float = 0
    log: bool = False
    step: int = 1

    @classmethod
    def parse(cls, name: str, text: str) -> Dimension:
        """Return the dimension that a text describes.

        Raises:
            ConfigError: if there is no such setting, or the text does not describe values that it can have.

        >>> Dimension.parse("lr", "log:1e-4:1e-1")
        Dimension(name='lr', choices=(), low=0.0001, high=0.1, log=True, step=1)
        >>> Dimension.parse("cell", "choice:rnn,lstm").choices
        ('rnn', 'lstm')
        """
        where, (kind, *rest) = f"sweep: {name} = {text!r}", text.split(":", 1)
        setting = _settings().get(name)
        if setting is None:
            TrainConfig.from_mapping({name: 0}, "sweep")  # the error that names the closest setting
        try:
            made = cls._made(name, kind, rest[0] if rest else "", type(setting))
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        except (ValueError, KeyError) as error:
            numbers = isinstance(setting, int | float) and not isinstance(setting, bool)
            fitting = _KINDS if numbers else "choice:A,B,..."
            raise ConfigError(f"{where} is none of {fitting} for a setting like {setting!r}") from error
        for value in made.choices or (made.low, made.high):
            TrainConfig.from_mapping({name: value}, where)
        return made

    @classmethod
    def _made(cls, name: str, kind: str, rest: str, of: type) -> Dimension:
        if kind == "choice":
            choices = tuple(_value(one, of) for one in rest.split(","))
            if len(set(choices)) < len(choices):
                raise ConfigError(f"the choices must differ, got {', '.join(map(str, choices))}")
            return cls(name, choices)
        low, high, *step = rest.split(":")
        whole = kind == "int" or (kind == "log" and of is int)
        if of not in (int, float) or (kind != "log" and of.__name__ != kind) or len(step) > (kind == "int"):
            raise ValueError("of another kind")
        number = int if whole else float
        made = cls(name, low=number(low), high=number(high), log=kind == "log", step=int(step[0]) if step else 1)
        if made.log and not made.low > 0:
            raise ConfigError(f"LOW must be above 0 for log, got {low}")
        if not made.low < made.high:
            raise ConfigError(f"LOW must be below HIGH, got {low} and {high}")
        if made.step < 1:
            raise ConfigError(f"STEP must be 1 or more, got {made.step}")
        return made

    def propose(self, trial: Trial) -> Value:
        """Return the value that a trial proposes."""
        if self.choices:
            return trial.suggest_categorical(self.name, [*self.choices])
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.name, self.low, self.high, step=self.step, log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)


def _settings() -> dict[str, Value]:
    return {field.name: cast(Value, field.default) for field in dataclasses.fields(TrainConfig)}


def _value(text: str, of: type) -> Value:
    if of is bool:
        return {"true": True, "false": False}[text.lower()]
    return text if of is str else int(text) if of is int else float(text)


def parse_search(texts: Iterable[str]) -> dict[str, str]:
    """Return setting to description, from texts SETTING=DESCRIPTION.

    Raises:
        ConfigError: if a text is not of this form, or a setting is there twice.

    >>> parse_search(["lr=log:1e-4:1e-1", "layers=int:1:2"])
    {'lr': 'log:1e-4:1e-1', 'layers': 'int:1:2'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, described = text.partition("=")
        if not equals:
            raise ConfigError(
                f"sweep: --search takes SETTING={_KINDS}; got {text!r} (a text to train on comes before it)"
            )
        name = name.strip().replace("-", "_")
        if name in found:
            raise ConfigError(f"sweep: --search has {name} twice")
        found[name] = described.strip()
    return found


def dimensions(search: Mapping[str, object]) -> list[Dimension]:
    """Return the dimensions of a search space.

    Args:
        search: setting to description.

    Raises:
        ConfigError: if it is empty, or a description is wrong.

    >>> [one.name for one in dimensions({"hidden_size": "log:16:512", "tied": "choice:true,false"})]
    ['hidden_size', 'tied']
    """
    if not search:
        raise ConfigError(f"sweep: nothing is searched; pass --search SETTING={_KINDS}")
    for name, text in search.items():
        if not isinstance(text, str):
            raise ConfigError(f"sweep: {name} must be described by a text such as 'log:1e-4:1e-1', got {text!r}")
    return [Dimension.parse(name, str(text)) for name, text in search.items()]
