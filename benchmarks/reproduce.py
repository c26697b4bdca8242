"""Reproduce every result that the project states: python benchmarks/reproduce.py [NAME ...] (`make results` runs all).

Each experiment is run with several seeds; docs/results.md has mean, standard deviation and minutes beside the published
figure and its source. The figures that are kept in results/reproduce.json are compared: a run that drifts from them by
more than its tolerance fails, unless --keep takes the new ones over. Experiments whose data is not at hand say so: put
jsb_chorales.json, tinyshakespeare.txt, and for the Penn Treebank ptb.train.txt, ptb.valid.txt and ptb.test.txt into a
folder, and name it with --data.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

import tinygrad_rnn as tr

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "benchmarks" / "results" / "reproduce.json"
PAGE = ROOT / "docs" / "results.md"
BUILD = ROOT / "build"

Figures = dict[str, float]
"""What one run came to, by name."""


class Experiment(NamedTuple):
    """One result.

    Attributes:
        name: on the command line.
        title: of its row.
        run: `run(seed, data) -> figures`.
        published: name of a figure to what was published for it, and by whom.
        tolerance: of the means, relative, beyond which a run has drifted.
        needs: files in the folder of data.
        seeds: how many.
    """

    name: str
    title: str
    run: Callable[[int, Path], Figures]
    published: dict[str, str]
    tolerance: float
    needs: tuple[str, ...] = ()
    seeds: int = 3


def example(name: str) -> ModuleType:
    """Return a program of examples/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chapter(seed: int, _: Path) -> Figures:
    """Train the chapter's model by both backward passes."""
    out = BUILD / "chapter5.png"
    by_hand, graph = example("chapter5").main(["--seed", str(seed), "--out", str(out)])
    apart = max(abs(a / b - 1) for a, b in zip(graph, by_hand, strict=True))
    return {"perplexity after 100 epochs": graph[-1], "largest difference of the two curves": apart}


def chorales(seed: int, data: Path) -> Figures:
    """Learn Bach's chorales."""
    nats = example("chorales").main([str(data / "jsb_chorales.json"), "--seed", str(seed)])
    return {"nats a step, test": nats}


def adding(seed: int, _: Path) -> Figures:
    """Add two numbers that are far apart."""
    return {"squared error at T = 200": example("adding").main(["--seed", str(seed)])[-1]}


def balancing(seed: int, _: Path) -> Figures:
    """Learn the parameter that helps at first and harms later."""
    paths = example("influence_balancing").main(["--seed", str(seed)])
    return {name: float(path[-1]) for name, path in paths.items() if abs(path[-1]) < 1}


def add_task(seed: int, _: Path) -> Figures:
    """Find the dependencies of a coin on earlier ones."""
    found = example("add_task").main(["--seed", str(seed)])
    return {f"nats at the end, {name}": float(means[-1]) for name, means in found.items()}


def long_memory(seed: int, _: Path) -> Figures:
    """Recall a symbol under every policy."""
    found = example("long_memory").main(["--seed", str(seed)])
    return {f"accuracy, {name}": result.accuracy[0] for name, result in found.items()}


def characters(seed: int, data: Path) -> Figures:
    """Train a model of characters on plays, and measure the last tenth of the text."""
    text = (data / "tinyshakespeare.txt").read_text(encoding="utf-8")
    vocabulary = tr.Vocabulary(sorted(set(text)), unknown=None)
    ids = vocabulary.encode(list(text))
    cut = len(ids) * 9 // 10
    model = tr.RNNLM(len(vocabulary), 64, 256, np.random.default_rng(seed), cell="lstm", dropout=0.1)
    windows = tr.OffsetBatches(ids[:cut], 32, 64)
    epochs = 8
    trainer = tr.Trainer(
        model,
        lambda model, batch, state, rng: model.loss(*batch, state, rng=rng),
        windows,
        optimizer=tr.Adam(0.004),
        schedule=tr.optim.Cosine(0.004, epochs * len(windows)),
        clip=5.0,
        state=lambda: model.initial_state(32),
        epochs=epochs,
        seed=seed,
        progress=False,
    )
    trainer.fit()
    nats = tr.evaluate(model, ids[cut:], 1, 256).nats
    return {"nats a character, held out": nats, "bits a character, held out": nats / math.log(2)}


