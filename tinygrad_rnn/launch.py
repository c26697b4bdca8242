"""Which processes were launched together, as the environment says that a launcher gives each; MPI is not imported."""

from __future__ import annotations

import os
from collections.abc import Mapping

# What launchers tell each process: Open MPI's, those with PMI (MPICH, Intel MPI), and SLURM's srun with PMIx or PMI.
_NAMES = ("OMPI_COMM_WORLD_", "PMI_", "PMIX_", "MV2_COMM_WORLD_")


def launched(environment: Mapping[str, str] | None = None) -> int:
    """Return how many processes `mpiexec` or `srun` has started with this one; 1: none.

    >>> launched({"OMPI_COMM_WORLD_SIZE": "4"}), launched({}), launched({"PMI_SIZE": "?"})
    (4, 1, 1)
    """
    return _number("SIZE", "SLURM_STEP_NUM_TASKS", environment) or 1


def launched_rank(environment: Mapping[str, str] | None = None) -> int:
    """Return the number of this process among them, from 0.

    >>> launched_rank({"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4"}), launched_rank({})
    (3, 0)
    """
    return _number("RANK", "SLURM_PROCID", environment)


def _number(what: str, of_slurm: str, environment: Mapping[str, str] | None) -> int:
    given = os.environ if environment is None else environment
    found = [given[name + what] for name in _NAMES if name + what in given]
    if given.get(of_slurm) and given.get("SLURM_MPI_TYPE", "none") != "none":
        found.append(given[of_slurm])
    return next((int(number) for number in found if number.isdecimal()), 0)
