"""Writes tests/goldens/*.json: what PyTorch, and papers it lacks, say of losses, optimizers and schedules.

Losses and learning rates are PyTorch's own. Optimizers are PyTorch's own in float64 where it has them; LARS, LAMB
and Lion are the papers' equations in NumPy, and so is Muon, whose Newton-Schulz iteration PyTorch computes in
bfloat16. All inputs are drawn from a seed and rounded so that float32 holds them exactly.

PyTorch is no dependency of the project. In an environment of its own: pip install torch==2.13.0 numpy
"""

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vision import program
from vision.errors import UserError

try:
    import numpy as np
    import torch
except ImportError:
    torch = None  # main says what to do; --help needs neither

Params = dict[str, Any]
SEED = 20240229
STEPS = 6
SHAPES = {"hidden/kernel": (4, 3), "hidden/bias": (3,), "head/kernel": (2, 5)}  # inputs by outputs; tall and wide
RATE = 0.05


def draw(rng: Any, *shape: int, scale: float = 1.0) -> Any:
    """Normal numbers in multiples of 1/64: short in JSON and the same in float32 and float64."""
    return np.round(rng.normal(size=shape) * scale * 64) / 64


# Losses: values and gradients of the mean over the batch.


def losses() -> dict[str, Any]:
    """Cross-entropies and squared errors of 5 examples and 7 outputs, at usual and at extreme logits."""
    rng = np.random.default_rng(SEED)
    usual, extreme = draw(rng, 5, 7, scale=2), draw(rng, 5, 7)
    extreme[np.arange(5), [0, 6, 2, 3, 1]] = [80, 80, -80, -80, 80]
    extreme[4, 5] = -80
    hard = rng.integers(0, 7, size=5)
    hard[:3] = [0, 6, 2]
    soft = rng.integers(1, 17, size=(5, 7)).astype(float)
    soft[:, -1] += 128 - soft.sum(axis=1)
    soft /= 128  # rows add up to 1 in float32 as well
    one_hot = np.eye(7)[hard]
    mixed = 0.75 * one_hot + 0.25 * one_hot[::-1]
    several = rng.integers(0, 2, size=(5, 7)).astype(float)
    target = draw(rng, 5, 7)
    cross_entropy, binary = torch.nn.functional.cross_entropy, torch.nn.functional.binary_cross_entropy_with_logits
    squared = torch.nn.functional.mse_loss

    def smooth(labels: Any) -> Any:
        return 0.9 * labels + 0.1 / 7

    def summed(function: Callable) -> Callable:
        return lambda logits, labels: function(logits, labels, reduction="none").sum(dim=1).mean()

    def smoothing(logits: Any, labels: Any) -> Any:
        return cross_entropy(logits, labels, label_smoothing=0.1)

    smoothed = {"label_smoothing": 0.1}
    kinds: list[tuple[str, str, dict, str, Any, Callable]] = [
        ("softmax of hard labels", "classify", {}, "label", hard, cross_entropy),
        ("softmax of soft targets", "classify", {}, "label", soft, cross_entropy),
        ("softmax of mixed targets", "classify", {}, "label", mixed, cross_entropy),
        ("softmax of smoothed hard labels", "classify", smoothed, "label", hard, smoothing),
        ("softmax of smoothed soft targets", "classify", smoothed, "label", soft, smoothing),
        ("sigmoid of hard labels", "classify", {"loss": "sigmoid"}, "label", hard,
         lambda logits, _: summed(binary)(logits, torch.tensor(one_hot))),
        ("sigmoid of several labels", "classify", {"loss": "sigmoid"}, "label", several, summed(binary)),
        ("sigmoid of smoothed labels", "classify", {"loss": "sigmoid", **smoothed}, "label", several,
         lambda logits, labels: summed(binary)(logits, smooth(labels))),
        ("squared error of targets", "regress", {}, "target", target, summed(squared)),
        ("squared error of hard labels", "regress", {}, "label", hard,
         lambda output, _: summed(squared)(output, torch.tensor(one_hot))),
    ]  # fmt: skip
    cases = []
    for name, objective, options, key, labels, function in kinds:
        for scale, logits in (("usual", usual), ("extreme", extreme)):
            variable = torch.tensor(logits, requires_grad=True)
            value = function(variable, torch.tensor(labels))
            value.backward()
            cases.append({
                "name": f"{name}, {scale} logits", "objective": objective, "options": options, "logits": scale,
                "batch": {key: labels}, "value": value.item(), "gradient": variable.grad.numpy(),
            })  # fmt: skip
    return {"logits": {"usual": usual, "extreme": extreme}, "cases": cases}


