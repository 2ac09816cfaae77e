"""The command line ``factseg``: reads options, starts stages, shows what they report.

Data goes to standard output, everything else to standard error. Exit code 0: all went well; 1: some or all of
it failed; 2: wrong usage. Nothing heavy is imported before a command needs it.
"""

import logging
import os
import sys

from flows import (
    cli_benchmark,
    cli_evaluate,
    cli_export,
    cli_import,
    cli_look,
    cli_models,
    cli_operations,
    cli_stages,
    cli_status,
    cli_store,
    cli_ui,
)
from flows.cli_app import app
from flows.cli_output import say

COMMANDS = (
    cli_stages,
    cli_evaluate,
    cli_export,
    cli_import,
    cli_look,
    cli_models,
    cli_operations,
    cli_status,
    cli_store,
    cli_ui,
    cli_benchmark,
)
"""Modules whose import adds commands to the application."""


def main() -> None:
    """Entry point of the ``factseg`` command."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Carry out one command line and return its exit code."""
    from fact.errors import FactError
    from pipeline.errors import PipelineError, SettingsError
    from storage.errors import StorageError

    _set_up_logging()
    try:
        return int(app(arguments) or 0)
    except SettingsError as error:
        say(f"error: {error}")
        return 2
    except (PipelineError, StorageError, FactError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped; what was finished is kept")
        return 130


def _set_up_logging() -> None:
    """Our log on standard error; Prefect's own log only from warnings on, unless its user decided otherwise."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "WARNING")
    from flows.reports import RUN_LOG
    from flows.torchrun import is_helper

    level = os.environ.get("FACTSEG_LOG_LEVEL", "WARNING" if is_helper() else "INFO").upper()
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    # How a flow ended is said once, by its command.
    handler.addFilter(lambda record: record.name != RUN_LOG)
    # Its own handler says how often it asks; so would the one that Prefect gives to everybody.
    logging.getLogger("huggingface_hub").propagate = False
    for room in ("fact", "storage", "pipeline", "flows"):
        logger = logging.getLogger(room)
        logger.setLevel(level)
        logger.addHandler(handler)
        logger.propagate = False
