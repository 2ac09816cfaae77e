"""One way to start a stage from the command line: as its Prefect flow, or directly with the same result."""

from flows.reports import StageReport
from flows.torchrun import check_can_be_shared, is_helper
from pipeline.settings import RunSettings
from pipeline.settings_base import StrictSettings
from pipeline.settings_operations import RetrainSettings


def execute(name: str, settings: StrictSettings, *, direct: bool) -> StageReport:
    """Carry out a stage, or the ``full-pipeline``.

    Args:
        name: Name of the flow.
        settings: What that flow takes.
        direct: Call the plain functions; Prefect is not even imported.

    Raises:
        PipelineError, StorageError, FactError: The stage failed for a reason that users can mend.
    """
    check_can_be_shared(name)
    # One flow for all processes of a training: the first one's.
    if not direct and not is_helper():
        from flows.chain import call_flow

        return call_flow(name, settings)
    return _call_directly(name, settings)


def execute_retrain(settings: RetrainSettings, *, direct: bool) -> StageReport:
    """Retrain; arguments and errors as for ``execute``."""
    check_can_be_shared("retrain")
    if not direct:
        from flows.chain import report_of
        from flows.retrain import retrain

        return report_of(retrain(settings, return_state=True))
    from flows.retrain_stage import retrain_stage
    from flows.runner import DirectRunner

    return retrain_stage(settings, DirectRunner(), _call_directly)


def _call_directly(name: str, settings: StrictSettings) -> StageReport:
    from flows import stages
    from flows.runner import DirectRunner

    if isinstance(settings, RunSettings) and name == "full-pipeline":
        return stages.full_pipeline(settings, _call_directly)
    return stages.STAGES[name](settings, DirectRunner())