# Optimizers: the parameters after each of six steps with given gradients.


def optimizers() -> dict[str, Any]:
    """Trajectories of every optimizer over the same parameters and gradients."""
    rng = np.random.default_rng(SEED + 1)
    start = {name: draw(rng, *shape) for name, shape in SHAPES.items()}
    gradients = [{name: draw(rng, *shape) for name, shape in SHAPES.items()} for _ in range(STEPS)]
    of_torch: list[tuple[str, str, dict, float, str, dict]] = [
        ("SGD", "sgd", {}, 0.0, "SGD", {}),
        ("SGD with momentum", "sgd", {"momentum": 0.9}, 0.0, "SGD", {"momentum": 0.9}),
        ("SGD with Nesterov momentum", "sgd", {"momentum": 0.9, "nesterov": True}, 0.0,
         "SGD", {"momentum": 0.9, "nesterov": True}),
        ("SGD with momentum and weight decay", "sgd", {"momentum": 0.9}, 0.1, "SGD", {"momentum": 0.9}),
        # PyTorch adds eps to the root and optax under it, so the comparison is at eps 0.
        ("Adagrad", "adagrad", {"initial_accumulator": 0.1, "eps": 0.0}, 0.0,
         "Adagrad", {"initial_accumulator_value": 0.1, "eps": 0.0}),
        ("RMSprop", "rmsprop", {"smoothing": 0.9, "eps": 0.01}, 0.0, "RMSprop", {"alpha": 0.9, "eps": 0.01}),
        ("RMSprop with momentum", "rmsprop", {"smoothing": 0.9, "momentum": 0.9}, 0.1,
         "RMSprop", {"alpha": 0.9, "momentum": 0.9}),
        ("Adam", "adam", {"b1": 0.8, "b2": 0.99, "eps": 0.01}, 0.0, "Adam", {"betas": (0.8, 0.99), "eps": 0.01}),
        ("Adam at its defaults with L2 penalty", "adam", {}, 0.1, "Adam", {}),
        ("AdamW", "adamw", {"b1": 0.8, "b2": 0.99}, 0.1, "AdamW", {"betas": (0.8, 0.99)}),
    ]  # fmt: skip
    of_papers: list[tuple[str, str, dict, float, Callable]] = [
        ("Adagrad with eps under the root", "adagrad", {"initial_accumulator": 0.0, "eps": 0.5}, 0.0, adagrad),
        ("LAMB", "lamb", {"b1": 0.8, "b2": 0.99, "eps": 0.01}, 0.1, lamb),
        ("LARS", "lars", {"momentum": 0.9, "trust_coefficient": 0.5}, 0.0, lars),
        ("LARS with weight decay", "lars", {"momentum": 0.9, "trust_coefficient": 0.5}, 0.1, lars),
        ("Lion", "lion", {"b1": 0.9, "b2": 0.99}, 0.1, lion),
        ("Muon", "muon", {}, 0.1, muon),
        ("Muon without Nesterov momentum", "muon", {"nesterov": False, "beta": 0.8, "newton_schulz_steps": 4}, 0.0,
         muon),
        ("Muon with consistent RMS", "muon", {"consistent_rms": 0.2}, 0.0, muon),
        ("Muon with unit rows beside SGD", "muon", {"beta": 0.6, "newton_schulz_steps": 3, "unit_rows": True,
         "others": "sgd", "momentum": 0.85}, 0.0, airbench_muon),
    ]  # fmt: skip
    cases = []
    for name, optimizer, options, decay, of, of_options in of_torch:
        common = {"name": name, "optimizer": optimizer, "options": options, "weight_decay": decay}
        path = by_torch(start, gradients, getattr(torch.optim, of), {**of_options, "weight_decay": decay})
        cases.append({**common, "reference": f"torch.optim.{of}", "trajectory": path})
    for name, optimizer, options, decay, step in of_papers:
        common = {"name": name, "optimizer": optimizer, "options": options, "weight_decay": decay}
        path = by_paper(start, gradients, step, options, decay)
        cases.append({**common, "reference": (step.__doc__ or "").splitlines()[0], "trajectory": path})
    return {"learning_rate": RATE, "params": start, "gradients": gradients, "cases": cases}


