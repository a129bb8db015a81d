"""Sentences that classes' names are put into, so that a model of images and words can tell classes apart.

The sets are of the kind and number that CLIP's authors use for these data (Radford et al. 2021, section 3.1.4), but
written anew: published accuracies are reproduced to about a point, not exactly.
"""

import re
from collections.abc import Sequence

from vision.errors import did_you_mean

PLAIN = ("a photo of a {}.", "an image of a {}.", "a picture of a {}.", "the {}.")

CIFAR10 = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a tiny photo of a {}.",
    "a tiny photo of the {}.",
    "a grainy photo of a {}.",
    "a grainy photo of the {}.",
    "a pixelated picture of a {}.",
    "a pixelated picture of the {}.",
    "a photo of a {}, out of focus.",
    "a photo of the {}, out of focus.",
    "a pale photo of a {}.",
    "a pale photo of the {}.",
    "a colorful photo of a {}.",
    "a colorful photo of the {}.",
    "a {} seen from nearby.",
    "the {} seen from nearby.",
    "a {} seen from far away.",
    "the {} seen from far away.",
)

MNIST = ('a handwritten digit: "{}".',)

FASHION_MNIST = (
    "a photo of a {}.",
    "a product photo of a {}.",
    "a gray photo of a {}.",
    "a small black and white picture of a {}.",
    "a {} from a clothing catalog.",
    "a piece of clothing: a {}.",
    "a {}, photographed from the front, on a black background.",
)

SHAPES = ("a {}",)

IMAGENET_7 = (
    "a snapshot of the {}.",
    "a poor photo of a {}.",
    "a close view of the {}.",
    "a huge {}.",
    "a tiny {}.",
    "a painting of a {}.",
    "a {} in a computer game.",
)

_THINGS = (  # a {} and the {}
    "photo of",
    "snapshot of",
    "poor photo of",
    "fine photo of",
    "blurred photo of",
    "sharp photo of",
    "dark photo of",
    "sunlit photo of",
    "noisy photo of",
    "black and white photo of",
    "faded photo of",
    "cropped photo of",
    "close view of",
    "distant view of",
    "side view of",
    "view from above of",
    "painting of",
    "pencil drawing of",
    "child's drawing of",
    "cartoon of",
    "computer rendering of",
    "sculpture of",
    "paper model of",
    "plush toy of",
    "stitched picture of",
    "tattoo of",
    "street painting of",
    "poster of",
)
_ALONE = (
    "a huge {}.",
    "a tiny {}.",
    "a dirty {}.",
    "a spotless {}.",
    "an odd {}.",
    "a pretty {}.",
    "an old {}.",
    "a brand new {}.",
    "one {} among many things.",
    "many {}.",
    "a {} half hidden.",
    "a {} at night.",
    "a {} in the snow.",
    "a {} in a computer game.",
    "a {} behind glass.",
    "a {} made of plastic.",
    "a {} on a plain background.",
    "a {} in its usual place.",
    "the {} that I own.",
    "the only {} here.",
    "there is a {} here.",
    "here is the {}.",
    "look at this {}.",
    "{}, seen on vacation.",
)
IMAGENET = (*(f"a {thing} {article} {{}}." for thing in _THINGS for article in ("a", "the")), *_ALONE)

TEMPLATES: dict[str, tuple[str, ...]] = {
    "cifar10": CIFAR10,
    "fashion_mnist": FASHION_MNIST,
    "imagenet": IMAGENET,
    "imagenet_7": IMAGENET_7,
    "mnist": MNIST,
    "name": ("{}",),
    "plain": PLAIN,
    "shapes": SHAPES,
}

# Letters say how a word is written, the article follows how it is spoken.
_SPOKEN_AS_CONSONANT = r"(?:uni(?![nm])|u(?:bi|k|r[aeio]|s[aeu]|t[eio]|fo|-)|eu|ewe|one\b|once\b)"
_SPOKEN_AS_VOWEL = r"(?:[aeiou]|hour|honest|honou?r|heir|8|1[18]\b)"


def templates_of(templates: str | Sequence[str]) -> tuple[str, ...]:
    """Returns the set of that name, or the sentences given.

    Raises:
      ValueError: there is no such set, no sentence, or one without a place for the name.
    """
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            raise ValueError(
                f"there are no templates {templates!r}{did_you_mean(templates, TEMPLATES)}; known: "
                f"{', '.join(sorted(TEMPLATES))}, or sentences of one's own with {{}} for the name"
            )
        return TEMPLATES[templates]
    if not templates:
        raise ValueError("templates must be one or several sentences")
    for each in templates:
        if "{}" not in each:
            raise ValueError(f"the template {each!r} has no {{}} for the name")
    return tuple(templates)


def prompts(templates: Sequence[str], name: str) -> list[str]:
    """Returns a class's name in every sentence.

    "a" or "an" before it is "an" where the word is spoken so. The article of a name such as "a cat" gives way to that
    of the sentence, where there is one. Underscores of a name become spaces.
    """
    words = " ".join(name.replace("_", " ").split())
    bare = re.sub(r"^(?:an?|the) (?=\S)", "", words, flags=re.IGNORECASE)

    def filled(found: re.Match) -> str:
        article = found[1]
        if article is None:
            return words
        return f"{article} {bare}" if article.lower() == "the" else f"{article[0]}{_n(bare)} {bare}"

    # One pass over all places, so that braces of the name stay.
    return [re.sub(r"(?:\b(an?|the) )?\{\}", filled, each, flags=re.IGNORECASE) for each in templates]


def _n(words: str) -> str:
    spoken = words.lower()
    return "n" if re.match(_SPOKEN_AS_VOWEL, spoken) and not re.match(_SPOKEN_AS_CONSONANT, spoken) else ""
