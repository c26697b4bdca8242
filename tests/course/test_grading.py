"""What the grader says of answers that no list of mistakes foresees, and of files that do not behave."""

import json
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
from tinygrad_rnn.course.grading.sandbox import grade_file
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
    "right.py": RIGHT,
}  # fmt: skip
SAID = {
    "loops.py": "did not end within 1 s",
    "eats.py": "needs more than 400 MB of memory",
    "exits.py": "ended the process with code 3",
    "quits.py": "the file cannot be run: SystemExit (line 1)",
    "typo.py": "the file cannot be run: SyntaxError: invalid syntax (line 2)",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINYGRAD_RNN_PROGRESS", str(tmp_path / "data" / "progress.json"))
    return tmp_path


def test_a_folder_of_submissions(folder, capsys):
    (folder / "class").mkdir()
    for name, content in FILES.items():
        Path("class", name).write_text(content)
    assert main(["lesson", "4", "class", "--seconds", "1", "--memory", "400", "--language", "en"]) == 1
    out = capsys.readouterr().out
    rows = dict(line.split(maxsplit=1) for line in out.splitlines()[1:7])
    assert {name: row.split() for name, row in rows.items()} == {
        name: ["+", "-", "-", "1/3"] if name == "right.py" else ["-", "-", "-", "0/3"] for name in FILES
    }
    for name, what in SAID.items():
        assert f"{name}, forward: {what}" in out
    assert not (folder / "data").exists(), "a teacher's run is nobody's progress"


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
        (["4", "."], "there is no .py file"),
    ],
)
def test_what_is_refused(folder, capsys, arguments, message):
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
    assert "<code>forward</code>" in grades._repr_html_()
    assert "看起来是" in str(tr.grade(4, forward, language="zh"))
    with pytest.raises(tr.ConfigError, match="lesson 4 has no exercise 'lambda'"):
        tr.grade(4, type("lambda", (), {}))
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
        grade_file(Lesson(1, "x", Text("x", "x"), ()), Path("nowhere.py"))
