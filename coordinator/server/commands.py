"""The organizer's own commands, signed by the coordinator's identity and entered: campaigns, data sets, hosts.

Each is taken once and in time, durably, before anything is done (`ledger.commands`). Methods raise `Refused`.
"""

from collections.abc import Callable

from sqlalchemy import Connection

from coordinator.checking.beacon import Beacon
from coordinator.checking.effects import Effects
from coordinator.checking.stores import Stores
from coordinator.ledger.commands import Order, accept_command, give_order, moderate_host, read_orders
from coordinator.ledger.results import add_campaign, control_campaign
from coordinator.ledger.settlement import Sign
from coordinator.policy.actions import NewsKind
from coordinator.policy.campaigns import CAMPAIGNS_MAX, PRIORITIES
from protocol.canonical import hexdigest
from protocol.engine import ENGINE
from protocol.errors import Refused
from protocol.recipes.campaign import campaign_from_bytes, check_engines
from protocol.trust.envelope import Envelope, unseal
from protocol.trust.messages import (
    CampaignAction,
    CampaignManifest,
    ControlCampaign,
    ModerateHost,
    SeedCampaign,
    UploadData,
)

Command = SeedCampaign | ControlCampaign | UploadData | ModerateHost


class Commands:
    """What the organizer may ask for. Safe to call from many threads."""

    def __init__(
        self,
        stores: Stores,
        beacon: Beacon,
        organizer: str,
        sign: Sign,
        effects: Effects,
        clock: Callable[[], float],
    ):
        self.stores, self.beacon, self.organizer, self.sign = stores, beacon, organizer, sign
        self.effects, self.clock = effects, clock

    def seed(self, envelope: Envelope) -> str:
        """Start a campaign; its digest. Seeding it again is harmless."""
        command = unseal(envelope, SeedCampaign, signer=self.organizer)
        self._accept(command, hexdigest(command.campaign))
        return self.seed_campaign(command.campaign)

    def seed_campaign(self, exact: bytes) -> str:
        """Of a command that was accepted."""
        campaign = campaign_from_bytes(exact)
        check_engines(campaign)
        if len(self.stores.campaigns.states()) >= CAMPAIGNS_MAX:
            raise Refused("campaign-limit", f"{CAMPAIGNS_MAX} campaigns are here already; start another directory")
        self.stores.datasets.check(campaign)
        now = self.clock()
        manifest = CampaignManifest(
            campaign=campaign.digest, beacon_anchor=self.beacon.anchor, engine=ENGINE, issued_at=now
        )
        signed = self.sign(manifest)
        if self.stores.ledger.write(lambda c: add_campaign(c, campaign.digest, exact, signed, now)):
            text = f"{campaign.network_count:,} networks in {campaign.assignment_count:,} assignments"
            self.effects.report(NewsKind.STARTED, text, campaign=campaign.digest)
        return campaign.digest

    def control(self, envelope: Envelope) -> str:
        """Pause, resume or cancel, or give another priority or quota; its digest."""
        command = unseal(envelope, ControlCampaign, signer=self.organizer)
        self._accept(command, command.campaign)
        if command.action in (CampaignAction.PRIORITY, CampaignAction.MAX_LEASED):
            said = self._order(command)
        else:
            said = self.stores.ledger.write(lambda c: control_campaign(c, command.campaign, command.action))
        self.effects.report(NewsKind.CONTROLLED, said, campaign=command.campaign)
        return command.campaign

    def _order(self, command: ControlCampaign) -> str:
        campaign, _ = self.stores.campaigns.get(command.campaign)
        value, of_priority = command.value, command.action is CampaignAction.PRIORITY
        if of_priority and value not in PRIORITIES:
            raise Refused("campaign-order", f"priority {value}: from {PRIORITIES[0]} to {PRIORITIES[-1]}")
        if not of_priority and value < 0:
            raise Refused("campaign-order", "max-leased counts assignments; 0 is no limit")

        def change(connection: Connection) -> None:
            order = read_orders(connection).get(campaign.digest, Order(campaign.priority))
            changed = {"priority": value} if of_priority else {"max_leased": value}
            give_order(connection, campaign.digest, order._replace(**changed))

        self.stores.ledger.write(change)
        return f"{command.action} {value}"

    def moderate(self, envelope: Envelope) -> None:
        """Ban a host, or let it in again."""
        command = unseal(envelope, ModerateHost, signer=self.organizer)
        self._accept(command, command.host)
        now = self.clock()
        self.effects.perform(self.stores.ledger.write(lambda c: moderate_host(c, command, envelope, self.sign, now)))

    def open_data(self, envelope: Envelope) -> tuple[UploadData, bool]:
        """A data set that is to come; True when it is here."""
        upload, have = self.stores.datasets.open_upload(envelope)
        self._accept(upload, upload.digest)
        return upload, have

    def _accept(self, command: Command, subject: str) -> None:
        now = self.clock()
        self.stores.ledger.write(
            lambda c: accept_command(c, command.KIND, subject, command.issued_at, command.nonce, now)
        )
