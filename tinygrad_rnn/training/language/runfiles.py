"""The files of a run, and the checks that none is overwritten by accident."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ...config import TrainConfig
from ...data.vocabulary import Vocabulary
from ...errors import ConfigError
from ...files import append_whole, write_atomically, write_figure
from ...nn.models import RNNLM
from ..files.archive import MODEL_NAME
from ..files.lock import folder_taken, made, remove_empty
from ..files.safetensors import is_safetensors, packed
from .modelfile import save_model
from .records import EpochRecord


@dataclass(frozen=True)
class RunFiles:
    """A model file and the files next to it: config.toml, metrics.jsonl, metrics.csv, curve.png and folders of
    checkpoints and event files.

    Args:
        model: the model file.
        force: overwrite files of an earlier run.

    >>> RunFiles.at("runs/poem").model.as_posix(), RunFiles.at("poem.npz").metrics.as_posix()
    ('runs/poem/model.npz', 'metrics.jsonl')
    >>> RunFiles.at("poem.safetensors").model.as_posix()
    'poem.safetensors'
    """

    model: Path
    force: bool = False

    @classmethod
    def at(cls, path: str | os.PathLike[str], force: bool = False) -> RunFiles:
        """Return the files for a path: a model file if it ends with .npz or .safetensors, else a folder for all."""
        target = Path(path)
        is_file = target.suffix.lower() == ".npz" or (is_safetensors(target) and not target.is_dir())
        return cls(target if is_file else target / MODEL_NAME, force)

    @property
    def config(self) -> Path:
        """The resolved configuration, as TOML."""
        return self.model.with_name("config.toml")

    @property
    def metrics(self) -> Path:
        """One JSON object a line, for each epoch."""
        return self.model.with_name("metrics.jsonl")

    @property
    def curve(self) -> Path:
        """The picture of the learning curve."""
        return self.model.with_name("curve.png")

    @property
    def csv(self) -> Path:
        """The metrics as CSV, one line for each epoch."""
        return self.model.with_name("metrics.csv")

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.model.with_name(
            "tensorboard" if self.model.name == MODEL_NAME else f"{self.model.stem}-tensorboard"
        )

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        name = "checkpoints" if self.model.name == MODEL_NAME else f"{self.model.stem}-checkpoints"
        return self.model.with_name(name)

    def check(self) -> None:
        """Check that there are no files of an earlier run; nothing is written.

        Raises:
            ConfigError: if a file exists and `force` is off, is a folder, or needs a library that is missing.
        """
        if is_safetensors(self.model):
            packed({}, {})  # that it can be written is known before the first epoch
        for path in (self.model, self.config, self.metrics, self.csv, self.curve):
            if path.is_dir():
                raise ConfigError(f"{path} is a folder; choose another place to save")
            if path.exists() and not self.force:
                raise ConfigError(f"{path} exists already; choose another place to save, or overwrite it with --force")
        if self.tensorboard.exists() and not self.force:
            raise ConfigError(
                f"{self.tensorboard} holds event files of an earlier run; choose another place to save, or add to them "
                "with --force"
            )

    @contextmanager
    def taken(self) -> Iterator[TakenFiles]:
        """Create the folder and hold its lock, so that no other run writes to it; yield the files that may be written.

        Afterwards the folders that were created for the run and are still empty are removed.

        Raises:
            ConfigError: as `check`; or if the folder cannot be made or written to, or another run holds its lock.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, RunFiles.at(folder).taken() as files:
        ...     files.model.name
        'model.npz'
        """
        with folder_taken(self.model.parent):
            self.check()
            yield TakenFiles(self.model, self.force)

    @classmethod
    @contextmanager
    def fresh(cls, folder: str | os.PathLike[str], name: str) -> Iterator[TakenFiles]:
        """Create a folder for one run, the first of NAME-1, NAME-2, ... that is free, and hold its lock; see `taken`.

        Args:
            folder: where the folders of all runs are; made if needed.
            name: of the run.

        Raises:
            ConfigError: if the folder cannot be made or written to.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RunFiles.fresh(folder, "poem") as one, RunFiles.fresh(folder, "poem") as other:
        ...         [files.model.parent.name for files in (one, other)]
        ['poem-1', 'poem-2']
        """
        with made(Path(folder)):
            for path in numbered(folder, name):
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                except OSError as error:
                    raise ConfigError(f"{path}: cannot be made ({error.strerror})") from error
                break
            try:
                with cls.at(path).taken() as files:
                    yield files
            finally:
                remove_empty([path])


class TakenFiles(RunFiles):
    """The files of a folder whose lock this run holds; `RunFiles.taken` makes it, and only this class writes."""

    @contextmanager
    def taken(self) -> Iterator[TakenFiles]:
        """Yield itself: the lock is held already."""
        yield self

    def save(self, model: RNNLM, config: TrainConfig, vocabulary: Vocabulary) -> None:
        """Write the model file and the configuration.

        Raises:
            ConfigError: if the model is not what the configuration describes.
            OSError: if a file cannot be written.
        """
        save_model(self.model, model, config, vocabulary)
        write_atomically(self.config, config.to_toml())

    def append(self, record: EpochRecord) -> None:
        """Append a line to the metrics; that of the first epoch replaces an earlier run's metrics and curve."""
        if record.epoch == 1:
            self.rewrite([record])
        else:
            append_whole(self.metrics, _line(record))

    def rewrite(self, records: Sequence[EpochRecord]) -> None:
        """Write the metrics of these epochs alone; a resumed run repeats the epochs after them."""
        self.curve.unlink(missing_ok=True)
        write_atomically(self.metrics, "".join(_line(record) for record in records))


def _line(record: EpochRecord) -> str:
    # JSON has no infinity, which the perplexity of a large loss can be.
    values = {name: None if value == math.inf else value for name, value in asdict(record).items()}
    return json.dumps(values, allow_nan=False) + "\n"


def numbered(folder: str | os.PathLike[str], name: str) -> Iterator[Path]:
    """Yield NAME-1, NAME-2, ... in a folder.

    >>> import itertools
    >>> [path.as_posix() for path in itertools.islice(numbered("runs", "poem"), 2)]
    ['runs/poem-1', 'runs/poem-2']
    """
    return (Path(folder, f"{name}-{number}") for number in itertools.count(1))


def save_curve(records: Sequence[EpochRecord], path: str | os.PathLike[str], baseline: float | None = None) -> bool:
    """Draw training and held-out perplexity over the epochs into a picture.

    Args:
        records: one for each epoch.
        path: file to write; its ending chooses the format.
        baseline: a perplexity to compare with, such as the unigram's; drawn as a line.

    Returns:
        Whether matplotlib (the extra tinygrad_rnn[plot]) is there; without it nothing is written.
    """
    try:
        # Imported here: an optional extra.
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogFormatter, MaxNLocator
    except ImportError:
        return False
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(
        xlabel="epoch",
        ylabel="perplexity",
        title="Learning curve (training: mean over the epoch, while the weights change)",
    )
    epochs = [record.epoch for record in records]
    axes.plot(epochs, [record.train_perplexity for record in records], "o-", label="training")
    axes.plot(epochs, [record.valid_perplexity for record in records], "s-", label="held out")
    if baseline is not None:
        axes.axhline(baseline, color="gray", linestyle="--", label="unigram, held out")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(LogFormatter())
    axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.4)))  # labels as far as there is room
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    write_figure(path, figure, dpi=150)
    return True
