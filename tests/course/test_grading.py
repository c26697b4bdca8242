"""What the grader says of answers that no list of mistakes foresees, and of files that do not behave."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.cli import main
from tinygrad_rnn.course.exercises.exercise import Exercise, Lesson, Output
from tinygrad_rnn.course.exercises.text import Text
from tinygrad_rnn.course.grading.grade import grade_exercise
from tinygrad_rnn.course.grading.progress import remember, solved
from tinygrad_rnn.course.grading.report import Grades, table
from tinygrad_rnn.course.grading.sandbox import grade_files
from tinygrad_rnn.course.lessons import lesson

T, H = 4, 3
SQUARE, SERIES = np.arange(1.0, 10).reshape(H, H), np.arange(1.0, 1 + T * H).reshape(T, H)


def exercise(**options):
    return Exercise(
        "both", "def both(x, h):", Text("task", "任务"), lambda rng: iter([(SQUARE, SERIES)]), lambda x, h: (x, h),
        (Output("W"), Output("hs", 0, **options)), (),
    )  # fmt: skip


def upto(step, factor):
    made = SERIES.copy()
    made[: step + 1] *= factor
    return made


@pytest.mark.parametrize(
    ("theirs", "output", "what", "step", "factor"),
    [
        (lambda x, h: (2 * x, h), "W", "is 2 times the right value in every entry", None, 2.0),
        (lambda x, h: (-x, h), "W", "has the wrong sign in every entry", None, -1.0),
        (lambda x, h: (0 * x, h), "W", "is 0 in every entry", None, 0.0),
        (lambda x, h: (x.T, h), "W", "holds the right numbers, transposed", None, None),
        (lambda x, h: (x[:2], h), "W", "has shape (2, 3), expected (3, 3)", None, None),
        (lambda x, h: (x, h.T), "hs", "has shape (3, 4), expected (4, 3): transposed", None, None),
        (lambda x, h: (x / 0, h), "W", "has entries that are not finite (nan or inf)", None, None),
        (lambda x, h: (x, upto(2, 0.5)), "hs", "is 1/2 times the right value in every entry, from step 2 back", 2, 0.5),
        (lambda x, h: (x, upto(0, 3)), "hs", "is 3 times the right value in every entry, at step 0", 0, 3.0),
        (lambda x, h: (x, h + np.eye(T, H)), "hs", "is wrong in 3 of 12 entries, from step 2 back to step 0", 2, None),
        (lambda x, h: x, "", "returns ndarray, expected 2 results: W, hs", None, None),
        (lambda x, h: (x, h, 1), "", "returns 3, expected 2 results: W, hs", None, None),
        (lambda x, h: (x, "h"), "hs", "is str, expected an array or a number", None, None),
        (lambda x, h: (x + 0j, h), "W", "is complex, expected real numbers", None, None),
        (lambda x, h: (x, np.pad(h, ((1, 2), (0, 0)))), "hs",
         "has shape (7, 3), expected (4, 3): the 4 along axis 0 from index 1 on are right", None, None),
        (lambda x, h: x.fly(), "", "raises AttributeError: 'numpy.ndarray' object has no attribute 'fly'", None, None),
        (lambda x, h: (x.__imul__(2), h), "", "changes x in place; work on a copy", None, None),
    ],
)  # fmt: skip
def test_findings(theirs, output, what, step, factor):
    grade = grade_exercise(exercise(), theirs)
    (finding,) = grade.findings
    assert (finding.output, finding.step) == (output, step)
    assert finding.what.en.startswith(what)
    assert finding.factor == (None if factor is None else pytest.approx(factor))
    assert (grade.passed, grade.case, grade.mistake) == (False, (1, 1), None)


def test_an_error_that_goes_forward_begins_at_the_first_wrong_step():
    (finding,) = grade_exercise(exercise(backward=False), lambda x, h: (x, h + np.eye(T, H))).findings
    assert (finding.what.en, finding.step) == (
        "is wrong in 3 of 12 entries, from step 0 on: [0, 0] is 2, expected 1",
        0,
    )


def test_results_may_be_tensors_lists_and_numbers():
    assert grade_exercise(exercise(), lambda x, h: [tr.tensor(x), h.tolist()]).passed


def test_the_line_of_an_error_in_a_call_is_that_of_the_function():
    def both(x):
        return x, x

    (finding,) = grade_exercise(exercise(), both).findings
    assert finding.what.en.startswith("raises TypeError: ")
    assert f"2 were given (line {both.__code__.co_firstlineno}), for x (3, 3)" in finding.what.en
    (finding,) = grade_exercise(exercise(), int).findings
    assert "(line" not in finding.what.en, "it has none"


def test_what_is_no_function():
    (finding,) = grade_exercise(exercise(), 3).findings
    assert finding.what.en == "is int, expected a function"


RIGHT = """
def forward(w, h0, xs):
    print(xs)
    hs = []
    for x in xs:
        h0 = w * h0 + x
        hs.append(h0)
    return hs
