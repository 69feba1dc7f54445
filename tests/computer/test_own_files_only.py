"""A volunteer reads and writes nothing outside of its own directories, and docs/privacy.md says what it sends."""

import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

import pytest
from support.swarms.stage import ZOOSWARM, Stage

from protocol.trust.messages import Answer, CertificateRequest, Heartbeat, Result, Upload

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "privacy.md"
CALLS = "open,openat,openat2,creat,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,linkat"
CALLS += ",symlink,symlinkat,chmod,fchmodat,truncate"
WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
READABLE = (
    *("/proc", "/sys", "/usr", "/lib", "/lib64", "/bin", "/dev/urandom", "/dev/null", "/dev/tty", "/dev/shm"),
    *(f"/etc/{name}" for name in ("ld.so.cache", "ld.so.preload", "localtime", "timezone", "nsswitch.conf", "ssl")),
    *(
        f"/etc/{name}"
        for name in ("resolv.conf", "hosts", "host.conf", "gai.conf", "mime.types", "services", "protocols")
    ),
)
PASSING = re.compile(
    r"/tmp/hivemind-p2p(d|client)-[\w-]+\.sock|/dev/shm/(sem\.[\w-]+|[\w.-]+)|/dev/(null|tty)|/proc/self/.*"
)
HOOK = """
import os, sys
def told(event, arguments, into=os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT)):
    two = event in ("os.rename", "os.link", "os.symlink")
    if two or event in ("open", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate"):
        for path in arguments[: 2 if two else 1]:
            if isinstance(path, (str, bytes)):
                flags = arguments[2] if event == "open" else os.O_RDWR
                kind = "W" if (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else "R"
                relative = event in ("os.remove", "os.rmdir", "os.mkdir") and arguments[-1] >= 0
                folder = os.readlink(f"/proc/self/fd/{arguments[-1]}") if relative else os.getcwd()
                os.write(into, f"{kind} {os.path.normpath(os.path.join(folder, os.fsdecode(path)))}\\n".encode())
sys.addaudithook(told)
"""


@pytest.mark.swarm
def test_it_reads_and_writes_nothing_but_its_own(tmp_path):
    """From the first byte to the last of a volunteer that trains, hands in, opens and leaves."""
    stage, person, bob = Stage(tmp_path / "stage"), tmp_path / "person", tmp_path / "bob"
    (tmp_path / "stage").mkdir(exist_ok=True)
    person.mkdir()
    (person / "diary.txt").write_text("mine")
    stage.environment |= {"HOME": str(person)}
    options = ["join", "--dir", str(bob), "--until-done", "--threads", "1"]
    trace = tmp_path / "trace"
    try:
        campaign = stage.write_campaign(seeds=2, bundle=2, steps=100, segment=50)
        stage.host()
        assert stage.run("seed", str(campaign), "--dir", str(stage.path / "host")).returncode == 0
        if shutil.which("strace"):
            watch = ["strace", "-f", "-y", "-qq", "-s", "4096", "-o", str(trace), "-e", f"trace={CALLS}", ZOOSWARM]
            read = files_of_strace
        else:
            (tmp_path / "hook").mkdir()
            (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK % str(trace))
            before = stage.environment.get("PYTHONPATH", "")
            stage.environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(tmp_path / "hook"), before)))
            watch, read = [ZOOSWARM], files_of_hook
        process = stage.start("bob", *options, stage.address, program=watch)
        assert process.wait(120) == 0, stage.log("bob")
        assert "handed in" in stage.log("bob") or "admitted" in stage.log("bob"), stage.log("bob")
    finally:
        stage.close()
    found = read(trace.read_text(errors="replace"), Path.cwd())
    ours = (str(bob), str(tmp_path / "stage" / "home" / "cache"), str(engines()))
    program = {str(ROOT), sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), str(tmp_path / "hook")}
    assert any(path.startswith(f"{bob}/bundles/") for path, writes in found if writes), "the watch sees what is written"
    strange = sorted((path, "written" if w else "read") for path, w in found if not allowed(path, w, ours, program))
    assert strange == []
    assert [path.name for path in person.iterdir()] == ["diary.txt"]


def engines() -> Path:
    """Where this computer's compiled engines are: a test's cache links there."""
    from protocol.files import cache_directory

    return (cache_directory() / "engine").resolve()


def allowed(path: str, writes: bool, ours: tuple[str, ...], program: set[str]) -> bool:
    if within(path, ours) or PASSING.fullmatch(path) or any(within(each, (path,)) for each in ours if not writes):
        return True
    if writes:
        return "__pycache__" in path and within(path, program)  # Python keeps what it compiled beside the program
    return within(path, (*READABLE, *program)) or any(within(each, (path,)) for each in program)


def within(path: str, folders) -> bool:
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


def files_of_strace(text: str, cwd: Path) -> set[tuple[str, bool]]:
    """(path, whether it was written, made, renamed or removed) of every call that succeeded."""
    found = set()
    for line in text.splitlines():
        call = re.match(r"\d+ +(\w+)\((.*)\) += (-?\d+)", line)
        if call is None or call[3].startswith("-"):
            continue
        writes = not call[1].startswith("open") or WRITES.search(call[2]) is not None
        for folder, path in re.findall(r'(?:<([^>]*)>, )?"((?:[^"\\]|\\.)*)"', call[2]):
            found.add((os.path.normpath(Path(folder or cwd) / path), writes))
    return found


def files_of_hook(text: str, cwd: Path) -> set[tuple[str, bool]]:
    return {(line[2:], line[0] == "W") for line in text.splitlines() if Path(line[2:]).exists() or line[0] == "W"}


# -- the page ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Heartbeat, Result, CertificateRequest, Upload, Answer])
def test_the_page_names_every_field_that_is_sent(kind):
    row = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{kind.__name__}`"))
    if kind in (Upload, Answer):
        return  # told in words: what they carry is the work itself
    missing = [name for name in kind.__struct_fields__ if f"`{name}`" not in row]
    assert missing == []


def test_the_watch_would_see_a_stranger():
    ours, program = ("/h/bob",), {"/opt/venv"}
    text = (
        '12 openat(AT_FDCWD</w>, "/h/bob/identity", O_RDONLY) = 3</h/bob/identity>\n'
        '12 openat(AT_FDCWD</w>, "/home/ada/.ssh/id", O_RDONLY) = 4</home/ada/.ssh/id>\n'
        '12 openat(AT_FDCWD</w>, "/home/ada/none", O_RDONLY) = -1 ENOENT (No such file or directory)\n'
        '12 unlinkat(5</h/bob/bundles/x>, "0.states", 0) = 0\n'
        '12 rename("/h/bob/a", "/h/ada/b") = 0\n'
        '12 openat(AT_FDCWD</w>, "/opt/venv/x.py", O_RDWR|O_CREAT) = 5</opt/venv/x.py>\n'
    )
    found = files_of_strace(text, Path("/w"))
    assert ("/h/bob/bundles/x/0.states", True) in found
    strange = sorted(path for path, writes in found if not allowed(path, writes, ours, program))
    assert strange == ["/h/ada/b", "/home/ada/.ssh/id", "/opt/venv/x.py"]
