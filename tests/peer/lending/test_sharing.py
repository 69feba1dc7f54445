"""Campaigns of equal priority side by side: each gets the same work, however large its bundles are."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from support.volunteer import RECIPE, Volunteer, admission_of, campaign_of, id_of, result_of

from peer.state import actions as act
from peer.state import events as on
from peer.state.lending.limits import training_work
from peer.state.lending.sharing import Shares, whose_turn
from protocol.recipes.layers import Conv2d, Flatten, Linear
from protocol.recipes.recipe import Network
from protocol.tasks.kinds import DatasetTask

EQUAL = dict.fromkeys("abcd", 0)
WORKS = st.lists(st.integers(1, 100), min_size=4, max_size=4).map(lambda works: dict(zip("abcd", works, strict=True)))


def turns(shares: Shares, works: dict[str, int], campaigns: str, count: int) -> list[str]:
    """So many claims, each of a whole bundle."""
    taken = []
    for _ in range(count):
        taken.append(whose_turn(campaigns, EQUAL, shares))
        shares.give(taken[-1], works[taken[-1]])
    return taken


@given(WORKS, st.integers(0, 200))
def test_no_two_are_ever_more_than_a_bundle_of_each_apart(works, count):
    taken = turns(Shares(), works, "abcd", count)
    had = {name: taken.count(name) * works[name] for name in "abcd"}
    assert all(abs(had[a] - had[b]) <= works[a] + works[b] for a in had for b in had)


@given(WORKS, st.integers(1, 200))
def test_who_comes_late_or_had_nothing_free_gets_a_share_from_then_on_and_nothing_for_before(works, count):
    shares = Shares()
    turns(shares, works, "ab", 1)
    turns(shares, works, "b", count)  # `a` has nothing free
    taken = turns(shares, works, "abc", 100)
    had = {name: taken.count(name) * works[name] for name in "abc"}
    assert all(abs(had[x] - had[y]) <= 2 * (works[x] + works[y]) for x in had for y in had)


@given(WORKS)
def test_priority_comes_before_any_share(works):
    shares = Shares()
    assert whose_turn("abcd", EQUAL | {"c": 1}, shares) == "c"
    turns(shares, works, "c", 50)
    assert whose_turn("abcd", EQUAL | {"c": 1}, shares) == "c"


def test_work_counts_each_weight_as_often_as_a_forward_pass_multiplies_by_it():
    gru, linear = 9 * (RECIPE.flows[0].features + 3) + 18, 3 * 20 + 20
    assert training_work(RECIPE, 2) == 2 * 60 * 8 * 4 * (gru + linear), "60 steps, batches of 8, sequences of 4"
    images = msgspec.structs.replace(
        RECIPE,
        task=DatasetTask(data="d" * 64, shape=(1, 6, 6), labels=3, train=100, held_out=30),
        network=Network(layers=(Conv2d(channels=2, kernel=3), Flatten(), Linear(width=3))),
    )
    assert training_work(images, 1) == 60 * 8 * (16 * (9 * 2 + 2) + 3 * 32 + 3), "a kernel has 16 places"


class Crowd:
    """Volunteers of different speed; who has what is on one board, and every result is admitted at once."""

    def __init__(self, *campaigns, speeds=(1, 2, 5)):
        self.campaigns = {campaign.digest: campaign for campaign in campaigns}
        self.next = dict.fromkeys(self.campaigns, 0)
        self.given = dict.fromkeys(self.campaigns, 0.0)
        self.speeds, self.volunteers = speeds, [Volunteer(*campaigns).joins() for _ in speeds]

    def round(self) -> None:
        """Each trains as many bundles as it is fast."""
        for volunteer, speed in zip(self.volunteers, self.speeds, strict=True):
            for _ in range(speed):
                self.one(volunteer)

    def one(self, volunteer: Volunteer) -> None:
        while not isinstance(volunteer.state.claiming, act.Claim):
            volunteer.waits(1.0)
            if isinstance(volunteer.state.call, act.Poll):
                volunteer.inbox()
        digest = volunteer.state.claiming.campaign
        campaign, index = self.campaigns[digest], self.next[digest]
        if index == campaign.assignment_count:
            volunteer.claimed()  # nothing is free
            return
        self.next[digest] += 1
        volunteer.claimed(index)
        assignment = campaign.assignment(index)
        self.given[digest] += training_work(assignment.recipe, len(assignment.seeds))
        volunteer.trains(index, campaign)
        if isinstance(volunteer.state.call, act.Poll):
            volunteer.inbox()
        assert volunteer.state.call == act.SubmitResult(id_of(index, campaign), result_of(index))
        volunteer.ends(on.ResultAccepted)
        volunteer.ends(on.PartUploaded)
        volunteer.ends(on.PartUploaded)
        volunteer.inbox(outcomes=(admission_of(index),))


def test_a_crowd_gives_two_campaigns_the_same_work_and_then_all_to_the_one_that_is_left():
    """One has bundles of twice the steps, and half as many of them."""
    training = msgspec.structs.replace(RECIPE.training, max_steps=120)
    slow = msgspec.structs.replace(RECIPE, name="slow", training=training)
    quick, heavy = campaign_of(name="quick", assignments=60), campaign_of(slow, name="heavy", assignments=30)
    crowd = Crowd(quick, heavy)
    bundle = training_work(slow, 2)
    while crowd.next[heavy.digest] < 27:
        crowd.round()
        apart = crowd.given[quick.digest] - crowd.given[heavy.digest]
        assert abs(apart) <= 1.5 * bundle * len(crowd.volunteers), "of each volunteer, a bundle of each"
    assert crowd.next[quick.digest] > 40
    for _ in range(8):
        crowd.round()
    assert (crowd.next[quick.digest], crowd.next[heavy.digest]) == (60, 30)
