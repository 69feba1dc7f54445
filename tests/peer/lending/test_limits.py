"""What a volunteer lends is its own choice: campaigns above its limits are turned down, the others go on."""

import msgspec
import pytest
from support.volunteer import ALLOWANCE, CAMPAIGN, PLENTY, RECIPE, Volunteer, campaign_of, id_of

from peer.cli import join
from peer.state import Phase
from peer.state import actions as act
from peer.state import events as on
from peer.state.lending.limits import (
    FREE_BYTES_LAST,
    default_disk,
    default_memory,
    needs_of,
    turned_down,
)
from peer.state.lending.sizes import parse_size, size_text
from peer.storage.bundle import Bundle
from peer.storage.home import Home
from protocol.engine.needs import BASE_BYTES
from protocol.engine.reference.engine import NumpyEngine
from protocol.engine.training import train_networks
from protocol.errors import UsageError
from protocol.recipes.campaign import Policy, Population
from protocol.recipes.layers import Gru, Linear
from protocol.recipes.recipe import Network
from protocol.trust.challenge import draw_cells, opened_max
from protocol.trust.commitment import bundle_bytes

BIG = msgspec.structs.replace(
    RECIPE,
    name="wide",
    label="wide",
    network=Network(layers=(Gru(width=1100), Linear(width=20))),
    training=msgspec.structs.replace(RECIPE.training, max_steps=10_000, segment_steps=1),
)
HUGE = campaign_of(BIG, name="huge")
BUNDLE = needs_of(CAMPAIGN).disk


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("500 mb", 5 * 10**8), ("1.5G", 15 * 10**8), ("1T", 10**12), ("3", 3 * 10**9)],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_size(text) == size
    assert parse_size(size_text(size)) == size


@pytest.mark.parametrize("text", ["", "GB", "lots", "-1GB", "nan", "inf", "1e400GB", "1KB", "0", "\x1b[2J"])
def test_what_is_no_size_is_one_line(text):
    with pytest.raises(UsageError, match="is no size"):
        parse_size(text)


def test_the_defaults_are_half_of_what_is_there_within_reason():
    assert default_memory(64 * 10**9) == 32 * 10**9 and default_memory(10**9) == 2 * 10**9
    assert default_disk(10**12) == 20 * 10**9 and default_disk(8 * 10**9) == 4 * 10**9


def test_a_bundle_takes_no_more_disk_than_the_arithmetic_says(tmp_path):
    """Trained for real: the bound is met exactly by networks that train to their last step."""
    assignment = CAMPAIGN.assignment(0)
    bundle = Bundle.create(tmp_path / "bundle", assignment)
    for seed, boundary in train_networks(NumpyEngine(), RECIPE, list(assignment.seeds), 2):
        bundle.append(seed, boundary)
    states = sum(path.stat().st_size for path in bundle.path.iterdir() if path.suffix in (".states", ".leaves"))
    assert states == bundle_bytes(RECIPE, 2)


@pytest.mark.parametrize("policy", [Policy(), Policy(cells=300, checkers=3, cells_per_network=2, final_cell=False)])
@pytest.mark.parametrize("probation", [True, False])
def test_no_challenge_asks_for_more_states_than_the_arithmetic_says(policy, probation):
    for lengths in ([3, 3], [3, 0], [1, 2]):
        tasks = draw_cells(policy, probation, b"x" * 32, lengths)
        opened = {cell for task in tasks for cell in task.opened}
        assert len(opened) <= opened_max(policy, RECIPE, 2)


def test_memory_counts_states_in_flight_and_what_is_handed_in():
    needs = needs_of(HUGE)
    assert needs.memory_of == "wide"
    assert needs.memory > BASE_BYTES + 16 * 12 * BIG.parameter_count  # a worker was seen with 1.2 GB
    assert needs_of(CAMPAIGN).memory < BASE_BYTES * 1.01


def test_a_volunteer_that_turned_every_campaign_down_says_so_and_blames_no_disk():
    alice = Volunteer(HUGE, disk_bytes=5 * 10**9, memory_bytes=2 * 10**9)
    alice.hears(on.Started(tuple(alice.campaigns), ALLOWANCE))
    alice.hears(on.Tick(PLENTY))
    alice.ends(on.CampaignFetched, HUGE, ())
    alice.inbox()
    assert alice.state.figures.waits_for == "a running campaign within the limits here"


