"""DeiT-S on ImageNet, taught by a convolutional network (Touvron et al. 2021, equation 3 and table 9).

Command: TFDS_DATA_DIR=FOLDER python -m experiments.train --config configs/deit_s16_distilled_imagenet.py:RUN
(FOLDER holds the prepared data set `imagenet2012`; RUN is a run of configs/resnet50_imagenet.py, or a folder that
tools.convert_weights made of a ResNet-50, and teaches.)

Expected: the published top-1 accuracy 0.812, whose teacher was a RegNetY-16GF of 0.829 and not a ResNet-50. Not run
here.

The recipe is that of configs/deit_s16_imagenet.py. The network has a distillation token beside the class token, which
learns the teacher's most probable class of the same augmented and mixed image; the prediction is the mean of both.
"""

from ml_collections import ConfigDict

from configs import deit_s16_imagenet


def get_config(run: str = "runs/resnet50_imagenet") -> ConfigDict:
    config = deit_s16_imagenet.get_config()
    config.model = {"name": "vit/S16_deit", "distillation_token": True}
    config.teacher = {"model": {"name": "resnet/50"}, "init_from": run}
    config.objective = {"name": "knowledge_distillation", "form": "hard", "label_smoothing": 0.1}
    return config
