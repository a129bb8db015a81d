"""A ResNet of 18 layers, a quarter as wide as usual, on any folder of images.

Command: python -m experiments.train --config configs/folder_resnet.py --config.data.name=folder:PATH
(or configs/folder_resnet.py:PATH; for other sources see configs/folder.py.)
Expected: validation accuracy 0.775 on ten classes of Tiny ImageNet (mean of 3 seeds; see docs/results.md), where the
multilayer perceptron of configs/folder.py has 0.413; eight minutes of one core. With another `--config.model.name`
give `--config.model.width` as well, or take configs/folder.py, where no width is set.
"""

from ml_collections import ConfigDict

from configs import folder


def get_config(root: str = "images") -> ConfigDict:
    config = folder.get_config(root)
    config.model = {"name": "resnet/18", "width": 16}
    config.optimizer.learning_rate = 3e-3
    config.optimizer.rules = ((r"(bias|scale)$", {"weight_decay": 0.0}),)
    return config
