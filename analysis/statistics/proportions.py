"""Shares of networks that are right: exact tests and intervals, all SciPy's."""


def wilson(correct: int, total: int) -> tuple[float, float]:
    """95% interval of a share, 0 to 1 (Wilson 1927): honest for few networks and for none or all of them right.

    Raises ValueError unless 0 <= correct <= total and total > 0.
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(0.95, "wilson")
    return float(interval.low), float(interval.high)


def clopper_pearson(correct: int, total: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a share, 0 to 1 (Clopper, Pearson 1934): for a `total` that was fixed beforehand.

    Raises ValueError unless 0 <= correct <= total and total > 0.
    """
    from scipy.stats import binomtest

    interval = binomtest(correct, total).proportion_ci(level, "exact")
    return float(interval.low), float(interval.high)


def share_at_most(wrong: int, drawn: int) -> float:
    """One-sided 95% limit of a share, 0 to 1, of which `wrong` of `drawn` members were found (Clopper, Pearson 1934).

    For none it is 1 - 0.05 ** (1 / drawn). 1 when nothing was drawn. Raises ValueError unless 0 <= wrong <= drawn.
    """
    from scipy.stats import beta

    if not 0 <= wrong <= drawn:
        raise ValueError(f"{wrong} of {drawn}")
    return float(beta.ppf(0.95, wrong + 1, drawn - wrong)) if wrong < drawn else 1.0
