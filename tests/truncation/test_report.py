"""The report: its numbers against the oracle and against plain NumPy, what it costs, its words and its picture."""

import json
import math
import sys
import tracemalloc

import numpy as np
import pytest

import tinygrad_rnn as tr
from tinygrad_rnn.truncation.measure import Agreement, PolicyCost, agreement, default_policies, measure
from tinygrad_rnn.truncation.report import TruncationReport, recurrence_report, truncation_report

TEXT = np.random.default_rng(0).integers(9, size=(2, 25))
IDS, TARGETS = TEXT[:, :-1], TEXT[:, 1:]


def language_model(cell="lstm", dtype=np.float64):
    return tr.RNNLM(9, 5, 5, np.random.default_rng(1), cell=cell, dtype=dtype)


def linear():
    """The integer oracle of test_oracle."""
    w = tr.tensor(2.0, requires_grad=True)

    def step(inputs, h):
        xs, es = inputs
        total = 0.0
        for t in range(xs.shape[1]):
            h = h * w + xs[:, t]
            total = total + (h * es[:, t]).sum()
        return total, h

    inputs = np.array([[1.0, -1, 2, 1, -2, 3]]), np.array([[1.0, 2, -1, 1, 3, 1]])
    return step, {"w": w}, inputs, np.ones(1)


def window(lowest):
    return Agreement(1.0, 0.0, {"Wx": 1.0, "Wh": lowest}, {"Wx": 0.0, "Wh": 0.0})


def made_up(lowest=(1.0,), profile=(1.0,), wanted=0.99, policies=()):
    return TruncationReport(20, 1, wanted, policies, profile, {}, tuple(map(window, lowest)))


def test_the_integer_oracle():
    policies = [tr.Full(), tr.Chunked(2), tr.Windowed(3), tr.Decay(0.5), tr.Checkpointed(4)]
    report = recurrence_report(*linear(), policies)
    assert report.profile == report.profiles["w"] == (137, 130, 116, 120, 96, 32)
    assert [row.agreement.error * 631 for row in report.policies] == pytest.approx([0, 430, 248, 378, 0])
    assert [row.agreement.cosine for row in report.policies] == [1] * 5
    sums = np.cumsum(report.profile)
    assert [found.error * 631 for found in report.windows] == pytest.approx(631 - sums)
    assert (report.steps, report.batch_size, report.horizon, report.recommended_window) == (6, 1, 5, 1)


@pytest.mark.sample(1)
@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_a_language_model_against_plain_numpy(cell):
    model = language_model(cell)
    report = truncation_report(model, IDS, TARGETS, [tr.Full(), tr.Chunked(5), tr.Checkpointed(7)])

    def gradient(cut_every):
        loss, _ = model.loss(IDS, TARGETS, cut_every=cut_every)
        return tr.grad(loss, model.parameters())

    full, chunked = gradient(None), gradient(5)
    a, b = (np.concatenate([g.ravel() for g in found.values()]) for found in (chunked, full))
    rows = [row.agreement for row in report.policies]
    assert rows[0].cosine == rows[0].lowest == 1
    assert rows[0].error == 0
    assert rows[2].error < 1e-12
    assert math.isclose(rows[1].cosine, a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel_tol=1e-12)
    assert math.isclose(rows[1].error, np.linalg.norm(a - b) / np.linalg.norm(b), rel_tol=1e-12)
    for name, f in full.items():
        g = chunked[name]
        expected = np.sum(f * g) / np.linalg.norm(f) / np.linalg.norm(g)
        assert math.isclose(rows[1].cosines[name], expected, rel_tol=1e-12)
        assert math.isclose(rows[1].errors[name], np.linalg.norm(g - f) / np.linalg.norm(f), abs_tol=1e-14)
    assert rows[1].lowest == min(rows[1].cosines.values()) == rows[1].cosines[rows[1].worst]
    assert rows[1].cosines["output.W"] == pytest.approx(1, abs=1e-15)
    # The windows of the profile are those that the driver makes, and the longest is the full gradient.
    row = truncation_report(model, IDS, TARGETS, [tr.Windowed(4)], horizon=3).policies[0]
    assert math.isclose(report.windows[3].cosine, row.agreement.cosine, rel_tol=1e-12)
    assert math.isclose(report.windows[3].error, row.agreement.error, rel_tol=1e-9)
    assert len(report.windows) == 24
    assert report.windows[-1].error < 1e-12


def test_targets_of_minus_1_do_not_count_even_where_a_step_has_no_other():
    model, targets = language_model("gru"), TARGETS.copy()
    targets[:, [3, 4, 11]] = -1
    targets[0, 7] = -1
    report = truncation_report(model, IDS, targets, [tr.Windowed(24)])
    full = tr.grad(model.loss(IDS, targets)[0], model.parameters())
    assert report.policies[0].agreement.error < 1e-12
    assert report.windows[-1].error < 1e-12
    # The output layer gets all of its gradient from 0 steps back: that of the mean over the targets that count.
    assert report.profiles["output.b"][0] == pytest.approx(np.linalg.norm(full["output.b"]), rel=1e-12)


