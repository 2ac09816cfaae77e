"""What a finished training says of itself, beside its weights: curves, settings and the manifest."""

from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.parallel import Team
from pipeline.provenance import describe_machine, git_revision
from pipeline.run_files import CURVES_FILE, SETTINGS_FILE
from pipeline.settings import RunSettings
from pipeline.train_plan import TRAIN_VERSION, Plan
from pipeline.training_state import TrainingState
from storage.atomic import atomic_path, write_json_atomically
from storage.folders import finish_folder
from storage.places import Place


def write_facts(
    folder: Place, state: TrainingState, *, plan: Plan, settings: RunSettings, seconds: float, team: Team
) -> None:
    """Curves, settings, and the manifest last."""
    position = state.position
    with atomic_path(folder / CURVES_FILE) as scratch:
        pq.write_table(pa.Table.from_pylist(position.curves), scratch)
    write_json_atomically(folder / SETTINGS_FILE, settings.model_dump(mode="json"))
    finish_folder(
        folder,
        {
            "kind": "run",
            "version": TRAIN_VERSION,
            "trained_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "git_revision": git_revision(),
            "machine": describe_machine(team.device),
            "processes": team.size,
            "seed": plan.seed,
            "seconds": round(seconds, 1),
            "videos": {source.video.id: list(source.stored.keys) for source in plan.used},
            "content": {
                source.video.id: [source.video.video_hash, source.label_digest] for source in plan.used
            },
            "labels": {source.video.id: source.label_digest for source in plan.used},
            "validation": {
                "videos": [source.video.id for source in plan.validation],
                "epoch": position.best_epoch,
                "scores": position.best,
            },
            "notices": list(plan.description.notices),
        },
    )
