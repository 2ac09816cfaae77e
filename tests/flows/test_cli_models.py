import json

import pytest

from flows.cli import run_command
from flows.cli_output import print_models
from storage.folders import finish_folder
from storage.registry import Registry
from storage.store import Store

RUNS = ("ab" * 32, "cd" * 32)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store with two versions of one model; the run of the second is gone."""
    store = Store(tmp_path_factory.mktemp("models") / "store")
    registry = Registry(store)
    for run, f1 in zip(RUNS, (50.0, 60.0), strict=True):
        store.run_folder(run).mkdir(parents=True)
        finish_folder(store.run_folder(run), {"kind": "run"})
        registry.register("bench", run=run, test="t", scores={"f1@50": f1}, parameters={}, curves=[])
    registry.promote(registry.version("bench", 2))
    return str(store.root)


def asked(capsys, *arguments):
    assert run_command([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_models_lists_versions_with_scores_and_the_champion(store, capsys):
    found = asked(capsys, "models", "--store", store)
    assert [(row["version"], row["champion"], row["scores"], row["run"]) for row in found] == [
        (2, True, {"f1@50": 60.0}, RUNS[1]),
        (1, False, {"f1@50": 50.0}, RUNS[0]),
    ]
    assert run_command(["models", "--store", store]) == 0
    assert "champion" in capsys.readouterr().out


def test_models_fit_a_terminal_of_eighty_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = ("frame accuracy", "edit", "foreground accuracy", "f1@10", "f1@25", "f1@50")
    models = [
        {
            "model": name,
            "version": version,
            "champion": version == 11,
            "run": RUNS[0],
            "scores": dict.fromkeys(names, 100.0),
        }
        for name in ("badminton", "suturing")
        for version in (12, 11)
    ]
    print_models(models)
    printed = capsys.readouterr().out
    assert "badminton, champion: version 11" in printed
    assert max(map(len, printed.splitlines())) <= 80
    rows = [line for line in printed.splitlines() if "100.0" in line]
    assert [line.count("100.0") for line in rows] == [6] * 4, "a row is a line"
    words = {word for name in names for word in name.split()} | {"version"}
    assert words <= set(printed.split()), "no word is broken"


def test_promote_chooses_and_rolls_back(store, capsys):
    assert asked(capsys, "promote", "bench", "1", "--store", store)["champion"] == 1
    assert Registry(Store(store)).champion("bench").version == 1
    assert asked(capsys, "promote", "--rollback", "bench", "--store", store)["champion"] == 2


@pytest.mark.parametrize("arguments", [["bench"], ["bench", "1", "--rollback"]])
def test_promote_wants_a_version_or_rollback(store, arguments, capsys):
    assert run_command(["promote", *arguments, "--store", store]) == 2
    assert "either the number of a version or --rollback" in capsys.readouterr().err


def test_a_version_without_its_run_never_becomes_champion(store, capsys):
    registry = Registry(Store(store))
    registry.register("lost", run="ef" * 32, test="t", scores={"f1@50": 1.0}, parameters={}, curves=[])
    assert run_command(["promote", "lost", "1", "--store", store]) == 1
    assert "holds no finished work" in capsys.readouterr().err
    assert "lost" not in registry.champions()


def test_an_empty_store_has_no_models_and_no_database(tmp_path, capsys):
    Store(tmp_path / "new")
    assert asked(capsys, "models", "--store", str(tmp_path / "new")) == []
    assert not (tmp_path / "new" / "mlflow.db").exists()
