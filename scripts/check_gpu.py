"""Is this card's arithmetic exact? Self-test, then every recipe on the CUDA engine and on the C engine.

For each shipped recipe and each network of bench/networks.py: 64 seeds, 200 steps, digests compared at the middle
and at the end, held-out losses and targets met too; and crosswise, as spot checks do it: what the processor reached at
the middle the card trains on, and the reverse. Exits 0 if all are equal, 1 if not, 2 without a card.

    scripts/check-gpu [--device all] [--seeds 64] [--steps 200] [--only lenet]
"""

import argparse
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "bench")]

from networks import NETWORKS, recipe_of  # noqa: E402

from protocol.engine import Engine  # noqa: E402
from protocol.engine.cuda.card_queue import CardError  # noqa: E402
from protocol.engine.cuda.driver import open_cards  # noqa: E402
from protocol.engine.cuda.engine import CudaEngine  # noqa: E402
from protocol.engine.initial import initial_state  # noqa: E402
from protocol.engine.select import SELF_TEST_DIGEST, select_engine, self_test, usable_cores  # noqa: E402
from protocol.engine.streams import task_data  # noqa: E402
from protocol.errors import UsageError  # noqa: E402
from protocol.recipes.recipe import Recipe, load_recipe  # noqa: E402
from protocol.tasks.data import TaskData  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="all")
    parser.add_argument("--seeds", type=int, default=64)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--only", default="", help="recipes whose name contains this")
    options = parser.parse_args()
    try:
        cards = open_cards(options.device, 0.8)
    except CardError as error:
        print(f"check-gpu: nothing checked: {error}", file=sys.stderr)
        sys.exit(2)
    processor, wrong = select_engine("c", usable_cores()), 0
    found = populations() | {name: recipe_of(name) for name in NETWORKS}
    for card in cards:
        engine = CudaEngine([card])
        print(f"{card.model} ({card.name}), {card.blocks} blocks at once, {card.memory_bytes / 1e9:.1f} GB to use")
        wrong += not said("self-test", self_test(engine) == SELF_TEST_DIGEST)
        for name, (recipe, data) in found.items():
            if options.only.lower() in name.lower():
                wrong += not compare(name, recipe, data, processor, engine, options.seeds, options.steps)
                engine.release()
    sys.exit(1 if wrong else 0)


def populations() -> dict[str, tuple[Recipe, TaskData]]:
    """Every shipped recipe and its data; without those whose data set is not on this computer, which it says."""
    found = {}
    for path in sorted(ROOT.glob("recipes/*.toml")):
        if path.stem == "demo" or path.stem.endswith("-campaign"):
            continue
        recipe = load_recipe(path)
        try:
            found[path.stem] = recipe, task_data(recipe)
        except UsageError as error:
            print(f"check-gpu: {path.stem} is left out: {error}", file=sys.stderr)
    return found


def compare(name: str, recipe: Recipe, data: TaskData, processor: Engine, card: Engine, count: int, steps: int) -> bool:
    seeds, half = list(range(count)), steps // 2
    began = time.perf_counter()
    fresh = [initial_state(recipe, seed) for seed in seeds]
    stories, middles = [], []
    for engine in (processor, card):
        middle, losses = engine.train(recipe, data, seeds, fresh, half)
        end, more = engine.train(recipe, data, seeds, middle, steps - half)
        measured = engine.evaluate(recipe, data, [state.params for state in end])
        correct = None if measured.correct is None else measured.correct.tolist()
        digests = [state.digest for state in (*middle, *end)]
        stories.append((digests, losses.tobytes(), more.tobytes(), measured.loss.tobytes(), correct))
        middles.append(middle)
    same = said(f"{name}: {count} seeds, {steps} steps", stories[0] == stories[1])
    crossed = [
        [state.digest for state in engine.train(recipe, data, seeds, middle, steps - half)[0]]
        for engine, middle in ((card, middles[0]), (processor, middles[1]))
    ]
    ends = stories[0][0][count:]
    crosswise = said(f"{name}: crosswise", crossed == [ends, ends])
    print(f"  {time.perf_counter() - began:.1f} s", flush=True)
    return same and crosswise


def said(what: str, equal: bool) -> bool:
    print(f"  {'equal' if equal else 'DIFFERENT'}  {what}", flush=True)
    return equal


if __name__ == "__main__":
    main()
