"""The same optimizers on a small network that reads digits: loss against steps and against examples seen."""

from collections.abc import Callable
from typing import Any

from vision import models
from vision.studies.optimization.methods import METHODS
from vision.studies.optimization.paths import best_rate
from vision.studies.optimization.small_runs import Data, train

STEPS, EVERY, FEW = 300, 10, 32
RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
HIDDEN = (32,)


def run(data: Data, *, seed: int, note: Callable[[str], None]) -> dict[str, Any]:
    """Returns the loss over the training of every method, at its best learning rate of :data:`RATES`.

    Args:
      data: what the network learns.
      seed: of weights and batches, the same for all.
      note: told about progress.
    """
    height, width, channels = data.images.shape[1:]
    model = models.build(
        "mlp/128", num_classes=int(data.labels.max()) + 1, image_shape=(height, width, channels), hidden_sizes=HIDDEN
    )
    rows = []
    for label, method in METHODS.items():
        options: dict[str, Any] = {"steps": STEPS, "every": EVERY, "few": FEW}
        found = train(model, data, method, rates=RATES, seeds=[seed] * len(RATES), **options)
        chosen = best_rate(found.losses)
        batch = {"all": len(data.labels), "one": 1, "few": FEW}[method.batch]
        rows.append(
            {
                "method": label,
                "learning_rate": RATES[chosen],
                "batch": batch,
                "steps": found.steps.tolist(),
                "loss": [float(f"{value:.4g}") for value in found.losses[chosen]],
                "train_accuracy": float(found.train_accuracy[chosen]),
                "test_accuracy": float(found.test_correct[chosen].mean()),
            }
        )
        note(f"network: {label}: loss {rows[-1]['loss'][-1]:.3g} at rate {RATES[chosen]:g}")
    return {"steps": STEPS, "hidden_sizes": list(HIDDEN), "examples": len(data.labels), "rows": rows}
