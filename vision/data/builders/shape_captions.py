"""What captions say of a scene, in several forms from two words to everything."""

from vision.data.builders.shape_scenes import BACKGROUNDS, CELLS, COLORS, SHAPES, SIZES, Scenes

FORMS = ("short", "size", "position", "background", "full", "count", "all", "relation")
_COLORS = tuple(COLORS)
_BACKGROUNDS = tuple(BACKGROUNDS)
COUNTS = ("no shapes", "one shape", "two shapes", "three shapes")


def captions(scenes: Scenes, index: int) -> dict[str, str]:
    """Returns the captions of scene ``index`` by form, in the order of ``FORMS``.

    ========== ==========================================================
    short      a red circle (the main object)
    size       a large red circle
    position   a red circle at the top left
    background a red circle on a white background
    full       a large red circle at the top left on a white background
    count      two shapes on a white background
    all        a red circle and a blue square (several objects only)
    relation   a red circle to the left of a blue square (several objects only)
    ========== ==========================================================
    """
    names = [
        f"{_COLORS[scenes.color[index, each]]} {SHAPES[scenes.shape[index, each]]}"
        for each in range(scenes.num_objects[index])
    ]
    main = _a(names[0])
    sized = f"a {SIZES[scenes.size[index, 0]]} {names[0]}"
    place = _place(CELLS[scenes.cell[index, 0]])
    ground = f"on a {_BACKGROUNDS[scenes.background[index]]} background"
    found = {
        "short": main,
        "size": sized,
        "position": f"{main} {place}",
        "background": f"{main} {ground}",
        "full": f"{sized} {place} {ground}",
        "count": f"{COUNTS[len(names)]} {ground}",
    }
    if len(names) > 1:
        *first, last = map(_a, names)
        found["all"] = f"{', '.join(first)} and {last}"
        partner = int(scenes.partner[index])
        found["relation"] = f"{main} {_relation(scenes, index, partner)} {_a(names[partner])}"
    return found


def _relation(scenes: Scenes, index: int, partner: int) -> str:
    """Returns where the main object is, seen from another, by their cells' columns or rows."""
    (row, column), (other_row, other_column) = (divmod(int(scenes.cell[index, each]), 3) for each in (0, partner))
    sideways = column != other_column and (row == other_row or bool(scenes.sideways[index]))
    if sideways:
        return "to the left of" if column < other_column else "to the right of"
    return "above" if row < other_row else "below"


def _a(words: str) -> str:
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def _place(cell: str) -> str:
    if cell == "center":
        return "in the center"
    return f"{'on' if cell in ('left', 'right') else 'at'} the {cell}"
