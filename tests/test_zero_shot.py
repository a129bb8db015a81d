"""Words classify as their definition says, captions and images find each other, and who knows nothing guesses."""

import itertools
import re

import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mesh_of
from jax.sharding import NamedSharding, PartitionSpec
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from vision import models
from vision.data.host import HostPart
from vision.data.order import InOrder
from vision.data.pipeline import make_pipeline
from vision.data.prepare import make_prepare
from vision.data.source import ArraySource
from vision.data.tokenizer import Tokenizer
from vision.errors import UserError
from vision.evaluation.base import EvalSet
from vision.evaluation.caption_retrieval import caption_retrieval
from vision.evaluation.features import Features
from vision.evaluation.prompt_templates import TEMPLATES, prompts, templates_of
from vision.evaluation.ranking import by_chance, hits
from vision.evaluation.text_embeddings import class_embeddings
from vision.evaluation.zero_shot import among_best, zero_shot
from vision.objectives import OBJECTIVES
from vision.training.state import TrainState

RANDOM = np.random.default_rng(0)
SIZE = 6
NAMES = ("ant", "bee", "cat", "dog", "eel", "fly", "gnu", "hen")


class Sentences(Tokenizer):
    """Every sentence is one token."""

    def __init__(self):
        object.__setattr__(self, "known", {})

    def encode(self, texts, *, length):
        ids = [self.known.setdefault(text, len(self.known)) for text in texts]
        return np.pad(np.array(ids, np.int32)[:, None], ((0, 0), (0, length - 1)))


def encode(params, extra, batch):
    """An image's pixels and a token's row of the table are their embeddings, up to length."""
    found = {}
    if "image" in batch:
        rows = batch["image"].reshape(len(batch["image"]), -1) - 0.5
        found["image_embedding"] = rows / jnp.linalg.norm(rows, axis=1, keepdims=True)
    if "tokens" in batch:
        rows = params[batch["tokens"][..., 0]]
        found["text_embedding"] = rows / jnp.linalg.norm(rows, axis=-1, keepdims=True)
    return found


OBJECTIVE = OBJECTIVES["regress"](models.build("linear", num_classes=1))._replace(encode=encode)


