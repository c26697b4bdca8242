"""Sweeps: many runs with settings that Optuna proposes, by any number of processes, which can be killed and go on."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ...config import TrainConfig
from ...data.corpus import Corpus
from ...errors import ConfigError, CorpusError, DivergedError, NonFiniteError
from ...exits import interrupted_by
from ...files import read_whole, write_atomically
from ..files.lock import NAME as LOCK
from ..files.lock import folder_taken
from ..runs.callbacks import Callback
from ..runs.records import Record
from ..runs.trainer import Trainer
from .runfiles import RunFiles
from .search import dimensions
from .trainer import LanguageTrainer

if TYPE_CHECKING:
    import optuna

Texts: TypeAlias = Callable[[TrainConfig], tuple[Corpus, Corpus]]

SAMPLERS, PRUNERS = ("tpe", "random"), ("median", "halving", "none")
_NAME, _STUDY, _PART = "sweep.json", "study.db", ".begun"
_BEAT, _GRACE = 2, 12  # seconds: between two signs of life of a trial, and after the last one until it is taken over


@dataclass(frozen=True)
class Found:
    """A trial of a sweep.

    Attributes:
        number: of the trial; its files are in trial-NUMBER.
        state: "complete", "pruned", "running" or "failed".
        nats: the least held-out loss so far, in nats per token; None: there is none.
        epochs: that were evaluated.
        settings: the values that were proposed.
        reason: why it ended early, if it was not pruned for its losses.
    """

    number: int
    state: str
    nats: float | None
    epochs: int
    settings: dict[str, object]
    reason: str = ""


@dataclass(frozen=True)
class Sweep:
    """A sweep in a folder: what is searched, and around which configuration.

    Args:
        folder: for sweep.json, study.db, Optuna's storage, and a folder for each trial.
        config: settings of every run, apart from those that are searched.
        search: setting to description, such as {"lr": "log:1e-4:1e-1"}.
        sampler: "tpe", tree-structured Parzen estimators, or "random".
        pruner: "median" ends a trial that is worse than half of the others at the same epoch, "halving" (successive
            halving) keeps the best quarter at epochs 1, 4, 16, ...; "none".

    Raises:
        ConfigError: if the search space is not valid, or Optuna is missing (the extra tinygrad_rnn[sweep]).
    """

    folder: Path
    config: TrainConfig
    search: Mapping[str, str]
    sampler: str = "tpe"
    pruner: str = "median"

    def __post_init__(self) -> None:
        dimensions(self.search)
        for name, value, known in (("sampler", self.sampler, SAMPLERS), ("pruner", self.pruner, PRUNERS)):
            if value not in known:
                raise ConfigError(f"sweep: {name} must be one of {', '.join(known)}, got {value!r}")
        _optuna()

    @classmethod
    def open(cls, folder: Path) -> Sweep | None:
        """Return the sweep that a folder holds; None: it holds none.

        Raises:
            ConfigError: if its file is damaged.
        """
        try:
            values = json.loads(read_whole(folder / _NAME, 1 << 20))
            config = TrainConfig.from_mapping(values["config"], "sweep")
            return cls(folder, config, values["search"], values["sampler"], values["pruner"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"sweep: {folder / _NAME} is damaged ({error}); choose another folder") from error

    def create(self) -> None:
        """Write the folder.

        Raises:
            ConfigError: if it holds something else, or cannot be made, or another process is at it.
        """
        with folder_taken(self.folder):
            self._create()

    def _create(self) -> None:
        part = self.folder / _PART  # Optuna takes a second to make its file; a kill then leaves only this behind
        shutil.rmtree(part, ignore_errors=True)
        if any(path.name != LOCK for path in self.folder.iterdir()):
            raise ConfigError(f"sweep: {self.folder} holds other files; choose a folder of its own")
        part.mkdir()
        self._storage(part).engine.dispose()
        values = {
            "search": {**self.search},
            "sampler": self.sampler,
            "pruner": self.pruner,
            "config": asdict(self.config),
        }
        write_atomically(part / _NAME, json.dumps(values, indent=1) + "\n")
        for name in (_STUDY, _NAME):
            (part / name).replace(self.folder / name)
        part.rmdir()

    def files(self, number: int) -> RunFiles:
        """Return the files of a trial."""
        return RunFiles.at(self.folder / f"trial-{number:04d}", force=True)

    def work(self, trials: int, texts: Texts, on_trial: Callable[[Found], object], worker: int = 0) -> None:
        """Run trials until there are so many that are complete or pruned; other processes may do the same meanwhile.

        A trial whose process died is run again from its last checkpoint. One that diverges counts as pruned.

        Args:
            trials: how many, those of earlier calls included.
            texts: the function from a configuration to its training and its held-out text.
            on_trial: called after each.
            worker: number of this process among those that were started together.

        Raises:
            KeyboardInterrupt: after Ctrl-C or SIGTERM; the trial will go on from its last checkpoint.
        """
        tools = _optuna()
        study = self._study(worker)
        states = tools.trial.TrialState
        with _quiet():
            while True:
                found = study.get_trials(deepcopy=False)
                over = sum(one.state in (states.COMPLETE, states.PRUNED) for one in found)
                running = sum(one.state is states.RUNNING for one in found)
                waiting = any(one.state is states.WAITING for one in found)
                if over >= trials:
                    return
                if over + running >= trials and not waiting:
                    time.sleep(0.5)  # others are at work; if one dies, its trial is waiting again
                    tools.storages.fail_stale_trials(study)
                    continue
                objective = _Objective(self, texts, trials)
                try:
                    study.optimize(
                        objective, 1, catch=(_SurplusError,), callbacks=[lambda _, one: _told(one, on_trial)]
                    )
                except KeyboardInterrupt:
                    _again()(study, study.trials[objective.number])
                    raise

    def found(self) -> list[Found]:
        """Return the trials, the best first; those that failed and were run again are left out."""
        states = _optuna().trial.TrialState
        with _quiet():
            trials = [
                _found(one) for one in self._study().get_trials() if one.state not in (states.FAIL, states.WAITING)
            ]
        return sorted(trials, key=lambda one: (one.state != "complete", np.inf if one.nats is None else one.nats))

    def _study(self, worker: int = 0) -> optuna.Study:
        """Open the study of the folder, or create it."""
        tools = _optuna()
        with _quiet():
            storage = self._storage(self.folder)
            study = tools.create_study(
                storage=storage, study_name="sweep", load_if_exists=True, direction="minimize", pruner=self._pruner()
            )
            # Processes must not propose the same: not those started together, nor one that goes on with a sweep.
            seeds = np.random.SeedSequence([self.config.seed, len(study.get_trials(deepcopy=False)), worker])
            seed = int(seeds.generate_state(1)[0])
            samplers = tools.samplers
            study.sampler = (
                samplers.TPESampler(seed=seed) if self.sampler == "tpe" else samplers.RandomSampler(seed=seed)
            )
        return study

    @staticmethod
    def _storage(folder: Path) -> optuna.storages.RDBStorage:
        """Open Optuna's file in a folder, or make it."""
        with _quiet():
            return _optuna().storages.RDBStorage(
                f"sqlite:///{(folder / _STUDY).absolute()}",
                engine_kwargs={"connect_args": {"timeout": 60}},
                heartbeat_interval=_BEAT,
                grace_period=_GRACE,
                heartbeat_stale_trial_callback=_again(),
            )

    def _pruner(self) -> optuna.pruners.BasePruner:
        pruners = _optuna().pruners
        if self.pruner == "median":
            return pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=1)
        return pruners.SuccessiveHalvingPruner(min_resource=1) if self.pruner == "halving" else pruners.NopPruner()


