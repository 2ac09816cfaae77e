"""What goes wrong is said once, whichever of the command, its flow, its subflows and their tasks noticed it."""

import httpx
import pytest

from flows import chain
from flows.invoke import execute
from pipeline.errors import ServerError
from pipeline.settings import EmbedSettings
from tests.flows.conftest import dataset_options


@pytest.mark.slow
def test_what_breaks_a_task_of_a_subflow_is_one_sentence_on_the_terminal(factseg, dataset, trained, tmp_path):
    mapping = tmp_path / "mapping.txt"
    mapping.write_text("0 background\n1 nothing else\n")
    options = dataset_options(dataset)
    options[options.index("--mapping") + 1] = str(mapping)
    ran = factseg("run", *options, "--store", trained[0])
    assert ran.returncode == 1
    said = [line for line in ran.stderr.splitlines() if not line.startswith(("extract ", "note: "))]
    assert len(said) == 1, ran.stderr
    assert said[0].startswith("error: None of the 2 training videos can be used; the first: ")


@pytest.mark.slow
def test_a_broken_video_of_a_flow_is_named_once(factseg, dataset, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "a.mp4").symlink_to(dataset / "videos" / "a.mp4")
    (videos / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + bytes(100))
    options = ("--features", "clip:stride=5", "--weights", "random", "--store", tmp_path / "store", "--json")
    ran = factseg("extract", videos, *options)
    assert ran.returncode == 1
    said = [line for line in ran.stderr.splitlines() if "broken" in line]
    assert [line.split(": ")[:2] for line in said] == [["failed", "broken"]], ran.stderr
    assert ran.stderr.splitlines()[-1] == "extract: 1 of 2 failed"


def test_a_server_that_does_not_answer_is_named_with_the_remedy(factseg, tmp_path):
    mapping = tmp_path / "mapping.txt"
    mapping.write_text("0 background\n")
    options = ("--mapping", mapping, "--store", tmp_path / "store", "--weights", "random")
    ran = factseg("embed", *options, PREFECT_API_URL="http://127.0.0.1:9/api")
    assert ran.returncode == 1
    (said,) = ran.stderr.splitlines()
    assert said.startswith("error: PREFECT_API_URL is http://127.0.0.1:9/api, and no flow can run there")
    assert "`prefect server start`" in said
    assert not (tmp_path / "store").exists()


def test_a_server_that_is_lost_while_the_flow_runs_is_an_error_with_the_remedy(monkeypatch, tmp_path):
    def lose(*_):
        raise httpx.ConnectError("All connection attempts failed")

    monkeypatch.setattr(chain, "call_flow", lose)
    settings = EmbedSettings(store=tmp_path / "store", mapping=tmp_path / "mapping.txt")
    with pytest.raises(ServerError, match=r"All connection attempts failed\..*run the same command again"):
        execute("embed-text", settings, direct=False)
