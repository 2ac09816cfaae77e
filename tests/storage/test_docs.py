import re
from pathlib import Path

import duckdb
import numpy as np
import pytest

from storage.features import read_features
from tests.storage.samples import FEATURES, small_store

PAGE = Path(__file__).resolve().parents[2] / "docs/storage.md"


def test_the_queries_of_the_page_run_and_are_right(tmp_path):
    store = small_store(tmp_path / "store")
    queries = re.findall(r"```sql\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(queries) == 3
    with duckdb.connect() as connection:
        catalogue, actions, norms = (
            connection.sql(query.replace("STORE", store.root.as_posix())).fetchall() for query in queries
        )
    assert catalogue == [(None, 1, None)]
    assert actions == [("cut", 1, pytest.approx(0.36))]
    path = store.feature_path("clip", FEATURES)
    feature = read_features(path).feature
    assert norms == [
        (path.as_posix(), pytest.approx(float(np.sqrt((feature**2).sum(axis=1).mean())), rel=1e-5))
    ]
