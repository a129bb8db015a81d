"""Trees and their ensembles: scikit-learn's, under the names of the field."""

from typing import Literal

from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

Criterion = Literal["gini", "entropy"]


def decision_tree(
    *, criterion: Criterion = "gini", max_depth: int | None = None, min_leaf: int = 1, seed: int = 0
) -> DecisionTreeClassifier:
    """Returns a classification tree (Breiman et al. 1984).

    Args:
      criterion: what a split is to lower.
      max_depth: of the tree; None until leaves are pure.
      min_leaf: examples in a leaf, at least.
      seed: of the order in which features are tried, which decides between equal splits.
    """
    return DecisionTreeClassifier(
        criterion=criterion, max_depth=max_depth, min_samples_leaf=min_leaf, random_state=seed
    )


def random_forest(
    *,
    num_trees: int = 100,
    criterion: Criterion = "gini",
    max_depth: int | None = None,
    max_features: float | Literal["sqrt", "log2"] = "sqrt",
    seed: int = 0,
) -> RandomForestClassifier:
    """Returns a random forest (Breiman 2001): trees on bootstrap samples, each split among a few random features.

    Args:
      num_trees: how many.
      criterion: what a split is to lower.
      max_depth: of the trees; None until leaves are pure.
      max_features: how many features a split looks at, or their share.
      seed: of samples and features.
    """
    return RandomForestClassifier(
        n_estimators=num_trees,
        criterion=criterion,
        max_depth=max_depth,
        max_features=max_features,
        n_jobs=-1,
        random_state=seed,
    )


def gradient_boosting(
    *,
    num_rounds: int = 100,
    learning_rate: float = 0.1,
    max_leaves: int = 31,
    max_depth: int | None = None,
    l2: float = 0.0,
    seed: int = 0,
) -> HistGradientBoostingClassifier:
    """Returns gradient boosting over histograms of the features (Ke et al. 2017, LightGBM); one tree a class a round.

    Args:
      num_rounds: how many.
      learning_rate: shrinks each tree.
      max_leaves: of a tree.
      max_depth: of a tree; None for no bound but that of the leaves.
      l2: penalty of the values in leaves.
      seed: of the examples that the histograms' bins are taken from.
    """
    return HistGradientBoostingClassifier(
        max_iter=num_rounds,
        learning_rate=learning_rate,
        max_leaf_nodes=max_leaves,
        max_depth=max_depth,
        l2_regularization=l2,
        early_stopping=False,
        random_state=seed,
    )
