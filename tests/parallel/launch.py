"""Starts programs with the real mpiexec, and finds it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("cases.py")
_BESIDE = Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(_BESIDE) if _BESIDE.exists() else shutil.which("mpiexec")
# Open MPI wants to be told that root, and more processes than cores, are meant.
_ENVIRONMENT = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def needs_mpi():
    """Skip a test where there is no MPI."""
    pytest.importorskip("mpi4py", reason="needs the extra [mpi]")
    if MPIEXEC is None:
        pytest.skip("needs mpiexec, which the extra [mpi] brings")


def start(processes, *arguments, ulfm=False, folder=None):
    """Start `python arguments` so many times, and return the running mpiexec."""
    command = [MPIEXEC, *(["--with-ft", "ulfm"] if ulfm else []), "-n", str(processes), sys.executable, *arguments]
    tests = Path(__file__).parents[1]
    path = os.pathsep.join([str(tests.parent), str(tests), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | _ENVIRONMENT | {"PYTHONPATH": path}
    environment.pop("COVERAGE_PROCESS_START", None)
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )


def ended(running, seconds=300):
    """Return the code, the output and the errors of a started mpiexec; it is ended if it takes longer."""
    try:
        out, err = running.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGKILL)
        raise
    return running.returncode, out, err


def processes_of(running):
    """Return the process of each rank of a started mpiexec, by rank, as soon as all have started."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                said = (folder / "environ").read_bytes().split(b"\0")
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError):
                continue
            ranks = [int(one.partition(b"=")[2]) for one in said if one.startswith(b"OMPI_COMM_WORLD_RANK=")]
            if ranks and parent == running.pid:
                found[ranks[0]] = int(folder.name)
    return found


def wait_for(condition, seconds=60):
    """Wait until a function returns something true, and return that."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
    return found
