"""`zooswarm field-report`: one self-contained page for organizers. `write_page` first."""

import base64
import io
import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from coordinator.field import measures
from coordinator.field.activity import Activity, read_activity
from protocol.errors import DiskError, UsageError, shown
from protocol.files import write_atomic

BLUE, ORANGE, GREEN, GREY, INK = "#0072b2", "#d55e00", "#009e73", "#b8bec6", "#1f2933"
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "text.color": INK,
    "text.parse_math": False,
    "legend.frameon": False,
    "svg.hashsalt": "zooswarm",
}
OUTCOMES = {  # field of measures.Outcomes -> what people read, and its colour
    "admitted": ("admitted to the zoo", BLUE),
    "under_way": ("still being checked", "#3a9fd6"),
    "late": ("handed in, and then its host was gone", "#c98a00"),
    "doubled": ("another host was first", GREY),
    "faulty": ("wrong, or its host banned", ORANGE),
    "checked_by_hosts": ("trained again by other volunteers, as checks", GREEN),
    "checked_by_organizer": ("trained again by the organizer, as checks", "#7b4fb5"),
}
MEMBERS_SHOWN = 50


def write_page(directory: Path, out: Path, pause: float, json_too: bool = False) -> Path:
    """Write `out`/field.html (and field.json) about the coordinator's directory; returns the page's path.

    Raises UsageError: no ledger, nothing has happened yet, or an `out` that cannot be written.
    """
    values = page_values(read_activity(directory / "ledger.sqlite"), pause)
    page = out / "field.html"
    try:
        write_atomic(page, _rendered(values).encode())
        if json_too:
            write_atomic(out / "field.json", json.dumps(values["numbers"], indent=1).encode())
    except OSError as error:
        raise DiskError(f"{out}: cannot write the page: {error.strerror or error}") from None
    return page


def page_values(activity: Activity, pause: float) -> dict[str, Any]:
    """What the page shows: `numbers` (plain, for JSON), `figures` (SVG by name), `members` and `costs` (rows)."""
    found = measures.sessions(activity, pause)
    if not found:
        raise UsageError("no volunteer has been here yet: there is nothing to report")
    lasting = measures.staying([one.seconds for one in found], [one.going for one in found])
    volunteers = [one for one in activity.members if one.host != activity.organizer]
    credits = [one.credit for one in volunteers if not one.banned]
    inequality = measures.gini_with_interval(credits)
    done, over_time = measures.outcomes(activity), measures.course(activity, found)
    came, returned = measures.returning(found)
    numbers = {
        "volunteers": came,
        "returned": returned,
        "at_once": int(over_time.hosts.max()),
        "sessions": len(found),
        "sessions_going": sum(one.going for one in found),
        "pause_seconds": pause,
        "median_session_seconds": _or_none(lasting.median),
        "longest_session_seconds": max(one.seconds for one in found),
        "gini": {name: _or_none(value) for name, value in asdict(inequality).items()},
        "segments": asdict(done),
        "lost_to_churn": _or_none(done.lost_to_churn),
        "spent_on_checks": _or_none(done.spent_on_checks),
        "silent_checkers": activity.silent_seats,
        "costs": [{k: _or_none(v) for k, v in asdict(one).items()} for one in measures.costs(activity)],
    }
    return {
        "numbers": numbers,
        "members": sorted(volunteers, key=lambda one: -one.credit)[:MEMBERS_SHOWN],
        "more": max(0, len(volunteers) - MEMBERS_SHOWN),
        "figures": figures(over_time, lasting, credits, done),
    }


def figures(course: measures.Course, lasting: measures.Staying, credits: list[int], done: measures.Outcomes) -> dict:
    with rc_context(STYLE):
        return {
            "course": _svg(draw_course(course)),
            "staying": _svg(draw_staying(lasting)),
            "inequality": _svg(draw_inequality(credits)),
            "outcomes": _svg(draw_outcomes(done)),
        }


def draw_course(course: measures.Course) -> Figure:
    unit, name = (3600.0, "hours") if course.width * len(course.begin) > 7200 else (60.0, "minutes")
    hours = (course.begin - course.begin[0]) / unit
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    people, work = figure.subplots(2, 1, sharex=True)
    people.step(hours, course.hosts, where="post", color=BLUE)
    people.set_ylim(0)
    people.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    people.set_title("volunteers that were here")
    work.bar(hours, course.steps / course.width, width=course.width / unit, align="edge", color=GREEN)
    work.set_title("network-steps a second, of networks that were admitted")
    work.set_xlabel(f"{name} since the first of them came")
    return figure


def draw_staying(staying: measures.Staying) -> Figure:
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    unit, name = (3600.0, "hours") if staying.seconds[-1] > 7200 else (60.0, "minutes")
    at = staying.seconds / unit
    axes.fill_between(at, staying.low, staying.high, step="post", color=BLUE, alpha=0.15, linewidth=0)
    axes.step(at, staying.share, where="post", color=BLUE)
    axes.set(xlabel=f"{name} of a session", ylabel="share that lasts longer", ylim=(0, 1.02), xlim=(0, None))
    return figure


def draw_inequality(credits: list[int]) -> Figure:
    """Lorenz' curve."""
    figure = Figure(figsize=(4.2, 3.6), layout="constrained")
    axes = figure.subplots()
    x = np.sort(np.asarray(credits, float))
    share = np.concatenate([[0.0], np.cumsum(x) / max(x.sum(), 1e-300)])
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.plot(np.linspace(0, 1, len(share)), share, color=BLUE, marker="." if len(x) < 30 else "")
    axes.set(
        xlabel="share of the volunteers, the smallest first", ylabel="share of the credit", xlim=(0, 1), ylim=(0, 1)
    )
    return figure


def draw_outcomes(done: measures.Outcomes) -> Figure:
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    names = list(OUTCOMES)[::-1]
    shares = [100 * getattr(done, name) / max(done.all, 1) for name in names]
    axes.barh([OUTCOMES[name][0] for name in names], shares, color=[OUTCOMES[name][1] for name in names])
    for i, share in enumerate(shares):
        axes.text(share, i, f" {share:.1f} %", va="center")
    axes.set_xlabel("percent of all network-segments that somebody trained and sent")
    axes.set(xlim=(0, 112), xticks=range(0, 101, 20))
    return figure


def span(seconds: float | None) -> str:
    """12 s, 3.5 min, 2.1 h, 4.0 d."""
    if seconds is None:
        return "–"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _svg(figure: Figure) -> str:
    sink = io.BytesIO()
    figure.savefig(sink, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(sink.getvalue()).decode()


def _rendered(values: dict[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    moment = lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")  # noqa: E731
    environment.filters |= {"span": span, "percent": percent, "shown": shown, "moment": moment}
    return environment.from_string((Path(__file__).parent / "template.html").read_text()).render(**values)
