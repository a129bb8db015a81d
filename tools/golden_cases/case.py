"""What is compared of a network of ours and the same one of another library, and which numbers it is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """A network of ours and the same one of another library.

    Attributes:
      name: ``library/what``.
      model: our variant.
      naming: key of the names of theirs, in vision.interop.namings.
      source: what builds theirs, in torch_references.py.
      reference: arguments of it.
      options: what differs from our variant.
      num_classes: size of the output; 0 for none.
      image_shape: ``(height, width, channels)``.
      positions_of: the image shape that learned positions are of, where it is another one.
      masked: whether the student of self-distillation is meant: some patches give way to the mask token.
      batch: images.
      train: whether a training step is compared too: its output, loss, and running statistics.
      gradients: whether its gradients are; it needs ``train``.
      slow: whether it takes the test more than a few seconds.
      scales: factors of drawn arrays, by a regular expression of their names.
    """

    name: str
    model: str
    naming: str
    source: str
    reference: Options
    options: Options = field(default_factory=dict)
    num_classes: int = 10
    image_shape: tuple[int, int, int] = (32, 32, 3)
    positions_of: tuple[int, int, int] | None = None
    masked: bool = False
    batch: int = 2
    train: bool = False
    gradients: bool = False
    slow: bool = False
    scales: Mapping[str, float] = field(default_factory=dict)


# Without normalisation a ReLU would take half of the signal at each layer.
RELU = {r"\.weight$": 1.4}
# Small numbers before a normalisation, where its epsilon shows.
BATCH_NORM = {
    r"running_var$": 1e-3,
    r"running_mean$": 0.03,
    r"(conv\w*|downsample\.0|shortcut\.0)\.weight$": 0.03,
}
LAYER_NORM = {r"patch_embed|pos(ition)?_embed|_tokens?$|^stem\.(0|proj)|features\.0\.0": 0.02}
LEARN: dict[str, Any] = {"train": True, "gradients": True}
GREY, LARGE = (28, 28, 1), (224, 224, 3)
PUBLISHED: dict[str, Any] = {"num_classes": 1000, "image_shape": LARGE, "batch": 1, "slow": True}
