"""The parent's side of a peer's process."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SETTLE = 0.05  # seconds until the threads of the one who ran last have gone to sleep


class PeerError(Exception):
    """A peer that is not installed, failed, or took too long."""


def environment(threads: int, kernels: str | None) -> dict[str, str]:
    """Return the environment of a worker: its threads, and the kernels that OpenBLAS takes (None: it looks itself).

    A setting of OpenBLAS that stands in the environment (some machines ask for slower kernels) does not reach it.
    """
    found = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):  # NPROC is what XLA reads
        found[name] = str(threads)
    if kernels is not None:
        found["OPENBLAS_CORETYPE"] = kernels
    found["PYTHONSAFEPATH"] = "1"  # the folder that this runs in hides no other checkout
    found["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return found


def describe_machine(env: dict[str, str]) -> dict[str, Any]:
    """Return what `machine.py` says under the environment of the workers."""
    script = str(Path(__file__).parents[1] / "machine.py")
    found = subprocess.run([sys.executable, script], env=env, check=True, capture_output=True, text=True)
    machine: dict[str, Any] = json.loads(found.stdout)
    return machine


def before(env: dict[str, str], checkout: Path) -> dict[str, str]:
    """Return the environment in which workers take the package of another checkout, with the peers of this one.

    Raises:
        PeerError: if there is no package.
    """
    if not (checkout / "tinygrad_rnn" / "__init__.py").is_file():
        raise PeerError("no package tinygrad_rnn in the checkout of --before")
    benchmarks, *others = env["PYTHONPATH"].split(os.pathsep)
    changed = env | {"PYTHONPATH": os.pathsep.join([benchmarks, str(checkout.resolve()), *others])}
    command = [sys.executable, "-c", "import tinygrad_rnn; print(tinygrad_rnn.__file__)"]
    found = subprocess.run(command, env=changed, check=True, capture_output=True, text=True)
    if not Path(found.stdout.strip()).is_relative_to(checkout.resolve()):
        raise PeerError("an installed tinygrad_rnn hides that of --before")
    return changed


def commit(checkout: Path) -> str:
    """Return the commit of a checkout, with a + if files differ from it."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--abbrev=7", "--exclude=*", "--dirty=+"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def once(module: str, args: list[Any], env: dict[str, str], limit: float) -> Any:
    """Return the answer of `python -m peers.MODULE ARGS`, each argument JSON: the last line that it prints, JSON too.

    Raises:
        PeerError: if it fails, or takes longer than the limit in seconds.
    """
    command = [sys.executable, "-m", f"peers.{module}", *map(json.dumps, args)]
    time.sleep(SETTLE)
    with tempfile.TemporaryDirectory() as scratch:
        env = env | {"TORCHINDUCTOR_CACHE_DIR": scratch}
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            raise PeerError(f"over the limit of {limit:g} s") from None
    if done.returncode:
        raise PeerError(f"failed: {(done.stderr.strip().splitlines() or ['no message'])[-1].strip()}")
    return json.loads(done.stdout.strip().splitlines()[-1])


class Worker:
    """A peer, ready to run steps.

    Attributes:
        ready: what it reported of itself; see `worker`.
    """

    def __init__(self, module: str, config: tuple[Any, ...], env: dict[str, str], limit: float) -> None:
        self._limit = limit
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self._scratch = tempfile.TemporaryDirectory()  # so that torch.compile finds nothing of an earlier process
        env = env | {"TORCHINDUCTOR_CACHE_DIR": self._scratch.name}
        command = [sys.executable, "-m", "peers.worker", module, json.dumps(config)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, env=env, text=True)
        try:
            self.ready: dict[str, Any] = self._answer()
        except PeerError:
            self.close()
            raise

    def run(self, steps: int) -> list[float]:
        """Return the seconds of some steps; one more goes before them."""
        time.sleep(SETTLE)
        assert self._process.stdin is not None
        print(steps, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process: it leaves by itself when nothing more can come, unless it hangs."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._errors.close()
        self._scratch.cleanup()

    def _answer(self) -> Any:
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], self._limit)[0]:
            raise PeerError(f"no answer within {self._limit:.0f} s")
        line = out.readline()
        if not line:
            self._errors.seek(0)
            last = self._errors.read().decode(errors="replace").strip().splitlines() or ["no message"]
            raise PeerError(f"failed: {last[-1].strip()}")
        return json.loads(line)
