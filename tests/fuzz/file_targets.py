"""What lies on a disk that may be damaged, or was made by others: data sets, settings, checkpoints, bundles."""

import contextlib
import gzip
import io
import json
import shutil
from collections.abc import Callable

import msgspec
import numpy as np
from safetensors.numpy import save
from support.images import blobs
from support.scripted_host import CAMPAIGN, RECIPE

from coordinator.datasets.importers import read_data
from coordinator.directories import address_of, read_settings
from coordinator.server.status import Status
from fuzz.targets import Target, drawn
from fuzz.workbench import at, folder
from peer.local_training import LocalTrainer
from peer.state.events import NetworkTrained
from peer.state.ids import AssignmentId
from peer.storage.bundle import Bundle
from peer.storage.check_job import CheckJob, read_check_job
from peer.storage.home import JoinCache
from peer.trainer.messages import COMMANDS, REPORTS, TrainBundle, read_message, write_message
from protocol.canonical import NOT_DECODABLE, hexdigest, sha256
from protocol.engine import state_bytes_length
from protocol.engine.reference.engine import NumpyEngine
from protocol.engine.training import train_networks
from protocol.errors import Refused
from protocol.tasks.datasets import HEADER, NO_SHELF, Shelf, dataset_from_bytes, read_header
from protocol.trust.identity import Identity


def file_targets() -> list[Target]:
    return [*data_targets(), *import_targets(), *settings_targets(), *work_targets()]


def data_targets() -> list[Target]:
    """The container of data sets: as bytes, and as a file that a volunteer fetched."""
    images = blobs(40).to_bytes()
    return [
        Target(name="data set", parse=dataset_from_bytes, samples=(images,), share=4),
        Target(name="data header", parse=read_header, samples=(images[: HEADER.size],), share=2),
        Target(name="data file", parse=adopted, samples=(images,), share=2),
    ]


def adopted(data: bytes) -> object:
    """Under the name of its own digest: a stranger's data set is what it says, and hostile all the same."""
    shelf = Shelf(folder() / "shelf")
    digest = hexdigest(data)
    path = shelf.adopt(at("shelf/partial", data), digest)
    try:
        return shelf.load(digest)
    finally:
        path.unlink()


def import_targets() -> list[Target]:
    """Files that an organizer downloaded somewhere."""
    rng = np.random.default_rng(1)
    x, y = rng.random((6, 4)).astype(np.float32), np.array([0, 1, 2, 0, 1, 2], np.uint8)
    idx = b"\0\0\x08\x03" + b"".join(side.to_bytes(4, "big") for side in (3, 2, 2)) + bytes(range(12))
    csv = b"a,b,label\n1.5,2,0\n3,4.25,1\n5,6,cat\n"
    cifar = rng.integers(0, 10, 3073, np.uint8).tobytes()
    return [
        importer("npy", written(np.save, x)),
        importer("npz", written(np.savez, x=x, y=y), written(np.savez_compressed, x=x, y=y)),
        importer("safetensors", save({"inputs": x, "labels": y.astype(np.int64)})),
        importer("csv", csv, csv.replace(b",", b"\t")),
        importer("gz", gzip.compress(idx, mtime=0)),
        importer("idx", idx),
        importer("bin", cifar, b"\x07" + cifar),
    ]


def importer(suffix: str, *samples: bytes) -> Target:
    labels = at("labels.csv", b"0\n1\n2\n")

    def parse(data: bytes) -> object:
        path = at(f"data.{suffix}", data)
        return read_data([path], labels if len(data) % 2 else None, regression=len(data) % 3 == 0)

    return Target(name=f"import {suffix}", parse=parse, samples=samples)


