"""Pictures of what a network sees: the right pixels, for every family, the same bits every time."""

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from browser import check_page
from images import encode
from PIL import Image
from report_pages import Page

from experiments import look as program_look
from vision import models
from vision.analysis import pictures_of_images
from vision.analysis.gallery import Picture, write_page
from vision.errors import UserError
from vision.interop.preprocessing import Preprocessing
from vision.studies.look import PICTURES, Look, draw
from vision.studies.look_data import RunData, Sample, choose_images, host_part_of
from vision.studies.look_network import attention, embed, patch_features
from vision.training.loop import train
from vision.training.pretrained import Pretrained

TILE, GAP, TEXT = 112, 4, 12
VIT = {"patch_size": 4, "width": 16, "depth": 2, "num_heads": 2, "mlp_dim": 16}
CLIP_RESNET = {"stage_sizes": (1, 1, 1, 1), "width": 4, "out_size": 8}
MIXER = {"patch_size": 4, "width": 16, "depth": 2, "tokens_dim": 6, "channels_dim": 16}
# What makes all pictures of a ViT quick to draw.
FEW: dict = {"bank": 30, "points": 12, "layers": ("block01",), "maps": 2, "examples": 12, "smooth": 0}
CONFIG = {"data": {"name": "digits", "split": "train"}, "evals": {"test": {"split": "test"}}}
BOTH = {"activations", "saliency"}
# A small network of every family: what it is built with, the images, and the pictures that it has without data.
OF_EACH_FAMILY = {
    "linear": ("linear", {}, (8, 8, 1), {"filters", "saliency"}),
    "mlp": ("mlp/128", {"hidden_sizes": (8,)}, (8, 8, 1), {"filters"} | BOTH),
    "lenet": ("lenet/5", {}, (28, 28, 1), {"pca", "filters"} | BOTH),
    "alexnet": ("alexnet/2014", {"hidden_sizes": (8,)}, (67, 67, 3), {"pca", "filters"} | BOTH),
    "vgg": ("vgg/11_bn_cifar", {"widths": (4, 4, 4, 4, 4)}, (32, 32, 3), {"pca", "filters"} | BOTH),
    "resnet": ("resnet/20", {"width": 4}, (16, 16, 3), {"pca", "filters"} | BOTH),
    "plain": ("plain/20", {"width": 4}, (16, 16, 3), {"pca", "filters"} | BOTH),
    "airbench": ("airbench/94", {"widths": (4, 6, 6)}, (16, 16, 3), {"pca", "filters"} | BOTH),
    "wide_resnet": ("wide_resnet/16_8", {"depth": 10, "width_factor": 1}, (16, 16, 3), {"pca", "filters"} | BOTH),
    "clip_resnet": ("clip_resnet/50", CLIP_RESNET, (64, 64, 3), {"pca", "filters"} | BOTH),
    "convnext": ("convnext/T", {"stage_sizes": (1, 1), "widths": (4, 8)}, (16, 16, 3), {"pca", "filters"} | BOTH),
    "mixer": ("mixer/S16", MIXER, (8, 12, 3), {"pca", "mixing", "filters"} | BOTH),
    "vit": ("vit/B16", VIT, (8, 12, 3), {"attention", "pca", "positions", "distance", "filters"} | BOTH),
}


def build(name, options, shape, *, classes=3):
    model = models.build(name, num_classes=classes, image_shape=shape, **options)
    spec = jax.ShapeDtypeStruct((1, *shape), "float32")
    rng, abstract = np.random.default_rng(0), jax.eval_shape(lambda key: model.init(key, spec), jax.random.key(0))
    draws = jax.tree.map(lambda leaf: rng.normal(0.02, 0.02, leaf.shape).astype(np.float32), abstract)
    params, collections = jax.tree.map(lambda draw: np.abs(draw) if draw.ndim == 1 else draw - 0.02, draws)
    middle = (0.5,) * shape[2]
    return Pretrained(model, params, collections, name, shape, Preprocessing(middle, middle, 1.0, "bilinear"))


def some(shape, count=3, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)
    return Sample(images, tuple(f"image {n}" for n in range(count)), None, (), f"{count} images")


@pytest.fixture(scope="module")
def vit():
    return build("vit/B16", VIT | {"num_registers": 1}, (8, 8, 1), classes=10)


@pytest.fixture(scope="module")
def drawn(vit, tmp_path_factory):
    """Everything there is of a ViT, with the digits as its data."""
    folder = tmp_path_factory.mktemp("look")
    data = RunData(CONFIG, host_part_of(vit), print)
    sample = data.held_out(3)
    look = Look(vit, sample, data, folder, **FEW)
    pictures = draw(look)
    return SimpleNamespace(look=look, pictures=pictures, page=write_page(folder / "look.html", "A", ["b"], pictures))


