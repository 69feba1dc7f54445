"""`zooswarm --help` is asked often, and first: what it loads and reads is held here, since times differ by machine."""

import json
import subprocess
import sys

HELP = """
import json, sys
before, opened = set(sys.modules), []
sys.addaudithook(lambda name, about: opened.append(str(about[0])) if name == "open" else None)
from protocol.cli.main import run
try:
    run(["--help"])
except SystemExit:
    pass
ours = ("protocol", "peer", "coordinator", "analysis")
print(json.dumps({
    "listed": sum(path.endswith("entry_points.txt") for path in opened),
    "modules": sorted(name for name in sys.modules if name.partition(".")[0] in ours),
    "libraries": sorted({n.partition(".")[0] for n in {*sys.modules} - before} - {*sys.stdlib_module_names, *ours}),
    "late": sorted({"asyncio", "difflib", "multiprocessing", "sqlite3", "ssl", "subprocess"} & set(sys.modules)),
}))
"""
VERBS = {
    "protocol.cli": ["console", "explain", "garbage", "libraries", "logs", "main", "numbers", "report_bug"],
    "protocol": ["cli", "errors", "files"],
    "peer": ["cli", "computer", "local_training"],
    "peer.computer": ["verbs"],
    "coordinator": ["cli"],
    "analysis": ["cli", "probes"],
    "analysis.probes": ["command", "names"],
}


def test_help_loads_the_verbs_and_click_alone_and_looks_for_verbs_once():
    program = [sys.executable, "-c", HELP]
    done = subprocess.run(program, capture_output=True, text=True, check=True, timeout=60)
    shown, _, told = done.stdout.rstrip("\n").rpartition("\n")
    loaded = json.loads(told)
    assert all(f"\n  {verb} " in shown for verb in ("join", "host", "report", "explain", "report-bug"))
    assert loaded["listed"] == 1, "only our own distribution is looked through, once"
    allowed = {*VERBS, *(f"{package}.{name}" for package, names in VERBS.items() for name in names)}
    assert set(loaded["modules"]) <= allowed
    assert set(loaded["libraries"]) <= {"click", "tomli"}
    assert loaded["late"] == []
