"""What the organizer keeps, in one value that is passed once."""

from dataclasses import dataclass

from coordinator.checking.blobs import Blobs
from coordinator.checking.cases import CampaignBook, ResultCases
from coordinator.datasets.store import DatasetServer
from coordinator.ledger.database import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Each may be used from any thread."""

    ledger: Ledger
    blobs: Blobs
    campaigns: CampaignBook
    cases: ResultCases
    datasets: DatasetServer


def stores_of(ledger: Ledger, blobs: Blobs, datasets: DatasetServer) -> Stores:
    """The caches over a ledger and its blobs."""
    campaigns = CampaignBook(ledger)
    cases = ResultCases(ledger, campaigns, blobs)
    return Stores(ledger=ledger, blobs=blobs, campaigns=campaigns, cases=cases, datasets=datasets)
