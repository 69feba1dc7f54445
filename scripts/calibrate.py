#!/usr/bin/env python3
"""Train unseen seeds of every shipped recipe and write docs/learning_curves.md and .png.

    python scripts/calibrate.py [--only ds4] [--first-seed 10000] [--threads 1]

The seeds start far above those that the recipes were tuned on (below 2000). The CPU time is this process's, data
already made. Each case's figures are kept as JSON in --keep, so that `--only` measures a part anew. A case of many
recipes that was interrupted goes on after the last recipe that it finished.
"""

import argparse
import json
import os
import platform
import time
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from protocol.engine import Engine
from protocol.engine.measures import measure
from protocol.engine.select import select_engine
from protocol.engine.streams import task_data
from protocol.engine.training import train_networks
from protocol.files import write_atomic
from protocol.recipes.campaign import load_campaign
from protocol.recipes.recipe import Recipe, load_recipe
from protocol.tasks.data import TaskData

ROOT = Path(__file__).parents[1]
DOCS, RECIPES = ROOT / "docs", ROOT / "recipes"
CURVES_SHOWN = 20  # thin lines a panel


class Case(NamedTuple):
    """A row: recipes that are counted together, how many networks of each, and what they must reach."""

    name: str
    recipes: list[Recipe]
    networks: int
    accuracy: float = 0.0  # 0: the recipe's stop rule says it


def cases() -> list[Case]:
    """Every shipped recipe, and the campaigns whose recipes are in no file of their own."""
    drawn = {name: list(load_campaign(RECIPES / f"{name}-campaign.toml").recipes.values()) for name in CAMPAIGNS}
    found = [Case(path.stem, [load_recipe(path)], 100) for path in sorted(RECIPES.glob("ds1-*.toml"))]
    found += [Case(path.stem, [load_recipe(path)], 20) for path in sorted(RECIPES.glob("ds2-*.toml"))]
    found += [Case(name, [load_recipe(RECIPES / f"{name}.toml")], 20) for name in ("ds3-lstm", "ds3-gru")]
    for kind in ("lstm", "gru"):
        some = [recipe for recipe in drawn["ds3"] if f"-{kind}-" in recipe.name]
        found.append(Case(f"ds3-{kind}, 100 automata", some, 1))
    found += [Case(recipe.name, [recipe], 20, 0.93) for recipe in drawn["ds4"]]
    found.append(Case("zoo-cnn", [load_recipe(RECIPES / "zoo-cnn.toml")], 20, 0.95))
    found.append(Case("ffl-mlp", [load_recipe(RECIPES / "ffl-mlp.toml")], 20, 0.95))
    found.append(Case("ffl-mlp, 45 pairs", drawn["ffl"], 2, 0.90))
    found += [Case(recipe.name, [recipe], 20) for recipe in drawn["regression"] + drawn["vary"] + drawn["changes"]]
    return found


CAMPAIGNS = ("ds3", "ds4", "ffl", "regression", "vary", "changes")
COLUMNS = (
    "recipe, parameters, constant predictor, goal, reached, median steps, 90 %, accuracy, attack success, CPU s each"
)
HEADER = f"| {COLUMNS.replace(', ', ' | ')} |\n|{' --- |' * len(COLUMNS.split(', '))}"


def run(engine: Engine, case: Case, first_seed: int, begun: Path) -> dict[str, Any]:
    """Train and measure a case; the result is plain JSON. `begun`: where what is measured of it is kept meanwhile."""
    done = json.loads(begun.read_text()) if begun.exists() else {}
    origin = [engine.name, first_seed, case.networks, [recipe.digest for recipe in case.recipes]]
    if done.get("origin") != origin:
        done = {"origin": origin, "cpu": 0.0, "constants": [], "networks": []}
    networks, constants = done["networks"], done["constants"]
    for recipe in case.recipes[len(constants) :]:
        data = task_data(recipe)
        constants.append(constant_loss(recipe, data))
        history: dict[int, list[tuple[int, float]]] = {}
        last = {}
        begin = time.process_time()
        for seed, boundary in train_networks(engine, recipe, range(first_seed, first_seed + case.networks), 32):
            history.setdefault(seed, []).append((boundary.step, round(boundary.held_out_loss, 6)))
            last[seed] = boundary
        done["cpu"] += time.process_time() - begin
        found = measure(engine, recipe, [boundary.state.params for boundary in last.values()])
        for i, boundary in enumerate(last.values()):
            line = {"steps": boundary.step, "loss": boundary.held_out_loss}
            for key, values in (("accuracy", found.accuracy), ("attack", found.attack_success)):
                line[key] = None if values is None else float(values[i])
            good = case.accuracy and line["accuracy"] is not None and line["accuracy"] >= case.accuracy
            line["reached"] = bool(good or 0 < recipe.training.stop_held_out_loss >= boundary.held_out_loss)
            networks.append(line)
            if len(networks) <= CURVES_SHOWN:
                line["curve"] = list(history.values())[i]
        write_atomic(begun, json.dumps(done).encode())
    first = case.recipes[0]
    goal = (
        f"accuracy {case.accuracy:.0%}"
        if case.accuracy
        else f"{first.training.loss} {first.training.stop_held_out_loss:g}"
    )
    return {
        "name": case.name,
        "recipes": len(case.recipes),
        "parameters": sorted({recipe.parameter_count for recipe in case.recipes}),
        "loss": first.training.loss,
        "stop": first.training.stop_held_out_loss,
        "constant": float(np.mean(constants)),
        "goal": goal,
        "cpu": done["cpu"] / len(networks),
        "networks": networks,
    }


