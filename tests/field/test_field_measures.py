"""The field report's numbers: sessions, how long they last, who does how much, and where the work went."""

from collections.abc import Sequence

import numpy as np
import pytest

from coordinator.field import measures
from coordinator.field.activity import Activity, Check, Member, Work
from coordinator.policy.phases import Event, Phase


def member(host: str, first: float, last: float, credit: int = 0, speed: float = 0.0) -> Member:
    return Member(
        host=host,
        name=host,
        device="",
        steps_per_second=speed,
        credit=credit,
        first_seen=first,
        last_seen=last,
        banned="",
    )


def work(host: str, at: float, phase: str = Phase.ADMITTED, event: str = Event.AGREED, segments: int = 10) -> Work:
    return Work(
        campaign="c",
        host=host,
        received_at=at,
        settled_at=at + 5,
        phase=phase,
        event=event,
        networks=2,
        segments=segments,
        steps=50 * segments,
    )


def activity(works: list[Work], checks: Sequence[Check] = (), members: Sequence[Member] = ()) -> Activity:
    return Activity(organizer="organizer", works=works, checks=list(checks), members=list(members), silent_seats=0)


def test_a_long_pause_ends_a_session_and_the_last_may_still_go_on():
    found = measures.sessions(
        activity([work("a", 0), work("a", 50), work("a", 500), work("b", 590)], [], [member("a", 0, 500)]), pause=100
    )
    assert [(s.host, s.begin, s.end, s.going) for s in found] == [
        ("a", 0, 50, False),
        ("a", 500, 500, True),
        ("b", 590, 590, True),
    ]
    assert measures.returning(found) == (2, 1)


def test_the_organizers_own_checks_are_no_session():
    check = Check(campaign="c", host="organizer", answered_at=3.0, segments=4)
    assert [s.host for s in measures.sessions(activity([work("a", 0)], [check]))] == ["a"]


def test_staying_without_censoring_is_the_share_that_lasts_longer():
    lengths = [1.0, 2.0, 2.0, 5.0]
    found = measures.staying(lengths, [False] * 4)
    assert found.seconds.tolist() == [0, 1, 2, 5] and found.share.tolist() == [1, 0.75, 0.25, 0]
    assert found.median == 2.0


def test_staying_is_not_fooled_by_sessions_that_go_on():
    """Exponential sessions cut off at random: the median of those that are over is far too short, this is not."""
    rng = np.random.default_rng(0)
    true, cut = rng.exponential(100, 4000), rng.uniform(0, 200, 4000)
    seen, going = np.minimum(true, cut), true > cut
    found = measures.staying(seen.tolist(), going.tolist())
    assert found.median == pytest.approx(100 * np.log(2), rel=0.06)
    assert np.median(seen[~going]) < 0.75 * found.median
    at = np.searchsorted(found.seconds, 50) - 1
    assert found.low[at] < np.exp(-0.5) < found.high[at]


def test_when_nobody_has_left_nothing_is_claimed():
    found = measures.staying([3.0, 9.0], [True, True])
    assert found.share.tolist() == [1, 1] and np.isnan(found.median) and found.seconds[-1] == 9


def test_gini():
    assert measures.gini([5, 5, 5]) == pytest.approx(0)
    assert measures.gini([0, 0, 0, 1]) == pytest.approx(0.75)
    x = np.random.default_rng(1).pareto(2, 50)
    pairs = np.abs(x[:, None] - x).mean() / (2 * x.mean())  # its definition
    assert measures.gini(x.tolist()) == pytest.approx(pairs)
    found = measures.gini_with_interval(x.tolist())
    assert found.low < found.value < found.high
    assert np.isnan(measures.gini([0, 0]))


def test_every_segment_is_counted_once():
    works = [
        work("a", 0),
        work("a", 1, Phase.CHECKING, Event.UPLOADED, 3),
        work("a", 2, Phase.VOID, Event.OVERDUE, 5),
        work("b", 3, Phase.VOID, Event.OVERTAKEN, 7),
        work("b", 4, Phase.INVALID, Event.PROVED_WRONG, 11),
        work("b", 5, Phase.RETRACTED, Event.AUDIT_FAILED, 13),
        work("b", 6, Phase.VOID, Event.HOST_BANNED, 17),
    ]
    checks = [Check(campaign="c", host=host, answered_at=9.0, segments=n) for host, n in (("b", 2), ("organizer", 4))]
    found = measures.outcomes(activity(works, checks))
    assert found == measures.Outcomes(10, 3, 5, 7, 41, 2, 4)
    assert found.all == sum(w.segments for w in works) + 6
    assert found.lost_to_churn == pytest.approx(5 / 66) and found.spent_on_checks == pytest.approx(6 / 72)
    assert measures.outcomes(activity(works, checks), "another").all == 0


def test_a_campaign_costs_its_steps_by_the_speed_that_hosts_state():
    works = [work("a", 0, segments=10), work("b", 100, segments=10), work("a", 50, Phase.VOID, Event.OVERDUE)]
    (cost,) = measures.costs(activity(works, [], [member("a", 0, 0, speed=50.0), member("b", 0, 0)]))
    assert (cost.networks, cost.steps, cost.hosts, cost.seconds) == (4, 1000, 2, 105)
    assert cost.host_seconds == pytest.approx(20.0)  # b states none: as fast as those who do


def test_the_course_holds_every_admitted_step():
    works = [work("a", at) for at in (0, 30, 61, 100)]
    found = measures.course(activity(works), measures.sessions(activity(works)), bins=7)
    assert found.steps.sum() == sum(w.steps for w in works) and found.hosts.tolist() == [1] * 7
