"""Several processes, started by the real mpiexec: the numbers of one process, files of the first, and deaths."""

import json
import os
import re
import signal

import numpy as np
import pytest
from parallel.cases import CASES as TABLE
from parallel.cases import SAME
from parallel.launch import CASES, MPIEXEC, ended, needs_mpi, processes_of, start, wait_for

import tinygrad_rnn as tr

TOLERANCE = 1e-12  # in float64: the rounding of sums in another order


@pytest.fixture(autouse=True)
def _mpi():
    needs_mpi()


def table_of(processes, updates, names=()):
    code, out, err = ended(start(processes, str(CASES), str(updates), *names), 1800)
    assert code == 0, err
    return [json.loads(line) for line in out.splitlines()]


def check(rows):
    far = [row for row in rows if not row["difference"] < max(TOLERANCE, 10 * row["rounding"])]
    assert {row["case"]: row["difference"] for row in far} == {}
    assert [row["case"] for row in rows if not (row["repeats"] and row["alike"])] == []


def test_two_processes_do_what_one_does():
    rows = table_of(2, 8, ["overlap", "lengths", "local:1"])
    assert len(rows) == 3
    check(rows)


@pytest.mark.nightly
@pytest.mark.parametrize("processes", [2, 3])
def test_all_cells_policies_optimizers_and_lengths(processes):
    rows = table_of(processes, 100)
    assert len(rows) == len(TABLE) + len(SAME)
    check(rows)


# -- the command line


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """A text of 6,000 words in lines, which have an order to learn."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("text") / "text.txt"
    lines = [" ".join(f"w{(start + 3 * n) % 60}" for n in range(12)) for start in rng.integers(0, 60, 500)]
    path.write_text("\n".join(lines))
    return path


def command(text, save, *flags, epochs=2):
    settings = {"hidden-size": 8, "batch-size": 7, "bptt": 10, "epochs": epochs, "dtype": "float64", "dropout": 0.2}
    listed = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    return ["-m", "tinygrad_rnn", "train", str(text), *listed, "--save", str(save), "--no-progress", *flags]


def arrays(folder):
    return tr.load_model(folder / "model.npz").model.state_dict()


def perplexities(folder):
    return [json.loads(line)["valid_perplexity"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def check_same(one, other):
    for name, array in arrays(one).items():
        np.testing.assert_allclose(arrays(other)[name], array, rtol=0, atol=TOLERANCE)
    assert perplexities(other) == pytest.approx(perplexities(one), rel=1e-12)


@pytest.mark.nightly
def test_the_command_of_several_processes_is_that_of_one(text, tmp_path):
    outputs = {}
    for processes in (1, 3):
        code, out, err = ended(start(processes, *command(text, tmp_path / str(processes))))
        assert code == 0, err
        outputs[processes] = out
    check_same(tmp_path / "1", tmp_path / "3")
    assert outputs[3].count("held out ") == 1
    assert "processes   3, which divide the 7 streams" in outputs[3]
    assert "processes" not in outputs[1]


@pytest.mark.nightly
def test_a_run_whose_processes_make_updates_alone_has_checkpoints(text, tmp_path):
    code, _, err = ended(start(2, *command(text, tmp_path / "a", "--exchange", "diloco:8", epochs=3)), 120)
    assert code == 0, err
    assert len(perplexities(tmp_path / "a")) == 3
    assert list((tmp_path / "a" / "checkpoints").glob("*.npz"))


@pytest.mark.nightly
def test_a_run_resumes_on_any_number_of_processes(text, tmp_path):
    ended(start(1, *command(text, tmp_path / "whole", "--checkpoint-every", "20", epochs=120)))
    running = start(3, *command(text, tmp_path / "parts", "--checkpoint-every", "20", epochs=120))
    wait_for(lambda: list((tmp_path / "parts").glob("checkpoints/*.npz")))
    for pid in processes_of(running).values():
        os.kill(pid, signal.SIGTERM)
    code, out, err = ended(running)
    assert "interrupted" in out, err
    assert code != 0
    code, out, err = ended(start(2, "-m", "tinygrad_rnn", "train", "--resume", str(tmp_path / "parts")))
    assert code == 0, err
    assert "resumed" in out
    np.testing.assert_allclose(perplexities(tmp_path / "parts")[-1], perplexities(tmp_path / "whole")[-1], rtol=1e-9)
    check_arrays = arrays(tmp_path / "whole")
    assert all(np.allclose(arrays(tmp_path / "parts")[name], array, atol=1e-9) for name, array in check_arrays.items())


@pytest.mark.nightly
def test_an_error_is_said_once_and_ends_all(text, tmp_path):
    code, out, err = ended(start(2, *command(text, tmp_path / "a", "--batch-size", "100000")), 60)
    assert code == 2
    assert err.count("tinygrad-rnn: error:") == 1
    assert out == ""


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--bogus"], "unrecognized arguments: --bogus"),
        (["evaluate", "model"], "evaluate runs in one process; start it without mpiexec"),
        (["sweep"], "sweep runs in one process (--processes N starts its own); start it without mpiexec"),
    ],
)
def test_bad_input_is_said_once_with_the_exit_status_of_one_process(arguments, message):
    code, out, err = ended(start(2, "-m", "tinygrad_rnn", *arguments), 60)
    assert (code, out) == (2, "")
    assert err.count("tinygrad-rnn: error: ") == 1
    assert message in err


LONE = """
import sys
from tinygrad_rnn.commands.processes import of_this_run
with of_this_run() as group:
    if group.rank == 1:
        raise OSError("no such disk")
    group.gather(1)
