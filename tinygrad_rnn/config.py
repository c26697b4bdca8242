"""The settings of a training run: one table that makes the defaults, the checks, the flags and the TOML file.

Standard library only, so that the command line can show its help without NumPy.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

from .checks import flag, integer, number
from .errors import ConfigError
from .files import read_whole

_T = TypeVar("_T")


class _Limits(NamedTuple):
    """The values that a setting may have."""

    choices: tuple[str, ...]
    low: int
    high: int | None
    above: bool
    below: bool
    own: bool


def _setting(
    default: _T,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    low: int = 0,
    high: int | None = None,
    above: bool = False,
    below: bool = False,
    own: bool = False,
) -> _T:
    limits = _Limits(choices, low, high, above, below, own)
    return dataclasses.field(default=default, metadata={"help": help, "limits": limits})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Every setting of a training run, checked.

    Raises:
        ConfigError: if a value has the wrong type, is unknown or out of range; the message says what is allowed.

    >>> config = TrainConfig(cell="gru", epochs=3)
    >>> config.cell, config.optimizer
    ('gru', 'adam')
    >>> TrainConfig(cell="gnu")
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: cell must be one of rnn, lstm, gru, or module:Name; got 'gnu'
    """

    corpus: str = _setting(
        "", "text file to train on, utf-8, or a folder that `prepare` made; empty: the text that Python carries"
    )
    level: str = _setting(
        "word",
        "tokens: words, in lower case, and signs; characters; bytes; or token: those of a text that is cut already",
        choices=("word", "char", "byte", "token"),
    )
    min_count: int = _setting(2, "tokens rarer than this in the training part become <unk>", low=1)
    max_tokens: int = _setting(0, "use this many tokens from the start of the text; 0: all")
    held_out: float = _setting(0.1, "share of the tokens, at the end, that is held out", high=1, above=True, below=True)
    valid: str = _setting("", "text file to hold out instead; the whole corpus is trained on then")
    test: str = _setting("", "text file to measure the best model on at the end")
    cell: str = _setting(
        "lstm", "recurrent cell, or mymodule:MyCell for one of your own", choices=("rnn", "lstm", "gru"), own=True
    )
    model: str = _setting("", "mymodule:make, a function make(vocab_size, config, rng) that makes the whole model")
    init: str = _setting("", "model file to start from: its weights are taken as far as names and shapes agree")
    hidden_size: int = _setting(200, "units of each layer", low=1, high=1_000_000)
    embedding_size: int = _setting(0, "length of a token's vector; 0: the hidden size", high=1_000_000)
    layers: int = _setting(1, "recurrent layers", low=1, high=1000)
    dropout: float = _setting(0.0, "probability of dropping a unit", high=1, below=True)
    init_scale: float = _setting(0.0, "first weights are uniform in +- this; 0: each layer has its own rule")
    tied: bool = _setting(False, "use the embedding for the output too")
    batch_size: int = _setting(20, "parallel streams of text", low=1)
    bptt: int = _setting(35, "steps of truncated backpropagation through time", low=1)
    drop_last: bool = _setting(False, "leave out a last window of fewer than bptt steps: its mean weighs as much")
    truncation: str = _setting(
        "",
        "truncation policy: full, chunked:35, windowed:70/35, decay:0.95, randomized:0.02, adaptive:0.1 or "
        "checkpointed:states=20; or credit carried forward: rtrl, snap:1, eprop, eprop:random, rflo, kf, uoro or "
        "forward; empty: one update a window of bptt steps, cut in between",
    )
    epochs: int = _setting(8, "passes over the training part", low=1)
    optimizer: str = _setting(
        "adam",
        "update rule; asgd: SGD, then the average of its weights",
        choices=("sgd", "asgd", "momentum", "adam", "adamw", "rmsprop", "adagrad", "lion"),
    )
    lr: float = _setting(0.003, "learning rate", above=True)
    weight_decay: float = _setting(0.0, "weight decay, not for biases")
    accumulate: int = _setting(1, "windows whose gradients make one update together", low=1)
    exchange: str = _setting(
        "gradients",
        "what the processes of mpiexec send: gradients, bfloat16, topk:0.01 (the largest entries), local:16 (weights "
        "after so many updates) or diloco:64",
    )
    clip: float = _setting(1.0, "largest global norm of the gradient; 0: no clipping")
    nonmonotone: int = _setting(
        5, "asgd: averaging begins when the held-out loss is above the best of all but this many last epochs", low=1
    )
    schedule: str = _setting(
        "halving", "how the learning rate changes", choices=("constant", "halving", "cosine", "decay")
    )
    decay: float = _setting(0.5, "factor of the schedule decay, each epoch", high=1, above=True)
    decay_after: int = _setting(1, "epochs at the full rate, before the schedule decay begins", low=1)
    warmup: int = _setting(0, "steps in which the learning rate rises to its value")
    patience: int = _setting(0, "stop after this many epochs without a better held-out loss; 0: never")
    checkpoint_every: int = _setting(
        0, "updates between two checkpoints; each epoch also ends with one; 0: none in between"
    )
    seed: int = _setting(0, "seed of everything that is random")
    dtype: str = _setting("float32", "dtype of the parameters", choices=("float32", "float64"))
    compile: bool = _setting(True, "replay compiled plans; the numbers are the same to rounding")
    executor: str = _setting(
        "auto",
        "executor of the plan: numpy, or native, a C library; auto: native if there is a C compiler",
        choices=("auto", "native", "numpy"),
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            checked = _checked(field.name, getattr(self, field.name), type(field.default), field.metadata["limits"])
            object.__setattr__(self, field.name, checked)
        if self.tied and self.embedding_width != self.hidden_size:
            raise ConfigError(
                f"tied weights need embedding_size equal to hidden_size ({self.hidden_size}) or 0, got "
                f"{self.embedding_size}; set tied to false to have both"
            )

    @property
    def embedding_width(self) -> int:
        """D: `embedding_size`, or the hidden size where that is 0."""
        return self.embedding_size or self.hidden_size

    @classmethod
    def from_mapping(cls, values: Mapping[str, object], source: str = "TrainConfig") -> TrainConfig:
        """Make a configuration from names and values; settings that are not given have their defaults.

        Args:
            values: setting to value.
            source: where the values come from, for messages.

        Raises:
            ConfigError: if a name is unknown (the message has the closest known one) or a value does not fit.

        >>> TrainConfig.from_mapping({"hiden_size": 3})
        Traceback (most recent call last):
        tinygrad_rnn.errors.ConfigError: TrainConfig: unknown setting 'hiden_size'; did you mean 'hidden_size'?
        """
        names = [field.name for field in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                begun = [known for known in names if name and known.startswith(str(name))]
                close = begun or difflib.get_close_matches(name, names, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known settings: {', '.join(names)}"
                raise ConfigError(f"{source}: unknown setting {name!r}; {hint}")
        make: Callable[..., TrainConfig] = cls
        try:
            return make(**values)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> TrainConfig:
        r"""Read a configuration from a TOML file of names and values, without tables.

        Raises:
            ConfigError: if the file cannot be read, is not TOML, or holds an unknown name or a wrong value.

        >>> import tempfile
        >>> from pathlib import Path
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "config.toml")
        ...     _ = path.write_text('cell = "rnn"\nepochs = 3\n')
        ...     TrainConfig.from_toml(path).epochs
        3
        """
        return cls.from_mapping(read_toml(path), source=os.fspath(path))

    def replace(self, **changes: object) -> TrainConfig:
        """Return a copy with other values, checked.

        >>> TrainConfig().replace(epochs=3).epochs
        3
        """
        return self.from_mapping({**dataclasses.asdict(self), **changes})

    def to_toml(self) -> str:
        r"""Return the configuration as TOML text, which `from_toml` reads back.

        >>> TrainConfig(cell="gru").to_toml().splitlines()[7:8]
        ['cell = "gru"']
        """
        return "".join(f"{name} = {_toml(value)}\n" for name, value in dataclasses.asdict(self).items())


_READY = Path(__file__).with_name("configs")


def ready_configs() -> dict[str, str]:
    """Return the names of the configurations that come with the package, and what each is.

    >>> list(ready_configs())
    ['awd-like', 'char-lstm', 'zaremba-medium', 'zaremba-small']
    """
    files = sorted(_READY.glob("*.toml"))
    return {path.stem: path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ") for path in files}


def config_file(name: str | os.PathLike[str]) -> Path:
    """Return the file of a configuration: the file at this path, or else the ready one of this name.

    Args:
        name: a path, or a name in `ready_configs()`.

    Raises:
        ConfigError: if it is neither a path (with a folder or a suffix) nor such a name.

    >>> config_file("zaremba-small").name
    'zaremba-small.toml'
    >>> config_file("zaremba-large")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tinygrad_rnn.errors.ConfigError: zaremba-large: is neither a file nor one of awd-like, char-lstm, ...
    """
    if os.path.lexists(name) or Path(name).suffix or Path(name).name != os.fspath(name):
        return Path(name)
    if os.fspath(name) in ready_configs():
        return _READY / f"{os.fspath(name)}.toml"
    raise ConfigError(f"{name}: is neither a file nor one of {', '.join(ready_configs())}")


def read_toml(path: str | os.PathLike[str]) -> dict[str, object]:
    """Return what a TOML file holds.

    Raises:
        ConfigError: if the file cannot be read or is not TOML.
    """
    import tomllib  # --help does without

    where = os.fspath(path)
    try:
        return tomllib.loads(read_whole(path, most=1 << 20).decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{where}: cannot be read ({error.strerror})") from error
    except ValueError as error:  # no TOML, no utf-8, or a path that holds a NUL character
        raise ConfigError(f"{where}: is not TOML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{where}: is not TOML of names and values: it is nested too deeply") from error


def _toml(value: object) -> str:
    # JSON's strings and numbers are TOML's too, but for pairs of surrogates (not escaped here) and DEL (escaped here).
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _checked(name: str, value: object, kind: type, limits: _Limits) -> bool | int | float | str:
    if kind is bool:
        return flag("", name, value)
    if kind is int:
        return integer("", name, value, limits.low, limits.high)
    if kind is float:
        high = float("inf") if limits.high is None else limits.high
        return number("", name, value, limits.low, high, above=limits.above, below=limits.below)
    return _checked_text(name, value, limits.choices, limits.own)


def _checked_text(name: str, value: object, choices: tuple[str, ...], own: bool) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name} must be a string, got {value!r}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(f"{name} must be text that utf-8 can hold, got {value!r}") from error
    if choices and value not in choices and not (own and ":" in value):
        others = ", or module:Name" if own else ""
        raise ConfigError(f"{name} must be one of {', '.join(choices)}{others}; got {value!r}")
    return str(value)
