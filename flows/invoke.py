"""One way to start a stage from the command line: as its Prefect flow, or directly with the same result."""

from flows.reports import StageReport
from pipeline.settings import RunSettings, StrictSettings


def execute(name: str, settings: StrictSettings, *, direct: bool) -> StageReport:
    """Carry out a stage, or the ``full-pipeline``.

    Args:
        name: Name of the flow.
        settings: What that flow takes.
        direct: Call the plain functions; Prefect is not even imported.

    Raises:
        PipelineError, StorageError, FactError: The stage failed for a reason that users can mend.
    """
    if not direct:
        from flows.chain import call_flow

        return call_flow(name, settings)
    return _call_directly(name, settings)


def _call_directly(name: str, settings: StrictSettings) -> StageReport:
    from flows import stages
    from flows.runner import DirectRunner

    if isinstance(settings, RunSettings) and name == "full-pipeline":
        return stages.full_pipeline(settings, _call_directly)
    return stages.STAGES[name](settings, DirectRunner())
