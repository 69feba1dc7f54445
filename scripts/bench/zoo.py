#!/usr/bin/env python3
"""What an analyst waits for, each beside a probe of the same bytes in the same minute.

    python scripts/bench/zoo.py [--networks 100000] [--campaign recipes/mlds-campaign.toml] [--keep DIR] [--rows ...]

`matrix`, `table`, `verify`: a zoo of random weights. `report`: a campaign, trained here first. `evidence`: real
bundles, by `coordinator.py --keep` beside this file. With `--keep` what was made is there the next time. Every
measurement is a process of its own, so all is for the first time, but that the files are in the page cache; the best of
`--repeats`, taken in turns with the probe. A ratio is of processor time, which other programs disturb less than the
clock. A virtual machine gets its memory when it first touches it, which can take longer than all else and falls on
whoever comes first: before each measurement another process touches as much, and ends.
"""

import argparse
import hashlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this folder has a `coordinator.py`: ours comes first

ROOT = Path(__file__).resolve().parents[2]
ROWS = {  # name -> zoo, what is measured, its probes
    "matrix": ("large", "weights", ("fromfile_kept", "fromfile")),
    "mapped": ("large", "weights_mapped", ("fromfile_written",)),
    "table": ("large", "table", ("parquet", "duckdb")),
    "verify": ("large", "verify", ("sha256_twice",)),
    "report": ("trained", "report", ("sha256",)),
    "evidence": ("proved", "audit", ("evidence_decoded",)),
}
TOUCHED_BYTES = 2_500 * 1024 * 1024  # more than any measurement takes
TOUCHING = """
import mmap, sys
memory = mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
if hasattr(mmap, "MADV_HUGEPAGE"):
    memory.madvise(mmap.MADV_HUGEPAGE)
for place in range(0, len(memory), 4096):
    memory[place] = 1
"""


def main() -> None:
    options = parse()
    if options.one:
        print(json.dumps(measured(options.one, options.keep)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.keep = options.keep or Path(folder)
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {sys.version.split()[0]}")
        print("| row | CPU s | wall s | memory MB | probe | CPU s | wall s | memory MB | ratio |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
        for name in options.rows:
            zoo, subject, probes = ROWS[name]
            path = made(options.keep / zoo, zoo, options)
            runs: dict[str, list[dict]] = {}
            for _ in range(1 if name == "report" else options.repeats):
                for one in (subject, *probes):
                    runs.setdefault(one, []).append(in_a_process(one, path))
            best = {one: min(found, key=lambda run: run["cpu"]) for one, found in runs.items()}
            wall = {one: min(run["wall"] for run in found) for one, found in runs.items()}
            for probe in probes:
                cells = [
                    f"{best[one]['cpu']:.2f} | {wall[one]:.2f} | {best[one]['memory']:.0f}" for one in (subject, probe)
                ]
                ratio = best[subject]["cpu"] / max(best[probe]["cpu"], 0.01)
                print(f"| {name} | {cells[0]} | {probe} | {cells[1]} | {ratio:.2f} |", flush=True)
            if note := best[subject].get("note"):
                print(f"{name}: {note}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS))
    parser.add_argument("--networks", type=int, default=100_000, help="of 4,364 parameters")
    parser.add_argument("--campaign", type=Path, default=ROOT / "recipes" / "mlds-campaign.toml")
    parser.add_argument("--bundles", type=int, default=200, help="with real evidence")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="where zoos are made; default: a directory that goes in the end")
    parser.add_argument("--one", choices=MEASURED, help=argparse.SUPPRESS)
    return parser.parse_args()


def made(path: Path, kind: str, options: argparse.Namespace) -> Path:
    """The zoo at `path`, made if it is not there."""
    if (path / "manifests").is_dir():
        return path
    import zoos

    from protocol.recipes.campaign import load_campaign

    began = time.perf_counter()
    if kind == "large":
        zoos.large(path, load_campaign(ROOT / "recipes" / "demo.toml"), options.networks)
    elif kind == "trained":
        zoos.trained(path, load_campaign(options.campaign), os.cpu_count() or 1)
    else:
        bench, count = Path(__file__).with_name("coordinator.py"), str(options.bundles)
        words = ["--rows", "results", "--results", count, "--assignments", count, "--recipes", "50", "--rate", "10"]
        subprocess.run([sys.executable, bench, *words, "--keep", path], check=True, stdout=subprocess.DEVNULL)
    print(f"(made {path.name} in {time.perf_counter() - began:.0f} s)", file=sys.stderr)
    return path


def in_a_process(one: str, path: Path) -> dict:
    words = [sys.executable, __file__, "--one", one, "--keep", str(path)]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])


def measured(one: str, path: Path) -> dict:
    """Seconds, and how much memory more than before it began, in MB. What is imported first is not counted."""
    import duckdb  # noqa: F401
    import numpy  # noqa: F401
    import pyarrow.compute
    import pyarrow.dataset
    import pyarrow.parquet  # noqa: F401

    import analysis.zoo  # noqa: F401

    subprocess.run([sys.executable, "-c", TOUCHING, str(TOUCHED_BYTES)], check=True)
    began, cpu, held = time.perf_counter(), time.process_time(), peak()
    kept = MEASURED[one](path)
    found = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu, "memory": peak() - held}
    return found | ({"note": kept} if isinstance(kept, str) else {})