def test_a_state_can_be_given():
    model = language_model("rnn")
    _, state = model.loss(IDS, TARGETS)
    first = truncation_report(model, IDS, TARGETS, [tr.Full()], horizon=2)
    other = truncation_report(model, IDS, TARGETS, [tr.Full()], horizon=2, state=state)
    assert first.profile != other.profile


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("policy", "passes", "forward", "alive"),
    [
        (tr.Full(), 1, 24, 24),
        (tr.Full(every=10), 3, 24, 10),
        (tr.Chunked(5), 5, 24, 5),
        (tr.Windowed(6, every=2), 12, 24, 6),
        (tr.Windowed(5, every=3), 8, 24, 5),
        (tr.Decay(0.5), 1, 24, 24),
        (tr.Checkpointed(7), 1, 2 * 24 - 3, 7),
        (tr.Checkpointed(states=3), 1, 24 + 61, 1),
        (tr.Checkpointed(states=24), 1, 24 + 23, 1),
        (tr.Adaptive(0.1, 8, every=4), 6, 24, 8),
    ],
    ids=repr,
)
def test_passes_and_steps(policy, passes, forward, alive):
    (row,) = truncation_report(language_model(), IDS, TARGETS, [policy], horizon=0, repeats=1).policies
    assert (row.passes, row.forward_steps, row.alive_steps) == (passes, forward, alive)
    assert row.ms > 0


def test_truncation_and_checkpointing_take_less_memory_than_full():
    text = np.random.default_rng(0).integers(200, size=(4, 101))
    model = tr.RNNLM(200, 16, 16, np.random.default_rng(1))
    policies = [tr.Full(), tr.Chunked(5), tr.Checkpointed(10)]
    full, chunked, checkpointed = truncation_report(model, text[:, :-1], text[:, 1:], policies, horizon=0).policies
    assert chunked.peak_mib < full.peak_mib / 4
    assert checkpointed.peak_mib < full.peak_mib / 3


@pytest.mark.nightly
def test_policies_and_parameters_stay_as_they_are_and_the_draws_are_the_same():
    model, policy = language_model(), tr.Randomized(c=0.2, rng=np.random.default_rng(5))
    before = {name: p.data for name, p in model.parameters().items()}
    reports = [truncation_report(model, IDS, TARGETS, [policy]) for _ in range(2)]
    assert reports[0].policies[0].agreement == reports[1].policies[0].agreement
    assert (policy.mask(9) == tr.Randomized(c=0.2, rng=np.random.default_rng(5)).mask(9)).all()
    assert all(p.data is before[name] and p.grad is None for name, p in model.parameters().items())


def test_memory_is_measured_beside_a_trace_that_runs_already():
    step, parameters, inputs, state = linear()
    tracemalloc.start()
    try:
        measure(step, parameters, inputs, state, tr.Full(), {"w": np.array(631.0)}, repeats=1)
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("found", "full", "cosine", "error"),
    [
        ([3.0, 4.0], [3.0, 4.0], 1, 0),
        ([3e200, 4e200], [3e200, 4e200], 1, 0),
        ([-3.0, -4.0], [3.0, 4.0], -1, 2),
        ([4.0, -3.0], [3.0, 4.0], 0, 2**0.5),
        ([0.0, 0.0], [3.0, 4.0], 0, 1),
        ([3.0, 4.0], [0.0, 0.0], 0, math.inf),
        ([0.0, 0.0], [0.0, 0.0], 1, 0),
    ],
)
def test_agreement(found, full, cosine, error):
    got = agreement({"w": np.array(found)}, {"w": np.array(full)})
    assert (got.cosine, got.error) == (got.cosines["w"], got.errors["w"])
    assert got.cosine == cosine
    assert got.error == pytest.approx(error, rel=1e-15)


@pytest.mark.parametrize(
    ("lowest", "wanted", "expected"),
    [
        ((0.5, 0.995, 0.98, 0.999, 1.0), 0.99, 4),
        ((0.5, 0.995, 0.98, 0.999, 1.0), 0.97, 2),
        ((0.5, 0.995, 0.98, 0.999, 1.0), 0.4, 1),
        ((0.5, 0.995, 0.98, 0.999, 1.0), 1.0, 5),
        ((0.5, 0.995, 0.98), 0.99, None),
        ((0.999, math.nan), 0.99, None),
    ],
)
def test_recommended_window(lowest, wanted, expected):
    report = made_up(lowest, wanted=wanted)
    assert report.recommended_window == expected
    if expected is None:
        assert report.recommendation.startswith(f"none: with {len(lowest)} uses")
        assert "Wh has a cosine of" in report.recommendation
    else:
        assert report.recommendation.startswith(f"h = {expected}: with windowed:{expected} or longer every parameter")
        assert f"windowed:{2 * expected - 1}/{expected} " in report.recommendation


