"""What must be said of networks' beginnings before any comparison is believed."""

from analysis.report.selection import Selection

UNTRAINED = "Warning: the untrained networks tell it too, so something other than training tells the classes apart."


def caveats(selection: Selection) -> list[str]:
    """What a reader must know of these networks' beginnings before believing a comparison, a sentence each."""
    found, start = [], selection.starts
    varied = {name: recipe.vary for name, recipe in selection.recipes.items()}
    if start.one:
        found.append(
            "All networks begin from the very same weights, so the control on initial weights has nothing to tell "
            "classes apart by: it shows nothing."
        )
    elif start.fixed:
        found.append(
            f"The seed does not decide the initial weights of {names(start.fixed)}: all networks of "
            "such a class begin from the same weights, which differ from those of other classes and name the class "
            "before any training. The control on initial weights is void here, so no comparison of classes below is a "
            "finding."
        )
    if ordered := sorted(name for name, vary in varied.items() if "order" not in vary):
        found.append(
            f"All networks of {names(ordered)} see their batches in one order, which differs from that of other "
            "classes: what tells such a class apart may be this order and not its data."
        )
    kinds = {name: recipe.network.init for name, recipe in selection.recipes.items()}
    if len(set(kinds.values())) > 1:
        odd = sorted(name for name in kinds if list(kinds.values()).count(kinds[name]) * 2 <= len(kinds))
        found.append(
            f"Not all classes draw their initial weights alike ({', '.join(sorted(set(kinds.values())))}): "
            f"{names(odd)} may be told by the kind of beginning, which the control on initial weights then shows."
        )
    if selection.copied:
        found.append(
            f"{selection.copied:,} networks are copies of others, up to the numbering of their hidden units. Copies "
            "are kept in one fold, so no classifier meets one of them in both training and testing."
        )
    return found


def names(classes: list[str], most: int = 6) -> str:
    listed = ", ".join(classes[:most]) + (f" and {len(classes) - most} more" if len(classes) > most else "")
    return f"class {listed}" if len(classes) == 1 else f"classes {listed}"


def shared_starts(selection: Selection) -> str:
    """For comparisons of an original with a modified class: do networks of one seed begin alike?"""
    if selection.starts.shared_by_seed:
        return "Networks of one seed begin from the same weights in all classes."
    return (
        "Networks of one seed do not share their initial weights across classes, since every random stream is keyed by "
        "the whole recipe's digest: what is seen here is seen in spite of different beginnings."
    )
