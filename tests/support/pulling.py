"""A zoo in a folder as a host would give it away: broken and lying as it is told."""

from pathlib import Path

from support.zoos import ORGANIZER

from analysis.pull.source import Away
from protocol.errors import Refused
from protocol.zoo.manifests import latest_manifest, manifest_path


class Folder:
    """A host that reads a folder, breaks after `cut` bytes of a file, and lies as it is told."""

    target = "liar:1"

    def __init__(
        self,
        zoo: Path,
        cut: int = 1 << 30,
        lies: dict[str, bytes] | None = None,
        organizer: str | None = ORGANIZER.host,
    ):
        self.zoo, self.cut, self.lies, self.asked, self.organizer = zoo, cut, lies or {}, [], organizer

    def file(self, name: str, offset: int):
        self.asked.append((name, offset))
        newest = latest_manifest(self.zoo)
        assert newest is not None
        path = self.zoo / name if name else manifest_path(self.zoo, newest.number)
        if not path.is_file():
            raise Refused("no-file", name)
        lie = next((data for part, data in self.lies.items() if part == (name.split("/")[0])), None)
        data = path.read_bytes()[offset:] if lie is None else lie
        cut = self.cut if name else len(data)
        for begin in range(0, min(cut, len(data)), 100):
            yield data[begin : min(begin + 100, cut)]
        if len(data) > cut:
            raise Away("broken")