def test_the_recommendation_names_the_shortest_chunk_that_was_measured():
    rows = truncation_report(language_model(), IDS, TARGETS, [tr.Chunked(n) for n in (24, 2, 23)]).policies
    assert "of the chunks measured, none that does" in made_up(policies=rows[1:2], wanted=1.0).recommendation
    assert "chunked:24 is the shortest that does" in made_up(policies=rows, wanted=1.0).recommendation
    assert "chunked:2 is the shortest that does" in made_up(policies=rows, wanted=0.1).recommendation


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (tuple(0.5 ** np.arange(9)), "vanishing: the credit halves every 1 steps"),
        (tuple(2.0 ** np.arange(9)), "exploding: the credit doubles every 1 steps"),
        ((1.0, 4.0, 2.0), "the part from k = 2 has 0.5 times the norm of the largest, from k = 1; too few steps"),
        ((1.0, 0.0, 0.0), "none: nothing comes from more than 0 steps back"),
        ((1.0,), "none: nothing comes from more than 0 steps back"),
        ((0.0, 0.0), "none: nothing comes from more than 0 steps back"),
    ],
)
def test_trend_sentence(profile, words):
    assert words in made_up(profile=profile).trend_sentence


def is_drawn(report, path):
    report.plot(path)
    return path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.nightly
def test_where_no_policies_are_named_table_and_picture_have_all_that_suit(tmp_path):
    model = tr.RNNLM(9, 5, 5, np.random.default_rng(1), cell="gru", layers=2)
    report = truncation_report(model, IDS, TARGETS, wanted_cosine=0.9, repeats=1)
    assert is_drawn(report, tmp_path / "report.png")
    lines = report.table().splitlines()
    assert max(map(len, lines)) <= 120
    assert lines[0] == "Truncated gradients against the full one, T = 24 steps, N = 2"
    names = [line.split()[0] for line in lines if line]
    for row in report.policies:
        blocks = 3 + bool(row.deviation)  # costs, the parameters in two blocks of up to six, and the draws if it draws
        assert names.count(row.name) == blocks
    assert {name for line in lines for name in line.split()} >= set(report.profiles)
    at = lines.index("Credit profile: norm of the part of the gradient that comes from k steps back")
    assert lines[at + 1].split() == ["k", "0", "1", "2", "3", "5", "10", "20", "23"]
    assert float(lines[at + 2].split()[-1]) == pytest.approx(report.profile[23], rel=0.05)
    text = " ".join(report.table().split())
    assert f"Credit {report.trend_sentence}." in text
    assert f"Window {report.recommendation}." in text
    assert "randomized is one draw" in text


def test_json_reads_back_and_has_no_infinity():
    report = recurrence_report(*linear(), [tr.Chunked(2), tr.Randomized(c=0.1)])
    read = json.loads(report.to_json())
    assert read["profile"] == [137, 130, 116, 120, 96, 32]
    assert read["profiles"] == {"w": read["profile"]}
    assert [row["policy"] for row in read["policies"]] == ["chunked:2", "randomized:0.1"]
    assert read["policies"][0]["agreement"]["errors"]["w"] == pytest.approx(430 / 631)
    assert read["policies"][0].keys() >= {"passes", "forward_steps", "alive_steps", "peak_mib", "ms"}
    assert read["windows"][2]["h"] == 3
    assert read["trend"]["kind"] == report.trend.kind
    assert read["recommended_window"] == 1
    row = PolicyCost(tr.Full(), Agreement(math.nan, math.inf, {"w": math.nan}, {"w": math.inf}), 1, 1, 1, 1.0, 1.0)
    read = json.loads(made_up(policies=(row,)).to_json())
    nothing = {"cosine": None, "error": None, "cosines": {"w": None}, "errors": {"w": None}}
    assert read["policies"][0]["agreement"] == nothing
    assert read["trend"] is None


class Taper(tr.Policy):
    """A policy of the user's."""

    grain = 1

    def scale(self, edge, end):
        return 0.5

    def __repr__(self):
        return "Taper()"


def test_a_policy_of_the_users_own():
    report = recurrence_report(*linear(), [Taper(), tr.Decay(0.5)])
    assert [row.name for row in report.policies] == ["Taper()", "decay:0.5"]
    assert report.policies[0].agreement == report.policies[1].agreement
    assert "\nTaper() " in report.table()


