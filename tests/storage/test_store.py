import json

import pytest

from storage.errors import InvalidNameError, MissingArtefactError, StoreError
from storage.folders import finish_folder, is_finished, read_manifest, start_folder
from storage.keys import file_digest
from storage.runs import find_run
from storage.store import Store

KEY = "0123456789abcdef" * 4


def test_a_new_folder_becomes_a_store_and_opens_again(tmp_path):
    Store(tmp_path / "a" / "store")
    assert Store(tmp_path / "a" / "store").root == tmp_path / "a" / "store"


def test_work_that_lives_on_what_others_stored_makes_no_store_and_may_add_to_one(tmp_path):
    with pytest.raises(MissingArtefactError, match=r"no store at .*factseg extract"):
        Store(tmp_path / "store", must_exist=True)
    assert list(tmp_path.iterdir()) == []
    Store(tmp_path / "store")
    assert not Store(tmp_path / "store", must_exist=True).read_only


def test_a_folder_of_other_things_is_not_taken_over(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StoreError, match=r"thesis\.tex.*new or empty folder"):
        Store(tmp_path)


def test_a_file_is_no_store(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        Store(tmp_path / "a")


def test_a_store_of_a_later_version_is_refused(tmp_path):
    Store(tmp_path)
    (tmp_path / "store.json").write_text(json.dumps({"layout": "factseg-store", "version": 99}))
    with pytest.raises(StoreError, match="version 99"):
        Store(tmp_path)


def test_a_damaged_marker_is_named(tmp_path):
    Store(tmp_path)
    (tmp_path / "store.json").write_text("{")
    with pytest.raises(StoreError, match=r"store\.json cannot be read"):
        Store(tmp_path)


@pytest.mark.parametrize("profile", ["../x", "/etc", "", "a/b", "A", "x" * 65, "a\0b"])
def test_no_profile_name_leads_out_of_the_store(tmp_path, profile):
    with pytest.raises(InvalidNameError):
        Store(tmp_path).feature_path(profile, KEY)


@pytest.mark.parametrize("key", ["../../x", "", "zz" * 32, "a" * 65, "abc\0"])
def test_no_key_leads_out_of_the_store(tmp_path, key):
    with pytest.raises(InvalidNameError):
        Store(tmp_path).prediction_path(key)


def test_a_folder_is_finished_by_its_manifest_which_lists_its_files(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a.txt").write_text("abc")
    assert not is_finished(tmp_path)
    with pytest.raises(MissingArtefactError):
        read_manifest(tmp_path)
    finish_folder(tmp_path, {"kind": "run"})
    assert is_finished(tmp_path)
    assert read_manifest(tmp_path) == {
        "kind": "run",
        "files": {"deep/a.txt": file_digest(tmp_path / "deep" / "a.txt")},
    }


def test_a_run_is_found_by_its_first_digits(tmp_path):
    store = Store(tmp_path)
    other = "01ff" + KEY[4:]
    for key in (KEY, other):
        store.run_folder(key).mkdir(parents=True)
        finish_folder(store.run_folder(key), {})
    store.run_folder("99" * 32).mkdir()
    assert find_run(store, "0123") == KEY
    with pytest.raises(MissingArtefactError, match="2 runs"):
        find_run(store, "01")
    with pytest.raises(MissingArtefactError, match="no finished run"):
        find_run(store, "99")


def test_unfinished_work_is_cleared_and_finished_work_never(tmp_path):
    folder = tmp_path / "run"
    start_folder(folder)
    (folder / "half").write_text("")
    start_folder(folder)
    assert list(folder.iterdir()) == []
    finish_folder(folder, {})
    with pytest.raises(ValueError, match="finished work"):
        start_folder(folder)
