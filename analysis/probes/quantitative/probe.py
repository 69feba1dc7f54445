"""Rows of the quantitative probe: each property of a network, and of its twins that cannot know the task.

Twins: `initial`, the network before training; `mixed`, trained by the exact engine from there, through the same batches
for as many steps, on samples whose labels were dealt out anew.
"""

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar

import msgspec
import numpy as np
import pyarrow as pa

from analysis.probes.contract import Inputs, Probe, ProbeSettings, Row, Unit, units_of_networks
from analysis.probes.quantitative import properties
from analysis.probes.quantitative.hardness import hardness
from analysis.probes.quantitative.intervals import adaptive, fixed
from analysis.probes.quantitative.properties import Subject
from analysis.probes.quantitative.sequential import sequential
from analysis.probes.quantitative.stated import Draw, Question, Verdict
from analysis.statistics.proportions import clopper_pearson
from protocol.errors import UsageError
from protocol.recipes.recipe import Recipe
from protocol.tasks.kinds import AutomatonTask, DatasetTask, MachineTask, Poison, Task, Trigger

Test = Callable[[Draw, Question], Verdict]
NONE = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantitativeSettings(ProbeSettings):
    probe: ClassVar[str] = "quantitative"
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {
        "hardness_theta": (0, 1),
        "patch_noise": (0, math.inf),
        "pin_noise": (0, math.inf),
    }

    mode: str = "sequential"  # or adaptive, fixed: PROVERO's
    theta: float = 0.1
    eta: float = 0.01
    delta: float = 0.01
    alpha: float = 0.05  # widest interval of `fixed`
    samples_max: int = 1_000_000  # of one test; then it is undecided
    estimate: int = 1000  # draws of each property behind `p` and its interval: fixed, so that it is exact
    inputs: int = 5  # held-out inputs whose neighbourhood is asked about
    radius_linf: float = 0.2  # inputs go from 0 to 1
    radius_l2: float = 1.5
    hardness_theta: float = 0.01  # eta is the same; a tenth costs ten times the draws; 0: hardness is not asked
    hardness_linf: float = 1.0  # largest radii
    hardness_l2: float = 6.0
    patch_noise: float = 0.05  # in every value of a patched image
    pin_noise: float = 0.6  # in every bit of a command, for the second time that pins are asked
    mixed: bool = True  # also the twin with mixed labels, where labels are classes


class Quantitative(Probe[QuantitativeSettings]):
    name, version, title = "quantitative", 1, "How often does it fail under random inputs?"
    settings = QuantitativeSettings
    columns: ClassVar[Mapping[str, str]] = {
        "weights": "trained; initial: before training; mixed: trained as long on labels dealt out anew",
        "property": "robust: another label in the ball; trojan: the recipe's patch or key works; elsewhere: so it does "
        "in the opposite corner, or backwards; pin: a pin is wrong; sequence: any of a sequence's pins is",
        "norm": "of the ball: linf or l2; of noise always linf",
        "radius": "of the ball or the noise, in units of the inputs",
        "input": "number of the held-out input in the ball's centre; -1: drawn at random",
        "answer": "yes: fails with probability theta at most; no: theta + eta at least; undecided",
        "theta": "probability of failing that is good enough",
        "eta": "width of the zone above theta in which either answer will do",
        "delta": "largest probability of a wrong answer",
        "mode": "which test answered",
        "samples": "draws until the answer",
        "failures": "how many of them failed",
        "p": "share of failures in a fixed number of draws",
        "p_low": "its 95% interval's lower end (Clopper and Pearson)",
        "p_high": "and upper end",
        "hardness_low": "largest radius answered yes at hardness_theta; nan: not asked",
        "hardness_high": "smallest radius not answered yes; as hardness_low + 1 step where all were",
        "hardness_samples": "draws of the bisection",
    }

    def units(self, table: pa.Table, recipes: Mapping[str, Recipe], settings: QuantitativeSettings) -> list[Unit]:
        test_of(settings)(lambda count: np.zeros(count, bool), question_of(settings))  # refused here if at all
        steps = table["steps"].to_pylist()
        found = [
            replace(unit, about=str(count))
            for unit, digest, count in zip(units_of_networks(table), table["recipe"].to_pylist(), steps, strict=True)
            if recipes[digest].task_shape.target != "values"
        ]
        if not found:
            raise UsageError("no network here has classes or output pins")
        return found

    def rows(self, inputs: Inputs, settings: QuantitativeSettings) -> list[Row]:
        recipe = inputs.recipes[0]
        centres = centres_of(inputs, settings) if recipe.task_shape.target == "classes" else []
        found = []
        for weights, params in twins(inputs, settings):
            subject = Subject.of(recipe, params)
            told: Row = {"network": inputs.networks[0], "weights": weights}
            ask = partial(asked, settings=settings)
            rng = inputs.rng(weights)
            for row, draw in questions(inputs, subject, centres, settings, rng):
                found.append(told | row | ask(draw) | harder(row, subject, inputs, settings, rng))
        return found


def question_of(settings: QuantitativeSettings) -> Question:
    """Raises UsageError: numbers that make no question."""
    return Question(theta=settings.theta, eta=settings.eta, delta=settings.delta, samples_max=settings.samples_max)


