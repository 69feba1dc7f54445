"""Write docs/errors.md from the docstrings of the errors' classes; a test holds the two together.

python scripts/errors.py --write
"""

import sys
from pathlib import Path

from protocol.cli.explain import words
from protocol.errors import KINDS

PAGE = Path(__file__).resolve().parents[1] / "docs" / "errors.md"
HEAD = """# Errors, and what to do

<!-- written by scripts/errors.py from protocol/errors.py -->
What cannot be done because of something that you can mend is one line on the error output, and the exit code 2:

```
zooswarm: nobody answers at 203.0.113.7:7750 (Connection refused); ...  [ZS-AWAY]
```
The code at its end is one of these; `zooswarm explain ZS-AWAY` prints what stands here. Nothing half done is left
behind, and the same command can be typed again.
"""
TAIL = """
## Our mistakes
Everything else is our mistake, and not yours: the exit code is 1, two lines say so, and the story is in a log:
`host.log` in a host's directory, `volunteer.log` in a volunteer's, `log/zooswarm.log` in the cache directory for every
other verb; all of bounded size. `zooswarm report-bug --out bug.zip` packs what helps to find it, with keys, tickets,
names and addresses taken out; look into the file before you send it to anybody, it goes nowhere by itself.
`ZOOSWARM_DEBUG=1` shows the traceback at once.
"""


def page() -> str:
    return HEAD + "".join(f"\n## {kind.code}\n{words(kind)}\n" for kind in KINDS) + TAIL


def main() -> None:
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(page())
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main()