"""


@pytest.mark.nightly
def test_an_error_of_one_process_does_not_leave_the_others_waiting():
    code, _, err = ended(start(2, "-c", LONE), 30)
    assert code == 2
    assert "error: process 1 of 2: OSError: no such disk" in err


AMID = """
import numpy as np, tinygrad_rnn as tr
from mpi4py import MPI
comm = MPI.COMM_WORLD
model = tr.RNNLM(5, 4, 4, np.random.default_rng(0))
calls = 0

def loss(model, batch, state, rng):
    global calls
    calls += 1
    if comm.rank == 1 and calls == 8:
        raise ValueError("bad row")
    return model.loss(*batch, state)

state = lambda: model.initial_state(4)
windows = tr.OffsetBatches(np.arange(200) % 5, 4, 6)
policy = tr.UORO(every=6)  # whose steps are sums of all
how = {"epochs": 1, "compile": False, "policy": policy, "progress": False}
trainer = tr.Trainer(model, loss, windows, state=state, comm=comm, **how)
try:
    trainer.fit()
except ValueError as error:
    print(comm.rank, error, flush=True)
"""

BAD = """
import numpy as np, tinygrad_rnn as tr
from mpi4py import MPI
comm = MPI.COMM_WORLD
model = tr.Linear(2, 1, np.random.default_rng(0))

def loss(model, batch):
    if comm.rank == 1:
        raise ValueError("bad row")
    return np.mean(model(batch) ** 2)

try:
    tr.Trainer(model, loss, [np.ones((4, 2))], epochs=1, comm=comm, progress=False).fit()
except ValueError as error:
    print(comm.rank, error, flush=True)
"""


@pytest.mark.nightly
@pytest.mark.parametrize("program", [BAD, AMID], ids=["between sums", "amid sums"])
def test_an_error_of_a_loss_is_raised_in_all_processes(program):
    code, out, err = ended(start(2, "-c", program), 60)
    assert code == 0, err
    assert sorted(out.splitlines()) == ["0 process 1: bad row", "1 bad row"]


PAST = """
import sys, numpy as np, tinygrad_rnn as tr
from mpi4py import MPI

class End(tr.Callback):
    def __init__(self, at):
        self.at = at
    def on_update(self, trainer, result):
        if trainer.run.updates == self.at:
            raise RuntimeError("the end")

def trainer(folder, policy, end):
    model = tr.RNNLM(7, 4, 5, np.random.default_rng(0), cell="gru", dtype=np.float64)
    def loss(model, batch, state, rng):
        return model.loss(*batch, state, rng=rng)
    text = np.random.default_rng(1).integers(0, 7, 400)
    policy = tr.UORO(rng=3, every=6) if policy == "uoro" else policy
    how = {"state": lambda: model.initial_state(6), "policy": policy, "callbacks": [End(end)]}
    how |= {"optimizer": tr.SGD(0.05)}
    how |= {"comm": MPI.COMM_WORLD, "progress": False, "epochs": 2, "checkpoints": tr.Checkpoints(folder, every=5)}
    return tr.Trainer(model, loss, tr.OffsetBatches(text, 6, 6), **how)

folder, first, policy = sys.argv[1], sys.argv[2] == "first", sys.argv[3]
if first:
    whole = trainer(folder + "-whole", policy, 0)
    whole.fit()
    try:
        trainer(folder, policy, 7).fit()  # an epoch has 11 updates; the checkpoint is of the fifth
    except RuntimeError:
        pass