"""
FILES = {
    "loops.py": "while True:\n    pass\n",
    "eats.py": "import numpy as np\nall = [np.ones(10**8) for _ in range(10**4)]\n",
    "exits.py": "import os\nprint('bye')\nos._exit(3)\n",
    "quits.py": "raise SystemExit\n",
    "typo.py": "x = 1\ndef forward(:\n",
    "gbk.py": "'\u4f5c\u4e1a'\n",
    "faults.py": "import ctypes\nctypes.string_at(0)\n",
    "right.py": RIGHT,
    "cells.ipynb": "{}",
}  # fmt: skip
SAID = {
    "loops.py": "did not end within 1 s",
    "eats.py": "needs more than 400 MB of memory",
    "exits.py": "ended the process with code 3",
    "quits.py": "the file cannot be run: SystemExit (line 1)",
    "typo.py": "the file cannot be run: SyntaxError: invalid syntax (line 2)",
    "gbk.py": "the file is not UTF-8, as Python files are: save it as UTF-8",
    "faults.py": "ended the process by SIGSEGV",
    "cells.ipynb": "is a notebook: save it as a .py file",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYGRAD_RNN_PROGRESS", str(tmp_path / "data" / "progress.json"))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    return tmp_path


@pytest.mark.nightly  # it waits for functions that do not end
def test_a_folder_of_submissions(folder, capsys):
    (folder / "class" / ".ipynb_checkpoints").mkdir(parents=True)
    Path("class", ".ipynb_checkpoints", "right-checkpoint.py").write_text(RIGHT)
    for name, content in FILES.items():
        Path("class", name).write_text(content, encoding="gbk")
    assert main(["lesson", "4", "class", "--seconds", "1", "--memory", "400", "--language", "en"]) == 1
    out = capsys.readouterr().out
    rows = dict(line.split(maxsplit=1) for line in out.splitlines()[1 : 1 + len(FILES)])
    assert {name: row.split() for name, row in rows.items()} == {
        name: ["+", "-", "-", "1/3"] if name == "right.py" else ["-", "-", "-", "0/3"] for name in FILES
    }
    for name, what in SAID.items():
        assert f"{name}, forward, backward, rnn_backward: {what}\n" in f"{out}\n", "what stops the file is said once"
    assert not (folder / "data").exists(), "a teacher's run is nobody's progress"


MEETING = """
import pathlib, time
here, other = (pathlib.Path({folder!r}, name) for name in {names})
here.touch()
end = time.monotonic() + 20
while not other.exists() and time.monotonic() < end:
    time.sleep(0.01)
assert other.exists()
"""


def test_files_are_graded_side_by_side(folder, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    paths = [folder / "one.py", folder / "other.py"]
    for names, path in zip((("a", "b"), ("b", "a")), paths, strict=True):
        path.write_text(MEETING.format(folder=str(folder), names=names) + RIGHT)
    assert [[grade.passed for grade in grades] for grades in grade_files(lesson(4), paths)] == [
        [True, False, False]
    ] * 2


UNTIDY = """
import atexit, glob, os, pathlib, subprocess, sys, threading, time
import helper

for path in glob.glob("*"):
    os.remove(path)
open("written.txt", "w").write("here")
child = subprocess.Popen(["sleep", "600"])
pathlib.Path({pid!r}).write_text(str(child.pid))
sys.stderr.write("x" * 10**6)
print("y" * 10**6)
threading.Thread(target=time.sleep, args=(600,)).start()
atexit.register(time.sleep, 600)
forward = helper.forward
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_a_file_that_does_more_than_solve_harms_nothing(folder):
    path, pid = folder / "untidy.py", folder / "pid"
    path.write_text(UNTIDY.format(pid=str(pid)))
    (folder / "helper.py").write_text(RIGHT)
    (grades,) = grade_files(lesson(4), [path], seconds=60)
    assert [grade.passed for grade in grades] == [True, False, False]
    assert {one.name for one in folder.iterdir()} == {"untidy.py", "helper.py", "pid"}
    end = time.monotonic() + 20
    while is_running(int(pid.read_text())) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_running(int(pid.read_text())), "what it has started ends with it"


