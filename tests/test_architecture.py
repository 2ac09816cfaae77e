"""Promises about the house: who may import whom, and what stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "storage": set(),
    "fact": set(),
    "pipeline": {"storage", "fact"},
    "flows": {"storage", "fact", "pipeline"},
}
MODULES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


def packages_imported_by(path):
    """Top-level names of every import in a file, wherever it stands."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add((node.module or "").split(".")[0])
    return names


def name_of(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_only_the_rooms_it_may(path):
    room = path.relative_to(ROOT).parts[0]
    assert packages_imported_by(path) & set(MAY_IMPORT) <= MAY_IMPORT[room] | {room}


@pytest.mark.parametrize("path", [path for path in MODULES if name_of(path).startswith("fact/")], ids=name_of)
def test_the_model_needs_torch_numpy_and_scipy_only(path):
    allowed = {"torch", "numpy", "scipy", "fact"} | set(sys.stdlib_module_names)
    assert packages_imported_by(path) <= allowed


@pytest.mark.parametrize(
    "path", [path for path in MODULES if name_of(path).startswith("storage/")], ids=name_of
)
def test_storage_knows_no_torch(path):
    assert not packages_imported_by(path) & {"torch", "torchvision", "open_clip"}


@pytest.mark.parametrize(
    "path", [path for path in MODULES if not name_of(path).startswith("flows/")], ids=name_of
)
def test_prefect_lives_in_flows_alone(path):
    assert "prefect" not in packages_imported_by(path)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_stay_small_enough_to_hold_in_the_head(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_prints_but_the_command_line(path):
    calls = [
        node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)
    ]
    prints = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    assert not prints or name_of(path) == "flows/cli_output.py"


def modules_after(code):
    script = f"{code}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(ran.stdout.splitlines()[-1].split())


def test_help_imports_nothing_heavy():
    code = (
        "from flows.cli import run_command\ntry:\n    run_command(['--help'])\nexcept SystemExit:\n    pass"
    )
    heavy = {"torch", "prefect", "mlflow", "pyarrow", "numpy", "cv2", "av", "decord", "open_clip", "pydantic"}
    assert not modules_after(code) & heavy


def test_segmenting_directly_never_imports_prefect_mlflow_or_open_clip():
    heavy = {"prefect", "mlflow", "open_clip"}
    assert not modules_after("import flows.stages, flows.runner, flows.invoke") & heavy


def test_the_lock_names_no_index_and_pins_every_package_by_hash():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "://" in line or line.startswith("-")]
    pinned = [line for line in lines if line and not line.startswith(" ")]
    assert len(pinned) > 100
    assert all("==" in line and line.endswith("\\") for line in pinned)