def mnist1d(seed: int, _: Path) -> Figures:
    """Classify the sequences of MNIST-1D."""
    from mnist1d.data import get_dataset_args, make_dataset

    with contextlib.redirect_stdout(io.StringIO()):
        found = make_dataset(get_dataset_args())
    xs, test = (found[name].astype(np.float32)[..., None] for name in ("x", "x_test"))
    ys, answers = found["y"], found["y_test"]
    rng = np.random.default_rng(seed)
    model = tr.SequenceModel("gru", 1, 48, 10, rng, last=True, bidirectional=True, dropout=0.2)

    def batches(rng: np.random.Generator) -> list[tuple[np.ndarray, np.ndarray]]:
        order = rng.permutation(len(xs))
        return [(xs[part], ys[part]) for part in np.split(order, len(xs) // 50)]

    epochs = 60
    tr.Trainer(
        model,
        lambda model, batch, state, rng: tr.cross_entropy(model(batch[0], rng=rng), batch[1]),
        batches,
        optimizer=tr.AdamW(0.005),
        schedule=tr.optim.Cosine(0.005, epochs * 80),
        clip=1.0,
        epochs=epochs,
        seed=seed,
        progress=False,
    ).fit()
    with tr.no_grad():
        guessed = np.argmax(model(test).data, axis=-1)
    return {"accuracy, test": float(np.mean(guessed == answers))}


def treebank(seed: int, data: Path) -> Figures:
    """Train the small model of Zaremba et al. on the Penn Treebank."""
    from tinygrad_rnn.cli import main as command

    run = BUILD / f"ptb-{seed}"
    files = ["--valid", str(data / "ptb.valid.txt"), "--test", str(data / "ptb.test.txt")]
    arguments = ["--config", "zaremba-small", "--seed", str(seed), "--save", str(run), "--force", "--no-progress"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        if command(["train", str(data / "ptb.train.txt"), *files, *arguments]):
            raise SystemExit("reproduce: the run on the Penn Treebank has failed")
        command(["evaluate", str(run), str(data / "ptb.test.txt"), "--batch-size", "1", "--json"])
    return {"perplexity, test": float(json.loads(out.getvalue().splitlines()[-1])["perplexity"])}


EXPERIMENTS = [
    Experiment(
        "chapter",
        "The chapter's RNN on 1,000 words",
        chapter,
        {
            "perplexity after 100 epochs": "4.87: the program of the book (Saito 2018, chapter 5) on 1,000 words of the"
            " Penn Treebank, V = 418, as a reader's public run prints it; our text has V = 256"
        },
        0.05,
    ),
    Experiment(
        "characters",
        "Characters of Shakespeare's plays, LSTM of 256 units",
        characters,
        {
            "nats a character, held out": "transformers on the same split: 1.88 (4 layers of 128) and 1.47 (6 layers of"
            " 384, nanoGPT, Karpathy 2022); 1.72 (0.83 million weights) and 1.48 (10.8 million; Joseph 2026, MiniGPT)"
        },
        0.03,
        ("tinyshakespeare.txt",),
    ),
    Experiment(
        "chorales",
        "JSB chorales, LSTM of 300 units",
        chorales,
        {"nats a step, test": "LSTM 8.67 (Chung et al. 2014), 8.45 (Bai et al. 2018)"},
        0.02,
        ("jsb_chorales.json",),
    ),
    Experiment("mnist1d", "MNIST-1D, GRU", mnist1d, {"accuracy, test": "GRU 0.91 (Greydanus 2020)"}, 0.05),
    Experiment(
        "adding",
        "The adding problem, GRU",
        adding,
        {
            "squared error at T = 200": "GRU 5.3e-5, LSTM 0.164, RNN 0.177 at T = 600 (Bai et al. 2018); a guess of 1"
            " has 0.1767"
        },
        5.0,
    ),
    Experiment(
        "balancing",
        "Influence balancing",
        balancing,
        {"rtrl": "-1/6 (Tallec and Ollivier 2018)", "uoro": "-1/6 (the same)"},
        0.02,
    ),
    Experiment(
        "add-task",
        "The add task, an RNN online",
        add_task,
        {"nats at the end, rtrl": "0.5192 for one dependency, 0.4545 for both (Pitis 2016; Marschall et al. 2020)"},
        0.03,
    ),
    Experiment(
        "long-memory",
        "Recall over 20 steps, under every policy",
        long_memory,
        {"accuracy, Full()": "none for this task: a guess is right in 0.25"},
        0.3,
    ),
    Experiment(
        "treebank",
        "Penn Treebank, the small LSTM of Zaremba et al.",
        treebank,
        {"perplexity, test": "114.5 (Zaremba et al. 2014)"},
        0.02,
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        1,
    ),
]


SOURCES = """
## Sources

- Bai, Kolter, Koltun 2018, *An Empirical Evaluation of Generic Convolutional and Recurrent Networks for Sequence
  Modeling*, arXiv:1803.01271, table 1
- Chung, Gulcehre, Cho, Bengio 2014, *Empirical Evaluation of Gated Recurrent Neural Networks on Sequence Modeling*,
  arXiv:1412.3555, table 2
- Greydanus 2020, *Scaling down Deep Learning*, arXiv:2011.14439
- Joseph 2026, *MiniGPT: Rebuilding GPT from First Principles*, arXiv:2605.17398
- Karpathy 2022, nanoGPT, its README: the last tenth of the same text is held out, as here
- Marschall, Cho, Savin 2020, *A Unified Framework of Online Learning Algorithms for Training Recurrent Neural
  Networks*, JMLR 21; the task is that of Pitis 2016, *Recurrent Neural Networks in TensorFlow I*
- Saito 2018, *Deep Learning from Scratch 2*, O'Reilly Japan, chapter 5
- Tallec, Ollivier 2018, *Unbiased Online Recurrent Optimization*, ICLR, arXiv:1702.05043
- Zaremba, Sutskever, Vinyals 2014, *Recurrent Neural Network Regularization*, arXiv:1409.2329, table 1
"""


def missing(experiment: Experiment, data: Path | None) -> str:
    """Return why an experiment cannot be run; "" if it can."""
    if experiment.name == "mnist1d" and importlib.util.find_spec("mnist1d") is None:
        return "needs pip install mnist1d"
    lacking = [name for name in experiment.needs if data is None or not (data / name).exists()]
    return f"needs --data with {', '.join(lacking)}" if lacking else ""


def measured(experiment: Experiment, data: Path) -> dict[str, object]:
    """Return the figures of all seeds, and the minutes that they took."""
    runs, started = [], time.perf_counter()
    for seed in range(experiment.seeds):
        with contextlib.redirect_stdout(io.StringIO()):
            runs.append(experiment.run(seed, data))
    minutes = (time.perf_counter() - started) / 60
    names = list(dict.fromkeys(name for run in runs for name in run))
    figures = {name: [run[name] for run in runs if name in run] for name in names}
    return {"figures": figures, "minutes": minutes, "cores": os.cpu_count(), "version": tr.__version__}


def drift(experiment: Experiment, new: dict[str, list[float]], old: dict[str, list[float]]) -> list[str]:
    """Return in words how the means of a run differ from those that are kept."""
    found = []
    for name in sorted(new.keys() | old.keys()):
        if name not in new or name not in old:
            found.append(f"{name}: {'new' if name in new else 'gone'}")
            continue
        a, b = float(np.mean(new[name])), float(np.mean(old[name]))
        if abs(a - b) > experiment.tolerance * max(abs(b), 1e-6):
            found.append(f"{name}: {a:.4g}, kept {b:.4g}")
    return found


def page(kept: dict[str, dict[str, object]]) -> str:
    """Return the page of results."""
    lines = [
        "# Results",
        "",
        "`make results` runs these experiments again, each with its seeds, and fails if a mean drifts from the",
        "figures below.",
        "Mean and standard deviation over the seeds; minutes of all seeds together, on two cores in use.",
        'What is not run here needs files that are not free to share: `make results ARGS="--data FOLDER"` runs it.',
        "",
        "| experiment | figure | ours | seeds | published | minutes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for experiment in EXPERIMENTS:
        if experiment.name not in kept:
            lines.append(f"| {experiment.title} | | not run here | | {'; '.join(experiment.published.values())} | |")
            continue
        entry = kept[experiment.name]
        title, minutes = experiment.title, f"{entry['minutes']:.1f}"
        for name, values in entry["figures"].items():  # type: ignore[attr-defined]
            spread = f" ± {np.std(values):.2g}" if len(values) > 1 else ""
            published = experiment.published.get(name, "")
            lines.append(
                f"| {title} | {name} | {np.mean(values):.4g}{spread} | {len(values)} | {published} | {minutes} |"
            )
            title = minutes = ""
    return "\n".join(lines) + "\n" + SOURCES


def main(arguments: Sequence[str] | None = None) -> int:
    """Run experiments, compare them with what is kept, and write the page; return 1 if one has drifted."""
    parser = argparse.ArgumentParser(description="Reproduce the results of the project.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(e.name for e in EXPERIMENTS)} (all)")
    parser.add_argument("--data", type=Path, help="folder with the texts that are not part of the project")
    parser.add_argument("--keep", action="store_true", help="take the new figures over, and write docs/results.md")
    options = parser.parse_args(arguments)
    known = {experiment.name: experiment for experiment in EXPERIMENTS}
    if unknown := [name for name in options.names if name not in known]:
        parser.error(f"there is no experiment {', '.join(unknown)}; there are {', '.join(known)}")
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    failed = False
    for name in options.names or known:
        experiment = known[name]
        if reason := missing(experiment, options.data):
            print(f"{name}: {reason}")
            continue
        found = measured(experiment, options.data or Path())
        figures: dict[str, list[float]] = found["figures"]  # type: ignore[assignment]
        means = {key: round(float(np.mean(values)), 4) for key, values in figures.items()}
        print(f"{name}: {means}, {found['minutes']:.1f} minutes", flush=True)
        if name in kept and not options.keep:
            changes = drift(experiment, figures, kept[name]["figures"])
            failed |= bool(changes)
            print("".join(f"  drifted: {change}\n" for change in changes), end="")
        if options.keep:
            kept[name] = found
            KEPT.write_text(json.dumps(kept, indent=1) + "\n")
            PAGE.write_text(page(kept), encoding="utf-8")
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
