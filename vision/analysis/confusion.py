"""A confusion matrix for a page: a coloured table, and the most confused pairs of classes in words."""

from vision.analysis import page
from vision.analysis.runs import Evaluation

MOST_CLASSES = 50
_MOST_CLASSES_WITH_COUNTS = 12
_MOST_PAIRS = 10
_RIGHT, _WRONG = "59, 130, 246", "232, 89, 12"  # red, green, blue; the opacity is the share of the row


def picture(evaluation: Evaluation) -> str:
    """Returns the matrix as a coloured table, or a sentence where there are too many classes to draw."""
    names, count = evaluation.class_names, len(evaluation.confusion)
    if count > MOST_CLASSES:
        return f"<p>{count} classes are too many for a picture; it is drawn up to {MOST_CLASSES}.</p>\n"
    with_counts = count <= _MOST_CLASSES_WITH_COUNTS
    kinds = [
        kind
        for kind, wanted in (
            ("many", not with_counts),
            ("long", not with_counts or any(len(name) > 3 for name in names)),
        )
        if wanted
    ]
    head = "".join(f"<th scope='col'>{page.escape(name)}</th>" for name in names)
    rows = []
    for true, row in enumerate(evaluation.confusion):
        cells = "".join(
            _cell(names[true], names[predicted], cell, sum(row), true == predicted, with_counts)
            for predicted, cell in enumerate(row)
        )
        rows.append(f"<tr><th scope='row'>{page.escape(names[true])}</th>{cells}</tr>\n")
    return (
        "<p class='soft'>A row is a true class, a column the class it was taken for. The stronger the colour, the "
        "larger the share of the row: blue is right, orange is wrong.</p>\n"
        f"<div class='wide confusion'><table class='{' '.join(kinds)}'><thead><tr><td></td>{head}</tr></thead>\n"
        f"<tbody>{''.join(rows)}</tbody></table></div>\n"
    )


def confused_pairs(evaluation: Evaluation) -> str:
    """Returns the pairs of classes that are confused most often, as a list."""
    pairs = [
        (count, true, predicted)
        for true, row in enumerate(evaluation.confusion)
        for predicted, count in enumerate(row)
        if count and true != predicted
    ]
    if not pairs:
        return "<p>No class is taken for another.</p>\n"
    worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:_MOST_PAIRS]
    items = []
    for count, true, predicted in worst:
        total = sum(evaluation.confusion[true])
        names = (page.escape(evaluation.class_names[index]) for index in (true, predicted))
        items.append(
            "<li><b>{}</b> taken for <b>{}</b>: ".format(*names) + f"{count} of {total} ({count / total:.1%})</li>\n"
        )
    return f"<p>Most often confused:</p>\n<ol>{''.join(items)}</ol>\n"


def _cell(true: str, predicted: str, count: int, total: int, right: bool, with_count: bool) -> str:
    if not count:
        return "<td></td>"
    share = count / total
    # Mistakes are rare where a model is any good: root and offset let single ones be seen.
    opacity = 0.1 + 0.65 * share if right else 0.2 + 0.55 * share**0.5
    color = f"rgba({_RIGHT if right else _WRONG}, {opacity:.2f})"
    hint = f"{page.escape(true)} taken for {page.escape(predicted)}: {count} of {total}"
    return f"<td style='background: {color}' title='{hint}'>{count if with_count else ''}</td>"
