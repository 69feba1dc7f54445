"""Does the wheel work where there is nothing but a Python? Started by scripts/check-wheels."""

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from soaking.recipe import SMALL_RECIPE  # noqa: E402

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
ZOOSWARM = str(Path(sys.executable).with_name("zooswarm"))
SWARM = "hivemind"  # the release of constraints.txt, without what its metadata asks for
RECIPE = "recipes/ds1-simplexor.toml"
CAMPAIGN = """
name = "wheels"
[policy]
probation_bundles = 1
probation_checkers = 1
probation_cells = 2
checkers = 1
cells = 2
epoch_seconds = 0.5
lease_seconds = 10.0
settle_seconds = 0.3
[[populations]]
recipe = "small.toml"
seeds = "0:400"
bundle = 2
"""
# The engine of every instruction set must come out of the wheel, and compute what all others compute.
EVERY_ISA = """
from protocol.engine.native.build import shipped, supported_isas
from protocol.engine.select import select_engine
for isa in supported_isas()[:-1]:
    assert shipped(isa), f"{isa} is not in the wheel"
    print(select_engine("c", isa=isa).name, end=" ")
"""
SWARM_SECONDS_MAX = 180.0


class Python:
    """An empty environment of one Python with the wheel in it; what runs in it finds no compiler."""

    def __init__(self, version: str, interpreter: str, place: Path):
        self.version, self.place = version, place / version
        self.bin = self.place / "venv" / "bin"
        subprocess.run([interpreter, "-m", "venv", str(self.place / "venv")], check=True)
        self.environment = {"PATH": str(self.bin), "HOME": str(self.place), "ZOOSWARM_HOME": str(self.place / "home")}
        assert not any(shutil.which(name, path=str(self.bin)) for name in ("cc", "gcc", "clang"))

    def run(self, *command: str) -> str:
        """What it printed. Raises CalledProcessError, with its last words shown."""
        done = subprocess.run(
            [str(self.bin / command[0]), *command[1:]],
            env=self.environment,
            cwd=self.place,  # from the working tree Python would import that
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}", file=sys.stderr)
            done.check_returncode()
        return done.stdout

    def install(self, wheel: Path) -> None:
        constraints = ("-c", str(ROOT / "constraints.txt"))
        pip = ("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *constraints)
        self.run(*pip, str(wheel))
        self.run(*pip, "--no-deps", SWARM)

    def train(self) -> str:
        """A digest of the networks' files."""
        out = self.place / "networks"
        self.run("zooswarm", "train", str(ROOT / RECIPE), "--seeds", "0:2", "--out", str(out))
        return digest_of(out)

    def join(self, address: str) -> subprocess.Popen:
        options = ("--name", f"python-{self.version}", "--threads", "1", "--until-done")
        with (self.place / "join.log").open("wb") as log:
            command = [str(self.bin / "zooswarm"), "join", address, *options]
            return subprocess.Popen(command, env=self.environment, stdout=log, stderr=subprocess.STDOUT)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zooswarm-wheels-") as name:
        place = Path(name)
        wheel = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else build(place)
        print(f"{wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
        here = train_here(place)
        pythons = [Python(version, path, place) for version, path in interpreters()]
        wrong = 0
        for python in pythons:
            python.install(wheel)
            isas, found = python.run("python", "-c", EVERY_ISA), python.train()
            compiled = [*(python.place / "home").rglob("*.so")]
            wrong += found != here or bool(compiled)
            words = "the same bits as here" if found == here else f"OTHER BITS: {found[:16]}, here {here[:16]}"
            print(f"Python {python.version}: self-test of {isas}passes, {words}", flush=True)
        wrong += not join_all(pythons, place)
    sys.exit(bool(wrong) or not pythons)


def interpreters() -> list[tuple[str, str]]:
    """(version, path) of every Python that is asked for or found, and works."""
    asked = os.environ.get("ZOOSWARM_PYTHONS", "").split()
    kept = Path.home() / ".pyenv" / "versions"
    candidates = asked or [
        p for v in VERSIONS for p in (f"python{v}", *map(str, sorted(kept.glob(f"{v}.*/bin/python"))))
    ]
    found: dict[str, str] = {}
    for path in candidates:
        what = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
        try:
            version = subprocess.run([path, "-c", what], capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            continue
        found.setdefault(version, path)
    for version in VERSIONS:
        if version not in found and not asked:
            print(f"no Python {version} here: left out")
    return sorted(found.items(), key=lambda item: VERSIONS.index(item[0]))


def build(place: Path) -> Path:
    """As `python -m build` does: a source archive, and the wheel from that. The engine has to be in it."""
    subprocess.run([sys.executable, "-m", "venv", str(place / "builder")], check=True)
    python = str(place / "builder" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "build"], check=True)
    environment = os.environ | {"ZOOSWARM_WHEEL_ENGINE": "required"}
    command = [python, "-m", "build", "--outdir", str(place / "dist"), str(ROOT)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    (wheel,) = (place / "dist").glob("*.whl")
    return wheel


def train_here(place: Path) -> str:
    """The same networks from the working tree, with an engine that is compiled here."""
    command = [ZOOSWARM, "train", str(ROOT / RECIPE), "--seeds", "0:2", "--out", str(place / "networks")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return digest_of(place / "networks")


def digest_of(folder: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.safetensors")))).hexdigest()


def join_all(pythons: list[Python], place: Path) -> bool:
    """All of them in one swarm with a host from here: each contributes, and everything is admitted."""
    (place / "small.toml").write_text(
        SMALL_RECIPE.format(name="small", label="xor", machine="SimpleXORMachine", steps=400, segment=40)
    )
    (place / "campaign.toml").write_text(CAMPAIGN)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (place / "host.log").open("wb")
    listen = ["--listen", f"127.0.0.1:{port}"]
    host = subprocess.Popen([ZOOSWARM, "host", str(place / "host"), *listen], stdout=log, stderr=subprocess.STDOUT)
    joined: list[subprocess.Popen] = []
    try:
        wait(lambda: status(port) is not None, "the host to answer")
        seed = [ZOOSWARM, "seed", str(place / "campaign.toml"), "--dir", str(place / "host")]
        subprocess.run(seed, check=True, stdout=subprocess.DEVNULL)
        joined = [python.join(f"127.0.0.1:{port}") for python in pythons]
        wait(lambda: all(process.poll() is not None for process in joined), "all to leave when all is done")
        told = status(port) or {}
    finally:
        for process in (*joined, host):
            if process.poll() is None:
                process.terminate()
                process.wait(30)
        log.close()
    return judged(told, pythons, [process.returncode for process in joined])


def judged(told: dict, pythons: list[Python], codes: list[int]) -> bool:
    """Whether every Python's host contributed and nobody's work was refused; says so."""
    campaign, by_name = told["campaigns"][0], {one["name"]: one for one in told["hosts"]}
    good = campaign["networks_admitted"] == campaign["networks"] and not campaign["rejected"]
    print(f"one swarm: {campaign['networks_admitted']} of {campaign['networks']} networks admitted")
    for python, code in zip(pythons, codes, strict=True):
        one = by_name.get(f"python-{python.version}", {"clean_bundles": 0, "checks_done": 0, "faults": 0})
        print(
            f"  Python {python.version}: {one['clean_bundles']} bundles admitted, {one['checks_done']} checks of others"
        )
        good = good and code == 0 and one["clean_bundles"] > 0 and not one["faults"]
    return good


def status(port: int) -> dict | None:
    done = subprocess.run(
        [ZOOSWARM, "status", f"127.0.0.1:{port}", "--json"], capture_output=True, text=True, check=False
    )
    try:
        return json.loads(done.stdout)
    except ValueError:
        return None


def wait(condition, what: str) -> None:
    deadline = time.monotonic() + SWARM_SECONDS_MAX
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"check-wheels: waited {SWARM_SECONDS_MAX:.0f} s for {what}")
        time.sleep(1.0)


if __name__ == "__main__":
    main()