@pytest.mark.nightly
def test_a_picture_of_policies_without_a_known_mask(tmp_path):
    report = truncation_report(language_model(), IDS, TARGETS, [Taper(), tr.Adaptive(0.1, 9)], repeats=1)
    assert is_drawn(report, tmp_path / "report.png")


@pytest.mark.nightly
def test_a_picture_without_trend_and_window(tmp_path):
    row = PolicyCost(tr.Full(), window(1.0), 1, 1, 1, 1.0, 1.0)
    made_up(lowest=(0.5,), policies=(row,)).plot(tmp_path / "report.svg")
    assert "<svg" in (tmp_path / "report.svg").read_text()


def test_a_picture_draws_the_mask_that_was_measured(tmp_path):
    policy = tr.Randomized(c=0.2, rng=np.random.default_rng(5))
    report = recurrence_report(*linear(), [policy])
    report.plot(tmp_path / "report.png")
    assert (policy.mask(9) == tr.Randomized(c=0.2, rng=np.random.default_rng(5)).mask(9)).all()


def test_without_matplotlib_the_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    report = recurrence_report(*linear(), [tr.Full()])
    with pytest.raises(ImportError, match=r'pip install "tinygrad_rnn\[plot\]"'):
        report.plot(tmp_path / "report.png")


@pytest.mark.parametrize("T", [1, 2, 3, 6, 200])
def test_default_policies_suit_the_length(T):
    policies = default_policies(T)
    assert all(policy.n < T for policy in policies if isinstance(policy, tr.Chunked))
    assert all(policy.h < T for policy in policies if isinstance(policy, tr.Windowed))
    assert len({repr(policy) for policy in policies}) == len(policies)
    for policy in policies:
        if not isinstance(policy, tr.SnAp | tr.EProp):  # what they leave out is not a matter of steps
            assert policy.mask(T).shape == (T, T)


def test_default_policies_carry_credit_forward_where_there_is_room():
    few, many, most = ([repr(policy) for policy in default_policies(9, entries)] for entries in (2**21, 2**24, 2**25))
    assert set(few) - set(many) == {"RTRL(every=1)"}
    assert set(many) - set(most) == {"SnAp(n=1, every=1)"}
    assert {"EProp(feedback='symmetric', rng=0, every=1)", "UORO(rng=0, every=1)"} < set(most)


@pytest.mark.no_cover  # long, through lines that others reach
def test_the_choice_names_the_policies_that_are_good_enough():
    report = truncation_report(language_model(), IDS, TARGETS, ["full", "chunked:2", "rtrl", "windowed:1"], repeats=1)
    good = {row.name: row for row in report.policies if row.agreement.lowest >= report.wanted_cosine}
    assert {"full", "rtrl"} <= good.keys()
    words = report.choice
    assert f"{min(good.values(), key=lambda row: row.peak_mib).name} the least memory" in words
    assert "with an update after each step, " in words
    none = truncation_report(language_model(), IDS, TARGETS, ["chunked:2"], wanted_cosine=1.0, repeats=1)
    assert none.choice == "of the policies measured, none has a cosine of 1 in every parameter"
    offline = truncation_report(language_model(), IDS, TARGETS, ["full"], repeats=1)
    window = offline.recommended_window
    assert offline.choice.endswith(f"none of these has an update after each step, as windowed:{window} would have")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: truncation_report(language_model(), IDS, TARGETS[:, 1:]), tr.ShapeError, r"one shape \(N, T\)"),
        (lambda: truncation_report(language_model(), IDS[0], TARGETS[0]), tr.ShapeError, r"got \(24,\) and \(24,\)"),
        (
            lambda: recurrence_report(*linear(), horizon=-1),
            tr.ConfigError,
            "integer of 0 or more, got -1",
        ),
        (lambda: recurrence_report(*linear(), horizon=2.5), tr.ConfigError, "integer of 0 or more"),
        (lambda: recurrence_report(*linear(), repeats=0), tr.ConfigError, "repeats must be an integer"),
        (lambda: recurrence_report(*linear(), policies="full"), tr.ConfigError, "must be a list of policies"),
        (
            lambda: recurrence_report(*linear(), wanted_cosine=1.5),
            tr.ConfigError,
            r"in \(0, 1\], got 1.5",
        ),
        (lambda: recurrence_report(*linear(), policies=[]), tr.ConfigError, "policies is empty"),
        (lambda: recurrence_report(*exploding()), tr.NonFiniteError, "full gradient of w over 400 steps is not finite"),
    ],
)
def test_errors(call, error, words):
    with np.errstate(all="ignore"), pytest.raises(error, match=words):
        call()


def exploding():
    step, parameters, _, state = linear()
    return step, {"w": parameters["w"]}, (np.full((1, 400), 1e200), np.ones((1, 400))), state
