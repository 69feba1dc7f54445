"""`zooswarm report-bug`: what helps to find a mistake of ours, in one file, for a person to look at and to send.

It sends nothing itself. Every text goes through `redact`; files with keys are never opened. What it needs is imported
where it is used: every verb loads this file to list this one.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from protocol.errors import FileError
from protocol.files import cache_directory, home_directory, write_atomic

LOG_BYTES_MAX = 200_000  # of each log's end
SETTINGS_BYTES_MAX = 64 * 1024
LISTED_MAX = 500
DOCTOR_SECONDS = 60.0
SETTINGS = (".json", ".toml", ".service")
SECRETS = ("identity", "beacon", "ticket", "token", "key", "invite")  # never opened, whatever their end
VARIABLES = ("ZOOSWARM_", "OMP_", "OPENBLAS_", "XDG_", "CUDA_", "GRPC_", "CC", "PYTHONPATH", "LANG", "VIRTUAL_ENV")
ZOOSWARM = "from protocol.cli.main import main; main()"
README = """Made by `zooswarm report-bug`. Nothing was sent: look through it, and take out what you do not want to show.
Taken out already: keys, tickets, invites, tokens, user and computer names, home directories, addresses.
"""


@click.command("report-bug")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="A host's, a volunteer's or a zoo's directory."
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The file to make: bug.zip."
)
def REPORT_BUG(directory: Path | None, out: Path) -> None:
    """Pack versions, the doctor's words and the ends of logs into one file, without keys, names and addresses.

    It goes nowhere: look into it, then send it to whom you want. Default for --dir: your volunteer and your last host.

    \b
    zooswarm report-bug --out bug.zip
    """
    if directory is not None and not directory.is_dir():
        raise FileError(f"{directory}: there is no such directory")
    if out.exists():
        raise FileError(f"{out}: is there already; choose another --out")
    texts = bundle([directory] if directory else default_directories())
    write_atomic(out, packed(texts))
    click.echo(f"{out}: {len(texts)} texts; nothing was sent. Look through it before you give it to anybody:")
    for name, text in texts.items():
        click.echo(f"  {name}  {len(text):,} characters")


def bundle(directories: list[Path]) -> dict[str, str]:
    """{name: text} of everything that goes in, redacted."""
    from protocol.cli.redact import Redactor

    found = {
        "README.txt": README,
        "about.txt": about(),
        "logs/zooswarm.log": _end(cache_directory() / "log" / "zooswarm.log"),
    }
    for number, directory in enumerate(directories, 1):
        for name, text in of_directory(directory):
            found[f"{number}/{name}"] = text
    redact = Redactor(*private_words())
    return {name: redact(text) for name, text in found.items() if text}


def default_directories() -> list[Path]:
    """Where this user's volunteer and last host are, as far as they are."""
    places = [home_directory() / "volunteer"]
    with contextlib.suppress(OSError, ValueError):
        places.append(Path((home_directory() / "last-host").read_text()[:4096].strip()))
    return [place for place in places if place.is_dir()]


def private_words() -> tuple[list[str], list[str]]:
    """(names of this user and this computer, home directories)."""
    import getpass
    import platform
    import socket

    names = [os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "HOSTNAME")]
    with contextlib.suppress(KeyError, OSError, ImportError):
        names.append(getpass.getuser())
    names += [socket.gethostname(), socket.gethostname().partition(".")[0], platform.node()]
    homes = [str(Path.home()), os.environ.get("HOME", "")]
    return names, [*homes, *(os.path.realpath(home) for home in homes if home)]


def about() -> str:
    """Versions, the machine, its processor, its libraries, and settings in the environment."""
    import platform
    from importlib.metadata import version

    lines = [
        f"zooswarm {version('zooswarm')}, Python {platform.python_version()} ({platform.python_implementation()})",
        f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} processors",
        *_processor(),
        "",
        *_libraries(),
        "",
        *(f"{name}={value}" for name, value in sorted(os.environ.items()) if name.startswith(VARIABLES)),
    ]
    return "\n".join(lines) + "\n"


def of_directory(directory: Path) -> Iterator[tuple[str, str]]:
    """(name, text) of its doctor, its settings, the ends of its logs, and a list of what lies in it."""
    yield "doctor.txt", _doctor(directory)
    listed = []
    for path in sorted(directory.rglob("*"))[:LISTED_MAX]:
        with contextlib.suppress(OSError):
            listed.append(f"{path.stat().st_size:>14,}  {path.relative_to(directory)}")
    yield "files.txt", f"{directory}\n" + "\n".join(listed) + "\n"
    for path in sorted(directory.iterdir()):
        if any(word in path.name.lower() for word in SECRETS) or path.is_symlink() or not path.is_file():
            continue
        is_setting = path.suffix in SETTINGS and path.stat().st_size <= SETTINGS_BYTES_MAX
        if is_setting or ".log" in path.suffixes:
            yield path.name, _end(path)


def packed(texts: dict[str, str]) -> bytes:
    import io
    import zipfile

    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as file:
        for name, text in texts.items():
            file.writestr(name, text)
    return whole.getvalue()


def _doctor(directory: Path) -> str:
    import subprocess

    command = [sys.executable, "-P", "-c", ZOOSWARM, "doctor", str(directory)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=DOCTOR_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the doctor did not end: {error}\n"
    return f"{done.stdout}{done.stderr}exit code {done.returncode}\n"


def _end(path: Path) -> str:
    """The last bytes of a file, from the start of a line; "" where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LOG_BYTES_MAX))
            text = file.read(LOG_BYTES_MAX).decode(errors="replace")
    except OSError as error:
        return "" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}\n"
    return text if size <= LOG_BYTES_MAX else text.partition("\n")[2]


def _processor() -> list[str]:
    """Model and features, where the system tells them as Linux does."""
    try:
        told = Path("/proc/cpuinfo").read_text()
        memory = Path("/proc/meminfo").read_text().splitlines()[:3]
    except OSError:
        import platform

        return [platform.processor()]
    wanted = ("model name", "flags", "Features", "CPU part")
    return [line for line in dict.fromkeys(told.splitlines()) if line.startswith(wanted)] + memory


def _libraries() -> list[str]:
    """Of what we ask for, what is here."""
    from importlib.metadata import PackageNotFoundError, requires, version

    lines = []
    for name in sorted({requirement.partition(";")[0].strip() for requirement in requires("zooswarm") or []}):
        bare = name.split("[")[0].split(">")[0].split("=")[0].split("<")[0].split("~")[0].strip()
        with contextlib.suppress(PackageNotFoundError):
            lines.append(f"{bare} {version(bare)}")
    return list(dict.fromkeys(lines))
