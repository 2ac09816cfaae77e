"""The application object of ``factseg`` and how its commands start a stage. Nothing heavy is imported here."""

from typing import TYPE_CHECKING, Any

from cyclopts import App

from flows.cli_output import progress_bars, say_outcomes
from flows.reports import StageReport

if TYPE_CHECKING:
    from pipeline.settings_base import StrictSettings

app = App(
    name="factseg",
    help="From a folder of videos to a trained, scored, scheduled action segmenter.\n\nExample: factseg demo",
    help_format="plaintext",
    result_action="return_value",
    # Ctrl-C is answered by `run_command`, which says what is kept.
    suppress_keyboard_interrupt=False,
)
"""Every module ``cli_*`` of this room adds its commands; ``flows.cli`` imports them all."""


def execute_stage(
    name: str, kind: "type[StrictSettings]", values: dict[str, Any], *, direct: bool
) -> StageReport:
    """Validate the settings, carry out the stage with progress bars, and say what failed."""
    from flows.invoke import execute
    from flows.torchrun import is_helper
    from pipeline.settings_reading import build_settings

    settings = build_settings(kind, values, source="settings")
    if is_helper():
        return execute(name, settings, direct=direct)
    with progress_bars():
        made = execute(name, settings, direct=direct)
    say_outcomes(made)
    return made
