"""May we train now, and if not, why? One rule of what the person chose and of what the computer is doing.

The reason is what a person reads, wherever a volunteer says what it does. Times are seconds, loads are cores.
"""

from dataclasses import dataclass
from math import inf

from protocol.errors import UsageError

BUSY_CORES = 0.4  # others compute: a person scrolls, a film plays, a compiler runs
QUIET_SECONDS = 30.0  # others have to be quiet so long until we go on: who reads a page for a moment is not away
LONG_SECONDS = 600.0  # a pause this long gives back what is claimed; others would wait for it
COOLER = 5.0  # degrees below the limit, before we go on: not every few seconds on and off
LOOKS_OVER = 3  # looks in a row above the memory limit; one alone is a copy that is over in a moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """When the person lets this computer train."""

    only_when_idle: bool = False
    not_on_battery: bool = False
    max_temperature: float | None = None  # of the processor, degrees Celsius
    hours: tuple[float, float] | None = None  # local time, 0 to 24: from, to; (22, 6) goes over midnight


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What the computer is doing. None: it cannot be read here."""

    hour: float = 12.0  # of the day, local time
    paused_seconds: float = 0.0  # a person asked for a pause, and so much is left of it; inf: until `resume`
    on_battery: bool | None = None
    others_cores: float | None = None  # what other programs use
    own_cores: float | None = None  # what all our processes use
    own_bytes: int | None = None  # memory of all our processes
    temperature: float | None = None  # of the processor, degrees Celsius


@dataclass(frozen=True, slots=True)
class Pause:
    reason: str
    seconds: float = 0.0  # it lasts at least so long from now


def too_hot(terms: Terms, now: Conditions, was: bool) -> bool:
    """Above the limit, or not yet well below it again. What cannot be read stays as it was."""
    if terms.max_temperature is None or now.temperature is None:
        return was and terms.max_temperature is not None
    return now.temperature > terms.max_temperature - (COOLER if was else 0.0)


def why_not(terms: Terms, now: Conditions, quiet_seconds: float, hot: bool = False) -> Pause | None:
    """Why we may not train now; None: we may. Others have been quiet for so long; `hot`: see `too_hot`."""
    if now.paused_seconds > 0:
        how_long = "" if now.paused_seconds == inf else f", for {duration(now.paused_seconds)} more"
        return Pause(f"you asked for it{how_long}; `zooswarm resume` goes on", now.paused_seconds)
    if terms.hours is not None and not within(now.hour, terms.hours):
        waits = 3600 * ((terms.hours[0] - now.hour) % 24)
        return Pause(f"outside of the hours {hours_text(terms.hours)}, for {duration(waits)} more", waits)
    if terms.not_on_battery and now.on_battery:
        return Pause("on battery")
    if hot and terms.max_temperature is not None:
        degrees = "" if now.temperature is None else f" at {now.temperature:.0f} °C"
        return Pause(f"the processor is hot{degrees}; it goes on at {terms.max_temperature - COOLER:.0f}")
    if terms.only_when_idle and quiet_seconds < QUIET_SECONDS:
        return Pause("other programs are busy")
    return None


def within(hour: float, hours: tuple[float, float]) -> bool:
    begin, end = hours
    return begin <= hour < end if begin < end else hour >= begin or hour < end


def parse_hours(text: str) -> tuple[float, float]:
    """`"22-6"`, `"22:30-6:15"` -> hours of the day. Raises UsageError."""
    sides = [_hour(side.strip()) for side in text.split("-")]
    if len(sides) != 2 or None in sides or sides[0] == sides[1]:
        raise UsageError(f"--hours {text}: write from-to in local time, for example 22-6 or 8:30-17")
    begin, end = (side for side in sides if side is not None)
    return begin % 24, end


def _hour(text: str) -> float | None:
    hour, colon, minute = text.partition(":")
    if not (hour.isascii() and hour.isdigit() and (not colon or (minute.isascii() and minute.isdigit()))):
        return None
    value = int(hour) + int(minute or 0) / 60
    return value if value <= 24 and int(minute or 0) < 60 else None


def hours_text(hours: tuple[float, float]) -> str:
    """`22-6`, `8:30-17`."""
    sides = [(int(hour), round(60 * (hour % 1))) for hour in hours]
    return "-".join(f"{hour}:{minute:02}" if minute else str(hour) for hour, minute in sides)


def parse_duration(text: str) -> float:
    """`"2h"`, `"30m"`, `"90"` (seconds), `"1.5h"` -> seconds. Raises UsageError."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number = text.strip().lower()
    unit = units.get(number[-1:], 1.0)
    try:
        seconds = float(number.rstrip("smhd") if number[-1:] in units else number) * unit
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 366 * 86400:
        raise UsageError(f"{text!r} is no length of time; write for example 30m, 2h or 1d")
    return seconds


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `2 h 5 min`."""
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{rest} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"
