"""What a campaign costs a volunteer at most, in bytes, by arithmetic alone: before anything of it is begun.

Upper bounds: every network trains to its last step, and every state is kept.
"""

from dataclasses import dataclass
from math import inf, prod

from peer.state.lending.sizes import UNITS, size_text
from peer.state.lending.traffic import TRANSFER_SECONDS
from protocol.engine import state_bytes_length
from protocol.engine.needs import memory_bytes
from protocol.recipes.campaign import Campaign, Policy, Population
from protocol.recipes.layers import Conv2d, arrays_of
from protocol.recipes.recipe import Recipe
from protocol.trust.challenge import opened_max
from protocol.trust.commitment import bundle_bytes
from protocol.trust.messages import OpeningRequest

MEMORY_DEFAULT_MIN, DISK_DEFAULT_MAX = 2 * 10**9, 20 * 10**9
CLASSES_SHOWN = 3  # by name
FREE_BYTES_LAST = 32 * 1024 * 1024  # what is needed to end in good order; below this we stop writing


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one campaign takes at most, bytes."""

    memory: int  # of all processes of a volunteer, with any of its bundles
    disk: int  # of its largest bundle
    transfer: int = 0  # of the largest blob that is sent or fetched
    memory_of: str = ""  # the recipe that says so
    disk_of: str = ""
    transfer_of: str = ""


def needs_of(campaign: Campaign) -> Needs:
    memory, memory_of = max((memory_of_bundle(p, campaign.policy), p.recipe.name) for p in campaign.populations)
    disk, disk_of = max((bundle_bytes(p.recipe, p.largest_bundle), p.recipe.name) for p in campaign.populations)
    transfer, transfer_of = max((transfer_bytes(p, campaign.policy), p.recipe.name) for p in campaign.populations)
    return Needs(
        memory=memory,
        disk=disk,
        transfer=transfer,
        memory_of=memory_of,
        disk_of=disk_of,
        transfer_of=transfer_of,
    )


def summary(campaign: Campaign) -> str:
    """What a volunteer lends a computer to: what is trained, how much of it, and under which licence it is public."""
    classes = sorted({recipe.label for recipe in campaign.recipes.values()})
    kinds = f"{len(classes)} classes" if len(classes) > CLASSES_SHOWN else ", ".join(classes)
    recipes = f", {len(campaign.recipes):,} recipes" if len(campaign.recipes) > len(classes) else ""
    text = f"campaign {campaign.name}: {campaign.network_count:,} networks of {kinds}{recipes}"
    return f"{text}; the weights become public, {campaign.licence}: {campaign.description}".rstrip(": ")


def memory_of_bundle(population: Population, policy: Policy) -> int:
    recipe, networks = population.recipe, population.largest_bundle
    return memory_bytes(recipe, networks, opened_max(policy, recipe, networks))


def transfer_bytes(population: Population, policy: Policy) -> int:
    """Of all weights of a bundle, or of all start states that a challenge asks for, whichever is more."""
    recipe, networks = population.recipe, population.largest_bundle
    opened = opened_max(policy, recipe, networks) * state_bytes_length(recipe)
    return max(opened, 4 * recipe.parameter_count * networks)


def turned_down(needs: Needs, memory: int, disk: int, bandwidth: float = inf) -> str:
    """Why a campaign is above the limits, with the mend; "" when it is not."""
    if needs.disk > disk:
        return (
            f"a bundle of {needs.disk_of} may take {size_text(needs.disk)} of disk, and the limit is "
            f"{size_text(disk)} (--disk)"
        )
    if needs.memory > memory:
        return (
            f"{needs.memory_of} may take {size_text(needs.memory)} of memory, and the limit is "
            f"{size_text(memory)} (--memory)"
        )
    if needs.transfer > bandwidth * TRANSFER_SECONDS:
        return (
            f"a bundle of {needs.transfer_of} may send {size_text(needs.transfer)}, which takes longer than "
            f"{TRANSFER_SECONDS:.0f} s with {size_text(int(bandwidth))} a second (--bandwidth)"
        )
    return ""


def training_work(recipe: Recipe, networks: int) -> float:
    """What campaigns are compared by: the multiplications of all weights in forward passes, to the last step."""
    step, training = 0, recipe.training
    for layer, flow, after in zip(recipe.network.layers, recipe.flows, recipe.flows[1:], strict=False):
        weights = sum(prod(shape) for _, shape in arrays_of(layer, flow))
        step += weights * flow.length * (prod(after.shape[1:]) if isinstance(layer, Conv2d) else 1)
    return float(networks) * training.max_steps * training.batch * step


def opened_bytes(campaign: Campaign, index: int, request: OpeningRequest) -> int:
    """What the start states have that a challenge to assignment `index` names."""
    return len(request.cells) * state_bytes_length(campaign.assignment(index).recipe)


def default_memory(physical: int) -> int:
    """Half of the computer's memory, and 2 GB on a small one."""
    return max(MEMORY_DEFAULT_MIN, physical // 2)


def default_disk(free: int) -> int:
    """Half of what is free, 20 GB at most."""
    return min(DISK_DEFAULT_MAX, max(UNITS["MB"], free // 2))
