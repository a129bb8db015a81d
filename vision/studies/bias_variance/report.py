"""The page of the study: U curves, their numbers, and the geometry of image sets."""

from collections.abc import Mapping
from typing import Any

from vision.analysis import page
from vision.analysis.charts import Line, chart, grid, numbers

_INTRO = (
    "Every learner is fitted to many training sets. What its answers have in common, but not with the truth, is bias; "
    "how they differ from one another is variance; what no learner can know is noise. The expected squared error on "
    "new observations is the sum of the three."
)


def render(families: Mapping[str, Mapping[str, Any]], geometry: Mapping[str, Any], *, resamples: int) -> str:
    """Returns the whole page.

    Args:
      families: name -> result of :func:`vision.studies.bias_variance.families.run`.
      geometry: result of :func:`vision.studies.bias_variance.geometry.run`.
      resamples: training sets for each value of a knob.
    """
    body = [
        "<h1>Bias, variance and the dimensions of images</h1>\n",
        f"<p class='soft'>{page.escape(_INTRO)} {resamples} training sets for each value.</p>\n",
        *(page.section(name.replace("_", " "), _family(name, result)) for name, result in families.items()),
        page.section("Distances, and the dimensions that images have", _geometry(geometry)),
    ]
    return page.document("Bias, variance and the dimensions of images", "".join(body))


def best(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the row with the smallest test error."""
    return min(result["rows"], key=lambda row: row["test_error"])


def _family(name: str, result: Mapping[str, Any]) -> str:
    rows, knob = result["rows"], result["knob"]
    xs = [row["knob"] + (knob in ("degree", "depth")) for row in rows]  # these begin at 0
    descending = rows[0]["knob"] > rows[-1]["knob"]
    if descending:
        xs = [result["size"] / row["knob"] for row in rows]
    label = {"neighbours k": "n / k", "degree": "coefficients (degree + 1)", "depth": "depth + 1"}.get(knob, knob)
    peaked = max(row["test_error"] for row in rows) > 20 * best(result)["test_error"]
    options: dict[str, Any] = {"x": f"{label}: simple to complex", "log_x": True, "log_y": peaked}
    if peaked:
        # Near the peak a bias estimated from so wild answers can be anything; what matters is in view.
        smallest, largest = best(result)["test_error"], max(row["test_error"] for row in rows)
        options["y_range"] = (smallest / 50, 2 * largest)
        options["upright"] = [(float(result["interpolates_at"]), "as many features as examples")]
    errors = [Line("test", xs, [row["test_error"] for row in rows], 0)]
    errors.append(Line("train", xs, [row["train_error"] for row in rows], 1))
    parts = [Line("bias²", xs, [row["bias2"] for row in rows], 2)]
    parts.append(Line("variance", xs, [row["variance"] for row in rows], 3))
    if "expected_variance" in rows[0]:
        expected = [row["expected_variance"] for row in rows]
        parts.append(Line("variance in closed form", xs, expected, 5, dashed=True, marked=False))
    if result["noise"]:
        parts.append(Line("noise", [xs[0], xs[-1]], [result["noise"]] * 2, 4, dashed=True, marked=False))
    pictures = [
        chart("squared error", errors, identifier=f"errors-{name}", **options),
        chart("its parts", parts, identifier=f"parts-{name}", **options),
    ]
    winner = best(result)
    said = f"Smallest test error {winner['test_error']:.3f} at {knob} {winner['knob']}."
    return f"<p>{page.escape(result['about'])} {page.escape(said)}</p>\n{grid(pictures)}{_numbers(result)}"


def _numbers(result: Mapping[str, Any]) -> str:
    closed = "expected_variance" in result["rows"][0]
    head = [result["knob"], "bias²", "variance", *(["closed form"] if closed else []), "noise", "sum"]
    head += ["test error", "standard error of the difference", "train error"]
    keys = ["bias2", "variance", *(["expected_variance"] if closed else []), "noise", "total"]
    keys += ["test_error", "tolerance", "train_error"]
    rows = [[row["knob"], *(page.number(row[key]) for key in keys)] for row in result["rows"]]
    return page.folded("The numbers", numbers(head, rows))


def _geometry(geometry: Mapping[str, Any]) -> str:
    noise, sets = geometry["noise"], geometry["datasets"]
    lines = [Line("uniform noise", [row["dimensions"] for row in noise], [row["contrast"] for row in noise], 0)]
    lines += [Line(row["name"], [row["pixels"]], [row["contrast"]], place) for place, row in enumerate(sets, start=1)]
    contrast = chart(
        "relative contrast of distances, (farthest - nearest) / nearest",
        lines,
        x="dimensions of the space",
        identifier="contrast",
        log_x=True,
        log_y=True,
    )
    pixels = [row["pixels"] for row in sets]
    dimension = chart(
        "intrinsic dimension",
        [
            Line("maximum likelihood", pixels, [row["maximum_likelihood"] for row in sets], 0),
            Line("TwoNN", pixels, [row["two_nearest"] for row in sets], 1),
            Line("dimensions of the space", pixels, pixels, 4, dashed=True),
        ],
        x="pixels",
        identifier="dimension",
        log_x=True,
        log_y=True,
    )
    head = ["image set", "images", "pixels", "contrast", "contrast of noise", "dimension, maximum likelihood", "TwoNN"]
    rows = [
        [
            row["name"],
            row["images"],
            row["pixels"],
            page.number(row["contrast"]),
            page.number(row["noise_contrast"]),
            f"{row['maximum_likelihood']:.1f}",
            f"{row['two_nearest']:.1f}",
        ]
        for row in sets
    ]
    said = (
        "Between points of noise all distances become alike as dimensions grow, and the nearest neighbour means "
        "nothing. Images keep their contrast, since they fill only a few of the dimensions of their space: the "
        "estimates are those of Levina and Bickel (2004, k from 10 to 20) and of Facco et al. (2017). Both fall short "
        "where the dimension is high and the images are few."
    )
    return f"<p>{page.escape(said)}</p>\n{grid([contrast, dimension])}{numbers(head, rows)}"
