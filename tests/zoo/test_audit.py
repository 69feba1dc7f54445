"""An audit: what it trains again, what it says of it, and what it does not claim."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from support.populations import recipe_of
from support.zoos import CAMPAIGN, EVIDENCE, ORGANIZER, PARITY, network, publish

from analysis import cli
from analysis.audit import replays
from analysis.audit.check import Audit, HostAudit, audit_zoo
from analysis.audit.replays import Drawing, Replays, replay_networks
from analysis.audit.telling import told
from analysis.statistics.proportions import share_at_most
from coordinator.zoo.writer import ZooWriter
from protocol.canonical import hexdigest
from protocol.trust.identity import Identity
from protocol.zoo.manifests import Retraction, ZooManifest, manifest_path
from protocol.zoo.store import open_store

RECIPE = recipe_of("parity")
KEPT = Path(__file__).with_name("kept_by_0_1")


def rows_of(hosts: dict[str, int]) -> list[dict]:
    return [
        {"id": f"{host}-{i}", "host": host, "recipe": "r", "seed": i} for host, n in hosts.items() for i in range(n)
    ]


# -- which networks ---------------------------------------------------------------------------------------------------


def test_every_host_is_drawn_the_least_checked_first_and_all_evenly_drawn_networks_differ():
    rows = rows_of({"large": 1000, "checked": 3, "unchecked": 3, "other": 3})
    drawing = Drawing(rows, {"large": 9, "checked": 4, "unchecked": 0, "other": 2}, random.Random(1))
    drawn = [one for _ in range(12) if (one := drawing.next())]
    aside = [row["host"] for row, evenly in drawn if not evenly]
    assert aside == ["unchecked", "other", "checked"]
    evenly = [row["id"] for row, evenly in drawn if evenly]
    assert len(set(evenly)) == len(evenly) == 9


def test_in_the_end_all_networks_are_drawn_evenly_once():
    drawing = Drawing(rows_of({"a": 5, "b": 2}), {}, random.Random(2))
    drawn = []
    while (one := drawing.next()) is not None:
        drawn.append(one)
    assert sorted(row["id"] for row, evenly in drawn if evenly) == sorted(
        row["id"] for row in rows_of({"a": 5, "b": 2})
    )


def test_evenly_drawn_means_every_network_alike():
    rows, rng, first = rows_of({"large": 18, "small": 2}), random.Random(3), Counter()
    for _ in range(2000):
        drawing = Drawing(rows, {}, rng)
        drawn = [drawing.next() for _ in range(6)]
        first.update(one[0]["id"] for one in drawn if one and one[1])
    mean = sum(first.values()) / 20
    assert len(first) == 20 and all(0.85 * mean < count < 1.15 * mean for count in first.values())  # 3.7 deviations


# -- how much could be fake -------------------------------------------------------------------------------------------


def test_the_limit_is_the_textbooks():
    assert share_at_most(0, 59) == pytest.approx(1 - 0.05 ** (1 / 59)) and share_at_most(0, 59) < 0.05
    assert share_at_most(1, 10) == pytest.approx(0.3942, abs=1e-4)
    assert share_at_most(0, 0) == share_at_most(3, 3) == 1.0
    with pytest.raises(ValueError, match="2 of 1"):
        share_at_most(2, 1)


def test_the_limit_holds_in_nineteen_of_twenty_audits_wherever_the_fakes_are():
    rng = random.Random(4)
    rows = rows_of({"honest": 160, "ring": 40})
    missed = 0
    for _ in range(1000):
        drawing, wrong, drawn = Drawing(rows, {"honest": 1.0, "ring": 9.0}, rng), 0, 0
        for _ in range(30):
            one = drawing.next()
            if one and one[1]:
                drawn += 1
                wrong += one[0]["host"] == "ring"
        missed += share_at_most(wrong, drawn) < 40 / 200
    assert missed <= 65  # 50 are allowed; three standard deviations more never came up for this seed


# -- training again ---------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path):
    """Four networks that are what their recipe gives, and four that are not, of another host."""
    from protocol.engine.select import select_engine
    from protocol.engine.training import train_networks

    engine, networks = select_engine("auto"), []
    for seed, boundary in train_networks(engine, RECIPE, range(4), 4):
        if boundary.final:
            row, _ = network(RECIPE, seed)
            networks.append((msgspec.structs.replace(row, host="honest"), np.asarray(boundary.state.params)))
    fakes = [(msgspec.structs.replace(row, host="ring"), w) for row, w in (network(RECIPE, s) for s in range(4, 8))]
    writer = ZooWriter(tmp_path / "zoo", ORGANIZER)
    blobs = {hexdigest(EVIDENCE): EVIDENCE}, {hexdigest(CAMPAIGN): CAMPAIGN}
    writer.publish([*networks, *fakes], {RECIPE.digest: RECIPE}, *blobs)
    return open_store(writer.path)


def replay(store, number, seconds: float = 0, **options: Any) -> Replays:
    rows = store.catalogue(["id", "host", "recipe", "seed", "weights_digest"]).to_pylist()
    found = Replays()
    replay_networks(store, Drawing(rows, {}, random.Random(5)), found, networks=number, seconds=seconds, **options)
    return found


def test_networks_trained_again_agree_or_differ_by_host(store):
    found = replay(store, 8)
    assert (found.agreed, found.differed, found.drawn) == (4, 4, 8) and found.drawn_differed == 4
    assert found.by_host == {"honest": (4, 0), "ring": (0, 4)}
    assert len(found.problems) == 4 and all("ring: trained again, it has other weights" in p for p in found.problems)
    wide = replay(store, 8, threads=3)
    assert (wide.agreed, wide.differed, wide.drawn) == (4, 4, 8)


def test_time_ends_it_between_networks_and_what_was_begun_is_counted(store):
    ticks = iter(range(1000))
    found = replay(store, None, seconds=5, clock=lambda: next(ticks))
    assert 0 < found.agreed + found.differed < 8
    assert replay(store, None, seconds=0).drawn == 0


def test_ctrl_c_keeps_what_was_found(store):
    def hear(found: Replays) -> None:
        if found.agreed + found.differed >= 3:
            raise KeyboardInterrupt

    found = replay(store, 8, hear=hear)
    assert found.stopped and found.agreed + found.differed == 3


def test_a_network_that_cannot_be_trained_again_is_no_proof(store, monkeypatch):
    def missing(*_, **__):
        raise replays.UsageError("data set abc is not here")

    monkeypatch.setattr(type(store), "recipe", missing)
    found = replay(store, 2)
    assert found.agreed == 0 and found.differed == 2 and "cannot be trained again: data set abc" in found.problems[0]


# -- what is said -----------------------------------------------------------------------------------------------------


def audit_of(networks: int = 200, **replays_found) -> Audit:
    audit = Audit(manifest=ZooManifest(number=3, organizer="12D3", written_at="2026"), networks=networks, bundles=4)
    audit.by_host = {"alice": HostAudit(networks=networks)}
    audit.replays = Replays(**replays_found)
    return audit


def test_without_replay_nothing_is_called_sound():
    lines = told(audit_of())
    assert not any("sound" in line for line in lines) and any(line.startswith("NOT PROVED") for line in lines)
    assert "no network was trained again, so all could be fake" in lines[-1]


def test_with_replay_the_share_that_could_be_fake_is_stated():
    lines = told(audit_of(agreed=40, drawn=30))
    assert "at most 9.5 % of the networks could be fake (95 %), from 30 that were drawn evenly" in lines[-1]
    assert any("the other 160 networks" in line for line in lines)
    lines = told(audit_of(agreed=39, differed=1, drawn=30, drawn_differed=1))
    assert any("40 of 200: 39 agreed, 1 differed" in line for line in lines) and "15 %" in lines[-1]


def test_only_when_all_were_trained_again_the_zoo_is_sound():
    assert told(audit_of(networks=40, agreed=40, drawn=40))[-1].startswith("the zoo is sound")
    found = audit_of(networks=40, agreed=39, differed=1, drawn=40)
    found.problems = ["network x differs"]
    assert told(found)[-1] == "1 problem; every network was trained again, bit for bit"


def test_hosts_whose_networks_differ_come_first_and_retractions_are_told():
    found = audit_of()
    found.by_host = {
        "many-checks": HostAudit(networks=2, cells=20, agreed=1),
        "ring": HostAudit(networks=2, cells=20, differed=1),
        "few-checks": HostAudit(networks=2, cells=1),
    }
    taken = Retraction(evidence="a" * 64, networks=16, reason="segment 3 differs", retracted_at="2026-11-25")
    found.manifest = msgspec.structs.replace(found.manifest, retracted=(taken,))
    lines = told(found)
    places = [next(i for i, line in enumerate(lines) if line.startswith(name)) for name in ("ring", "few", "many")]
    assert places == sorted(places) and "DIFFERED" in lines[places[0]]
    assert any("16 networks in 1 bundles" in line for line in lines) and any("segment 3 differs" in x for x in lines)


# -- the whole verb ---------------------------------------------------------------------------------------------------


def run(*arguments: object):
    return CliRunner().invoke(cli.audit, [str(argument) for argument in arguments])


def test_a_destroyed_newest_manifest_fails_the_audit_and_is_named(store):
    publish(ZooWriter(store.path, ORGANIZER), network(PARITY, 9))
    path = manifest_path(store.path, 2)
    path.write_bytes(b"{")
    done = run(store.path, "--replay", "0")
    assert done.exit_code == 1 and f"passed over: {path}" in done.output


def test_another_organizers_zoo_fails_the_audit(store):
    name = Identity.generate().host
    done = run(store.path, "--replay", "0", "--organizer", name)
    assert done.exit_code == 1 and f"has signed manifest 1, not {name}" in done.output


def test_evidence_that_is_no_evidence_is_a_problem_and_a_damaged_part_is_no_traceback(store):
    found = audit_zoo(store.path)
    assert any(problem.startswith("evidence ") for problem in found.problems)
    for part in (store.path / "catalogue").iterdir():
        part.write_bytes(bytes(part.stat().st_size))
    done = run(store.path)
    assert done.exit_code == 1 and "no evidence was looked at" in done.output and done.exception.code == 1


@pytest.mark.slow
def test_an_old_zoo_is_audited_in_time_and_one_line_says_that_nobody_signed_it():
    done = run(KEPT, "--seconds", "0.1")
    assert done.exit_code == 0 and "8 networks are of exact-1" in done.output
    assert done.output.count("not signed") == 1 and "NOT PROVED" in done.output
