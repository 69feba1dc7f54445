"""What numbers beside the weights tell of the class: a claim about weights must beat these.

Ridge regression of one number tells its largest class and its smallest, and makes a weak baseline of it. Here it is
multinomial logistic regression on splines of ranks, all scikit-learn's: it puts any number of classes in order along a
number, and adds up what several tell. Of 1,000 networks of ten classes it told 54% by their steps, where ridge told
20%, and by layer sizes as many as boosted trees or more, in a tenth of their time (docs/analyses.md). Axes: N networks,
F features, M networks trained on, T tested, R labelings.
"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from analysis.statistics.auc import Auc, unseen_auc, unseen_scores
from analysis.statistics.classify import Accuracy, class_accuracy
from analysis.statistics.splits import fold_by_group

KNOTS = 8
RANKS_MAX = 500
PENALTY = 10.0  # scikit-learn's C; fixed before anything was measured but the ten classes above


def class_baselines(
    columns: Mapping[str, np.ndarray], labels: Sequence[str], groups: Sequence[int] | np.ndarray
) -> dict[str, Accuracy]:
    """Name -> accuracy of `class_accuracy` from one column (N,) or several (N, F). Without shuffles: a p is not asked.

    Raises UsageError: see `class_accuracy`.
    """
    return {
        name: class_accuracy(values.reshape(len(labels), -1), labels, groups, shuffles=0, guess=ordering_classes)
        for name, values in columns.items()
    }


def auc_baseline(features_NF: np.ndarray, second_N: np.ndarray, groups: Sequence[int] | np.ndarray) -> Auc:
    """AUC of telling two classes apart on groups never seen, by the same classifier."""
    fold_N = fold_by_group(second_N, np.asarray(groups))
    return unseen_auc(unseen_scores(features_NF, second_N, fold_N, ordering_scorer), second_N, groups)


def ordering_classes(train_MF: np.ndarray, codes_RM: np.ndarray, test_TF: np.ndarray, classes: int) -> np.ndarray:
    """(R, T) classes, for `class_accuracy`; a fit a labeling."""
    return np.stack([_fitted(train_MF, code_M).predict(test_TF) for code_M in codes_RM])


def ordering_scorer(train_MF: np.ndarray, second_M: np.ndarray, test_TF: np.ndarray) -> np.ndarray:
    """(T,) log-odds of the second class, for `unseen_scores`."""
    return _fitted(train_MF, np.asarray(second_M, int)).decision_function(test_TF)


def _fitted(train_MF: np.ndarray, code_M: np.ndarray):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import QuantileTransformer, SplineTransformer

    m, f = train_MF.shape
    model = make_pipeline(
        QuantileTransformer(n_quantiles=min(RANKS_MAX, m)),
        SplineTransformer(knots=np.tile(np.linspace(0, 1, KNOTS)[:, None], f)),  # pyright: ignore[reportArgumentType]
        LogisticRegression(C=PENALTY, max_iter=1000),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # classes that are told perfectly: it is good enough then
        return model.fit(train_MF, code_M)