def by_torch(start: Params, gradients: Sequence[Params], optimizer: Callable, options: dict) -> list[Params]:
    """Steps an optimizer of PyTorch, every parameter in float64."""
    params = {name: torch.tensor(value, requires_grad=True) for name, value in start.items()}
    stepper = optimizer(list(params.values()), lr=RATE, **options)
    path = []
    for gradient in gradients:
        for name, value in params.items():
            value.grad = torch.tensor(gradient[name])
        stepper.step()
        path.append({name: value.detach().numpy().copy() for name, value in params.items()})
    return path


def by_paper(start: Params, gradients: Sequence[Params], step: Callable, options: dict, decay: float) -> list[Params]:
    """Steps each parameter by ``step(t, w, g, memory, decay, **options) -> w``; ``memory`` starts as zeros."""
    params = dict(start)
    memory: dict[str, dict[str, Any]] = {
        name: {"m": np.zeros(SHAPES[name]), "v": np.zeros(SHAPES[name])} for name in SHAPES
    }
    path = []
    for t, gradient in enumerate(gradients, start=1):
        params = {n: step(t, w, gradient[n], memory[n], decay, **options) for n, w in params.items()}
        path.append(params)
    return path


def adagrad(t, w, g, memory, decay, *, initial_accumulator, eps):
    """Duchi et al. 2011, with eps under the root."""
    memory["v"] = (memory["v"] if t > 1 else initial_accumulator) + g**2
    return w - RATE * g / np.sqrt(memory["v"] + eps)


def adam_direction(t, g, memory, b1, b2, eps):
    """Kingma and Ba 2015, algorithm 1: the corrected mean over the root of the corrected mean square."""
    memory["m"] = b1 * memory["m"] + (1 - b1) * g
    memory["v"] = b2 * memory["v"] + (1 - b2) * g**2
    return memory["m"] / (1 - b1**t) / (np.sqrt(memory["v"] / (1 - b2**t)) + eps)


def lamb(t, w, g, memory, decay, *, b1, b2, eps):
    """You et al. 2020, algorithm 2, with phi the identity."""
    r = adam_direction(t, g, memory, b1, b2, eps) + decay * w
    return w - RATE * np.linalg.norm(w) / np.linalg.norm(r) * r


def lars(t, w, g, memory, decay, *, momentum, trust_coefficient):
    """You et al. 2017, algorithm 1, with the norm of (g + decay w) for the sum of norms ||g|| + decay ||w||."""
    decayed = g + decay * w
    local_rate = trust_coefficient * np.linalg.norm(w) / np.linalg.norm(decayed) if w.ndim > 1 else 1.0
    memory["v"] = momentum * memory["v"] + RATE * local_rate * decayed
    return w - memory["v"]


def lion(t, w, g, memory, decay, *, b1, b2):
    """Chen et al. 2023, algorithm 2."""
    c = b1 * memory["m"] + (1 - b1) * g
    memory["m"] = b2 * memory["m"] + (1 - b2) * g
    return w - RATE * (np.sign(c) + decay * w)


def muon(t, w, g, memory, decay, *, beta=0.95, nesterov=True, newton_schulz_steps=5, consistent_rms=None):
    """Jordan et al. 2024 for matrices, written for outputs by inputs; Adam for all else."""
    if w.ndim < 2:
        return w - RATE * (adam_direction(t, g, memory, 0.9, 0.999, 1e-8) + decay * w)
    memory["m"] = beta * memory["m"] + (1 - beta) * g
    x = ((1 - beta) * g + beta * memory["m"] if nesterov else memory["m"]).T
    rows, columns = x.shape
    x = x / (np.linalg.norm(x) + 1e-7)
    for _ in range(newton_schulz_steps):
        gram = x @ x.T
        x = 3.4445 * x - 4.7750 * gram @ x + 2.0315 * gram @ gram @ x
    scale = (
        math.sqrt(max(1, rows / columns)) if consistent_rms is None else consistent_rms * math.sqrt(max(rows, columns))
    )
    return w - RATE * (scale * x.T + decay * w)


