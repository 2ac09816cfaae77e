"""Scheduled retraining: a challenger where there is new data, and a champion only where it is not worse."""

from functools import partial
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.chain import COMMON, PrefectRunner, call_flow, conclude
from flows.reports import StageReport
from flows.retrain_stage import retrain_stage
from pipeline.errors import SettingsError
from pipeline.settings_file import read_settings_file
from pipeline.settings_operations import RetrainSettings
from pipeline.settings_reading import build_settings


@flow(name="retrain", **COMMON)
def retrain(settings: RetrainSettings | None = None, settings_file: Path | None = None) -> State[Any]:
    """Train a challenger where labelled videos are new or changed, and promote it where it is not worse."""
    return conclude(partial(_retrain, settings, settings_file))


def _retrain(settings: RetrainSettings | None, settings_file: Path | None) -> StageReport:
    # Settings that are given win, so that a run of the deployment can do without the file its schedule reads.
    if settings is not None:
        chosen = settings
    elif settings_file is not None:
        chosen = build_settings(RetrainSettings, read_settings_file(settings_file), source=str(settings_file))
    else:
        raise SettingsError("Nothing says what to retrain. Give `settings`, or `settings_file`.")
    return retrain_stage(chosen, PrefectRunner(), call_flow)
