"""The files of a run: where they are, and that nothing is overwritten by accident."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..config import TrainConfig
from ..data.vocabulary import Vocabulary
from ..errors import ConfigError
from ..files import append_whole, write_atomically, write_figure
from ..nn.models import RNNLM
from .modelfile import MODEL_NAME, save_model
from .records import EpochRecord


@dataclass(frozen=True)
class RunFiles:
    """A model file and what stands beside it: config.toml, metrics.jsonl and curve.png.

    Args:
        model: the model file.
        force: overwrite files of an earlier run.

    >>> RunFiles.at("runs/poem").model.as_posix(), RunFiles.at("poem.npz").metrics.as_posix()
    ('runs/poem/model.npz', 'metrics.jsonl')
    """

    model: Path
    force: bool = False

    @classmethod
    def at(cls, path: str | os.PathLike[str], force: bool = False) -> RunFiles:
        """Return the files for a path: the model file if it ends with .npz, otherwise a folder for all of them."""
        target = Path(path)
        return cls(target if target.suffix == ".npz" else target / MODEL_NAME, force)

    @property
    def config(self) -> Path:
        """The resolved configuration, as TOML."""
        return self.model.with_name("config.toml")

    @property
    def metrics(self) -> Path:
        """One JSON object for each epoch, on a line of its own."""
        return self.model.with_name("metrics.jsonl")

    @property
    def curve(self) -> Path:
        """The picture of the learning curve."""
        return self.model.with_name("curve.png")

    def check(self) -> None:
        """Check that the files can be written, and leave nothing behind.

        Raises:
            ConfigError: if a file exists and `force` is off, or the folder cannot be made or written to.
        """
        for path in (self.model, self.config, self.metrics, self.curve):
            if path.is_dir():
                raise ConfigError(f"{path} is a folder; choose another place to save")
            if path.exists() and not self.force:
                raise ConfigError(f"{path} exists already; choose another place to save, or overwrite it with --force")
        folder = self.model.parent
        made = _make_folders(folder)
        probe = folder / f".{self.model.name}.{os.getpid()}.probe"
        try:
            probe.write_bytes(b"")
            probe.unlink()
        except OSError as error:
            raise ConfigError(f"{folder}: cannot be written to ({error.strerror})") from error
        finally:
            for path in reversed(made):
                path.rmdir()

    def save(self, model: RNNLM, config: TrainConfig, vocabulary: Vocabulary) -> None:
        """Write the model file, and make its folder if needed.

        Raises:
            ConfigError: if the folder cannot be made, or the model is not what the configuration describes.
            OSError: if the file cannot be written.
        """
        _make_folders(self.model.parent)
        save_model(self.model, model, config, vocabulary)
        write_atomically(self.config, config.to_toml())

    def append(self, record: EpochRecord) -> None:
        """Add a line to the metrics; the first epoch's takes the place of an earlier run's metrics and curve."""
        if record.epoch == 1:
            self.curve.unlink(missing_ok=True)
        # JSON has no infinity, which the perplexity of a large loss can be.
        values = {name: None if value == math.inf else value for name, value in asdict(record).items()}
        write = write_atomically if record.epoch == 1 else append_whole
        write(self.metrics, json.dumps(values, allow_nan=False) + "\n")


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


def _make_folders(folder: Path) -> list[Path]:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    made: list[Path] = []
    try:
        for path in reversed(missing):
            path.mkdir()
            made.append(path)
    except OSError as error:
        for path in reversed(made):
            path.rmdir()
        raise ConfigError(f"{folder}: cannot be made ({error.strerror})") from error
    return made