def written(write: Callable[..., object], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    sink = io.BytesIO()
    write(sink, *arrays, **named)
    return sink.getvalue()


def settings_targets() -> list[Target]:
    settings = json.dumps({"address": "127.0.0.1:7750", "join": "x", "dht_port": 4001}).encode()
    known = msgspec.json.encode(JoinCache(address="a:1", organizer="o", bootstrap=["b"], campaigns=["c"]))
    return [
        Target(name="host.json", parse=host_settings, samples=(settings,)),
        Target(name="known.json", parse=known_swarm, samples=(known,)),
        Target(name="identity", parse=identity_file, samples=(Identity.generate().file_bytes(),)),
        Target(name="status", parse=status_line, samples=tuple(as_json(Status, data) for data in drawn(Status))),
    ]


def host_settings(data: bytes) -> object:
    path = at("host.json", data).parent
    read_settings(path)
    return address_of(path)


def known_swarm(data: bytes) -> object:
    from peer.storage.home import read_known

    return read_known(at("known.json", data), "a:1")


def identity_file(data: bytes) -> object:
    return Identity.load_or_create(at("identity", data))


def as_json(kind: type, data: bytes) -> bytes:
    return msgspec.json.encode(msgspec.msgpack.decode(data))


def status_line(data: bytes) -> object:
    from coordinator.client import read_status

    return read_status(data, "127.0.0.1:7750")


# -- a volunteer's own work, after a bad disk -----------------------------------------------------------------------


def work_targets() -> list[Target]:
    assignment = CAMPAIGN.assignment(0)
    seed = assignment.seeds[0]
    bundle = Bundle.create(folder() / "bundle", assignment)
    for _, boundary in train_networks(NumpyEngine(), RECIPE, [seed], 1):
        bundle.append(seed, boundary)
    states, leaves = ((bundle.path / f"{seed}.{name}").read_bytes() for name in ("states", "leaves"))
    command, report = io.BytesIO(), io.BytesIO()
    write_message(command, TrainBundle(AssignmentId(CAMPAIGN.digest, 0), "bundle"))
    write_message(report, NetworkTrained(AssignmentId(CAMPAIGN.digest, 0), seed))
    return [
        Target(name="kept states", parse=kept(seed, "states", leaves=leaves), samples=(states,), share=2),
        Target(name="kept leaves", parse=kept(seed, "leaves", states=states), samples=(leaves,), share=2),
        Target(name="checkpoint", parse=checkpoint, samples=(checkpoint_bytes(states),)),
        Target(name="check job", parse=check_job, samples=drawn(CheckJob)),
        Target(name="trainer command", parse=framed(COMMANDS), samples=(command.getvalue(),)),
        Target(name="trainer report", parse=framed(REPORTS), samples=(report.getvalue(),)),
    ]


def kept(seed: int, damaged: str, **sound: bytes) -> Callable[[bytes], object]:
    def parse(data: bytes) -> object:
        shutil.rmtree(folder() / "kept", ignore_errors=True)
        bundle = Bundle.create(folder() / "kept", CAMPAIGN.assignment(0))
        for name, content in (sound | {damaged: data}).items():
            (bundle.path / f"{seed}.{name}").write_bytes(content)
        bundle.kept("result")
        state = bundle.resume(seed)
        return state, bundle.is_trained(seed) if state is not None else None

    return parse


def checkpoint_bytes(states: bytes) -> bytes:
    body = bytes.fromhex(RECIPE.digest) + (3).to_bytes(8, "little") + states[: state_bytes_length(RECIPE)]
    return body + sha256(body)


def checkpoint(data: bytes) -> object:
    """Of `zooswarm train`; a damaged one is set aside. Half of the inputs have a right digest."""
    name = f"local/.{RECIPE.name}.checkpoint"
    at(name, data[:-32] + sha256(data[:-32]) if len(data) % 2 else data)
    with contextlib.redirect_stderr(io.StringIO()):
        return LocalTrainer(RECIPE, folder() / "local", NO_SHELF).in_hand


def check_job(data: bytes) -> object:
    try:
        return read_check_job(at("check.job", data))
    except NOT_DECODABLE as error:  # what the worker calls a check that it cannot do
        raise Refused("check-job", str(error)) from None


def framed(decoder: msgspec.msgpack.Decoder) -> Callable[[bytes], object]:
    def parse(data: bytes) -> object:
        try:
            return read_message(io.BytesIO(data), decoder)
        except (ValueError, *NOT_DECODABLE) as error:  # as `trainer.process` does
            raise Refused("trainer-message", str(error)) from None

    return parse