def airbench_muon(t, w, g, memory, decay, *, beta, newton_schulz_steps, unit_rows, others, momentum):
    """Jordan's airbench94_muon for matrices, written for inputs by outputs; Nesterov's SGD for all else."""
    share = beta if w.ndim > 1 else momentum
    memory["m"] = share * memory["m"] + g
    direction = g + share * memory["m"]
    if w.ndim < 2:
        return w - RATE * direction
    x = direction.T / np.linalg.norm(direction)
    for _ in range(newton_schulz_steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return w * math.sqrt(w.shape[1]) / np.linalg.norm(w) - RATE * x.T


# Schedules: the learning rate of steps 0 to 20 of a training of 20 steps.


def schedules() -> dict[str, Any]:
    """Learning rates by PyTorch's schedulers, beside the same schedule in the words of our configs."""
    of = torch.optim.lr_scheduler
    total, warmup = 20, 5

    def steps(count: int) -> dict[str, int]:
        return {"steps": count}

    def warm(optimizer: Any, after: Any) -> Any:
        return of.SequentialLR(optimizer, [of.LambdaLR(optimizer, lambda t: t / warmup), after], milestones=[warmup])

    def rows() -> list[tuple[str, Mapping, int, Callable]]:
        return [
            ("ConstantLR", {"name": "constant"}, 0, lambda o: of.ConstantLR(o, factor=1.0)),
            ("MultiStepLR", {"name": "step", "at": [steps(4), steps(5), steps(15)], "factor": 0.3}, 0,
             lambda o: of.MultiStepLR(o, milestones=[4, 5, 15], gamma=0.3)),
            ("MultiStepLR with a milestone twice", {"name": "step", "at": [steps(7), steps(7)]}, 0,
             lambda o: of.MultiStepLR(o, milestones=[7, 7])),
            ("StepLR", {"name": "exponential", "every": steps(6), "factor": 0.5, "staircase": True}, 0,
             lambda o: of.StepLR(o, step_size=6, gamma=0.5)),
            ("ExponentialLR", {"name": "exponential", "every": steps(1), "factor": 0.9}, 0,
             lambda o: of.ExponentialLR(o, gamma=0.9)),
            ("CosineAnnealingLR", {"name": "cosine", "final": 0.05}, 0,
             lambda o: of.CosineAnnealingLR(o, T_max=total, eta_min=0.05)),
            ("CosineAnnealingLR to zero", {"name": "cosine"}, 0, lambda o: of.CosineAnnealingLR(o, T_max=total)),
            ("LinearLR", {"name": "linear", "final": 0.04}, 0,
             lambda o: of.LinearLR(o, start_factor=1.0, end_factor=0.1, total_iters=total)),
            # PyTorch ends a phase one step before its count is full, and the cycle at the last step; ours are full.
            ("OneCycleLR", {"name": "one_cycle", "rise": 0.3, "final_divisor": 50.0}, 0,
             lambda o: of.OneCycleLR(o, 0.4, total_steps=total + 1, pct_start=7 / 21, final_div_factor=50.0)),
            ("LinearLR from zero, then CosineAnnealingLR", {"name": "cosine"}, warmup,
             lambda o: warm(o, of.CosineAnnealingLR(o, T_max=total - warmup))),
            ("LinearLR from zero, then MultiStepLR", {"name": "step", "at": [steps(6)]}, warmup,
             lambda o: warm(o, of.MultiStepLR(o, milestones=[6]))),
        ]  # fmt: skip

    cases = []
    for name, schedule, warmup_steps, scheduler in rows():
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4, momentum=0.9)
        following, rates = scheduler(optimizer), []
        for _ in range(total + 1):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if len(rates) <= total:
                following.step()
        cases.append({"name": name, "schedule": schedule, "warmup": warmup_steps, "values": rates})
    return {"peak": 0.4, "total": total, "cases": cases}


def rounded(value: Any) -> Any:
    """Arrays as lists, numbers to 12 digits, so that another machine's last bits change no file."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    if isinstance(value, np.ndarray):
        return rounded(value.tolist())
    return float(f"{value:.12g}") if isinstance(value, float) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the command line and writes the three files."""
    parser = program.Parser(__doc__)
    parser.add_argument("--out", default="tests/goldens", help="folder of the files (default: tests/goldens)")
    args = parser.read(argv)
    if torch is None:
        raise UserError("PyTorch is not installed here; in an environment of its own: pip install torch==2.13.0 numpy")
    warnings.simplefilter("ignore")  # schedulers of PyTorch warn of each other's calls
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    written = {}
    for make in (losses, optimizers, schedules):
        path = folder / f"{make.__name__}.json"
        contents = rounded({"made_by": "python -m tools.goldens", "torch": torch.__version__.split("+")[0], **make()})
        cases = contents.pop("cases")
        lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
        path.write_text(f'{json.dumps(contents)[:-1]}, "cases": [\n{lines}\n]}}\n')
        written[str(path)] = len(cases)
        print(f"{path}: {len(cases)} cases, {path.stat().st_size} bytes")
    program.finish({"cases": written}, as_json=args.json)
    return 0


if __name__ == "__main__":
    program.run(main)
