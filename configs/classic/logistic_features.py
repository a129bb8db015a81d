"""Logistic regression of several classes on what a trained network says of images: a linear probe of its features.

Command: python -m experiments.train --config configs/classic/logistic_features.py
Expected: test accuracy 0.992 in seconds. The features are those of the quickstart's network on its own digits, which

  python -m experiments.train --config configs/quickstart.py
  python -m experiments.extract --workdir runs/quickstart --dataset digits --out features/digits

leave in a folder; another folder stands behind the colon, :runs/NAME/features. Of the shards a part can be taken, for
example the labels of 1% with --config.data.split='train[:1%]'. Every estimator learns on them, by
--config.estimator.name, and so does softmax regression by gradient: configs/softmax_regression.py with
--config.data.name=features:FOLDER --config.data.mean=None --config.data.std=None.
"""

from ml_collections import ConfigDict


def get_config(folder: str = "features/digits") -> ConfigDict:
    config = ConfigDict()
    config.data = {"name": f"features:{folder or 'features/digits'}"}
    # Whatever the network's units are, the penalty is the same for all of them.
    config.features = ({"name": "pixels"}, {"name": "standardize"})
    config.estimator = {"name": "softmax_regression", "l2": 1e-3}
    config.evals = {"test": {"split": "test"}}
    return config