def tile(path, row, column):
    """The pixels of one tile of a contact sheet."""
    top, left = GAP + row * (TILE + GAP + TEXT) + TEXT, GAP + column * (TILE + GAP)
    with Image.open(path) as image:
        return np.asarray(image)[top : top + TILE, left : left + TILE].astype(int)


def test_attention_planted_on_a_patch_lights_that_patch(tmp_path):
    images = np.full((2, 8, 8, 1), 90, np.uint8)
    maps = np.full((2, 3, 4, 4), 1e-3)
    maps[0, :, 1, 2] = 0.9  # image 0: every head looks at row 1, column 2
    maps[1, 2, 3, 0] = 0.9  # image 1: only head 2, at row 3, column 0
    made = pictures_of_images.attention(
        tmp_path, images, ("a", "b"), maps, block="block07", queries="the class token", keep=0.6
    )
    (path,) = made.files
    side = TILE // 4

    def lit(row, column):
        brightness = tile(path, row, column).sum(axis=-1).reshape(4, side, 4, side).mean(axis=(1, 3))
        return divmod(int(brightness.argmax()), 4), brightness.max() / max(np.median(brightness), 1)

    assert (tile(path, 0, 0) == 90).all()
    for column in (1, 2, 3, 4, 5):  # mean, mask, three heads
        place, contrast = lit(0, column)
        assert place == (1, 2)
        assert contrast > 1.5
    assert lit(1, 5)[0] == (3, 0)
    assert lit(1, 3)[1] == lit(1, 4)[1] == 1.0, "heads that look nowhere in particular"
    mask = tile(path, 0, 2)
    assert (mask[side : 2 * side, 2 * side : 3 * side] == 90).all()
    assert mask.sum() == 3 * 90 * side**2, "all but the patches with most of the attention is black"
    assert made.numbers["to_patches"] == pytest.approx(maps.sum() / 6)


def test_patches_of_two_kinds_have_two_colours(tmp_path):
    features = np.zeros((1, 4, 4, 5))
    features[0, 1:3, 1:3, 3] = 2.0
    images = np.zeros((1, 8, 8, 3), np.uint8)
    made = pictures_of_images.patch_pca(tmp_path, images, ("a",), features, feature="patch_tokens", threshold=0.0)
    red = tile(made.files[0], 0, 1)[..., 0]
    side = TILE // 4
    assert (red[side : 3 * side, side : 3 * side] == 255).all()
    assert (red[:side] == 0).all()
    assert made.numbers["foreground"] == 0.25
    assert made.numbers["explained"][0] == pytest.approx(1.0)


def test_what_is_drawn_is_what_the_model_computes(vit):
    images = some((8, 8, 1)).images
    model = vit.model.module.clone(attention_weights=True)
    variables = {"params": vit.params, **vit.collections}
    _, features = jax.jit(model.apply)(variables, jnp.asarray((images / 255 - 0.5) / 0.5, jnp.float32))
    found = attention(vit, images)
    assert found.maps.shape == (3, 2, 2, 2, 2)
    for block in range(2):
        weights = np.asarray(features[f"block0{block}/attention"])
        assert weights.shape == (3, 2, 6, 6)  # class token, register, four patches
        np.testing.assert_allclose(found.maps[:, block].reshape(3, 2, 4), weights[:, :, 0, 2:], rtol=1e-4)
    # With such small weights attention is nearly uniform: the closed form of a square of four patches.
    np.testing.assert_allclose(found.distances, 4 * (2 + 2**0.5) / 4, rtol=0.01)
    name, values = patch_features(vit, images)
    assert name == "patch_tokens"
    np.testing.assert_allclose(values.reshape(3, 4, 16), features["patch_tokens"], atol=1e-5)
    np.testing.assert_allclose(embed(vit, images), features["pre_logits"], atol=1e-5)


def test_without_a_class_token_the_attention_of_all_patches_is_averaged():
    gap = build("vit/B16", VIT | {"class_token": False, "pool": "gap", "depth": 1}, (8, 8, 1))
    maps = attention(gap, some((8, 8, 1)).images).maps
    assert maps.shape == (3, 1, 2, 2, 2)
    np.testing.assert_allclose(maps.sum(axis=(3, 4)), 1.0, atol=1e-5)


