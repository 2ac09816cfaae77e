"""Where and from which code something was made."""

import platform
import subprocess
from pathlib import Path

import torch


def git_revision() -> str:
    """Revision of this program's checkout, ``-dirty`` with uncommitted changes; ``unknown`` outside one."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        # Installed into somebody's environment: a repository further up is theirs, not ours.
        return "unknown"
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],  # noqa: S607  (git is where the user has it)
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return asked.stdout.strip()


def describe_machine(device: torch.device) -> str:
    """Processor or GPU, system and versions in one line."""
    name = (
        torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else f"CPU, {torch.get_num_threads()} threads"
    )
    system = f"{platform.system()} {platform.machine()}"
    return f"{name}; {system}; Python {platform.python_version()}; torch {torch.__version__}"
