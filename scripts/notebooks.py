#!/usr/bin/env python3
"""Run the tours in notebooks/ and store their outputs in them.

    python scripts/notebooks.py [ZOO] [--out DIR] [--only NAME]

ZOO: default demo-run/host/zoo, which `scripts/demo recipes/tour-campaign.toml` makes. Needs the extra `notebooks`.
Those with `probes` in their names need another zoo, that of recipes/probes-campaign.toml, and the extra `probes`; they
run with `--only probes`, and write rows into ZOO/probes.
"""

import argparse
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[1]
CELL_SECONDS = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path, nargs="?", default=ROOT / "demo-run" / "host" / "zoo")
    parser.add_argument("--out", type=Path, default=ROOT / "notebooks", help="where the run notebooks go")
    parser.add_argument("--only", default="", help="part of a name")
    options = parser.parse_args()
    os.environ["ZOOSWARM_ZOO"] = str(options.zoo.resolve())
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # a library's bar, which is not used
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    chosen = [path for path in (ROOT / "notebooks").glob("*.ipynb") if options.only in path.stem]
    for path in sorted(path for path in chosen if options.only or "probes" not in path.stem):
        notebook = nbformat.read(path, as_version=4)
        place = {"metadata": {"path": str(ROOT / "notebooks")}}
        client = NotebookClient(notebook, timeout=CELL_SECONDS, record_timing=False, resources=place)
        try:
            client.execute()
        except CellExecutionError as error:
            sys.exit(f"{path.name}: {error}")
        notebook.metadata["language_info"] = {"name": "python"}
        options.out.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, options.out / path.name)
        print(f"{path.name}: {(options.out / path.name).stat().st_size // 1024} KB")


if __name__ == "__main__":
    main()
