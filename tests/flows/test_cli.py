import ast
import csv
import inspect
import io
import json
import shutil
from collections import Counter

import pytest

from flows import cli, cli_options
from tests.flows.conftest import dataset_options

COMMANDS = ("demo", "probe", "extract", "embed", "train", "evaluate", "run", "segment", "report", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(factseg, command):
    ran = factseg(command, "--help")
    assert ran.returncode == 0
    assert f"Example: factseg {command}" in ran.stdout
    assert "--store" in ran.stdout


def test_help_of_an_option_is_one_line_of_text():
    """It is shown as it is written: a line break, and the indentation after it, would stand in the middle of it."""
    classes = [
        node for node in ast.parse(inspect.getsource(cli_options)).body if isinstance(node, ast.ClassDef)
    ]
    texts = [
        node.value.value
        for one in classes
        for node in one.body[1:]
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    ]
    assert len(texts) > 40
    assert [text for text in texts if "\n" in text] == []


@pytest.mark.parametrize(
    "command", sorted(name for name in cli.app.resolved_commands() if not name.startswith("-"))
)
def test_no_two_options_of_a_command_share_a_name(command):
    """One of them could never be given."""
    arguments = cli.app[command].assemble_argument_collection() if cli.app[command].default_command else ()
    names = Counter(name for one in arguments for name in one.names if name.startswith("--"))
    assert [name for name, count in names.items() if count > 1] == []


def test_help_lists_every_command(factseg):
    ran = factseg("--help")
    assert ran.returncode == 0
    assert all(command in ran.stdout for command in COMMANDS)


def test_an_unknown_option_is_wrong_usage_and_names_the_nearest(factseg):
    ran = factseg("run", "--vidoes", "x")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "Did you mean --videos?" in ran.stderr


def test_missing_settings_are_wrong_usage_and_are_named(factseg, tmp_path):
    ran = factseg("run", "--videos", tmp_path, "--store", tmp_path / "store", "--direct")
    assert ran.returncode == 2
    assert "dataset.labels" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_unknown_key_in_a_settings_file_names_the_nearest(factseg, dataset, tmp_path):
    (tmp_path / "s.toml").write_text("[training]\nepohcs = 3\n")
    ran = factseg("run", *dataset_options(dataset), "--settings", tmp_path / "s.toml", "--direct")
    assert ran.returncode == 2
    assert "training.epohcs" in ran.stderr
    assert "did you mean 'epochs'?" in ran.stderr


def test_probe_lists_every_regular_file_of_a_folder(factseg, dataset, tmp_path):
    folder = tmp_path / "videos"
    shutil.copytree(dataset / "videos", folder)
    (folder / "notes.tsv").write_text("a\tb\n")
    (folder / "broken.mp4").write_bytes(b"")
    (folder / "deep").mkdir()
    ran = factseg("probe", folder, "--store", tmp_path / "store", "--json")
    rows = {row["id"]: row for row in json.loads(ran.stdout)}
    assert ran.returncode == 1
    assert set(rows) == {"a", "b", "c", "notes", "broken"}
    assert (rows["a"]["num_frames"], rows["a"]["fps"], rows["a"]["status"]) == (40, 10.0, "ok")
    assert (rows["a"]["video_streams"], rows["a"]["stream_index"]) == (1, 0)
    assert (rows["a"]["pixel_aspect"], rows["a"]["variable_rate"]) == (1.0, False)
    assert rows["notes"]["status"] == "not a video"
    assert rows["broken"]["status"] == "failed"
    assert "broken.mp4" in rows["broken"]["error"]


def test_the_whole_chain_ends_with_scores_and_a_champion(trained):
    store, ran = trained
    facts = json.loads(ran.stdout)
    assert facts["train"]["trained"]
    assert facts["evaluate"]["scores"]["mstcn"]["frame accuracy"] >= 80
    assert facts["evaluate"]["champion"] == 1
    assert (store / "evaluations").is_dir()
    assert "random weights" in ran.stderr


def test_a_second_run_decodes_and_trains_nothing(trained, dataset, factseg):
    store, _ = trained
    before = {
        path: path.stat().st_mtime_ns
        for path in store.rglob("*")
        # The table of a stage says what became of each video this time.
        if path.suffix in {".parquet", ".safetensors"} and path.parent.name != "tables"
    }
    ran = factseg("run", *dataset_options(dataset), "--store", store, "--direct", "--json")
    facts = json.loads(ran.stdout)
    assert (facts["train"]["trained"], facts["evaluate"]["evaluated"]) == (False, False)
    assert "3 skipped" in ran.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_step_by_step_is_the_same_run(trained, dataset, factseg):
    store, ran = trained
    options = [*dataset_options(dataset), "--store", store, "--direct", "--json"]
    assert json.loads(factseg("train", *options).stdout)["run"] == json.loads(ran.stdout)["train"]["run"]
    evaluated = json.loads(factseg("evaluate", *options).stdout)
    assert evaluated["report"] == json.loads(ran.stdout)["evaluate"]["report"]


def test_segments_of_a_video_as_table_json_and_csv(trained, dataset, factseg):
    store, _ = trained
    video = dataset / "videos" / "c.mp4"
    table = factseg("segment", video, "--store", store, "--direct")
    assert table.returncode == 0
    assert "pour milk" in table.stdout
    [made] = json.loads(factseg("segment", video, "--store", store, "--direct", "--json").stdout)
    assert made["video"] == "c"
    assert made["segments"][0]["start_seconds"] == 0
    assert made["segments"][-1]["end_frame"] == 40
    assert made["segments"][-1]["end_seconds"] == pytest.approx(4.0)
    rows = list(
        csv.DictReader(io.StringIO(factseg("segment", video, "--store", store, "--direct", "--csv").stdout))
    )
    assert [row["class"] for row in rows] == [segment["class"] for segment in made["segments"]]
    assert {row["video"] for row in rows} == {"c"}


def test_a_failed_video_exits_1_and_the_others_are_segmented(trained, dataset, factseg, tmp_path):
    store, _ = trained
    (tmp_path / "text.mp4").write_text("no video")
    ran = factseg(
        "segment", dataset / "videos" / "c.mp4", tmp_path / "text.mp4", "--store", store, "--direct", "--json"
    )
    assert ran.returncode == 1
    assert [video["video"] for video in json.loads(ran.stdout)] == ["c"]
    assert "failed: text: " in ran.stderr
    assert "Traceback" not in ran.stderr


def test_report_says_scores_and_where_the_page_lies(trained, factseg):
    store, ran = trained
    [found] = json.loads(factseg("report", "--store", store, "--json").stdout)
    assert found["report"] == json.loads(ran.stdout)["evaluate"]["report"]
    assert "report.html" in factseg("report", "--store", store).stdout


def test_doctor_finds_the_store_in_order_and_a_damaged_file(trained, factseg, tmp_path):
    store, _ = trained
    checks = {
        check["what"]: check for check in json.loads(factseg("doctor", "--store", store, "--json").stdout)
    }
    assert checks["store"]["status"] == "ok"
    assert checks["decoding by pyav"]["status"] == "ok"
    damaged = tmp_path / "store"
    shutil.copytree(store, damaged)
    victim = next(iter((damaged / "features" / "clip").glob("*.parquet")))
    victim.write_bytes(victim.read_bytes()[:100])
    ran = factseg("doctor", "--store", damaged)
    assert ran.returncode == 1
    assert "bad" in ran.stdout


def test_a_store_that_cannot_be_is_one_sentence(factseg, dataset, tmp_path):
    (tmp_path / "store").write_text("")
    ran = factseg(
        "extract", dataset / "videos", "--weights", "random", "--store", tmp_path / "store", "--direct"
    )
    assert ran.returncode == 1
    assert "is a file. Give --store a folder." in ran.stderr
    assert "Traceback" not in ran.stderr


def test_real_weights_that_are_not_here_are_asked_for_with_the_remedy(factseg, dataset, tmp_path):
    ran = factseg(
        *(
            "extract",
            dataset / "videos",
            "--features",
            "i3d-rgb:stride=20",
            "--store",
            tmp_path / "store",
            "--direct",
        ),
        FACTSEG_WEIGHTS=str(tmp_path),
    )
    assert ran.returncode == 1
    assert "rgb_imagenet.pt" in ran.stderr
    assert "--weights random" in ran.stderr