def test_a_campaign_that_fills_disks_is_turned_down_and_the_others_go_on():
    alice = Volunteer(HUGE, CAMPAIGN, disk_bytes=5 * 10**9, memory_bytes=2 * 10**9).joins()
    said = [line for line in alice.said if "not taken" in line]
    assert len(said) == 1 and "campaign huge: not taken: a bundle of wide may take" in said[0] and "--disk" in said[0]
    assert alice.ever(act.FollowCampaign) == [act.FollowCampaign(CAMPAIGN.digest)]
    assert alice.ever(act.Claim) == [act.Claim(CAMPAIGN.digest, 1)]
    for _ in range(3):
        alice.inbox()
    assert len(alice.ever(act.FetchCampaign)) == 2, "what was turned down is not fetched again"


def test_a_campaign_that_needs_more_memory_is_turned_down():
    wide = campaign_of(msgspec.structs.replace(BIG, training=RECIPE.training), name="wide")
    alice = Volunteer(wide, CAMPAIGN, memory_bytes=10**9)
    alice.joins()
    assert [line for line in alice.said if "of memory, and the limit is 1 GB (--memory)" in line]


def test_limits_are_met_exactly():
    needs = needs_of(CAMPAIGN)
    assert turned_down(needs, needs.memory, needs.disk) == ""
    assert "--disk" in turned_down(needs, needs.memory, needs.disk - 1)
    assert "--memory" in turned_down(needs, needs.memory - 1, needs.disk)


def test_a_volunteer_with_until_done_does_not_wait_for_what_it_turned_down():
    alice = Volunteer(HUGE, CAMPAIGN, disk_bytes=5 * 10**9, until_done=True).joins()
    alice.claimed()
    alice.inbox(campaigns=((HUGE.digest, "running"), (CAMPAIGN.digest, "complete")))
    assert alice.state.leaving is not None


def test_no_more_is_claimed_than_the_disk_limit_holds():
    alice = Volunteer(disk_bytes=2 * BUNDLE + BUNDLE // 2).joins()
    alice.claimed(0)
    alice.trains(0)  # its files are measured small
    alice.claimed(1)
    held = alice.state.held.items
    assert held[id_of(0)].disk_bytes == held[id_of(1)].disk_bytes == BUNDLE
    alice.hands_in(0)
    alice.trains(1)
    claims = len(alice.ever(act.Claim))
    alice.waits(60)
    assert len(alice.ever(act.Claim)) == claims, "two bundles in hand, and no room for a third"
    assert "--disk" in alice.state.figures.waits_for
    assert alice.phase(0) is Phase.COMMITTED


def test_a_signed_bundle_counts_with_what_it_has():
    alice = Volunteer(disk_bytes=2 * BUNDLE).joins()
    alice.claimed(0)
    for seed in CAMPAIGN.assignment(0).seeds:
        alice.hears(on.NetworkTrained(id_of(0), seed))
    alice.hears(on.AssignmentTrained(id_of(0), "c"))
    alice.hears(on.ResultSigned(id_of(0), b"r" * 32, 1000))
    assert alice.state.room_bytes == 2 * BUNDLE - 1000


def test_data_sets_and_checks_take_from_the_same_limit():
    alice = Volunteer(disk_bytes=3 * BUNDLE)
    alice.hears(on.Tick(PLENTY, kept_bytes=2 * BUNDLE + 1))
    assert alice.state.room_bytes == BUNDLE - 1


def test_a_disk_that_others_fill_while_we_train_ends_us_in_good_order():
    alice = Volunteer().joins()
    alice.claimed(0)
    alice.hears(on.Tick(FREE_BYTES_LAST - 1))
    assert alice.state.leaving is not None and "the disk is full but for" in alice.state.leaving.error
    assert alice.ever(act.StopTrainer)


def test_a_directory_knows_what_it_holds(tmp_path):
    home = Home(tmp_path)
    before = home.kept_bytes()
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "x").write_bytes(b"1" * 1000)
    Bundle.create(tmp_path / "bundles" / "b", CAMPAIGN.assignment(0))
    assert home.kept_bytes() == before + 1000
    assert home.used_bytes() > before + 1000


def test_the_verb_says_its_limits():
    options = {option.name: option.help for option in join.params if hasattr(option, "help")}
    assert all("Default" in str(options[name]) for name in ("memory", "disk"))


def test_a_population_of_fewer_networks_than_a_bundle_is_counted_as_it_is():
    few = msgspec.structs.replace(CAMPAIGN, populations=(Population(recipe=RECIPE, count=1, bundle=16),))
    assert needs_of(few).disk == bundle_bytes(RECIPE, 1)
