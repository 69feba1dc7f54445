"""Which facts of a network's making are written in its weights? Each beside the same question to its initial weights.

Accuracy, loss, hyper-parameters, share of the data, training step. Statistics and boosted trees are those of
`properties`; which targets are asked for and the controls are OURS. Axes: N networks, F features, S snapshots.

Groups: all networks of one recipe stay in one fold, as they share all that is predicted. A seed index alone ties
nothing together: initial weights and batch order are keyed by the whole recipe, not by the seed only.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from analysis.methods.cohorts import Cohort
from analysis.methods.properties import PREDICTORS, Prediction, Predictor, predict, transfer
from analysis.methods.trajectories import replay
from analysis.statistics.classify import Accuracy, class_accuracy
from analysis.statistics.controls import Controlled, controlled
from analysis.statistics.splits import groups
from analysis.weights.features import array_statistics
from protocol.recipes.recipe import Recipe

ON_RANKS = PREDICTORS["boosted trees on ranks"]


def read_numbers(
    cohort: Cohort, columns: Sequence[str], predictor: Predictor = ON_RANKS
) -> dict[str, Controlled[Prediction]]:
    """Column -> how well it is predicted: accuracy, loss, task.drop, training.learning_rate, network.layers.7.rate, ...

    Raises UsageError: no such column, a value that is missing, fewer than five recipes.
    """
    group_N = groups(cohort.column("recipe").tolist())
    both = [array_statistics(cohort.recipe, weights_NP) for weights_NP in (cohort.weights_NP, cohort.initial_NP)]
    found = {}
    for name in columns:
        target_N = cohort.column(name)
        found[name] = controlled(lambda x_NF, y_N=target_N: predict(x_NF, y_N, group_N, predictor), *both)
    return found


def read_category(cohort: Cohort, column: str, shuffles: int = 20) -> Controlled[Accuracy]:
    """A field that has few values, such as network.init: from trained and from initial weights.

    Raises UsageError: no such column, fewer than two values, or a value of fewer than two recipes.
    """
    labels, group_N = [str(value) for value in cohort.column(column)], groups(cohort.column("recipe").tolist())

    def measure(weights_NP: np.ndarray) -> Accuracy:
        return class_accuracy(array_statistics(cohort.recipe, weights_NP), labels, group_N, shuffles)

    return controlled(measure, cohort.weights_NP, cohort.initial_NP)


def read_step(
    recipe: Recipe, seeds: Sequence[int], steps_S: Sequence[int] | None = None, predictor: Predictor = ON_RANKS
) -> Prediction:
    """For how many steps was this snapshot trained? All snapshots of a network are in one fold; step 0 is left out."""
    paths = replay(recipe, seeds, steps_S)
    kept_S = paths.steps_S > 0
    weights = paths.weights_NSP[:, kept_S]
    step_NS = np.minimum(paths.steps_S[kept_S], paths.last_N[:, None])  # one that stopped stays where it is
    features = array_statistics(recipe, weights.reshape(-1, weights.shape[2]))
    return predict(features, step_NS.ravel(), np.repeat(np.arange(len(seeds)), weights.shape[1]), predictor)


def read_across(
    cohort: Cohort, column: str, domain: str, predictor: Predictor = ON_RANKS
) -> tuple[list[str], np.ndarray]:
    """(domains, tau_KK): learnt on the row's networks (an init, a class, a recipe), tested on the column's."""
    features_NF = array_statistics(cohort.recipe, cohort.weights_NP)
    # Between recipes a network is its own group: without its recipe's others there is nothing to learn from.
    own = range(len(cohort.rows)) if domain in ("recipe", "recipe_name") else cohort.column("recipe").tolist()
    labels = np.array([str(value) for value in cohort.column(domain)])
    return transfer(features_NF, cohort.column(column), labels, groups(own), predictor)


def as_lines(found: Mapping[str, Controlled[Prediction]]) -> list[str]:
    """A line a target: tau and R2 with intervals, then tau from initial weights and with shuffled targets."""
    lines = []
    for name, (one, control) in found.items():
        lines.append(
            f"{name}: tau {one.tau:.3f} ({one.tau_low:.3f} to {one.tau_high:.3f}), "
            f"R2 {one.r2:.3f} ({one.r2_low:.3f} to {one.r2_high:.3f}); initial weights: "
            f"tau {control.tau:.3f} ({control.tau_low:.3f} to {control.tau_high:.3f}); shuffled {one.shuffled_tau:.3f}"
        )
    return lines
