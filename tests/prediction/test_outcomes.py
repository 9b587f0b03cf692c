import json
import logging

import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.prediction.outcomes import Outputs, PredictedCloud, read_outcomes

RECORD = PredictedCloud("a.laz", "a.laz", points=3, voted=2, nearest=1, seconds=0.5)


@pytest.fixture
def old(tmp_path):
    """A folder whose list has the fields of an earlier version."""
    record = {"source": "a.laz", "output": "a.laz", "points": 3, "unsure": 0.5}
    (tmp_path / "predictions.json").write_text(json.dumps({"clouds": [record]}))
    return tmp_path


def outputs(folder, **flags):
    return Outputs(folder, [folder / "in" / "b.laz"], **flags)


def test_a_list_of_an_earlier_version_is_an_error_that_says_what_to_do(old):
    message = r"predictions\.json: cannot be read .*'unsure'.*again with --overwrite"
    with pytest.raises(DataError, match=message):
        read_outcomes(old)
    with pytest.raises(DataError, match=message):
        outputs(old, resume=True, overwrite=False)


def test_overwrite_starts_a_new_list(old, caplog):
    with caplog.at_level(logging.WARNING):
        started = outputs(old, resume=False, overwrite=True)
    assert started.outcomes == {}
    assert "A new list is started" in caplog.text
    started.record(RECORD)
    assert [item.output for item in read_outcomes(old)] == ["a.laz"]


def test_overwrite_keeps_the_other_clouds_of_a_list(tmp_path):
    outputs(tmp_path, resume=False, overwrite=False).record(RECORD)
    again = outputs(tmp_path, resume=False, overwrite=True)
    assert list(again.outcomes) == ["a.laz"]