def as_set(embeddings, *, batch_size=7, devices=1, names=NAMES, **fields):
    largest = np.abs(embeddings).max()
    pixels = np.round((embeddings / largest / 2 + 0.5) * 254 + 0.5).astype(np.uint8).reshape(-1, 2, SIZE // 2, 1)
    source = ArraySource({"image": pixels, **fields}, len(names) if names else len(NAMES), names or ())
    sharding = NamedSharding(mesh_of(devices), PartitionSpec(("data", "fsdp")))
    order = InOrder(len(source), batch_size)
    pipeline = make_pipeline(source, order, HostPart((2, SIZE // 2), 1), sharding=sharding, residency="auto")
    masks = tuple(order.mask(step) for step in range(order.num_batches))
    return EvalSet(pipeline, make_prepare(mean=None, std=None, channels=1, draw_caption=False), masks)


def seen_of(eval_set):
    """What the model sees of a split's images: pixels are rounded."""
    rows = eval_set.pipeline.source.arrays["image"].reshape(-1, SIZE) / 255 - 0.5
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def classify(table, eval_set, *, unseen=None, **options):
    opened = {"train": eval_set, "unseen": unseen}
    features = Features(OBJECTIVE, outputs={"image_embedding": None})
    options = {"templates": ("{}",), **options}
    evaluator = zero_shot(eval_set, OBJECTIVE, opened.get, features, Sentences(), 3, **options)
    values = dict(evaluator.run(TrainState(0, jnp.asarray(table, jnp.float32), {}, ())))
    assert tuple(name for name in values if name != "confusion") == evaluator.metrics
    return values


@pytest.mark.parametrize(("name", "count"), [("imagenet", 80), ("imagenet_7", 7), ("cifar10", 18), ("mnist", 1)])
def test_sets_have_as_many_sentences_as_the_published_ones(name, count):
    assert len(set(templates_of(name))) == count


def test_every_sentence_has_one_place_for_the_name():
    for name, templates in TEMPLATES.items():
        assert all(each.count("{}") == 1 for each in templates), name
        assert len(set(prompts(templates, "owl"))) == len(templates), name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dog", "a dog"),
        ("airplane", "an airplane"),
        ("unicorn", "a unicorn"),
        ("umbrella", "an umbrella"),
        ("hourglass", "an hourglass"),
        ("horse", "a horse"),
        ("European robin", "a European robin"),
        ("one-armed bandit", "a one-armed bandit"),
        ("orange_circle", "an orange circle"),
        ("8", "an 8"),
        ("set {}", "a set {}"),
    ],
)
def test_the_article_is_that_of_the_spoken_word(name, expected):
    assert prompts(("a {}", "A {}!", "the {}", "beta {}."), name) == [
        expected,
        f"A{expected[1:]}!",
        f"the {expected.split(' ', 1)[1]}",
        f"beta {expected.split(' ', 1)[1]}.",
    ]


def test_a_name_with_an_article_does_not_get_another():
    sentences = ("a photo of a {}.", "The {} alone", 'told: "{}"', "{}", "an old {}")
    cat = ["a photo of a cat.", "The cat alone", 'told: "a cat"', "a cat", "an old a cat"]
    assert prompts(sentences, "a cat") == cat
    assert prompts(("a {}, the best {}.", "an {}"), "cat") == ["a cat, the best cat.", "a cat"]
    assert prompts(sentences[:1], "The Owl") == ["a photo of an Owl."]
    assert prompts(sentences[:1], "a") == ["a photo of an a."]
    assert prompts(sentences[:1], "theory") == ["a photo of a theory."]


def test_a_class_is_the_mean_of_its_sentences_brought_to_unit_length():
    """The sentences of ant lie at (1, 0) and (0, 1), those of bee both at (0.6, 0.8): CLIP's recipe by hand."""
    rows = {"ant": (1, 0), "not ant": (0, 1), "bee": (0.6, 0.8), "not bee": (0.6, 0.8)}
    tokenizer = Sentences()

    def embed(tokens):
        told = list(tokenizer.known)
        return np.array([rows[told[token]] for token in tokens[:, 0]], np.float32)

    found = class_embeddings(embed, tokenizer, 3, ("ant", "bee"), ("{}", "not {}"))
    np.testing.assert_allclose(found, [(0.5**0.5, 0.5**0.5), (0.6, 0.8)], rtol=1e-6)


TABLE = RANDOM.normal(size=(len(NAMES), SIZE))
LABELS = RANDOM.integers(0, 5, 60).astype(np.int32)  # the last three classes do not occur
EMBEDDINGS = TABLE[LABELS] + 1.2 * RANDOM.normal(size=(60, SIZE))


@pytest.mark.parametrize("devices", [1, 8])
def test_accuracies_are_those_of_scikit_learn(devices):
    eval_set = as_set(EMBEDDINGS, label=LABELS, batch_size=16, devices=devices)
    values = classify(TABLE, eval_set)
    cosines = seen_of(eval_set) @ (TABLE / np.linalg.norm(TABLE, axis=1, keepdims=True)).T
    for count, name in ((1, "accuracy"), (5, "top5_accuracy")):
        assert values[name] == top_k_accuracy_score(LABELS, cosines, k=count, labels=np.arange(8))
    assert 0.4 < values["accuracy"] < 0.95
    assert values["chance"] == 1 / 8
    expected = confusion_matrix(LABELS, cosines.argmax(axis=1), labels=np.arange(8))
    np.testing.assert_array_equal(values["confusion"], expected)


def test_only_classes_of_the_split_compete_where_asked():
    eval_set = as_set(EMBEDDINGS, label=LABELS)
    values = classify(TABLE, eval_set, among="present")
    cosines = seen_of(eval_set) @ (TABLE[:5] / np.linalg.norm(TABLE[:5], axis=1, keepdims=True)).T
    assert values["accuracy"] == np.mean(cosines.argmax(axis=1) == LABELS) > classify(TABLE, eval_set)["accuracy"]
    assert (values["chance"], values["top5_accuracy"]) == (1 / 5, 1.0)
    assert not values["confusion"][:, 5:].any()
    few = as_set(EMBEDDINGS[LABELS > 1], label=LABELS[LABELS > 1])
    assert "top5_accuracy" not in classify(TABLE, few, among="present")


def test_seen_and_unseen_classes_compete_with_one_another():
    """Seen: ant 2 of 4, bee 1 of 1, as means over classes 3/4; unseen: cat 1 of 2; so the harmonic mean is 3/5."""
    ant, bee, cat = np.eye(SIZE)[:3]
    table = np.vstack([ant, bee, cat, *np.eye(SIZE)[[3] * 5]])
    seen = as_set(np.array([ant, ant, cat, bee, bee]), label=np.int32([0, 0, 0, 0, 1]))
    unseen = as_set(np.array([cat, ant]), label=np.int32([2, 2]))
    values = classify(table, seen, unseen=unseen, unseen_split="unseen", among="present")
    assert values["accuracy"] == pytest.approx((2 + 1 / 2 + 1) / 5), "cat cannot be said, and is as near to ant as bee"
    assert (values["seen_accuracy"], values["unseen_accuracy"]) == (0.75, 0.5)
    assert values["harmonic_mean"] == pytest.approx(0.6)
    assert (values["chance"], values["chance_among_all"]) == (1 / 2, 1 / 8)
    nothing = classify(np.roll(table, 3, axis=0), seen, unseen=unseen, unseen_split="unseen")
    assert nothing["harmonic_mean"] == 0.0 == nothing["seen_accuracy"]


def test_a_model_that_knows_nothing_guesses():
    """Where all words, or all images, lie at one place, accuracies are those of guessing and not 0 or 1."""
    eval_set = as_set(EMBEDDINGS, label=LABELS)
    one_place = np.tile(np.eye(SIZE)[0], (8, 1))
    for among, classes in (("all", 8), ("present", 5)):
        values = classify(one_place, eval_set, among=among)
        assert values["accuracy"] == pytest.approx(1 / classes) == pytest.approx(values["chance"])
        assert values["top5_accuracy"] == pytest.approx(5 / classes)
    images = as_set(np.tile(np.eye(SIZE)[:1], (40, 1)), label=np.arange(40, dtype=np.int32) % 8)
    assert classify(TABLE, images)["accuracy"] == pytest.approx(1 / 8)
    many = RANDOM.normal(size=(2000, SIZE))
    values = classify(TABLE, as_set(many, label=np.arange(2000, dtype=np.int32) % 8, batch_size=500))
    assert values["accuracy"] == pytest.approx(1 / 8, abs=0.03)


def test_names_may_be_given():
    eval_set = as_set(EMBEDDINGS, label=LABELS, names=())
    with pytest.raises(ValueError, match=r"the data have none; give class_names"):
        classify(TABLE, eval_set)
    named = classify(TABLE, as_set(EMBEDDINGS, label=LABELS))
    assert classify(TABLE, eval_set, class_names=NAMES)["accuracy"] == named["accuracy"]


def test_names_may_stand_in_a_file(tmp_path):
    eval_set, file = as_set(EMBEDDINGS, label=LABELS, names=()), tmp_path / "names.txt"
    file.write_text("\n".join(NAMES) + "\n\n")
    named = classify(TABLE, as_set(EMBEDDINGS, label=LABELS))
    assert classify(TABLE, eval_set, class_names=str(file))["accuracy"] == named["accuracy"]
    with pytest.raises(ValueError, match=r"class_names: .*none.txt cannot be read \(No such file"):
        classify(TABLE, eval_set, class_names=str(tmp_path / "none.txt"))
    file.write_text("\n".join(NAMES[1:]))
    with pytest.raises(ValueError, match="class_names has 7 names, the data have 8 classes"):
        classify(TABLE, eval_set, class_names=str(file))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"templates": "cifar"}, "there are no templates 'cifar'; did you mean 'cifar10'?"),
        ({"templates": ()}, "templates must be one or several"),
        ({"templates": ("a photo",)}, "the template 'a photo' has no {} for the name"),
        ({"top": (1, 1)}, "top must be one or several different"),
        ({"class_names": NAMES[1:]}, "class_names has 7 names, the data have 8 classes"),
        ({"class_names": (*NAMES[1:], " ")}, "class 7 has an empty name"),
        (
            {"class_names": tuple(f"n0144076{each}" for each in range(8))},
            "ids such as n01440760; give class_names, a word or several for every class, or a text file with a name on",
        ),
        ({"unseen_split": "unseen", "unseen": as_set(EMBEDDINGS, label=LABELS)}, "class 'ant' is in both splits"),
    ],
)
def test_what_cannot_be_is_one_line(options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        classify(TABLE, as_set(EMBEDDINGS, label=LABELS), **options)
    assert "\n" not in str(error.value)


def test_a_run_without_words_is_told():
    eval_set = as_set(EMBEDDINGS, label=LABELS)
    without = Features(OBJECTIVE, outputs={"pre_logits": None})
    for evaluator, arguments in ((zero_shot, (lambda _: eval_set, without)), (caption_retrieval, (without,))):
        for tokenizer in (None, Sentences()):
            with pytest.raises(UserError, match=r"needs a model of images and words: config.objective"):
                evaluator(eval_set, OBJECTIVE, *arguments, tokenizer)
    pair = Features(OBJECTIVE, outputs={"image_embedding": None})
    with pytest.raises(UserError, match=r"needs the tokenizer that the model was trained with, .* --tokenizer"):
        zero_shot(eval_set, OBJECTIVE, lambda _: eval_set, pair, None)


def in_every_order(scores, right, k):
    """The share of all orders of the candidates in which a stable ranking has a right one among the first k."""
    found = []
    for order in itertools.permutations(range(len(scores))):
        ranked = sorted(order, key=lambda each: -scores[each])
        found.append(bool(set(ranked[:k]) & set(right)))
    return np.mean(found)


def test_equal_candidates_stand_in_random_order():
    candidates = np.float32([[3], [2], [2], [2], [1], [1]])
    right = [[0], [1], [4], [1, 2], [4, 5], [1, 5], [0, 4], list(range(6))]
    found = hits(np.ones((8, 1), np.float32), candidates, [np.array(each) for each in right], k=(1, 2, 3, 6), chunk=3)
    for query, column in itertools.product(range(8), range(4)):
        expected = in_every_order(candidates[:, 0], right[query], (1, 2, 3, 6)[column])
        assert found[query, column] == pytest.approx(expected, abs=1e-12)
    guessed = [in_every_order(np.zeros(6), range(size), 2) for size in (1, 2, 5)]
    assert by_chance(np.array([1, 2, 5]), 6, k=(2,)) == pytest.approx(np.mean(guessed))


def test_what_is_not_a_number_never_wins():
    """The first row knows only its own column, the second everything but its own."""
    scores = np.array([[np.nan, 0.0, 0.0], [np.nan, np.nan, 0.0], [np.nan, 0.0, 1.0]])
    np.testing.assert_array_equal(among_best(scores, np.array([0, 2, 2]), 1), 0.0)
    np.testing.assert_array_equal(among_best(scores, np.array([0, 2, 2]), 2), [0.0, 0.0, 1.0])
    broken = np.float32([[np.nan], [1.0], [0.5]])
    right = [np.array([0]), np.array([1]), np.array([0, 1])]
    for query, expected in ((1.0, [[0, 0], [0, 1], [0, 0]]), (np.nan, 0.0)):
        found = hits(np.full((3, 1), query, np.float32), broken, right, k=(1, 2), chunk=2)
        np.testing.assert_array_equal(found, expected)


def find(table, eval_set, **options):
    features = Features(OBJECTIVE, outputs={"image_embedding": None, "text_embedding": None})
    evaluator = caption_retrieval(eval_set, OBJECTIVE, features, Sentences(), **options)
    values = dict(evaluator.run(TrainState(0, jnp.asarray(table, jnp.float32), {}, ())))
    assert tuple(values) == evaluator.metrics
    return values


def with_captions(images, captions, **options):
    tokens = np.zeros((len(images), max(map(len, captions)), 3), np.int32)
    for image, ids in enumerate(captions):
        tokens[image, : len(ids), 0] = ids
    counts = np.array([len(each) for each in captions], np.int32)
    return as_set(images, tokens=tokens, num_captions=counts, **options)


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("chunk", [3, 1000])
def test_recall_is_that_of_its_definition(chunk, devices):
    """Each image has captions of its own, none to be mistaken for another's."""
    counts = RANDOM.integers(1, 4, 30)
    ends = np.cumsum(counts)
    captions = [list(range(end - count, end)) for count, end in zip(counts, ends, strict=True)]
    images = RANDOM.normal(size=(30, SIZE))
    table = np.repeat(images, counts, axis=0) + 1.0 * RANDOM.normal(size=(ends[-1], SIZE))
    eval_set = with_captions(images, captions, batch_size=8, devices=devices)
    for equal_texts in ("hit", "miss"):
        values = find(table, eval_set, k=(1, 4), chunk=chunk, equal_texts=equal_texts)
        cosines = seen_of(eval_set) @ (table / np.linalg.norm(table, axis=1, keepdims=True)).T
        owner = np.repeat(np.arange(30), counts)
        for k in (1, 4):
            nearest = owner[np.argsort(-cosines, axis=1)[:, :k]]
            of_images = np.mean((nearest == np.arange(30)[:, None]).any(axis=1))
            of_texts = np.mean((np.argsort(-cosines.T, axis=1)[:, :k] == owner[:, None]).any(axis=1))
            assert values[f"image_to_text_recall_at_{k}"] == pytest.approx(of_images)
            assert values[f"text_to_image_recall_at_{k}"] == pytest.approx(of_texts)
            assert values[f"text_to_image_chance_at_{k}"] == pytest.approx(k / 30)
        assert 0.2 < values["image_to_text_recall_at_1"] < values["image_to_text_recall_at_4"] < 1.0
        assert (values["images"], values["texts"]) == (30, ends[-1])


def test_one_caption_of_two_images_is_right_for_both():
    """Images at x, x and y; the first two have one caption, and the second another that lies at y."""
    x, y = np.eye(SIZE)[:2]
    eval_set = with_captions(np.array([x, x, y]), [[0], [0, 1], [2]])
    table = np.array([x, y, y])
    together = find(table, eval_set, k=(1,))
    assert (together["images"], together["texts"]) == (3, 3)
    assert together["image_to_text_recall_at_1"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    # The caption at x finds either of its images; of the two at y one's image is at x, the other's is found.
    assert together["text_to_image_recall_at_1"] == pytest.approx((1 + 0 + 1) / 3)
    apart = find(table, eval_set, k=(1,), equal_texts="miss")
    assert (apart["images"], apart["texts"]) == (3, 4)
    assert apart["image_to_text_recall_at_1"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 2) / 3)
    assert apart["text_to_image_recall_at_1"] == pytest.approx((1 / 2 + 1 / 2 + 0 + 1) / 4)


@pytest.mark.parametrize("equal_texts", ["hit", "miss"])
def test_a_model_to_which_all_are_alike_finds_what_guessing_finds(equal_texts):
    counts = RANDOM.integers(1, 5, 20)
    captions = [list(RANDOM.integers(0, 30, count)) for count in counts]
    one_place = np.eye(SIZE)[:1]
    eval_set = with_captions(np.tile(one_place, (20, 1)), captions)
    values = find(np.tile(one_place, (30, 1)), eval_set, k=(1, 7), equal_texts=equal_texts)
    for direction, k in itertools.product(("image_to_text", "text_to_image"), (1, 7)):
        recall, chance = (values[f"{direction}_{what}_at_{k}"] for what in ("recall", "chance"))
        assert recall == pytest.approx(chance)
        assert 0.0 < chance < 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": ()}, "k must be one or several"),
        ({"k": (4,)}, "k must be in [1, 3], the number of images, got 4"),
        ({"k": (1,), "chunk": 0}, "chunk must be >= 1"),
    ],
)
def test_retrieval_that_cannot_be_is_one_line(options, message):
    images = np.eye(SIZE)[:3]
    with pytest.raises(ValueError, match=re.escape(message)):
        find(images, with_captions(images, [[0], [1], [2]]), **options)
    with pytest.raises(ValueError, match="needs images with captions"):
        find(images, as_set(images), k=(1,))
