"""A volunteer's own network namespace, behind a cable that can be pulled."""

import os
import shutil
import subprocess

ADDRESS, PEER = "10.77.{n}.1", "10.77.{n}.2"


class Link:
    """Two ends of a cable: `address` on our side, a namespace on the other. Needs root and `ip`."""

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.name, self.outer = f"soak{os.getpid()}", f"sk{os.getpid()}"[:14]
        self.address, peer = ADDRESS.format(n=number), PEER.format(n=number)
        inner = f"{self.outer}i"[:15]
        self._ip("netns", "add", self.name)
        self._ip("link", "add", self.outer, "type", "veth", "peer", "name", inner, "netns", self.name)
        self._ip("addr", "add", f"{self.address}/24", "dev", self.outer)
        self._ip("-n", self.name, "addr", "add", f"{peer}/24", "dev", inner)
        self._ip("-n", self.name, "link", "set", inner, "up")
        self._ip("-n", self.name, "link", "set", "lo", "up")
        self.up()

    @staticmethod
    def make() -> "Link | None":
        """None where this machine does not allow it."""
        if os.geteuid() or shutil.which("ip") is None:
            return None
        try:
            return Link()
        except subprocess.CalledProcessError:
            return None

    @property
    def prefix(self) -> list[str]:
        """Before a command that is to run on the other side."""
        return ["ip", "netns", "exec", self.name]

    def up(self) -> None:
        self._ip("link", "set", self.outer, "up")

    def down(self) -> None:
        self._ip("link", "set", self.outer, "down")

    def remove(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self.outer], check=False, capture_output=True)

    def _ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)