def is_running(pid):
    """Return whether there is such a process that is more than an entry in the table of processes."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_name_that_is_not_quite_right(folder):
    Path("my.py").write_text("from os.path import join\ndef Forward(w, h0, xs): ...\ndef backward(w): ...\n")
    ((first, second, third),) = grade_files(lesson(4), [Path("my.py")])
    assert first.findings[0].what.en == "there is no forward in the file, which has Forward"
    assert second.findings[0].what.en.startswith("raises TypeError")
    assert third.findings[0].what.zh == "文件中没有 rnn_backward，有的是 Forward"


def test_a_table_with_chinese_names_is_straight():
    grades = (grade_exercise(exercise(), lambda x, h: (x, h)),)
    chosen = Lesson(1, "x", Text("x", "x"), (exercise(),))
    assert table(chosen, {"王小明.py": grades, "li.py": grades}, "zh").splitlines() == [
        "文件       both  =",
        "王小明.py  +     1/1",
        "li.py      +     1/1",
    ]


def test_the_command_for_a_reader(folder, capsys):
    assert main(["lesson", "4", "--start", "my.py"]) == 0
    assert main(["lesson", "4", "--start", "my.py"]) == 2
    assert "'my.py' exists already" in capsys.readouterr().err
    Path("my.py").write_text(RIGHT)
    assert main(["lesson", "4", "my.py"]) == 1
    out = capsys.readouterr().out
    assert "+ forward: right" in out
    assert "- backward: not yet\n      there is no backward in the file" in out
    assert out.endswith("1 of 3 exercises are right\n")
    assert main(["lesson", "--language", "zh"]) == 0
    assert " 4  手算基于时间的反向传播  (已完成 1/3)" in capsys.readouterr().out
    assert main(["lesson", "4"]) == 0
    tasks = capsys.readouterr().out
    assert "[x] def forward(w, h0, xs)\n" in tasks
    assert "[ ] def backward(w, h0, xs, es)\n" in tasks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["99"], "there is no lesson 99"),
        (["4", "none.py"], "'none.py' is not a file"),
        (["4", "my.ipynb"], "'my.ipynb' is a notebook; call tr.grade(4, ...) in it, or save it as a .py file"),
        (["4", "."], "there is no .py file"),
        (["--start", "my.py"], "--start needs the number of a lesson"),
        (["4", "my.ipynb", "--seconds", "0"], "--seconds must be a finite number above 0, got 0.0"),
        (["4", "my.ipynb", "--seconds", "nan"], "--seconds must be a finite number above 0, got nan"),
    ],
)
def test_what_is_refused(folder, capsys, arguments, message):
    Path("my.ipynb").write_text("{}")
    assert main(["lesson", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_progress_is_kept_and_a_foreign_file_is_left_alone(folder):
    path = folder / "there" / "progress.json"
    chosen = lesson(4)
    right = [grade_exercise(chosen.exercises[0], chosen.exercises[0].solve)]
    assert remember(path, 4, right) == {4: {"forward"}}
    assert remember(path, 4, []) == solved(path) == {4: {"forward"}}, "what was solved stays solved"
    for content in ("[]", "{", json.dumps({"format": "other", "solved": {}})):
        path.write_text(content)
        with pytest.raises(tr.ConfigError, match="does not hold the progress"):
            remember(path, 4, right)
        assert path.read_text() == content


def test_in_a_notebook():
    def forward(w, h0, xs):
        return w * h0 + xs

    grades = tr.grade(4, forward)
    assert not grades.passed
    assert "looks like: each step starts from h0" in str(grades)
    assert "<td style='text-align:left'><code>forward</code>" in grades._repr_html_(), "notebooks align to the right"
    assert "看起来是" in str(tr.grade(4, forward, language="zh"))
    with pytest.raises(tr.ConfigError, match="lesson 4 has no exercise 'lambda'"):
        tr.grade(4, type("lambda", (), {}))
    with pytest.raises(tr.ConfigError, match="grade: expected functions of lesson 4, got none; it has: forward, "):
        tr.grade(4)
    with pytest.raises(tr.ConfigError, match="grade: number must be"):
        tr.grade("4", forward)
    with pytest.raises(tr.ConfigError, match="language must be one of en, zh"):
        tr.grade(4, forward, language="fr")


def test_names_in_a_table_do_no_harm():
    chosen = lesson(4)

    def raises(*_):
        raise ValueError("<script>")

    grades = tuple(grade_exercise(one, raises) for one in chosen.exercises)
    assert "<script>" not in Grades(chosen, grades)._repr_html_()
    assert "ValueError: <script>" in table(chosen, {"a.py": grades})


def test_a_missing_file_is_named():
    with pytest.raises(tr.ConfigError, match="is not a file"):
        grade_files(Lesson(1, "x", Text("x", "x"), ()), [Path("nowhere.py")])
