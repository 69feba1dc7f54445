"""Merkle commitment of a bundle: traces of state digests under one root that the worker signs.

Two levels. A network's trace tree has one leaf a boundary (state 0, then after each segment); the bundle tree has one
leaf a network over its seed, trace root and steps. Leaf and inner hashes are domain-separated (RFC 6962, section 2.1),
and every leaf carries the worker's own context, so that a copied tree is worthless to anybody else.

A leaf's hash shows nothing of the digests in it, so the path of a start state does not help a checker who did not
compute: an answer must name the end state's digests themselves.
"""

import struct
from collections.abc import Iterable

import msgspec
import numpy as np

from protocol.canonical import sha256
from protocol.engine import State, state_bytes_length, state_digest
from protocol.errors import Refused
from protocol.recipes.recipe import Recipe
from protocol.trust.messages import NetworkResult

LEAF_LAYOUT = struct.Struct("<Q32s32sff")  # step, parameters' digest, moments' digest, training loss, held-out loss
LEAF_BYTES = LEAF_LAYOUT.size  # 80


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """One boundary of one network: what a replay must reproduce. Losses are float32 values, compared as bits."""

    step: int
    params_digest: bytes
    moments_digest: bytes
    loss: float  # mean training loss of the segment that ends here; 0.0 at step 0
    held_out_loss: float

    def to_bytes(self) -> bytes:
        return LEAF_LAYOUT.pack(self.step, self.params_digest, self.moments_digest, self.loss, self.held_out_loss)

    @property
    def state_digest(self) -> bytes:
        return state_digest(self.step, self.params_digest, self.moments_digest)


def leaf_of(state: State, loss: float, held_out_loss: float) -> Leaf:
    return Leaf(
        step=state.step,
        params_digest=state.params_digest,
        moments_digest=state.moments_digest,
        loss=float(np.float32(loss)),
        held_out_loss=float(np.float32(held_out_loss)),
    )


def bundle_bytes(recipe: Recipe, networks: int) -> int:
    """What the files of a bundle have at most: a state and a leaf at every boundary of every network."""
    return networks * (recipe.segments_max + 1) * (state_bytes_length(recipe) + LEAF_BYTES)


def leaf_from_bytes(data: bytes) -> Leaf:
    """Raises Refused when the length is wrong."""
    if len(data) != LEAF_BYTES:
        raise Refused("leaf-size", f"{len(data)} bytes")
    step, params, moments, loss, held_out = LEAF_LAYOUT.unpack(data)
    return Leaf(step=step, params_digest=params, moments_digest=moments, loss=loss, held_out_loss=held_out)


Trace = tuple[Leaf, ...]


def context(campaign: str, assignment: int, worker: str) -> bytes:
    """Binds a tree to one worker's try at one assignment."""
    return sha256(b"zooswarm/context/1\0", bytes.fromhex(campaign), assignment.to_bytes(8, "little"), worker.encode())


def leaf_hash(ctx: bytes, seed: int, leaf: Leaf) -> bytes:
    return sha256(b"\x00", ctx, seed.to_bytes(8, "little"), leaf.to_bytes())


def bundle_leaf_hash(ctx: bytes, seed: int, steps: int, trace_root: bytes) -> bytes:
    return sha256(b"\x02", ctx, seed.to_bytes(8, "little"), steps.to_bytes(8, "little"), trace_root)


def merkle_root(hashes: list[bytes]) -> bytes:
    """Root over leaf hashes; a node without a sibling moves up unchanged. Raises ValueError for no leaf."""
    if not hashes:
        raise ValueError("a Merkle tree needs a leaf")
    level = hashes
    while len(level) > 1:
        level = _next_level(level)
    return level[0]


def _next_level(level: list[bytes]) -> list[bytes]:
    paired = [sha256(b"\x01", level[i], level[i + 1]) for i in range(0, len(level) - 1, 2)]
    return paired + level[len(level) & ~1 :]


def merkle_levels(hashes: list[bytes]) -> list[list[bytes]]:
    """All levels of the tree, the leaves first: whoever needs many paths makes them once."""
    levels = [hashes]
    while len(levels[-1]) > 1:
        levels.append(_next_level(levels[-1]))
    return levels


