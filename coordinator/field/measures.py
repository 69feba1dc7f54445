"""Numbers of a campaign among volunteers, from its activity. No clock, no disk; times in seconds since 1970."""

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from coordinator.field.activity import Activity
from coordinator.policy.phases import LIVE, Event, Phase

PAUSE_SECONDS = 1800.0  # who does nothing for so long has left, and comes back in another session
RESAMPLES = 2000
LATE = frozenset({Event.OVERDUE, Event.WITHDRAWN, Event.HANDED_IN_AGAIN})  # handed in, and never opened


@dataclass(frozen=True, slots=True)
class Session:
    """From the first to the last sign of a volunteer without a long pause: at least so long was it here."""

    host: str
    begin: float
    end: float
    going: bool  # it may not be over: the record ends before a pause could tell

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Share:
    """An estimate with its interval (95 %)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Staying:
    """The share of sessions that last longer than each time (Kaplan, Meier, JASA 1958; interval: log-log)."""

    seconds: np.ndarray  # (n,) rising, from 0
    share: np.ndarray  # (n,)
    low: np.ndarray
    high: np.ndarray
    median: float  # seconds; NaN: more than half last longer than the record tells


def sessions(activity: Activity, pause: float = PAUSE_SECONDS) -> list[Session]:
    """By host, then time."""
    events = activity.events()
    end_of_record = max((times[-1] for times in events.values()), default=0.0)
    found = []
    for host, times in sorted(events.items()):
        begin = last = times[0]
        for at in [*times[1:], np.inf]:
            if at - last > pause:
                found.append(Session(host, begin, last, going=end_of_record - last <= pause))
                begin = at
            last = at
    return found


def staying(seconds: Sequence[float], going: Sequence[bool]) -> Staying:
    """How long sessions last, when those still going count as "longer than so far"."""
    from scipy.stats import CensoredData, ecdf

    lengths, open_ended = np.asarray(seconds, float), np.asarray(going, bool)
    if open_ended.all():
        none = np.full(2, np.nan)
        return Staying(np.array([0.0, lengths.max(initial=0.0)]), np.ones(2), none, none, float("nan"))
    survival = ecdf(CensoredData(uncensored=lengths[~open_ended], right=lengths[open_ended])).sf
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)  # there is no interval at the ends
        interval = survival.confidence_interval(method="log-log")
    share = survival.probabilities
    below = np.flatnonzero(share <= 0.5)
    return Staying(
        np.concatenate([[0.0], survival.quantiles]),
        np.concatenate([[1.0], share]),
        np.concatenate([[1.0], interval.low.probabilities]),
        np.concatenate([[1.0], interval.high.probabilities]),
        float(survival.quantiles[below[0]]) if len(below) else float("nan"),
    )


def gini(amounts: Sequence[float] | np.ndarray) -> float:
    """Inequality of contributions: 0 all alike, towards 1 one does all. NaN of nothing."""
    x = np.sort(np.asarray(amounts, float))
    n, total = len(x), x.sum()
    return float("nan") if not total else float((2 * np.arange(1, n + 1) - n - 1) @ x / (n * total))


def gini_with_interval(amounts: Sequence[float], seed: int = 0) -> Share:
    """The interval by resampling hosts (percentiles); of a handful of hosts it says little."""
    x, rng = np.asarray(amounts, float), np.random.default_rng(seed)
    if len(x) < 2:
        return Share(gini(x), float("nan"), float("nan"))
    drawn = [gini(x[rng.integers(len(x), size=len(x))]) for _ in range(RESAMPLES)]
    return Share(gini(x), *(float(q) for q in np.nanquantile(drawn, [0.025, 0.975])))


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Where the network-segments went: those handed in by what became of them, and those trained again as a check."""

    admitted: int
    under_way: int
    late: int  # handed in and never opened, or given up: churn
    doubled: int  # another host was first
    faulty: int  # wrong, or its host banned; retracted too
    checked_by_hosts: int
    checked_by_organizer: int

    @property
    def all(self) -> int:
        return self.handed_in + self.checked_by_hosts + self.checked_by_organizer

    @property
    def handed_in(self) -> int:
        return self.admitted + self.under_way + self.late + self.doubled + self.faulty

    @property
    def lost_to_churn(self) -> float:
        """Of what was handed in. What never came back is not known."""
        return self.late / self.handed_in if self.handed_in else float("nan")

    @property
    def spent_on_checks(self) -> float:
        """Of all segments that anybody trained."""
        checks = self.checked_by_hosts + self.checked_by_organizer
        return checks / self.all if self.all else float("nan")


