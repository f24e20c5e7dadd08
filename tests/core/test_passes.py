"""Guards which passes answer a set of requests: every loss counts as its schedule says, and nothing is done twice."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradscope.losses import select_steps
from gradscope.passes import Chains, Request, Sliding, passes
from gradscope.schedule import Gates
from gradscope.streams import coins
from gradscope.truncations import truncation

SPECS = ["full", "fixed:1", "fixed:3", "fixed:7", "chunked:2", "chunked:5", "tbptt:2:5", "tbptt:3:3", "tbptt:4:9"]
SPECS += ["random:3", "random-unweighted:4", "artbp:3:4", "one-coin:2", "one-coin:4", "variable:5:1:0.5", "buffered:3"]


def request_of(spec, T, loss_steps, seeds=(0,)):
    return Request(T, select_steps(loss_steps, T), truncation(spec).schedule(coins(seeds, T)))


@st.composite
def requests(draw):
    """Requests of several lengths, losses and truncations, as a sweep makes them."""
    lengths = draw(st.lists(st.integers(1, 14), min_size=1, max_size=3, unique=True))
    specs = draw(st.lists(st.sampled_from(SPECS), min_size=1, max_size=4, unique=True))
    losses = draw(st.lists(st.sampled_from(["last", "all", "sparse", "one"]), min_size=1, max_size=3, unique=True))
    steps = {"sparse": lambda T: sorted({1, (T + 1) // 2, T}), "one": lambda T: (T + 1) // 2}
    return [
        request_of(spec, T, steps[loss](T) if loss in steps else loss)
        for T in lengths
        for spec in specs
        for loss in losses
    ]


def counted(plan, asked):
    """Weights w[s, t] with which each request of a pass sees the loss at step s (0-based) at step t, by going back."""
    T, found = len(plan.losses), {index: np.zeros((len(plan.losses),) * 2) for index in plan.requests}
    if isinstance(plan, Chains):
        rows = np.zeros((0, T))
        for span in plan.spans:
            before, rows = rows, np.zeros((len(span.usage), T))
            kept = [row for row in range(len(rows)) if row not in span.born]
            rows[kept] = before[: len(kept)] if span.source is None else before[list(span.source)]
            for t in range(span.hi - 1, span.lo - 1, -1):
                if plan.losses[t]:
                    rows[:, t] = 1
                elif t == span.hi - 1:
                    rows[list(span.born), t] = 1
                see(plan, found, t, rows)
                for row, weights in span.entering:
                    rows[row, t] *= weights[0, t]
                for gate in span.gates if t else ():
                    rows[gate.row] *= gate.weights[0, t - 1]
            rows = rows[: span.stay]
        return found
    for t in range(T):
        first, end = plan.rows(t)
        groups = np.zeros((end - first, T))
        for row, group in enumerate(range(first, end)):
            s = np.arange(max(t, group * plan.k1), min((group + 1) * plan.k1, T))
            groups[row, s[plan.losses[s]]] = 1
        see(plan, found, t, np.stack([groups[:count].sum(axis=0) for count in plan.newest[t]]))
    return found


def see(plan, found, t, rows):
    for member, index in enumerate(plan.requests):
        if plan.row[member, t] >= 0:
            found[index][:, t] = rows[plan.row[member, t]]


@given(requests())
def test_every_request_is_answered_once_with_the_weights_of_its_schedule(asked):
    answered = [index for plan in passes(asked) for index in plan.requests]
    assert sorted(answered) == list(range(len(asked)))
    for plan in passes(asked):
        for index, w in counted(plan, asked).items():
            T, steps, schedule = asked[index]
            expected = np.zeros_like(w)
            for s in steps:
                expected[s, : s + 1] = np.reshape(schedule.reach(int(s) + 1), s + 1)
            np.testing.assert_allclose(w[:, :T], expected[:, :T], rtol=1e-14)
            assert (plan.row[plan.requests.index(index), T:] == -1).all()


@given(requests())
def test_a_request_belongs_to_the_usage_of_the_row_that_it_sees_and_to_no_other(asked):
    for plan in passes(asked):
        for span in plan.spans:
            for t in range(span.lo, span.hi):
                for member in range(len(plan.requests)):
                    own = [row for row, usage in enumerate(span.usage) if plan.usages[usage, member]]
                    seen = plan.row[member, t]
                    assert own == ([seen] if seen >= 0 else [])


@given(requests())
def test_rows_go_back_only_while_someone_sees_them(asked):
    for plan in passes(asked):
        assert plan.usages.any(axis=1).all()
        if isinstance(plan, Chains):
            assert all(0 <= span.stay <= len(span.usage) for span in plan.spans)
            assert plan.spans[-1].stay == 0


def vectors(specs, loss_steps, lengths=(25, 50, 100, 200)):
    """How many distinct adjoints the passes of one network compute."""
    plans = passes([request_of(spec, T, loss_steps) for spec in specs for T in lengths])
    return sum((span.hi - span.lo) * len(span.usage) for plan in plans for span in plan.spans)


def test_chunks_share_what_overlaps():
    # By hand: 200 steps of chunked:5; 100, 100 and 140 more for 10, 20 and 50; 20, 50 and 150 for full at 25, 100, 200.
    assert vectors(["full", "chunked:5", "chunked:10", "chunked:20", "chunked:50"], "all") == 760


def test_a_single_loss_has_one_adjoint_for_all_truncations_without_gates():
    specs = ["full", "chunked:5", "chunked:50", "fixed:20", "tbptt:5:20"]
    assert vectors(specs, "last") == vectors(["full"], "last") == 25 + 50 + 100 + 200


def test_sliding_windows_of_all_depths_and_lengths_are_one_pass():
    asked = [request_of(spec, T, "all") for spec in ("fixed:5", "fixed:20", "fixed:50") for T in (60, 100, 200)]
    (plan,) = passes(asked)
    assert isinstance(plan, Sliding)
    # At t = 58 of 60 the sums are of 2 (T = 60), 5, 20, 42 (T = 100, fixed:50) and 50 rows; there are never more.
    assert (plan.k1, plan.depth, plan.width) == (1, 50, 5)


@pytest.mark.parametrize("spec", ["fixed:9", "chunked:9", "tbptt:3:12", "tbptt:20:30"])
def test_windows_that_all_reach_the_start_are_full(spec):
    (plan,) = passes([request_of(spec, 9, "all"), request_of("full", 9, "all")])
    assert isinstance(plan, Chains)
    assert plan.width == len(plan.usages) == 1


def test_coins_that_differ_between_runs_are_gates_that_shut_where_all_do():
    weights = np.array([[1.0, 0.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0, 0.0]])
    (plan,) = passes([Request(5, np.arange(5), Gates(weights))])
    assert [(span.lo, span.hi) for span in plan.spans] == [(3, 5), (0, 3)]
    np.testing.assert_array_equal(plan.spans[0].gates[0].weights, weights[:, :4])


def test_losses_that_go_on_alike_share_a_row_and_others_do_not():
    ones, own = np.ones(5), np.array([1.0, 0.0, 2.0, 1.0, 1.0])
    plain, same, first, again = (Gates(np.ones(5), entering) for entering in (None, ones, own, own.copy()))
    both = Gates(np.ones(5), np.stack([own, ones]))
    asked = [Request(5, np.arange(5), schedule) for schedule in (plain, same, first, again, both)]
    (plan,) = passes([*asked, Request(3, np.arange(3), Gates(np.ones(3), own[:3]))])
    assert plan.row[:, 0].tolist() == [0, 0, 1, 1, 2, 3]
    assert [(one.row, one.weights.shape) for one in plan.spans[-1].entering] == [(1, (1, 5)), (2, (2, 5)), (3, (1, 5))]


def test_weights_of_steps_without_losses_do_not_matter():
    entering = np.array([1.0, 7.0, 1.0, 0.0, 1.0])
    asked = [Request(5, np.array([2, 4]), schedule) for schedule in (Gates(np.ones(5)), Gates(np.ones(5), entering))]
    (plan,) = passes(asked)
    assert plan.width == 1
    assert plan.spans[0].entering == ()