resumed = trainer(folder, policy, 0).resume()
assert resumed.run.totals is not None and resumed.run.updates == 5
if sys.argv[2] != "first" or len(sys.argv) > 4:
    resumed.fit()
    if first:
        ends = [run.model.state_dict() for run in (whole, resumed)]
        print(MPI.COMM_WORLD.rank, all(np.array_equal(array, ends[1][name]) for name, array in ends[0].items()))
    else:
        print(MPI.COMM_WORLD.rank, resumed.run.updates)
"""


@pytest.mark.nightly
@pytest.mark.parametrize("policy", ["windowed:12/6", "checkpointed:2", "uoro", "eprop", "snap:1", "randomized:0.2"])
def test_processes_resume_amid_an_epoch_with_the_past_that_their_policy_holds(policy, tmp_path):
    code, out, err = ended(start(2, "-W", "error", "-c", PAST, str(tmp_path / "a"), "first", policy, "fit"), 120)
    assert code == 0, err
    assert sorted(out.splitlines()) == ["0 True", "1 True"]


@pytest.mark.nightly
def test_another_number_of_processes_says_that_the_past_is_lost(tmp_path):
    code, _, err = ended(start(3, "-c", PAST, str(tmp_path / "a"), "first", "uoro"), 120)
    assert code == 0, err
    code, out, err = ended(start(2, "-c", PAST, str(tmp_path / "a"), "next", "uoro"), 120)
    assert code == 0, err
    assert sorted(out.splitlines()) == ["0 22", "1 22"]
    assert err.count("was divided among 3 processes, and there are 2 now") == 1


# -- deaths


def killed(text, save, rank, after, seconds=120):
    """Run three processes, kill one when there are `after` epochs; return what `ended` does."""
    running = start(3, *command(text, save, "--checkpoint-every", "10", epochs=30), ulfm=True)
    wait_for(lambda: len(perplexities(save)) >= after if (save / "metrics.jsonl").exists() else False)
    os.kill(processes_of(running)[rank], signal.SIGKILL)
    return ended(running, seconds)


@pytest.mark.nightly
@pytest.mark.parametrize("rank", [0, 1])
def test_a_run_goes_on_when_a_process_dies(text, tmp_path, rank):
    assert MPIEXEC is not None
    ended(start(3, *command(text, tmp_path / "whole", epochs=30)))
    code, out, err = killed(text, tmp_path / "killed", rank, after=5)
    assert code == 0, err
    assert "1 process has died; 2 of 3 go on from update" in err
    assert "held out" in out
    found = perplexities(tmp_path / "killed")
    assert len(found) == 30
    assert found[-1] == pytest.approx(perplexities(tmp_path / "whole")[-1], rel=0.02)
    assert len(list((tmp_path / "killed" / "checkpoints").glob("*.npz"))) == 2


LAST = """
import os, signal, sys
from tinygrad_rnn.commands.processes import of_this_run
from tinygrad_rnn.parallel.group import LostError
with of_this_run() as group:
    group.gather(1)
    if group.is_first:
        os.kill(os.getpid(), signal.SIGKILL)
    if SEEN:
        try:
            while True:
                group.gather(1)
        except LostError:
            group.shrink()
    END
    print("left", file=sys.__stdout__, flush=True)
"""


@pytest.mark.nightly
@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize("end", ["pass", "sys.exit(3)"])
def test_those_that_are_left_do_not_wait_for_the_dead_at_the_end(seen, end):
    """Where they call MPI_Finalize, some of these runs hang."""
    program = LAST.replace("SEEN", str(seen)).replace("END", end)
    for _ in range(10):
        code, out, err = ended(start(3, "-c", program, ulfm=True), 120)
        assert (code != 0, out.count("left")) == ((False, 2) if end == "pass" else (True, 0)), err


@pytest.mark.nightly
def test_without_recovery_mpi_ends_the_run_and_it_resumes(text, tmp_path):
    running = start(3, *command(text, tmp_path / "a", "--checkpoint-every", "10", epochs=30))
    wait_for(lambda: (tmp_path / "a" / "metrics.jsonl").exists())
    os.kill(processes_of(running)[2], signal.SIGKILL)
    code, _, err = ended(running, 60)
    assert code != 0
    said = " ".join(line for line in err.splitlines() if line.strip("-"))
    assert re.fullmatch(
        r"prterun noticed that process rank 2 with PID \d+ on node \S+ exited on signal 9 \(Killed\)\.", said
    )
    code, _, err = ended(start(2, "-m", "tinygrad_rnn", "train", "--resume", str(tmp_path / "a")))
    assert code == 0, err
    assert len(perplexities(tmp_path / "a")) == 30