class _SurplusError(Exception):
    """A trial that was begun while others made up the number."""


class _Objective:
    """What a trial is: a run with the settings that it proposes; the least held-out loss is its value.

    Attributes:
        number: of the last trial.
    """

    def __init__(self, sweep: Sweep, texts: Texts, trials: int) -> None:
        self._sweep, self._texts, self._trials = sweep, texts, trials
        self.number = -1

    def __call__(self, trial: optuna.Trial) -> float:
        self.number = trial.number
        tools = _optuna()
        before = [one for one in trial.study.get_trials(deepcopy=False) if one.number < trial.number]
        if sum(one.state is not tools.trial.TrialState.FAIL for one in before) >= self._trials:
            raise _SurplusError
        run = int(trial.user_attrs.get("run", trial.number))  # of the trial that this one goes on with
        trial.set_user_attr("run", run)
        values = {one.name: one.propose(trial) for one in dimensions(self._sweep.search)}
        try:
            config = self._sweep.config.replace(**values)
            reports = _Report(trial, config.epochs)
            files = self._sweep.files(run)
            trainer = LanguageTrainer(*self._texts(config), config, files=files, callbacks=[reports], progress=False)
            with np.errstate(all="ignore"):  # the run itself checks that its values are finite
                result = trainer.resume().run()
        except (DivergedError, NonFiniteError, ConfigError, CorpusError, MemoryError) as error:
            trial.set_user_attr("reason", " ".join(str(error).split()))
            raise tools.TrialPruned from error
        if result.signal is not None:
            raise interrupted_by(result.signal)
        if reports.pruned:
            raise tools.TrialPruned
        return result.best.valid_nats


class _Report(Callback):
    """Report the held-out loss of each epoch to a trial, and end the run if the trial is pruned before its last."""

    def __init__(self, trial: optuna.Trial, epochs: int) -> None:
        self._trial, self._epochs, self.pruned = trial, epochs, False
        mine = next(one for one in trial.study.get_trials(deepcopy=False) if one.number == trial.number)
        self._known = set(mine.intermediate_values)  # of the run that this one goes on with

    def on_epoch(self, trainer: Trainer, record: Record) -> bool:
        if record.interrupted:
            return False
        if record.epoch not in self._known:
            self._trial.report(record.valid["loss"], record.epoch)
        self.pruned = record.epoch < self._epochs and self._trial.should_prune()
        return self.pruned


def _optuna() -> ModuleType:
    """Return the library Optuna."""
    try:
        # Imported here: an optional extra.
        import optuna
    except ImportError as error:
        raise ConfigError('sweep: needs Optuna: pip install "tinygrad_rnn[sweep]"') from error
    found: ModuleType = optuna
    return found


def _again() -> optuna.storages.RetryHeartbeatStaleTrialCallback:
    """Return the function that makes a trial wait again after its process died, with what it has reported."""
    with _quiet():
        return _optuna().storages.RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna's logs and notes on its parts that may change from the terminal."""
    tools = _optuna()
    before = tools.logging.get_verbosity()
    tools.logging.set_verbosity(tools.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", tools.exceptions.ExperimentalWarning)
            yield
    finally:
        tools.logging.set_verbosity(before)


def _told(trial: optuna.trial.FrozenTrial, on_trial: Callable[[Found], object]) -> None:
    found = _found(trial)
    if found.state != "failed":
        on_trial(found)


def _found(trial: optuna.trial.FrozenTrial) -> Found:
    losses = trial.intermediate_values
    nats = min(losses.values(), default=None)
    states = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    attributes = trial.user_attrs
    return Found(
        int(attributes.get("run", trial.number)),
        states.get(trial.state.name, "running"),
        nats,
        max(losses, default=0),
        dict(trial.params),
        str(attributes.get("reason", "")),
    )
