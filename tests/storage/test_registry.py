import errno
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from storage import atomic
from storage.database_seal import database_problem
from storage.errors import DiskFullError, MissingArtefactError
from storage.registry import Registry
from storage.store import Store

ROOT = Path(__file__).resolve().parents[2]
RUN, OTHER_RUN = "ab" * 32, "cd" * 32


def register(registry, name="bench", *, run=RUN, test="t", f1=50.0):
    curves = [{"epoch": epoch, "loss": 1 / epoch} for epoch in (1, 2)]
    scores = {"f1@50": f1}
    return registry.register(name, run=run, test=test, scores=scores, parameters={"seed": "0"}, curves=curves)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    # MLflow makes its tables once; every test of the module uses models of its own name.
    return Store(tmp_path_factory.mktemp("store"))


def test_an_empty_store_has_no_champion_and_makes_no_database(tmp_path):
    registry = Registry(Store(tmp_path))
    with pytest.raises(MissingArtefactError, match="no trained model"):
        registry.champion()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_run_is_registered_once(store):
    first = register(Registry(store), "once")
    again = register(Registry(store), "once")
    assert first == again
    assert (first.version, first.run, first.scores) == (1, RUN, {"f1@50": 50.0})
    assert register(Registry(store), "once", run=OTHER_RUN).version == 2
    assert [entry.version for entry in Registry(store).versions("once")] == [2, 1]


def test_the_champion_is_the_promoted_version_whoever_asks(store):
    registry = Registry(store)
    first, second = register(registry, "led"), register(registry, "led", run=OTHER_RUN)
    registry.promote(first)
    assert Registry(store).champion("led") == first
    assert Registry(store).champion("led") == first
    registry.promote(second)
    assert Registry(store).champion("led") == second


def test_a_remembered_champion_needs_no_mlflow(store, monkeypatch):
    registry = Registry(store)
    registry.promote(register(registry, "remembered"))
    Registry(store).champions()
    monkeypatch.setattr(Registry, "_ask_champions", lambda _: pytest.fail("asked MLflow"))
    assert Registry(store).champion("remembered").run == RUN


def test_several_models_must_be_named(store):
    registry = Registry(store)
    for name in ("north", "south east"):
        registry.promote(register(registry, name))
    with pytest.raises(MissingArtefactError, match="--model"):
        registry.champion()
    assert registry.champion("south east").name == "south east"
    with pytest.raises(MissingArtefactError, match=r"'east'.*Known: .*'north'"):
        registry.champion("east")


def test_a_rollback_gives_the_lead_back_step_by_step(store):
    registry = Registry(store)
    first, second, third = (register(registry, "rolled", run=run) for run in (RUN, OTHER_RUN, "ef" * 32))
    for entry in (first, second, second, third):
        registry.promote(entry)
    assert Registry(store).roll_back("rolled") == second
    assert Registry(store).champion("rolled") == second
    assert registry.roll_back("rolled") == first
    assert {entry.version: entry.rolled_back for entry in registry.versions("rolled")} == {
        1: False,
        2: True,
        3: True,
    }
    with pytest.raises(MissingArtefactError, match="nothing to go back to"):
        registry.roll_back("rolled")
    assert Registry(store).champion("rolled") == first
    # Who gives the lead back by hand takes the mark away.
    registry.promote(registry.version("rolled", 3))
    assert Registry(store).champion("rolled") == third
    assert [entry.version for entry in registry.versions("rolled") if entry.rolled_back] == [2]


def test_rolling_back_an_unknown_model_or_version_names_what_there_is(store):
    registry = Registry(store)
    register(registry, "known")
    with pytest.raises(MissingArtefactError, match="nothing to go back to"):
        registry.roll_back("unknown")
    with pytest.raises(MissingArtefactError, match=r"no version 7 of model 'known': its versions are 1"):
        registry.version("known", 7)
    with pytest.raises(MissingArtefactError, match=r"model 'unknown': known are .*known"):
        registry.version("unknown", 1)


REGISTER_ON_A_FULL_DISK = """
import resource, sys
from storage.errors import DiskFullError
from storage.registry import Registry
from storage.store import Store
store = Store(sys.argv[1])
registry = Registry(store)
registry.names()
resource.setrlimit(resource.RLIMIT_FSIZE, (store.tracking_database.stat().st_size,) * 2)
curves = [{"epoch": epoch, **dict.fromkeys(map(str, range(10)), 1.0)} for epoch in range(300)]
try:
    registry.register("led-full", run="ef" * 32, test="t", scores={}, parameters={}, curves=curves)
except DiskFullError as error:
    print(error)
"""


def test_a_full_disk_is_named_with_the_remedy_and_the_champion_stays(store):
    registry = Registry(store)
    registry.promote(register(registry, "led-full"))
    command = [sys.executable, "-c", REGISTER_ON_A_FULL_DISK, str(store.root)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "There is no room to write" in ran.stdout
    assert "Free some space" in ran.stdout
    assert [entry.version for entry in Registry(store).versions("led-full")] == [1]
    assert Registry(store).champion("led-full").version == 1
    assert register(registry, "led-full", run=OTHER_RUN).version == 2


def test_a_champion_that_could_not_be_noted_is_not_made(store, monkeypatch):
    registry = Registry(store)
    first, second = register(registry, "noted"), register(registry, "noted", run=OTHER_RUN)
    registry.promote(first)
    before = store.tracking_database.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(DiskFullError, match=r"no room to write .*mlflow\.db\.json"):
        registry.promote(second)
    monkeypatch.undo()
    assert store.tracking_database.read_bytes() == before
    assert database_problem(store.tracking_database) == ""
    assert Registry(store).champion("noted") == first


def test_what_a_broken_change_left_in_the_database_is_noted_too(store, monkeypatch):
    registry = Registry(store)
    first, second = register(registry, "cut short"), register(registry, "cut short", run=OTHER_RUN)
    registry.promote(first)
    full = MlflowException("(sqlite3.OperationalError) database or disk is full")
    monkeypatch.setattr(MlflowClient, "set_registered_model_alias", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(DiskFullError, match=r"no room to write .*mlflow\.db "):
        registry.promote(second)
    monkeypatch.undo()
    assert database_problem(store.tracking_database) == ""
    assert Registry(store).champion("cut short") == first
    # It led all the time, so there is nothing to go back to, and once the other one leads there is one step.
    with pytest.raises(MissingArtefactError, match="nothing to go back to"):
        Registry(store).roll_back("cut short")
    registry.promote(second)
    assert registry.roll_back("cut short") == first
    with pytest.raises(MissingArtefactError, match="nothing to go back to"):
        registry.roll_back("cut short")


def test_a_database_that_somebody_else_changed_is_not_vouched_for_by_a_change_of_nothing(tmp_path):
    registry = Registry(Store(tmp_path))
    first = register(registry)
    registry.promote(first)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE other (name TEXT)")
    registry.promote(first)
    assert "not what factseg last wrote" in database_problem(tmp_path / "mlflow.db")


def test_whoever_only_asks_for_the_champion_needs_no_room(store, monkeypatch):
    registry = Registry(store)
    registry.promote(register(registry, "asked"))
    (store.root / "champions.json").unlink(missing_ok=True)
    monkeypatch.setattr(atomic, "_sync", lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    assert Registry(store).champion("asked").run == RUN
    assert not (store.root / "champions.json").exists()