def merkle_path(levels: list[list[bytes]], index: int) -> tuple[bytes, ...]:
    """The siblings from leaf `index` to the root."""
    path = []
    for level in levels[:-1]:
        if index ^ 1 < len(level):
            path.append(level[index ^ 1])
        index //= 2
    return tuple(path)


def root_from_path(leaf: bytes, index: int, count: int, path: tuple[bytes, ...]) -> bytes:
    """The root that this leaf and path lead to. Raises Refused when the path's length does not fit the tree."""
    node, rest = leaf, list(path)
    while count > 1:
        if index ^ 1 < count:
            if not rest:
                raise Refused("proof", "the Merkle path is too short")
            sibling = rest.pop(0)
            node = sha256(b"\x01", sibling, node) if index & 1 else sha256(b"\x01", node, sibling)
        index, count = index // 2, (count + 1) // 2
    if rest:
        raise Refused("proof", "the Merkle path is too long")
    return node


def trace_root(ctx: bytes, seed: int, trace: Trace) -> bytes:
    return merkle_root([leaf_hash(ctx, seed, leaf) for leaf in trace])


def network_result(ctx: bytes, seed: int, trace: Trace) -> NetworkResult:
    """What a worker claims of one network."""
    end = trace[-1]
    return NetworkResult(
        seed=seed,
        steps=end.step,
        trace_root=trace_root(ctx, seed, trace),
        weights_digest=end.params_digest,
        held_out_loss=end.held_out_loss,
    )


def bundle_leaves(ctx: bytes, networks: Iterable[NetworkResult]) -> list[bytes]:
    """The bundle tree's leaves, in the assignment's seed order. A result states what is in them; `open_traces` shows
    that it follows from its traces."""
    return [bundle_leaf_hash(ctx, network.seed, network.steps, network.trace_root) for network in networks]


def commitment(ctx: bytes, networks: Iterable[NetworkResult]) -> bytes:
    """The bundle's root."""
    return merkle_root(bundle_leaves(ctx, networks))


class Proof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shows that one leaf of one network is under a commitment."""

    trace_path: tuple[bytes, ...]
    bundle_path: tuple[bytes, ...]


def prove(ctx: bytes, seed: int, trace: Trace, network: int, boundary: int, bundle: list[list[bytes]]) -> Proof:
    """Of one boundary of the bundle's network `network`; `bundle` are the levels of the bundle tree."""
    return Proof(
        trace_path=merkle_path(merkle_levels([leaf_hash(ctx, seed, leaf) for leaf in trace]), boundary),
        bundle_path=merkle_path(bundle, network),
    )


def check_proof(
    root: bytes,
    ctx: bytes,
    seeds: tuple[int, ...],
    steps: int,
    boundaries: int,
    at: tuple[int, int],
    leaf: Leaf,
    proof: Proof,
) -> None:
    """Raises Refused unless `leaf` is boundary at[1] of network at[0] under `root`.

    `steps` and `boundaries` are that network's final step and number of boundaries, as the signed result states them.
    """
    network, boundary = at
    if max(len(proof.trace_path), len(proof.bundle_path)) > 64:
        raise Refused("proof", "the Merkle path is too long")
    seed = seeds[network]
    trace = root_from_path(leaf_hash(ctx, seed, leaf), boundary, boundaries, proof.trace_path)
    bundle = bundle_leaf_hash(ctx, seed, steps, trace)
    if root_from_path(bundle, network, len(seeds), proof.bundle_path) != root:
        raise Refused("proof", "the leaf is not under the committed root")


def traces_to_bytes(traces: list[Trace]) -> bytes:
    """Fixed layout: the leaves of all networks, one after another; the result says how many each has."""
    return b"".join(leaf.to_bytes() for trace in traces for leaf in trace)


def traces_from_bytes(data: bytes, boundaries: list[int]) -> list[Trace]:
    """Raises Refused when the length is not that of `boundaries[i]` leaves for network i."""
    if len(data) != LEAF_BYTES * sum(boundaries):
        raise Refused("trace-size", f"{len(data)} bytes; expected {LEAF_BYTES * sum(boundaries)}")
    leaves = [leaf_from_bytes(data[i : i + LEAF_BYTES]) for i in range(0, len(data), LEAF_BYTES)]
    traces, at = [], 0
    for count in boundaries:
        traces.append(tuple(leaves[at : at + count]))
        at += count
    return traces
