"""What is installed for whom: no package imports what its users do not have, and a verb says what it misses."""

import ast
import fcntl
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import click
import pytest
from installing import footprint

from protocol.cli import main
from protocol.cli.libraries import OURS, absent, installation, need_python, need_swarm
from protocol.errors import UsageError

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
HAS = {  # extras that each package may import from, beside a volunteer's libraries
    "protocol": ("page", "swarm"),
    "peer": (),
    "coordinator": ("organizer",),
    "analysis": ("analysis", "dask", "frames", "huggingface", "probes"),
}
READERS = {"pyarrow"}  # protocol.zoo's, inside functions: organizers write tables, analysts read them
NO_LIBRARY = {"google", "grpc_tools"}  # parts of protobuf and grpcio


def named(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=~;! ]", line)[0].lower() for line in requirements}


def third_party(package: str) -> dict[str, str]:
    """Every library that a module of the package imports, late or not, and one module that does."""
    found = {}
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {*OURS, ""}:
                found[top] = str(path.relative_to(ROOT))
    return found


@pytest.mark.parametrize("package", HAS)
def test_no_package_imports_what_its_users_were_not_given(package):
    extras = PROJECT["optional-dependencies"]
    given = named(PROJECT["dependencies"]).union(*(named(extras[extra]) for extra in HAS[package]))
    homes = packages_distributions()
    imports = third_party(package)
    assert {"numpy", "msgspec"} <= imports.keys()
    missing = {
        library: module
        for library, module in imports.items()
        if library not in NO_LIBRARY
        and not given & {d.lower().replace("_", "-") for d in homes.get(library, [library])}
        and not (module.startswith("protocol/zoo/") and library in READERS)
    }
    assert missing == {}


def test_a_volunteer_is_never_given_torch_or_hiveminds_own_choice():
    assert not named(PROJECT["dependencies"]) & {"torch", "hivemind", "pyarrow", "duckdb", "sqlalchemy", "matplotlib"}


def test_what_is_absent_is_named_with_what_to_type():
    assert absent("sqlalchemy.orm", "coordinator") == "sqlalchemy is not installed; pip install 'zooswarm[organizer]'"
    assert absent("pyarrow", "analysis") == "pyarrow is not installed; pip install 'zooswarm[analysis]'"
    assert absent("msgspec", "peer") == "msgspec is not installed; pip install zooswarm again"
    assert absent("hivemind.dht", "peer") == "hivemind is not installed; pip install --no-deps hivemind==1.1.12"


def test_volunteers_are_told_before_anything_begins(monkeypatch):
    monkeypatch.setattr("protocol.cli.libraries.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--no-deps hivemind=="):
        need_swarm()


def test_doctor_without_a_directory_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("protocol.cli.libraries.find_spec", lambda name: None if name in ("duckdb", "hivemind") else 1)
    told = installation("linux")
    assert "join: hivemind is not installed; pip install --no-deps hivemind==1.1.12" in told
    assert "organizer: ready" in told
    assert "analysis: duckdb is not installed; pip install 'zooswarm[analysis]'" in told
    assert "join: not on native Windows; use WSL2, `wsl --install` (docs/install.md)" in installation("win32")


def test_an_old_python_joins_and_nothing_else(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 13, "final", 0))
    need_python("peer")
    with pytest.raises(UsageError, match=r"Python 3\.10\.13 can join and train; this verb needs Python 3\.11"):
        need_python("coordinator")


def test_a_verb_without_its_libraries_is_one_line_and_our_own_mistakes_are_not(monkeypatch, capsys, tmp_path):
    def run(missing: str) -> int | str | None:
        @click.command("report")
        def report() -> None:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

        monkeypatch.setattr(main.Verbs, "_load", lambda self: {"report": report})
        monkeypatch.setattr(sys, "argv", ["zooswarm", "report"])
        with pytest.raises(SystemExit) as ended:
            main.main()
        return ended.value.code

    assert run("duckdb") == 2
    assert (
        capsys.readouterr().err == "zooswarm: duckdb is not installed; pip install 'zooswarm[analysis]'  [ZS-LIBRARY]\n"
    )
    monkeypatch.setenv("ZOOSWARM_HOME", str(tmp_path))
    assert run("analysis.no_such_room") == 1
    assert "this is our mistake, not yours: ModuleNotFoundError" in capsys.readouterr().err
    assert "our mistake" in (tmp_path / "cache" / "log" / "zooswarm.log").read_text()


def test_what_breaks_the_goal_is_named():
    files = {"numpy-2.whl": 17_000_000, "nvidia_cublas-13.whl": 400_000_000, "torch-2.13.0-cp311.whl": 1}
    assert footprint.breaks_goal(files) == [
        "not for volunteers: nvidia_cublas-13.whl",
        "not for volunteers: torch-2.13.0-cp311.whl",
        "417 MB are more than 400 MB",
    ]
    assert footprint.breaks_goal({"numpy-2.whl": 17_000_000, "torchless-1.whl": 1}) == []


def test_setup_waits_for_another_in_the_same_place_and_takes_what_it_made(tmp_path):
    inputs = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    sums = subprocess.run(["cksum"], input=inputs, capture_output=True, check=True).stdout.decode().replace(" ", "")
    with (tmp_path / ".setup.lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        environment = os.environ | {"ZOOSWARM_VENV": str(tmp_path), "PYTHON": sys.executable}
        with subprocess.Popen([ROOT / "scripts" / "setup"], stdout=-1, text=True, env=environment) as setup:
            assert setup.stdout.readline() == f"waiting for another scripts/setup in {tmp_path} ...\n"
            (tmp_path / "bin").mkdir()
            (tmp_path / "bin" / "zooswarm").symlink_to(sys.executable)
            (tmp_path / f".zooswarm-{sums.strip()}-base").touch()
            fcntl.flock(held, fcntl.LOCK_UN)
            assert setup.stdout.read() == "" and setup.wait(30) == 0


def test_setup_names_the_extras_that_there_are():
    done = subprocess.run([ROOT / "scripts" / "setup", "analyst"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "there are organizer, analysis, all, dev and cuda" in done.stderr
