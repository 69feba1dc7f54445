"""The organizer's page: everything that it shows, put together in the page's own thread."""

from collections.abc import Sequence

import msgspec

from coordinator.server.coordinator import Coordinator
from coordinator.server.page.latest import Latest
from coordinator.server.page.leases import Leases, Node
from coordinator.server.page.map_child import MapChild
from protocol.errors import UsageError, shown
from protocol.page.server import PageServer
from protocol.page.state import Network, State
from protocol.page.told import state_of
from protocol.trust.messages import CampaignState

LEASES_OF_CAMPAIGNS_MAX = 4  # running ones whose leases are read; of others they count as waiting
NONE_YET = "They appear here as soon as the first bundle is admitted."


class PageSource:
    """Called by the page while somebody watches."""

    def __init__(self, core: Coordinator, node: Node | None, join: str):
        self._core, self._join = core, join
        self._leases = Leases(node, core.identity.host)
        self._latest = Latest(core.path / "zoo")
        self._map = MapChild(core.path / "zoo", core.path / "page" / "map.json", core.path / "page" / "map.log")

    def __call__(self) -> State:
        """Raises LedgerUnavailable, OSError."""
        core = self._core
        heard = msgspec.to_builtins(msgspec.json.decode(core.status_json()))
        self._add_leases(heard["campaigns"], {one["host"] for one in heard["hosts"] if one["banned"]})
        recent, note = self._recent()
        zoo_map, map_note = self._map.look(self._latest.manifest)
        return state_of(
            heard,
            source="coordinator",
            title="zooswarm",
            version=core.version,
            join=self._join,
            recent=recent,
            recent_note=note,
            zoo_map=zoo_map,
            map_note=map_note,
        )

    def _add_leases(self, campaigns: list[dict], banned: set[str]) -> None:
        running = [one for one in campaigns if one["state"] == CampaignState.RUNNING]
        for one in running[:LEASES_OF_CAMPAIGNS_MAX]:
            done = self._core.done_bits(one["digest"])
            one["leased"] = self._leases.count(one["digest"], one["assignments"], done, banned)
        for one in campaigns:
            if one["state"] in (CampaignState.COMPLETE, CampaignState.CANCELLED, "publishing"):
                one["leased"] = 0

    def _recent(self) -> tuple[list[Network], str]:
        try:
            found = self._latest.networks()
        except (UsageError, OSError) as error:
            return [], shown(error)
        return found, "" if found else NONE_YET

    def close(self) -> None:
        self._map.close()


def open_page(core: Coordinator, node: Node | None, join: str, host: str, ports: Sequence[int]) -> "OpenPage":
    """Serve it on the first of these ports that can be had. Raises UsageError."""
    (core.path / "page").mkdir(exist_ok=True)
    source = PageSource(core, node, join)
    return OpenPage(source, PageServer(source, host, ports, core.path / "page" / "page.log"))


class OpenPage:
    def __init__(self, source: PageSource, server: PageServer):
        self._source, self._server = source, server
        self.url, self.port = server.url, server.port

    def close(self) -> None:
        self._server.close()
        self._source.close()
