"""What can be said before the seconds of importing what the page needs."""

from pathlib import Path

from analysis.catalogue.probe_tables import probe_names
from analysis.zoo import open_zoo


def check_selection(zoo: Path, where: str | None) -> None:
    """Raises UsageError: no zoo there, a damaged catalogue, or a `where` that is none."""
    open_zoo(zoo).table(where, ["id"])


def probed(zoo: Path) -> bool:
    """Whether any probe left rows here."""
    return bool(probe_names(zoo))
