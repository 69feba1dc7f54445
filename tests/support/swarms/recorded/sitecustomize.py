"""Python imports this at its start when this folder is in PYTHONPATH: at its end it writes down what was imported."""

import atexit
import json
import os
import sys
from pathlib import Path


def record() -> None:
    place = Path(os.environ["ZOOSWARM_TEST_MODULES"]) / f"{os.getpid()}.json"
    place.write_text(json.dumps({"program": sys.orig_argv, "modules": sorted(sys.modules)}))


atexit.register(record)
