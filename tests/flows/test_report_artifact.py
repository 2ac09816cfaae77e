"""The summary of an evaluation goes to Prefect as it lies in the store, and only from within a flow."""

import pytest

from flows import hooks
from flows.reports import StageReport


@pytest.fixture
def made(monkeypatch):
    made = {}
    monkeypatch.setattr(hooks, "create_markdown_artifact", lambda text, key: made.update({key: text}))
    return made


def evaluated(folder) -> StageReport:
    (folder / "report.md").write_text("# Scores\n\nof caf\u00e9", encoding="utf-8")
    return StageReport(stage="evaluate", facts={"run": "ab", "report": str(folder / "report.html")})


def test_an_evaluation_leaves_its_summary(made, monkeypatch, tmp_path):
    monkeypatch.setattr(hooks.FlowRunContext, "get", object)
    hooks.publish(evaluated(tmp_path))
    assert made["evaluate-report"] == "# Scores\n\nof caf\u00e9"
    assert "| run | ab |" in made["evaluate-results"]


def test_outside_a_flow_nothing_is_made(made, tmp_path):
    hooks.publish(evaluated(tmp_path))
    assert made == {}
