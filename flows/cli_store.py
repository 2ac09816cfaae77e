"""Commands that look after the store: verify, gc, migrate."""

from typing import Annotated

from cyclopts import Parameter

from flows.cli_app import app
from flows.cli_options import DEFAULT_STORE, JsonOption, StoreOption
from flows.cli_output import print_records, say

DryRunOption = Annotated[bool, Parameter(name="--dry-run", negative="")]
"""Say what would be done, and do nothing."""


@app.command
def verify(*, store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> int:
    """Read every byte of the store and compare it with its checksum; say what is damaged and how to make it again.

    Example: factseg verify --store factseg-store

    Args:
        store: Folder of all artefacts, or its URL.
        json: Print JSON on standard output.
    """
    from dataclasses import asdict

    from storage.store import Store
    from storage.verify import verify_store

    found = verify_store(Store(store, read_only=True))
    print_records([asdict(finding) for finding in found.findings], as_json=json)
    damaged = sum(finding.kind == "damaged" for finding in found.findings)
    say(f"verify: {found.num_files} files, {found.num_bytes / 1e6:.1f} MB checked; {damaged} damaged")
    return int(not found.is_whole)


@app.command
def gc(
    *,
    store: StoreOption = DEFAULT_STORE,
    dry_run: DryRunOption = False,
    min_age_days: float = 7,
    json: JsonOption = False,
) -> int:
    """Remove what nothing refers to any more. Look with --dry-run first.

    Example: factseg gc --dry-run

    Args:
        store: Folder of all artefacts, or its URL.
        dry_run: Say what would be removed, and remove nothing.
        min_age_days: Unused features, labels and texts, and unfinished work, are kept while they are younger than
            this; with 0, what was written a moment ago is judged too: only while nothing else uses the store.
        json: Print JSON on standard output.
    """
    from pipeline.garbage import unreferenced
    from storage.garbage import remove_garbage
    from storage.store import Store

    opened = Store(store, read_only=dry_run)
    garbage = unreferenced(opened, min_age_days=min_age_days)
    if not dry_run:
        remove_garbage(opened, garbage)
    print_records(
        [{"path": str(item.path), "reason": item.reason, "bytes": item.num_bytes} for item in garbage],
        as_json=json,
    )
    verb = "would be removed" if dry_run else "removed"
    say(f"gc: {len(garbage)} artefacts, {sum(item.num_bytes for item in garbage) / 1e6:.1f} MB {verb}")
    return 0


@app.command
def migrate(
    *, store: StoreOption = DEFAULT_STORE, dry_run: DryRunOption = False, json: JsonOption = False
) -> int:
    """Bring a store of an earlier version to this one; nothing is computed again. Look with --dry-run first.

    Example: factseg migrate --dry-run

    Args:
        store: Folder of all artefacts, or its URL.
        dry_run: Say what would be done, and do nothing.
        json: Print JSON on standard output.
    """
    from storage.migrate import migrate_store

    done = migrate_store(store, dry_run=dry_run)
    print_records([{"step": line} for line in done], as_json=json)
    verb = "would be taken" if dry_run else "taken"
    say(f"migrate: {len(done)} steps {verb}" if done else "migrate: the store is of this version already")
    return 0
