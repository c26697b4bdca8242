"""The runner of `make test-matrix`: which rows there are, which this machine can run, and what the table says."""

import sys

import matrix
import pytest
from matrix import Outcome, Row, Skip

from tinygrad_rnn.compiler.native import cpu


@pytest.fixture
def old_cpu(monkeypatch, tmp_path):
    """A CPU of x86-64 with AVX and no more."""
    (tmp_path / "cpuinfo").write_text("flags : fpu sse sse2 pni ssse3 sse4_1 sse4_2 avx\n")
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(matrix, "levels", lambda: ["x86-64"])


def test_the_rows_have_names_of_their_own_and_cover_what_is_promised():
    rows = matrix.rows()
    assert len({row.name for row in rows}) == len(rows)
    assert {row.level for row in rows} >= {"x86-64", "x86-64-v3", "x86-64-v4", None}
    assert {row.kernel for row in rows} >= {*matrix.KERNELS, None}
    assert {row.threads for row in rows} == {1, 2}
    assert {row.python for row in rows} == {*matrix.PYTHONS, None} - {matrix.THIS_PYTHON}
    assert [row.numpy for row in rows if row.numpy] == ["2.1.0"]


def test_settings_of_a_row_take_the_place_of_those_around_it(monkeypatch):
    for name in ("OPENBLAS_CORETYPE", "TINYGRAD_RNN_CPU", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "other")
    plain = matrix.environment(Row("own"))
    assert "OPENBLAS_CORETYPE" not in plain
    assert "TINYGRAD_RNN_CPU" not in plain
    assert plain["OPENBLAS_NUM_THREADS"] == "1"
    assert matrix.environment(Row("two", threads=2))["OPENBLAS_NUM_THREADS"] == "2"


def test_what_this_cpu_cannot_run_is_skipped_with_a_reason(old_cpu):
    assert matrix.environment(Row("a", kernel="Sandybridge", level="x86-64"))["OPENBLAS_CORETYPE"] == "Sandybridge"
    with pytest.raises(Skip, match="instructions of the kernel Haswell"):
        matrix.environment(Row("a", kernel="Haswell"))
    with pytest.raises(Skip, match="does not have x86-64-v4"):
        matrix.environment(Row("a", level="x86-64-v4"))
    outcome = matrix.run(Row("a", kernel="SkylakeX"))
    assert outcome.ok
    assert outcome.said.startswith("skipped: this CPU")


def test_a_python_that_is_not_there_is_skipped(monkeypatch, tmp_path):
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")  # as a shim of a version manager does
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Skip, match=r"no Python 3\.99"):
        matrix.find_python("3.99")
    there = tmp_path / "versions" / "3.99.1" / "bin" / "python"
    there.parent.mkdir(parents=True)
    there.symlink_to(sys.executable)
    assert matrix.find_python("3.99") == str(there)


def test_the_table_says_what_ran_and_how_it_ended():
    haswell = Row("haswell", kernel="Haswell", level="x86-64-v3", threads=2)
    said = [Outcome(Row("own"), "3 passed, 0 failed, 1 skipped", 7.6, True), Outcome(haswell, "1 failed", 100.0, False)]
    assert list(matrix.table(said)) == [
        "ok   own      nothing                                            8 s  3 passed, 0 failed, 1 skipped",
        "FAIL haswell  OpenBLAS Haswell, native x86-64-v3, 2 threads    100 s  1 failed",
    ]


def test_rows_are_chosen_by_name(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(matrix, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(matrix, "run", lambda row, folders: Outcome(row, "1 passed", 1.0, row.name != "nehalem"))
    monkeypatch.setattr(sys, "argv", ["matrix", "plain", "own", "--part", "ops", "nn"])
    assert matrix.main() == 0
    assert capsys.readouterr().out.count("1 passed") == 2
    monkeypatch.setattr(sys, "argv", ["matrix"])
    assert matrix.main() == 1
    monkeypatch.setattr(sys, "argv", ["matrix", "--list"])
    assert matrix.main() == 0
    monkeypatch.setattr(sys, "argv", ["matrix", "pentium"])
    with pytest.raises(SystemExit):
        matrix.main()
    assert "no row pentium; there are own, " in capsys.readouterr().err