def peak() -> float:
    """MB that this program had at most. What getrusage tells begins with what our parent had when it started us."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


# -- what is measured -------------------------------------------------------------------------------------------------


def weights(path: Path) -> object:
    from analysis import open_zoo

    return open_zoo(path).weights()


def weights_mapped(path: Path) -> object:
    from analysis import open_zoo

    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        return open_zoo(path).weights(into=Path(folder) / "weights.npy")


def table(path: Path) -> object:
    from analysis import open_zoo

    return open_zoo(path).table()


def verify(path: Path) -> object:
    from protocol.trust.identity import verify_signature
    from protocol.zoo.verify import verify_zoo

    found = verify_zoo(path, verify_signature)
    return f"{found.networks:,} networks, {found.files:,} files, {len(found.problems)} problems"


def report(path: Path) -> object:
    from analysis.report.page import Settings, write_report

    with tempfile.TemporaryDirectory() as folder:
        return write_report(path, Path(folder), Settings())


def audit(path: Path) -> object:
    """Files and evidence, without training anything again; and how often a campaign was parsed for it."""
    from unittest import mock

    from analysis.audit import check

    with mock.patch.object(check, "campaign_from_bytes", wraps=check.campaign_from_bytes) as parse:
        found = check.audit_zoo(path, replay=0)
    return f"{found.bundles} bundles, {parse.call_count} campaigns parsed, {len(found.problems)} problems"


# -- probes -----------------------------------------------------------------------------------------------------------


def shards(path: Path) -> list[Path]:
    return sorted(path.glob("weights/*/*.safetensors"))


def fromfile_kept(path: Path) -> object:
    """Every byte of the shards in memory, as the matrix is."""
    import numpy as np

    return [np.fromfile(file, np.uint8) for file in shards(path)]


def fromfile(path: Path) -> object:
    """Every shard read, and forgotten: no memory but one shard's is touched."""
    import numpy as np

    return sum(np.fromfile(file, np.uint8).size for file in shards(path))


def fromfile_written(path: Path) -> object:
    """The shards copied into one file, durable."""
    import numpy as np

    with tempfile.TemporaryFile(dir=path.parent) as file:
        for shard in shards(path):
            np.fromfile(shard, np.uint8).tofile(file)
        file.flush()
        os.fsync(file.fileno())


def parquet(path: Path) -> object:
    import pyarrow as pa
    import pyarrow.parquet as pq

    return pa.concat_tables([pq.read_table(file) for file in sorted(path.glob("catalogue/*"))])


def duckdb(path: Path) -> object:
    import duckdb

    files = [str(file) for file in sorted(path.glob("catalogue/*"))]
    return duckdb.read_parquet(files).order('"class", recipe, seed').to_arrow_table()


def sha256(path: Path) -> object:
    for file in path.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                hashlib.file_digest(opened, "sha256")


def sha256_twice(path: Path) -> object:
    """As files, and as networks."""
    sha256(path)
    sha256(path)


def evidence_decoded(path: Path) -> object:
    """Every bundle's evidence decoded and its signatures verified, and nothing concluded."""
    from protocol.trust.envelope import unseal
    from protocol.trust.evidence import evidence_from_bytes
    from protocol.trust.messages import Admission, Answer, CampaignManifest, Draw, Receipt, Result

    for file in path.glob("evidence/*"):
        one = evidence_from_bytes(file.read_bytes())
        kinds = (CampaignManifest, Result, Receipt, Draw, Admission)
        for envelope, kind in zip((one.manifest, one.result, one.receipt, one.draw, one.admission), kinds, strict=True):
            unseal(envelope, kind)
        for envelope in (*one.answers, *one.replays):
            unseal(envelope, Answer)


SUBJECTS = (weights, weights_mapped, table, verify, report, audit)
PROBES = (fromfile_kept, fromfile, fromfile_written, parquet, duckdb, sha256, sha256_twice, evidence_decoded)
MEASURED: dict[str, Callable[[Path], object]] = {function.__name__: function for function in (*SUBJECTS, *PROBES)}


if __name__ == "__main__":
    main()