def test_the_page_has_every_picture_or_says_why_not(drawn):
    assert list(drawn.pictures) == list(PICTURES)
    missing = {name: each for name, each in drawn.pictures.items() if not isinstance(each, Picture)}
    assert missing == {"mixing": "vit/B16 is no Mixer: no MLP of it mixes tokens"}
    page = Page(drawn.page.read_text())
    assert missing["mixing"] in page.text
    for each in drawn.pictures.values():
        if isinstance(each, Picture):
            assert each.title in page.text
            for path in each.files:
                with Image.open(path) as image:
                    assert min(image.size) > 50
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    # Attention (5 tiles), PCA (3), neighbours (2 x 6) and saliency (4) of 3 images; the 9 strongest of 2 maps with what
    # drives them; 3 images of each of 10 classes with their saliency; positions and filters are one each.
    assert len(sources) == 3 * (5 + 3 + 12 + 4) + 2 * 2 * 9 + 10 * 3 * 2 + 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert page.count("svg") == 2


def test_units_that_see_everything_and_have_no_relu_are_told_so(drawn):
    made = drawn.pictures["activations"]
    assert "vit/B16 has no ReLU that guided backpropagation could go back through" in made.body
    assert "can depend on every pixel" in made.body
    assert made.numbers["block01"]["rule"] == "gradient"
    assert made.numbers["block01"]["receptive_field"] == [8, 8]