def outcomes(activity: Activity, campaign: str | None = None) -> Outcomes:
    """Of one campaign, or of all."""
    count: Counter[str] = Counter()
    for work in activity.works:
        if campaign in (None, work.campaign):
            count[_outcome(work.phase, work.event)] += work.segments
    for check in activity.checks:
        if campaign in (None, check.campaign):
            who = "checked_by_organizer" if check.host == activity.organizer else "checked_by_hosts"
            count[who] += check.segments
    return Outcomes(**{name: count[name] for name in Outcomes.__dataclass_fields__})


def _outcome(phase: str, event: str) -> str:
    if phase == Phase.ADMITTED:
        return "admitted"
    if phase in LIVE:
        return "under_way"
    if phase == Phase.VOID and event in LATE:
        return "late"
    return "doubled" if phase == Phase.VOID and event == Event.OVERTAKEN else "faulty"


@dataclass(frozen=True, slots=True)
class Course:
    """Over time, in bins of equal length."""

    begin: np.ndarray  # (bins,) seconds since 1970
    width: float
    hosts: np.ndarray  # (bins,) that had a session then
    steps: np.ndarray  # (bins,) network-steps handed in and admitted, each when it came


def course(activity: Activity, found: Sequence[Session], bins: int = 60) -> Course:
    """Raises ValueError: nothing has happened."""
    first, last = min(s.begin for s in found), max(s.end for s in found)
    width = max((last - first) / bins, 1e-9)
    begin = first + width * np.arange(bins)
    hosts = [len({s.host for s in found if s.begin < at + width and s.end >= at}) for at in begin]
    steps = np.zeros(bins)
    for work in activity.works:
        if work.phase == Phase.ADMITTED:
            steps[min(int((work.received_at - first) / width), bins - 1)] += work.steps
    return Course(begin, width, np.array(hosts), steps)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a campaign took."""

    campaign: str
    networks: int  # admitted
    steps: int  # network-steps of these
    hosts: int  # whose work is in it
    seconds: float  # from the first hand-in to the last admission
    host_seconds: float  # steps by the speed that each host states: its processor's time, roughly; NaN: none states one
    checks: float  # segments trained again, as a share of all


def costs(activity: Activity) -> list[Cost]:
    """In the order in which the campaigns began."""
    speed = {one.host: one.steps_per_second for one in activity.members}
    found = []
    for name in dict.fromkeys(work.campaign for work in activity.works):
        mine = [w for w in activity.works if w.campaign == name and w.phase == Phase.ADMITTED]
        stated = [w for w in mine if speed.get(w.host, 0.0) > 0]
        known = sum(w.steps for w in stated)
        total = sum(w.steps for w in mine)
        seconds = sum(w.steps / speed[w.host] for w in stated)
        found.append(
            Cost(
                campaign=name,
                networks=sum(w.networks for w in mine),
                steps=total,
                hosts=len({w.host for w in mine}),
                seconds=max(w.settled_at for w in mine) - min(w.received_at for w in mine) if mine else 0.0,
                host_seconds=seconds * total / known if known else float("nan"),
                checks=outcomes(activity, name).spent_on_checks,
            )
        )
    return found


def returning(found: Iterable[Session]) -> tuple[int, int]:
    """(volunteers, those of them with a second session)."""
    count = Counter(session.host for session in found)
    return len(count), sum(number > 1 for number in count.values())
