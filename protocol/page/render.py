"""Values into HTML: the whole page, or its sections one by one for who watches. Pure.

Everything is escaped by the template engine, and every text is one harmless line before.
"""

import functools
import time
from typing import Any

import jinja2

from protocol.errors import shown
from protocol.page import pictures
from protocol.page.state import Host, State

SECTIONS = ("totals", "own", "campaigns", "map", "recent", "leaders", "hosts", "checks", "about")
TEXT_MAX = 300


def sections(state: State) -> dict[str, str]:
    """The inner HTML of each section, by its id."""
    values = _values(state)
    return {name: _templates().get_template(f"{name}.html").render(values).strip() for name in SECTIONS}


def page(state: State, asset_version: str) -> str:
    """The whole document: complete without a script."""
    return _templates().get_template("page.html").render(_values(state), asset_version=asset_version)


def _values(state: State) -> dict[str, Any]:
    curves = [curve for network in state.recent for curve in (network.training, network.held_out)]
    return {
        "s": state,
        "bars": [(campaign, pictures.bar(campaign)) for campaign in state.campaigns],
        "range": pictures.loss_range(curves),
        "panels": [(panel, pictures.dots(panel)) for panel in state.zoo_map.panels] if state.zoo_map else [],
        "names": {one.host: one.name for one in (*state.hosts, *state.leaders) if one.name},
        "left": max((c.eta_seconds for c in state.campaigns if c.eta_seconds is not None), default=None),
        "wanted": sum(c.networks for c in state.campaigns if c.state != "cancelled"),
    }


@functools.cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("protocol.page"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_one_line,
    )
    environment.filters.update(number=number, span=span, ago=ago, moment=moment, loss=loss, curve=pictures.curve)
    environment.globals.update(standing=standing)
    return environment


def _one_line(value: Any) -> Any:
    return shown(value, TEXT_MAX) if isinstance(value, str) and not hasattr(value, "__html__") else value


def standing(host: Host) -> tuple[str, str]:
    """(class of the style sheet, word)."""
    if host.banned or host.convicted:
        return "bad", "banned"
    return ("good", "here") if host.present else ("gone", "away")


def number(value: float) -> str:
    return f"{value:,.0f}"


def loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def span(seconds: float | None) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2.1 days`; a dash where there is none."""
    if seconds is None:
        return "–"
    for limit, size, unit, digits in ((120, 1, "s", 0), (7200, 60, "min", 0), (172_800, 3600, "h", 1)):
        if seconds < limit:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds / 86_400:.1f} days"


def ago(seconds: float) -> str:
    """Coarse, so that what has not changed is not sent again."""
    if seconds < 10:
        return "just now"
    if seconds < 120:
        return f"{10 * int(seconds // 10)} s ago"
    return f"{span(float(int(seconds // 60) * 60))} ago"


def moment(at: float) -> str:
    """`2026-08-01 12:30`, UTC; "" for 0."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at)) if at > 0 else ""
