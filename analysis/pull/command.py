"""`zooswarm pull` for people: a bar on a terminal, a line now and then elsewhere, both on the error output."""

import shlex
import sys
from pathlib import Path

from analysis.pull.source import HostSource
from analysis.pull.transfer import Tally, kept, pull
from protocol.cli.console import progress

LINE_SECONDS = 5.0


def run_pull(address: str, out: Path) -> None:
    """Pull and say what is there now. Raises UsageError; Ctrl-C exits with 130."""
    latest = Tally()
    stopped = False
    with HostSource(address) as source, progress("asking for the manifest", line_seconds=LINE_SECONDS) as bar:

        def hear(tally: Tally) -> None:
            nonlocal latest
            latest = tally
            came = f"{tally.fetched_bytes / 1e6:,.1f} MB came"
            bar.update(tally.here, tally.files, came, line=f"{tally.here:,}/{tally.files:,} files, {came}")

        unasked = "" if source.organizer else " (the address does not say whose it must be)"
        try:
            source.greet()
            latest = pull(source, out, hear)
        except KeyboardInterrupt:
            stopped = True
    if stopped:
        print(f"stopped: {kept(latest, out)}", file=sys.stderr)
        sys.exit(130)
    manifest = latest.manifest
    print(f"{out}: {manifest.networks:,} networks, manifest {manifest.number}, {latest.files:,} files")
    print(f"signed by {manifest.organizer}, {manifest.written_at}{unasked}")
    if taken_back := sum(retraction.networks for retraction in manifest.retracted):
        print(f"taken back since they were published: {taken_back:,} networks (`zooswarm audit` says why)")
    print(f"fetched {latest.fetched:,} files, {latest.fetched_bytes / 1e6:,.1f} MB")
    print(f"next: zooswarm report {shlex.quote(str(out))} --out page")
