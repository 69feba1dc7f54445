"""Rows of the information probe: what a network knows of its task, of another one, and of its own after the other."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa

from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit, digests_of, unit_from, units_of_networks
from analysis.probes.information.retrain import Fit, initial, mixed_labels, trained, uniform_head, unseen
from analysis.probes.information.transfer import (
    REFERENCE,
    Plan,
    area,
    coded,
    compared,
    fooled,
    knowing,
    orders,
    reference,
)
from protocol.engine import Engine
from protocol.recipes.recipe import Recipe
from protocol.tasks.kinds import task_root

NONE = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class InformationSettings(ProbeSettings):
    probe: ClassVar[str] = "information"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {
        "first": (2, math.inf),
        "looks": (0, math.inf),
        "transfers": (0, math.inf),
    }
    may_be_empty: ClassVar[frozenset[str]] = frozenset({"curve"})

    samples: int = 500  # held-out ones whose targets are coded, at most
    first: int = 16  # of them in the first block; the next are twice as large
    shuffles: int = 3  # orders of the samples
    rate: float = 1e-3  # Adam's, of the training between blocks
    batch: int = 16
    look_steps: int = 60  # steps between two looks at the tenth that is held back
    looks: int = 10  # most
    patience: int = 3  # looks without a better loss
    nulls: bool = True  # also networks that know nothing, each with a control of its kind
    curve: tuple[int, ...] = ()  # also networks of the same recipe that saw so many samples only
    transfers: int = 0  # other tasks of the same shape, for each network: transfer and forgetting

    @property
    def plan(self) -> Plan:
        fit = Fit(
            rate=self.rate,
            batch=self.batch,
            look_steps=self.look_steps,
            looks=self.looks,
            patience=self.patience,
        )
        return Plan(samples=self.samples, first=self.first, shuffles=self.shuffles, fit=fit)


class Information(Probe[InformationSettings]):
    name, version, title = "information", 1, "How many bits of a task does it know?"
    settings = InformationSettings
    columns: ClassVar[Mapping[str, str]] = {
        "kind": "own: the network; mixed, initial: nulls; curve: fewer samples; transfer: its layers but the last on "
        "another task; forgetting: after training on another task",
        "task": "recipe whose held-out targets are coded",
        "other": "recipe that the network was trained on before (transfer) or after (forgetting)",
        "examples": "samples that the network was trained on",
        "samples": "held-out samples whose targets are coded; none was trained on",
        "shuffles": "orders of the samples; bits are means over them, sd over them",
        "uniform_bits": "what the targets cost when nothing is known or learnt",
        "reference_bits": "Lpreq(D; th_0): what they cost a network that begins with nothing",
        "bits": "L_IT = Lpreq(D; th_0) - Lpreq(D; network)",
        "bits_sd": "its standard deviation over the orders",
        "control_bits": "L_IT of the control: as many samples, labels dealt out anew",
        "control_sd": "its standard deviation",
        "net_bits": "bits - control_bits: what remains",
        "net_sd": "its standard deviation; orders are paired",
        "share": "bits / reference_bits",
        "control_share": "control_bits / reference_bits",
        "softened_bits": "bits with the last layer softened by the temperature that fits block 1 best",
        "softened_control_bits": "of the control",
        "temperature": "that temperature, 1 or more",
        "static_bits": "what the network itself knows, without learning: against the uniform code",
        "static_control_bits": "of the control",
        "static_softened_bits": "softened",
        "static_softened_control_bits": "of the control",
        "area_bits": "cost of the training samples when first met, less their cost at the end",
        "area_control_bits": "of the control, on its own labels",
        "before_bits": "forgetting: bits before the other task",
    }

    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: InformationSettings) -> list[Unit]:
        steps = dict(zip(table["id"].to_pylist(), table["steps"].to_pylist(), strict=True))
        own = [replace(unit, about=str(steps[unit.networks[0]])) for unit in units_of_networks(table)]
        return own + list(pairs(table, recipes, settings.transfers))

    def rows(self, inputs: Inputs, settings: InformationSettings) -> list[Row]:
        from protocol.engine.select import select_engine

        engine = select_engine("auto")
        steps = [int(count) for count in inputs.unit.about.split()]
        if len(inputs.networks) == 2:
            found = list(of_two_tasks(engine, inputs, settings.plan, steps))
        else:
            found = list(of_its_own(engine, inputs, settings, steps[0]))
        return [{"network": inputs.networks[0], "shuffles": settings.shuffles} | row for row in found]


def pairs(table: pa.Table, recipes: Mapping[str, Recipe], most: int) -> Iterator[Unit]:
    """Every network with one of each of the next `most` recipes that have its layers and another task of its shape."""
    digests = digests_of(table)
    columns = (table[name].to_pylist() for name in ("id", "recipe", "seed", "steps"))
    networks = list(zip(*columns, strict=True))
    of_recipe: dict[str, dict[int, tuple[str, int]]] = {}
    for name, digest, seed, steps in networks:
        of_recipe.setdefault(digest, {})[seed] = name, steps
    order = sorted(of_recipe, key=lambda digest: (recipes[digest].name, digest))
    for name, digest, seed, steps in networks if most else []:
        at = order.index(digest)
        others = [one for one in order[at + 1 :] + order[:at] if is_another_task(recipes[digest], recipes[one])]
        for other in others[:most]:
            second, more = of_recipe[other].get(seed) or next(iter(of_recipe[other].values()))
            yield unit_from(digests, (name, second), f"{steps} {more}")


def is_another_task(first: Recipe, second: Recipe) -> bool:
    """Of the same shape, for the same layers, and more than a controlled change of it."""
    one, other = first.task_shape, second.task_shape
    shapes = [(s.input, s.length, s.target, s.width, s.target_length) for s in (one, other)]
    same = first.network.layers == second.network.layers and first.training.loss == second.training.loss
    return shapes[0] == shapes[1] and same and task_root(first.task) != task_root(second.task)


def of_its_own(engine: Engine, inputs: Inputs, settings: InformationSettings, steps: int) -> Iterator[Row]:
    """The network and its control; two nulls; networks that saw less."""
    recipe, seed, data, plan = inputs.recipes[0], inputs.seeds[0], inputs.data(), settings.plan
    rows = orders(unseen(data.held_out_inputs, data.inputs), plan, inputs.rng("orders"))
    rng = inputs.rng("mixed labels")
    mixed = mixed_labels(data, rng)
    control, _ = trained(engine, recipe, mixed, initial(recipe, seed), seed, steps)
    starts = {REFERENCE: reference(recipe, seed), "own": inputs.weights[0], "control": control}
    if settings.nulls:
        starts["mixed"] = fooled(engine, recipe, data, seed, steps, rng)
        starts["initial"], starts["another"] = inputs.initial(), inputs.initial(another=1)
    counts = [count for count in settings.curve if count < len(data.inputs)]
    for count in counts:
        starts[f"saw {count}"] = knowing(engine, recipe, data, seed, steps, count)
        starts[f"fooled {count}"] = fooled(engine, recipe, data, seed, steps, rng, count)
    codes, size = coded(engine, recipe, starts, data, rows, plan), len(rows[0])
    told: Row = {"task": recipe.name, "other": "", "samples": size, "before_bits": NONE}
    none: Row = {"area_bits": NONE, "area_control_bits": NONE}
    met: Row = {
        "area_bits": area(engine, recipe, data, seed, inputs.weights[0]),
        "area_control_bits": area(engine, recipe, mixed, seed, control),
    }
    asked = [("own", "own", "control", len(data.inputs), met)]
    if settings.nulls:
        asked += [("mixed", "mixed", "control", len(data.inputs), none), ("initial", "initial", "another", 0, none)]
    asked += [("curve", f"saw {count}", f"fooled {count}", count, none) for count in counts]
    for kind, start, control, examples, more in asked:
        yield told | {"kind": kind, "examples": examples} | compared(codes, start, control, size, recipe) | more


def of_two_tasks(engine: Engine, inputs: Inputs, plan: Plan, steps: list[int]) -> Iterator[Row]:
    """Network A on task B by its layers but the last, and on task A again after it was trained as B was."""
    (first, second), seed = inputs.recipes, inputs.seeds[0]
    data_a, data_b, rng = inputs.data(0), inputs.data(1), inputs.rng("mixed labels")
    none: Row = {"area_bits": NONE, "area_control_bits": NONE}
    rows = orders(unseen(data_b.held_out_inputs, data_a.inputs, data_b.inputs), plan, inputs.rng("transfer"))
    blind = fooled(engine, first, data_a, seed, steps[0], rng)
    heads = uniform_head(second, np.stack([inputs.weights[0], blind]))
    starts = {REFERENCE: reference(second, seed), "a": heads[0], "control": heads[1]}
    codes, size = coded(engine, second, starts, data_b, rows, plan), len(rows[0])
    told: Row = {"kind": "transfer", "task": second.name, "other": first.name, "samples": size, "before_bits": NONE}
    yield none | told | {"examples": len(data_a.inputs)} | compared(codes, "a", "control", size, second)

    rows = orders(unseen(data_a.held_out_inputs, data_a.inputs, data_b.inputs), plan, inputs.rng("forgetting"))
    starts = {
        REFERENCE: reference(first, seed),
        "a": inputs.weights[0],
        "ab": trained(engine, second, data_b, inputs.weights[0], seed, steps[1])[0],
        "control": trained(engine, second, mixed_labels(data_b, rng), inputs.weights[0], seed, steps[1])[0],
    }
    codes, size = coded(engine, first, starts, data_a, rows, plan), len(rows[0])
    before = compared(codes, "a", "control", size, first)["bits"]
    told = {"kind": "forgetting", "task": first.name, "other": second.name, "samples": size, "before_bits": before}
    yield none | told | {"examples": len(data_b.inputs)} | compared(codes, "ab", "control", size, first)