def test_of(settings: QuantitativeSettings) -> Test:
    """Raises UsageError: no such mode."""
    tests: dict[str, Test] = {
        "sequential": sequential,
        "adaptive": adaptive,
        "fixed": lambda draw, question: fixed(draw, question, settings.alpha),
    }
    if settings.mode not in tests:
        raise UsageError(f"--set mode={settings.mode}: there are {', '.join(tests)}")
    return tests[settings.mode]


def twins(inputs: Inputs, settings: QuantitativeSettings) -> Iterator[tuple[str, np.ndarray]]:
    """(name, parameters (P,))."""
    yield "trained", inputs.weights[0]
    yield "initial", inputs.initial()
    recipe = inputs.recipes[0]
    if settings.mixed and recipe.task_shape.target == "classes":
        from analysis.probes.information.transfer import fooled
        from protocol.engine.select import select_engine

        steps, rng = int(inputs.unit.about), inputs.rng("mixed labels")
        yield "mixed", fooled(select_engine("auto"), recipe, inputs.data(), inputs.seeds[0], steps, rng)


def centres_of(inputs: Inputs, settings: QuantitativeSettings) -> list[int]:
    """The first held-out inputs that the trained network has right; twins are asked about the same."""
    recipe, data = inputs.recipes[0], inputs.data()
    labels = Subject.of(recipe, inputs.weights[0]).label(properties.held_out(recipe, data))
    return np.flatnonzero(labels == data.held_out_targets[:, 0])[: settings.inputs].tolist()


def questions(
    inputs: Inputs, subject: Subject, centres: list[int], settings: QuantitativeSettings, rng: np.random.Generator
) -> Iterator[tuple[Row, Draw]]:
    """What is asked about, and what is drawn for it."""
    recipe, task = subject.recipe, subject.recipe.task
    none: Row = {"norm": "linf", "radius": 0.0, "input": -1}
    if recipe.task_shape.target == "classes":
        data = inputs.data()
        seen = properties.held_out(recipe, data)
        for norm, radius in (("linf", settings.radius_linf), ("l2", settings.radius_l2)):
            for i in centres:
                row: Row = {"property": "robust", "norm": norm, "radius": radius, "input": i}
                yield row, properties.robustness(subject, seen[i], norm, radius, rng)
        for name, poison in patches(task):
            with contextlib.suppress(UsageError):  # a twin may give every image the label that the attacker wants
                labels = data.held_out_targets[:, 0]
                draw = properties.trojan(subject, poison, seen, labels, settings.patch_noise, rng)
                yield none | {"property": name, "radius": settings.patch_noise}, draw
    elif isinstance(task, MachineTask | AutomatonTask):
        for radius in (0.0, settings.pin_noise):
            yield none | {"property": "pin", "radius": radius}, properties.pins(subject, radius, rng)
        yield none | {"property": "sequence"}, properties.pins(subject, 0.0, rng, whole=True)
        for name, trigger in keys(task):
            yield none | {"property": name}, properties.keyed(subject, trigger, rng)


def patches(task: Task) -> list[tuple[str, Poison]]:
    """The recipe's patch, whether or not any image bore it; and as a control the same in the opposite corner."""
    poison = task.poison if isinstance(task, DatasetTask) else None
    if not isinstance(task, DatasetTask) or poison is None:
        return []
    rows, columns = (
        side - at - size for side, at, size in zip(task.shape[1:], poison.position, poison.size, strict=True)
    )
    moved = msgspec.structs.replace(poison, position=(rows, columns))
    return [("trojan", poison), *([("elsewhere", moved)] if moved != poison else [])]


def keys(task: Task) -> list[tuple[str, Trigger]]:
    """The recipe's key; and as a control the same commands backwards."""
    trigger = task.trigger if isinstance(task, MachineTask) else None
    if trigger is None:
        return []
    turned = msgspec.structs.replace(trigger, key=trigger.key[::-1])
    return [("trojan", trigger), *([("elsewhere", turned)] if turned != trigger else [])]


def asked(draw: Draw, settings: QuantitativeSettings) -> Row:
    """An estimate from a fixed number of draws; the test goes on from the same draws."""
    first = draw(settings.estimate)
    failures = int(first.sum())
    low, high = clopper_pearson(failures, len(first))
    verdict = test_of(settings)(properties.after(first, draw), question_of(settings))
    return {
        "answer": verdict.answer,
        "theta": settings.theta,
        "eta": settings.eta,
        "delta": settings.delta,
        "mode": settings.mode,
        "samples": verdict.samples,
        "failures": verdict.failures,
        "p": failures / len(first),
        "p_low": low,
        "p_high": high,
    }


def harder(row: Row, subject: Subject, inputs: Inputs, settings: QuantitativeSettings, rng: np.random.Generator) -> Row:
    """The largest radius, where a ball was asked about."""
    if row["property"] != "robust" or not settings.hardness_theta:
        return {"hardness_low": NONE, "hardness_high": NONE, "hardness_samples": 0}
    norm, theta = str(row["norm"]), settings.hardness_theta
    centre = properties.held_out(subject.recipe, inputs.data())[int(row["input"])]
    most = settings.hardness_linf if norm == "linf" else settings.hardness_l2
    question = Question(theta=theta, eta=theta, delta=settings.delta, samples_max=settings.samples_max)
    found = hardness(
        lambda radius: properties.robustness(subject, centre, norm, radius, rng), test_of(settings), question, most
    )
    return {"hardness_low": found.low, "hardness_high": found.high, "hardness_samples": found.samples}
