"""A systemd user unit: the volunteer runs whenever this user is there, with its limits held by the system too."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from peer.computer.control import read_status
from protocol.errors import BusyError, UsageError
from protocol.files import write_atomic

UNIT = "zooswarm.service"
ANSWER_SECONDS = 20.0
STOP_SECONDS = 40  # to finish the segment, hand in and give back

TEXT = """# Written by `zooswarm service install`; `zooswarm service remove` takes it away.
[Unit]
Description=zooswarm volunteer: lends idle time to train small networks
Documentation=man:systemd.unit(5)
StartLimitIntervalSec=0

[Service]
Type=exec
ExecStart={command}
WorkingDirectory={home}
Nice=10
IOSchedulingClass=idle
Restart=on-failure
RestartSec=30
# 2: something that only a person can mend; the journal has the line
RestartPreventExitStatus=2
KillMode=mixed
KillSignal=SIGINT
TimeoutStopSec={stop_seconds}
NoNewPrivileges=yes
UMask=0077
{limits}
[Install]
WantedBy=default.target
"""


class Outcome(NamedTuple):
    """What systemctl said; `code` is None where there is no systemctl."""

    code: int | None
    text: str


def unit_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where this user's units are (XDG)."""
    config = environment.get("XDG_CONFIG_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".config")
    return Path(config) / "systemd" / "user" / UNIT


def unit_text(home: Path, settings: Mapping[str, Any], environment: Mapping[str, str]) -> str:
    """The unit of the volunteer in `home`, whose remembered options are `settings`.

    The address and the limits stay in settings.toml; of those the system holds processor time and memory as well.
    """
    command = [quoted(program()), "join", "--dir", quoted(str(home))]
    limits = ""
    if settings.get("cpu"):
        limits += f"CPUQuota={settings['cpu'] * 1.2:g}%\n"  # a fifth above: ours evens out over seconds, this at once
    if settings.get("memory"):
        from peer.state.lending.sizes import parse_size

        limits += f"MemoryMax={parse_size(settings['memory'])}\n"
    moved = environment.get("ZOOSWARM_HOME")
    if moved:
        limits += f"Environment={quoted('ZOOSWARM_HOME=' + moved)}\n"
    return TEXT.format(
        command=" ".join(command), home=str(home).replace("%", "%%"), stop_seconds=STOP_SECONDS, limits=limits
    )


def program() -> str:
    """The command that runs us, by its whole path."""
    beside = Path(sys.executable).with_name("zooswarm")
    return str(beside) if beside.exists() else shutil.which("zooswarm") or str(Path(sys.argv[0]).resolve())


def quoted(text: str) -> str:
    """One word of a unit file: systemd expands `%` and `$`, and splits at blanks."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != text or any(c.isspace() or c in "'\"" for c in text) else text


def systemctl(*arguments: str) -> Outcome:
    """Of this user's manager."""
    if shutil.which("systemctl") is None:
        return Outcome(None, "there is no systemctl here")
    try:
        done = subprocess.run(
            ["systemctl", "--user", *arguments], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Outcome(None, f"systemctl --user does not answer within {ANSWER_SECONDS:.0f} s")
    return Outcome(done.returncode, (done.stdout or done.stderr).strip())


def install(home: Path, settings: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> list[str]:
    """Write the unit and start it; what to tell. Raises UsageError, OSError."""
    if not settings.get("address"):
        mend = f"zooswarm join ADDRESS --dir {home} --remember"
        raise UsageError(f"the service needs to know where to; once: {mend} (with your limits), then again")
    if read_status(home, time.time()) is not None:
        raise BusyError(f"{home}: a volunteer runs there now; end it first: zooswarm leave --dir {home}")
    path = unit_path(environment)
    write_atomic(path, unit_text(home, settings, environment).encode())
    told = [f"written: {path}"]
    for arguments in (("daemon-reload",), ("enable", "--now", UNIT)):
        outcome = systemctl(*arguments)
        if outcome.code != 0:
            told.append(f"it does not run yet: {outcome.text or 'systemctl failed'}")
            told.append(f"in a session of yours: systemctl --user enable --now {UNIT}")
            told.append(f"without systemd, start this with your session: {program()} join --dir {home}")
            return told
    told.append(f"it runs now, and whenever you are logged in; its log: journalctl --user -u {UNIT}")
    told.append("also while you are not logged in: loginctl enable-linger")
    return told


def remove(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Stop it and take the unit away; what to tell."""
    path = unit_path(environment)
    if not path.exists():
        return [f"there is no service: {path} is not there"]
    outcome = systemctl("disable", "--now", UNIT)
    path.unlink(missing_ok=True)
    (path.parent / "default.target.wants" / UNIT).unlink(missing_ok=True)
    for folder in (path.parent, path.parent.parent):
        with contextlib.suppress(OSError):  # somebody else's units are there
            folder.rmdir()
    systemctl("daemon-reload")
    told = [f"removed: {path}"]
    if outcome.code != 0:
        told.append(f"whether it still runs could not be asked: {outcome.text}")
    return told


def status(environment: Mapping[str, str] = os.environ) -> str:
    """One line."""
    path = unit_path(environment)
    if not path.exists():
        return "not installed; `zooswarm service install` does it"
    outcome = systemctl("is-active", UNIT)
    return f"installed: {path}; {outcome.text or 'its state cannot be asked'}"