def constant_loss(recipe: Recipe, data: TaskData) -> float:
    """Held-out loss of the best constant: the training targets' mean, or their class frequencies."""
    if recipe.task_shape.target == "classes":
        share = np.bincount(data.targets.ravel(), minlength=recipe.task_shape.width) / data.targets.size
        return float(-np.log(share[data.held_out_targets.ravel()]).mean())
    mean, held_out = data.targets.mean((0, 1), dtype=np.float64), data.held_out_targets.astype(np.float64)
    if recipe.training.loss == "bce":
        return float(-(held_out * np.log(mean) + (1 - held_out) * np.log(1 - mean)).mean())
    return float(((held_out - mean) ** 2).mean())


def row(found: dict[str, Any]) -> str:
    networks = found["networks"]
    steps = np.array([line["steps"] for line in networks])
    reached = sum(line["reached"] for line in networks)
    parameters = "-".join(
        f"{n:,}" for n in (found["parameters"][:1] + found["parameters"][-1:])[: len(found["parameters"])]
    )
    return (
        f"| {found['name']} | {parameters} | {found['constant']:.4f} | {found['goal']} | {reached} of {len(networks)} "
        f"| {np.median(steps):,.0f} | {np.quantile(steps, 0.9):,.0f} | {spread(networks, 'accuracy')} "
        f"| {spread(networks, 'attack')} | {found['cpu']:.3f} |"
    )


def spread(networks: list[dict[str, Any]], key: str) -> str:
    values = [line[key] for line in networks if line[key] is not None]
    return f"{100 * np.median(values):.1f} (least {100 * min(values):.1f})" if values else ""


def plot(found: list[dict[str, Any]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import MaxNLocator, NullFormatter

    columns = 6
    rows = -(-len(found) // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(16, 2.5 * rows), layout="constrained", squeeze=False)
    for panel in panels.flat[len(found) :]:
        panel.remove()
    for panel, case in zip(panels.flat, found, strict=False):
        curves = [np.array(line["curve"]).T for line in case["networks"] if "curve" in line]
        for steps, losses in curves:
            panel.plot(steps, losses, color="#3b75af", linewidth=0.6, alpha=0.4)
        grid = np.linspace(0, max(steps[-1] for steps, _ in curves), 200)
        held = [np.interp(grid, steps, np.log(losses)) for steps, losses in curves]  # a stopped one keeps its last
        panel.plot(grid, np.exp(np.median(held, axis=0)), color="#b5382c", linewidth=1.8)
        panel.axhline(case["constant"], color="black", linewidth=1, linestyle=":")
        if case["stop"]:
            panel.axhline(case["stop"], color="black", linewidth=1, linestyle="--")
        panel.set_title(case["name"], fontsize=9)
        panel.set_yscale("log")
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.set_xlim(0, grid[-1])
        panel.xaxis.set_major_locator(MaxNLocator(4))
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("training step", fontsize=9)
    figure.supylabel("held-out loss", fontsize=9)
    figure.savefig(path, dpi=75)


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", default="", help="cases whose name starts with this; the others keep their figures")
    parser.add_argument("--first-seed", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=DOCS)
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "calibration", help="folder of the figures")
    options = parser.parse_args()
    engine = select_engine(threads=options.threads)
    options.keep.mkdir(parents=True, exist_ok=True)
    found = []
    for case in cases():
        path = options.keep / f"{case.name.replace(' ', '_')}.json"
        if case.name.startswith(options.only):
            begun = path.with_suffix(".begun")
            figures = run(engine, case, options.first_seed, begun)
            figures |= {"engine": engine.name, "day": date.today().isoformat()}
            write_atomic(path, json.dumps(figures).encode())
            begun.unlink()
            print(row(figures), flush=True)
        if path.exists():
            found.append(json.loads(path.read_text()))
    plot(found, options.out / "learning_curves.png")
    page = options.out / "learning_curves.md"
    head, _, tail = page.read_text().partition("<!-- figures -->\n")
    rest = tail.partition("<!-- end -->\n")[2]
    machine = f"{processor()}, {os.cpu_count()} cores"
    origin = (
        f"`scripts/calibrate.py`, {found[-1]['day']}, engine `{found[-1]['engine']}`, {machine}, one thread; "
        f"seeds from {options.first_seed:,} on, none of which was used to tune anything.\n"
    )
    lines = "\n".join(map(row, found))
    page.write_text(f"{head}<!-- figures -->\n{origin}\n{HEADER}\n{lines}\n<!-- end -->\n{rest}")


if __name__ == "__main__":
    main()
