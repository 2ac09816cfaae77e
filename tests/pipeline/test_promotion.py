"""Who becomes champion, as a table, and in a real registry."""

from dataclasses import replace

import pytest

from pipeline.promotion import DECIDING_SCORE, decide, promote_if_better
from storage.registry import RegisteredRun, Registry
from storage.store import Store


def entry(version, f1, test="t"):
    return RegisteredRun(name="tea", version=version, run="ab" * 32, test=test, scores={DECIDING_SCORE: f1})


@pytest.mark.parametrize(
    ("challenger", "champion", "promote", "reason"),
    [
        (entry(1, 10), None, True, "it is the first model of this name"),
        (entry(2, 51), entry(1, 50), True, "f1@50 51.0 against 50.0 of version 1"),
        (entry(2, 49), entry(1, 50), False, "f1@50 49.0 against 50.0 of version 1"),
        (entry(2, 50), entry(1, 50), True, "f1@50 50.0 against 50.0 of version 1"),
        (entry(1, 50), entry(2, 50), False, "f1@50 50.0 against 50.0 of version 2"),
        (entry(1, 51), entry(2, 50), True, "f1@50 51.0 against 50.0 of version 2"),
        (entry(1, 50), entry(1, 50), False, "it already was"),
        (
            replace(entry(2, 99), rolled_back=True),
            entry(1, 50),
            False,
            "`factseg promote tea 2` gives it the lead",
        ),
        (replace(entry(1, 50), rolled_back=True), entry(1, 50), False, "it already was"),
        (entry(2, 1, "other"), entry(1, 99), True, "changed since version 1"),
        (entry(1, 99, "other"), entry(2, 1), False, "are older than those of version 2"),
    ],
)
def test_the_champion_is_the_better_one_on_the_same_videos(challenger, champion, promote, reason):
    decision = decide(challenger, champion)
    assert decision.promote is promote
    assert reason in decision.reason


def test_scoring_runs_again_in_any_order_changes_no_champion(tmp_path):
    registry = Registry(Store(tmp_path / "store"))

    def score(run, f1, test="t"):
        scores = {DECIDING_SCORE: f1}
        entry = registry.register("tea", run=run * 32, test=test, scores=scores, parameters={}, curves=[])
        return promote_if_better(registry, entry)

    assert score("aa", 50.0).champion.version == 1
    assert score("bb", 40.0).champion.version == 1
    assert score("cc", 50.0).champion.version == 3
    for run, f1 in [("aa", 50.0), ("bb", 40.0), ("cc", 50.0)]:
        again = score(run, f1)
        assert again.champion.version == 3
        assert registry.champion("tea").version == 3
    assert len(registry.versions("tea")) == 3
    changed = score("bb", 30.0, test="other")
    assert (changed.entry.version, changed.champion.version) == (4, 4)
    assert score("aa", 50.0).champion.version == 4
