"""The record in an output of its model, its version and its settings."""

import json
from dataclasses import replace

from vl3d_lite.prediction.origin import Origin, described
from vl3d_lite.prediction.outcomes import PredictedCloud

ORIGIN = Origin("town", "w" * 64, "n" * 64, "f" * 64, {"votes": 2}, "", 0.7, "1.2")
RECORD = PredictedCloud(
    "in/a.laz", "a.laz", 3, 2, 1, 0.5, settings={"votes": 2}, temperature=0.7
)


def test_a_record_holds_its_origin():
    record = replace(RECORD, **ORIGIN.facts())
    assert Origin.of(record) == ORIGIN
    assert list(ORIGIN.differences(record)) == []
    assert described(record) == (
        "model town, weights wwwwwwwwwwww, vl3d_lite 1.2, temperature 0.7, votes 2"
    )


def test_a_record_of_an_earlier_version_differs_from_every_origin():
    assert Origin.of(RECORD) is None
    assert list(ORIGIN.differences(RECORD)) == [
        "an earlier version of vl3d_lite wrote it without naming the model"
    ]
    assert described(RECORD).startswith("model unknown, weights unknown")


def test_the_name_of_a_model_alone_is_no_difference():
    record = replace(RECORD, **replace(ORIGIN, model="village").facts())
    assert list(ORIGIN.differences(record)) == []


def test_settings_are_compared_by_what_they_mean():
    record = replace(RECORD, **ORIGIN.facts(), settings={"votes": 2, "grids": 1})
    assert list(ORIGIN.differences(record)) == []  # one grid is the default
    record = replace(RECORD, **ORIGIN.facts(), settings={"unknown": 1})
    assert list(ORIGIN.differences(record)) == [
        "settings that this version does not have"
    ]


def test_a_signature_is_the_same_wherever_it_is_made():
    signature = ORIGIN.signature("s" * 64)
    assert signature.software == "vl3d_lite 1.2 town"
    content = json.loads(signature.data)
    assert content["source_sha256"] == "s" * 64
    assert content["settings"] == {"votes": 2}
    assert signature == replace(ORIGIN).signature("s" * 64)
