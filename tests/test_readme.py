"""What the README shows is true: its commands exist, its example runs, its settings load."""

import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


COMMANDS = sorted({line for block in blocks("bash") for line in block.splitlines() if line.strip()})
FACTSEG = [command for command in COMMANDS if command.startswith("factseg ")]


@pytest.fixture(scope="module")
def parse():
    """Parses a command line without carrying it out."""
    from flows.cli import app

    def parse_line(line):
        app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)

    return parse_line


@pytest.mark.parametrize("command", FACTSEG)
def test_every_command_line_is_understood(parse, command):
    parse(command)


def test_a_wrong_command_line_would_be_noticed(parse):
    from cyclopts.exceptions import CycloptsError

    with pytest.raises(CycloptsError):
        parse("factseg segment new.mp4 --no-such-option")


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_every_make_target_exists(command):
    target = command.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)


def test_ci_runs_exactly_the_test_command_of_the_readme():
    assert "make test" in COMMANDS
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "make test"


def test_the_settings_file_loads():
    from pipeline.settings import RunSettings
    from pipeline.settings_reading import build_settings

    [text] = blocks("toml")
    settings = build_settings(RunSettings, tomllib.loads(text), source="README")
    assert settings.training.recipe == "breakfast"


def test_the_model_example_runs_as_it_stands():
    [example] = blocks("python")
    subprocess.run([sys.executable, "-W", "error", "-c", example], cwd=ROOT, check=True, timeout=300)


def test_every_dependency_is_explained():
    described = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8").lower()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = [re.match(r"[A-Za-z0-9_-]+", requirement)[0] for requirement in project["dependencies"]]
    assert [name for name in names if name.lower() not in described] == []