def test_neighbours_and_their_labels_are_those_of_a_plain_search(drawn):
    look, numbers = drawn.look, drawn.pictures["neighbours"].numbers
    bank = look.data.training(30)
    ours, theirs = (each.images.reshape(len(each.images), -1) / 255 for each in (look.sample, bank))
    nearest = np.argsort(np.linalg.norm(ours[:, None] - theirs[None], axis=-1), axis=1)[:, :5]
    same = bank.labels[nearest] == look.sample.labels[:, None]
    assert numbers["label_agreement_of_pixels"] == pytest.approx(same.mean())
    ours, theirs = (embed(look.pretrained, each.images).astype(float) for each in (look.sample, bank))
    ours, theirs = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (ours, theirs))
    same = bank.labels[np.argsort(-ours @ theirs.T, axis=1)[:, :5]] == look.sample.labels[:, None]
    assert numbers["label_agreement"] == pytest.approx(same.mean())
    first = tile(drawn.pictures["neighbours"].files[0], 1, 1)  # the second row is by pixels
    expected = Image.fromarray(bank.images[nearest[0, 0], ..., 0]).resize((TILE, TILE), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(first[..., 0], np.asarray(expected))


def test_a_second_look_writes_the_same_bytes(drawn, tmp_path):
    look = drawn.look
    again = draw(Look(look.pretrained, look.sample, look.data, tmp_path, **FEW))
    page = write_page(tmp_path / "look.html", "A", ["b"], again)
    assert page.read_bytes() == drawn.page.read_bytes()
    written = sorted(path.name for path in tmp_path.iterdir())
    assert len(written) == 11
    for name in written:
        assert (tmp_path / name).read_bytes() == (look.folder / name).read_bytes(), name


def test_rotary_and_fixed_positions(tmp_path):
    shape = (8, 8, 1)
    sample = some(shape)
    rotary = build("vit/B16", VIT | {"positions": "rotary"}, shape)
    assert "rotary" in draw(Look(rotary, sample, None, tmp_path), ["positions"])["positions"]
    fixed = rotary._replace(model=models.build("vit/B16", num_classes=3, **VIT, positions="sincos2d"))
    made = draw(Look(fixed, sample, None, tmp_path), ["positions"])["positions"]
    assert made.said.startswith("Sine and cosine positions of 2x2 patches:")


def test_weights_without_a_run_and_data_that_moved_away_leave_out_what_needs_data(vit, tmp_path):
    made = draw(Look(vit, some((8, 8, 1)), None, tmp_path), ["neighbours", "tsne"])
    assert list(made) == ["tsne", "neighbours"]
    assert all("no run" in each for each in made.values())
    gone = RunData({"data": {"name": "folder:/no/such", "split": "train"}}, host_part_of(vit), print)
    made = draw(Look(vit, some((8, 8, 1)), gone, tmp_path, bank=5), ["neighbours"])
    assert "/no/such" in made["neighbours"]


@pytest.fixture
def run(vit, tmp_path, monkeypatch):
    """A folder that looks like a run of the ViT; what its checkpoint holds is given."""
    monkeypatch.setattr(program_look, "pretrained_of", lambda args: vit)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def test_the_program_names_a_broken_image_and_passes_it_over(run, tmp_path, capsys):
    images = tmp_path / "images"
    (images / "below").mkdir(parents=True)
    (images / "a.png").write_bytes(encode(np.full((9, 9), 200, np.uint8)))
    (images / "below" / "b.png").write_bytes(encode(np.full((20, 10, 3), 20, np.uint8)))
    (images / "broken.png").write_bytes(b"\x89PNG\r\n")
    words = ["--workdir", str(run), "--images", str(images), "--json"]
    assert program_look.main([*words, "--pictures", "filters,positions"]) == 0
    out, notes = capsys.readouterr()
    result = json.loads(out.splitlines()[-1])
    assert result["images"] == ["a.png", "b.png"]
    assert result["broken"] == [str(images / "broken.png")]
    assert "broken.png: " in notes
    assert result["pictures"]["filters"]["files"] == [str(run / "look" / "filters.png")]
    assert set(result["pictures"]) == {"filters", "positions"}
    assert Page((run / "look" / "look.html").read_text()).text.count("files") == 1
    for name in ("a.png", "below/b.png"):
        (images / name).unlink()
    with pytest.raises(UserError, match="none of 1 images decodes"):
        program_look.main(words)


def test_the_program_takes_the_run_s_own_examples(run, tmp_path, capsys):
    words = ["--workdir", str(run), "--count", "2", "--pictures", "attention", "--out", str(tmp_path / "there")]
    assert program_look.main([*words, "--block", "0", "--mass", "0.5", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["images"]) == 2
    assert result["images"][0].startswith("example 0: ")
    assert result["pictures"]["attention"]["block"] == "block00"
    assert (tmp_path / "there" / "attention.png").is_file()
    assert not (run / "look").exists()
    with pytest.raises(UserError, match="--block 2: vit/B16 has the blocks 0 to 1"):
        program_look.main([*words, "--block", "2"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--workdir", "x", "--pictures", "atention"], "did you mean 'attention'"),
        (["--workdir", "x", "--weights", "y"], "either --workdir or --weights"),
        ([], "either --workdir or --weights"),
        (["--workdir", "x", "--mass", "0"], "--mass"),
        (["--workdir", "x", "--count", "0"], "--count"),
        (["--workdir", "x", "--bank", "-1"], "--bank"),
        (["--workdir", "x", "--maps", "0"], "--maps"),
        (["--workdir", "x", "--smooth", "-1"], "--smooth"),
        (["--workdir", "x"], "no run with data of its own: give --images"),
        (["--workdir", "x", "--images", "/no/such"], "no such file or folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(monkeypatch, vit, words, told):
    monkeypatch.setattr(program_look, "pretrained_of", lambda args: vit)
    with pytest.raises(UserError) as caught:
        program_look.main(words)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fitted_estimator_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"estimator": {"name": "ridge"}, "data": {"name": "digits"}}')
    with pytest.raises(UserError, match="is a fitted estimator"):
        program_look.main(["--workdir", str(tmp_path)])


def test_more_images_than_asked_for_are_taken_evenly(vit, tmp_path):
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(encode(np.full((8, 8), 20 * number, np.uint8)))
    notes = []
    sample, broken = choose_images([str(tmp_path)], None, host_part_of(vit), most=3, note=notes.append)
    assert sample.names == ("0.png", "4.png", "8.png")
    assert sample.images[:, 0, 0, 0].tolist() == [0, 80, 160]
    assert not broken
    assert notes == ["3 of 9 images are taken, spread evenly (--count)"]


def test_every_family_has_its_place_in_the_list_below():
    assert {name.split("/")[0] for name in models.VARIANTS} == set(OF_EACH_FAMILY)


@pytest.mark.slow
@pytest.mark.parametrize("family", OF_EACH_FAMILY)
def test_every_family_gets_a_page(family, tmp_path):
    name, options, shape, expected = OF_EACH_FAMILY[family]
    made = draw(Look(build(name, options, shape), some(shape), None, tmp_path))
    assert {name for name, each in made.items() if isinstance(each, Picture)} == expected
    page = write_page(tmp_path / "look.html", family, ["a line"], made)
    check_page(page, tmp_path)


@pytest.mark.slow
def test_a_trained_run_is_looked_at_twice_with_the_same_bytes(tmp_path, tiny_config, program):
    tiny_config.model = {"name": "vit/B16", **VIT}
    tiny_config.data.augment = ()
    train(tiny_config, tmp_path / "run")
    command = [
        "experiments.look",
        "--workdir",
        tmp_path / "run",
        "--count",
        "2",
        "--points",
        "60",
        "--bank",
        "60",
        "--json",
    ]
    results = [json.loads(program(*command, "--out", tmp_path / out).stdout) for out in ("one", "two")]
    assert results[0]["missing"].keys() == {"mixing"}
    assert results[0]["pictures"]["tsne"]["label_agreement"] > 0.1
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes(), path.name
    check_page(tmp_path / "one" / "look.html", tmp_path)
