"""What is nobody's business is taken out of a text before somebody else reads it: keys, tickets, invites, tokens, names
of people and computers, addresses. What is left still tells what happened: the same name gets the same mark throughout.

When in doubt it is taken out: a word too few costs a question, a word too many cannot be taken back.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable

PEER_ID = re.compile(r"12D3Koo[1-9A-HJ-NP-Za-km-z]{20,}")
SHORT_NAME = re.compile(r"\bhost-[1-9A-HJ-NP-Za-km-z]{6}\b")  # the default name: the end of a key
URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://[^\s'\"<>]+", re.IGNORECASE)
EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
INVITE = re.compile(r"\bzoo-[A-Za-z0-9_-]{6,}")
SECRET_OPTION = re.compile(
    r"(--(?:ticket|token|password|secret|key|invite|webhook|name|team)[= ]\s*)(?:'[^']*'|\"[^\"]*\"|\S+)"
)
SECRET_FIELD = re.compile(
    r"((?:ticket|token|password|passwd|secret|api_?key|private_?key|authorization|bearer|webhook)\w*[\"']?\s*[=:]\s*[\"']?)"
    r"[^\s\"',;}]+",
    re.IGNORECASE,
)
OPAQUE = re.compile(r"[A-Za-z0-9_+=-]{24,}")
PLAIN_WORDS = re.compile(r"(?:-{0,2}|_{0,2})(?:[a-z]{1,20}\d{0,4}[_-]{1,2})*[a-z]{1,20}\d{0,4}_{0,2}\Z|[-=_+]+\Z")
IPV4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)")
IPV6 = re.compile(r"(?<![\w.])[0-9A-Fa-f:]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*")
NAMED = re.compile(r"(?<![\w./-])(?:[\w-]+\.)+([A-Za-z][\w-]*)(?=:\d{1,5}\b)")
DNS = re.compile(r"(/dns(?:4|6|addr)?/)[^/\s]+")
HOMES = re.compile(r"((?:/home/|/Users/|\\Users\\))[^/\\\s:'\"]+")
FILES = frozenset(("py", "pyi", "c", "h", "cu", "toml", "json", "html", "md", "txt", "log", "sqlite", "so", "proto"))
EVERYBODY = frozenset(("root", "user", "users", "home", "localhost", "linux"))  # names that name nobody
NAME_LETTERS_MIN = 3  # a shorter name is taken out where it is a part of a path


class Redactor:
    """Takes out what it knows by its form, and `people` (user names, names of computers) and `homes` (directories).

    Calling it twice changes nothing more. What it took out is numbered in the order of its first appearance.
    """

    def __init__(self, people: Iterable[str] = (), homes: Iterable[str] = ()):
        self.people = sorted({name for name in people if name and name.lower() not in EVERYBODY}, key=len, reverse=True)
        self.homes = sorted({home.rstrip("/\\") for home in homes if len(home) > 1}, key=len, reverse=True)
        self._marks: dict[str, dict[str, str]] = {}

    def __call__(self, text: str) -> str:
        for home in self.homes:
            text = re.sub(re.escape(home) + r"(?![\w.-])", "~", text)
        for pattern, put in self._rules():
            text = pattern.sub(put, text)
        for name in self.people:
            part = rf"(?<=[/\\]){re.escape(name)}(?=[/\\\s:'\"]|$)"
            whole = rf"(?<!\w){re.escape(name)}(?!\w)"
            text = re.sub(whole if len(name) >= NAME_LETTERS_MIN else part, "<name>", text, flags=re.IGNORECASE)
        return text

    def _rules(self) -> list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]]:
        return [
            (URL, lambda found: found[0] if "<" in found[0] else f"{found[1]}://<address>"),
            (EMAIL, "<mail>"),
            (SECRET_OPTION, r"\1<secret>"),
            (SECRET_FIELD, r"\1<secret>"),
            (PEER_ID, lambda found: self._mark("host", found[0])),
            (SHORT_NAME, "host-<name>"),
            (INVITE, "<invite>"),
            (HOMES, r"\1<name>"),
            (DNS, r"\1<name>"),
            (NAMED, lambda found: found[0] if found[1].lower() in FILES else self._mark("computer", found[0])),
            (IPV4, self._address),
            (IPV6, self._address),
            (OPAQUE, lambda found: found[0] if PLAIN_WORDS.match(found[0]) else f"<{len(found[0])} characters>"),
        ]

    def _address(self, found: re.Match[str]) -> str:
        text = found[0]
        for begin, end in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2)):  # with a colon or a full stop of the sentence
            try:
                address = ipaddress.ip_address(text[begin : len(text) - end])
            except ValueError:
                continue
            if address.is_loopback or address.is_unspecified:
                return text
            return text[:begin] + self._mark("ip", str(address)) + text[len(text) - end :]
        return text

    def _mark(self, kind: str, text: str) -> str:
        marks = self._marks.setdefault(kind, {})
        return marks.setdefault(text, f"<{kind} {len(marks) + 1}>")
