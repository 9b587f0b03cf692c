"""Which outputs are done, and what a kill at any moment leaves."""

import json
import logging
from dataclasses import replace

import pytest

from vl3d_lite.errors import DataError, ResourceError, SpecError
from vl3d_lite.prediction import outcomes
from vl3d_lite.prediction.origin import Origin
from vl3d_lite.prediction.outcomes import PredictedCloud, read_outcomes, record_path
from vl3d_lite.prediction.outputs import Outputs
from vl3d_lite.runs.shard import Shard
from vl3d_lite.system.hashing import file_hash
from vl3d_lite.system.writing import replacing, write_text

ORIGIN = Origin("town", "w" * 64, "n" * 64, "f" * 64, {"votes": 2}, "", 0.7)


@pytest.fixture
def clouds(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.laz").write_text(f"cloud {name}")
    return sorted(folder.iterdir())


def outputs(clouds, **flags):
    folder = clouds[0].parents[1] / "out"
    return Outputs(folder, clouds, **{"resume": False, "overwrite": False, **flags})


def outcome(source, origin=ORIGIN, sha256=""):
    return PredictedCloud(
        source=str(source),
        output=source.name,
        points=3,
        voted=2,
        nearest=1,
        seconds=0.5,
        settings=origin.settings,
        class_groups=origin.class_groups,
        temperature=origin.temperature,
        source_sha256=file_hash(source),
        sha256=sha256,
        **origin.facts(),
    )


def predict(out, origin=ORIGIN, killed_before=""):
    """Predict as `CloudQueue` does, up to a step; return the clouds that were done."""
    with out.claimed():
        out.decide(origin)
        for source in out.remaining:
            target = out.targets[source]
            with replacing(target) as draft:
                draft.write_text(f"{source.read_text()} by {origin.weights_sha256}")
                if killed_before == "announce":
                    raise KeyboardInterrupt
                record = outcome(source, origin, file_hash(draft))
                out.announce(record)
                if killed_before == "rename":
                    raise KeyboardInterrupt
            if killed_before == "record":
                raise KeyboardInterrupt
            out.record(record)
    return [source.name for source in out.remaining]


def test_resume_skips_what_is_as_it_would_be_written(clouds):
    assert predict(outputs(clouds[:1])) == ["a.laz"]
    assert predict(outputs(clouds, resume=True)) == ["b.laz"]
    assert predict(outputs(clouds, resume=True)) == []
    listing = json.loads((clouds[0].parents[1] / "out/predictions.json").read_text())
    assert [cloud["output"] for cloud in listing["clouds"]] == ["a.laz", "b.laz"]
    assert listing["clouds"][0]["version"] == ORIGIN.version
    assert listing["clouds"][0]["weights_sha256"] == "w" * 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights_sha256": "x" * 64}, r"model `town` \(wwww.*now `town` \(xxxx"),
        ({"network_sha256": "x" * 64}, "spec of the model"),
        ({"features_sha256": "x" * 64}, r"features\.json"),
        ({"settings": {"votes": 3}}, r"`prediction\.votes` 2, now 3"),
        ({"class_groups": "low=ground"}, "--classes none, now low=ground"),
        ({"temperature": 0.8}, "temperature 0.7, now 0.8"),
        ({"version": "9.0"}, r"version .*, now 9\.0"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_an_output_of_another_origin_is_refused_and_states_how_it_differs(
    clouds, changes, message
):
    predict(outputs(clouds))
    before = [
        path.read_text() for path in outputs(clouds, resume=True).targets.values()
    ]
    other = replace(ORIGIN, **changes)
    with pytest.raises(SpecError, match=rf"2 of 2 outputs(.|\n)*a\.laz: .*{message}"):
        predict(outputs(clouds, resume=True), other)
    now = outputs(clouds, resume=True, overwrite=True)
    assert [path.read_text() for path in now.targets.values()] == before
    assert predict(now, other) == ["a.laz", "b.laz"]
    assert predict(outputs(clouds, resume=True), other) == []


def test_only_outputs_that_differ_are_replaced_with_resume_and_overwrite(clouds):
    predict(outputs(clouds))
    clouds[1].write_text("another cloud of the same name")
    with pytest.raises(SpecError, match=r"1 of 2 (.|\n)*b\.laz: its source .* changed"):
        predict(outputs(clouds, resume=True))
    assert predict(outputs(clouds, resume=True, overwrite=True)) == ["b.laz"]
    assert predict(outputs(clouds, overwrite=True)) == ["a.laz", "b.laz"]


def test_an_output_that_was_edited_or_is_not_listed_is_refused(clouds):
    out = outputs(clouds)
    predict(out)
    out.targets[clouds[0]].write_text("edited")
    record_path(out.folder, "b.laz").unlink()
    (out.folder / "predictions.json").unlink()
    with pytest.raises(SpecError) as refused:
        predict(outputs(clouds, resume=True))
    assert "a.laz: the file itself was changed" in str(refused.value)
    assert "b.laz: predictions.json does not list it" in str(refused.value)


@pytest.mark.parametrize("moment", ["announce", "rename", "record"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_kill_at_any_moment_leaves_what_resume_finishes(clouds, moment, overwrite):
    if overwrite:
        predict(outputs(clouds), replace(ORIGIN, weights_sha256="x" * 64))
    with pytest.raises(KeyboardInterrupt):
        predict(outputs(clouds, overwrite=overwrite), killed_before=moment)
    done = ["a.laz"] if moment == "record" else []
    left = predict(outputs(clouds, resume=True, overwrite=overwrite))
    assert left == [name for name in ("a.laz", "b.laz") if name not in done]
    folder = clouds[0].parents[1] / "out"
    for record in read_outcomes(folder):
        assert record.sha256 == file_hash(folder / record.output)
        assert record.weights_sha256 == "w" * 64
    names = sorted(path.name for path in folder.rglob("*"))
    assert names == sorted(
        ["a.laz", "b.laz", "a.laz.json", "b.laz.json", ".records", "predictions.json"]
    )


def test_two_processes_share_a_folder_but_no_output(clouds):
    first, second = outputs(clouds[:1]), outputs(clouds[1:])
    with first.claimed(), second.claimed():
        for out, source in ((first, clouds[0]), (second, clouds[1])):
            out.decide(ORIGIN)
            out.targets[source].write_text("")
            record = outcome(source)
            out.announce(record)
            out.record(record)
        with (
            pytest.raises(ResourceError, match=r"out/[ab]\.laz: process \d+ on host"),
            outputs(clouds, overwrite=True).claimed(),
        ):
            pass
    assert [item.output for item in read_outcomes(first.folder)] == ["a.laz", "b.laz"]


def listed(folder):
    listing = json.loads((folder / "predictions.json").read_text())
    return [cloud["output"] for cloud in listing["clouds"]]


def test_the_last_shard_lists_the_clouds_of_all(clouds):
    folder = clouds[0].parents[1] / "out"
    second = outputs(clouds, shard=Shard(2, 2))
    assert predict(second) == ["b.laz"]
    assert list(second.outcomes) == ["b.laz"]
    assert not (folder / "predictions.json").exists()
    assert [record.output for record in read_outcomes(folder)] == ["b.laz"]
    assert predict(outputs(clouds, shard=Shard(1, 2))) == ["a.laz"]
    assert listed(folder) == ["a.laz", "b.laz"]
    assert predict(outputs(clouds, resume=True)) == []


def test_a_later_command_lists_what_shards_left(clouds):
    folder = clouds[0].parents[1] / "out"
    predict(outputs(clouds, shard=Shard(1, 2)))
    with pytest.raises(KeyboardInterrupt):
        predict(outputs(clouds, shard=Shard(2, 2)), killed_before="record")
    assert predict(outputs(clouds, resume=True)) == []
    assert listed(folder) == ["a.laz", "b.laz"]


def test_an_empty_shard_leaves_nothing(clouds):
    out = outputs(clouds[:1], shard=Shard(1, 2))
    assert predict(out) == []
    assert not out.folder.exists()


def test_clouds_of_one_name_in_two_shards_are_an_error(clouds, tmp_path):
    twin = tmp_path / "other/a.laz"
    twin.parent.mkdir()
    twin.write_text("another cloud")
    for number in (1, 2, 3):
        with pytest.raises(SpecError, match=r"several clouds are named a\.laz"):
            outputs([*clouds, twin], shard=Shard(number, 3))


def test_the_list_is_written_once_for_all_clouds(clouds, monkeypatch):
    written = []
    monkeypatch.setattr(outcomes, "write_text", lambda path, text: written.append(path))
    out = outputs(clouds)
    predict(out)
    assert written == [out.folder / "predictions.json"]


def test_shards_renew_the_list_of_a_folder_without_records(clouds):
    folder = clouds[0].parents[1] / "out"
    predict(outputs(clouds))
    before = (folder / "predictions.json").read_bytes()
    for record in (folder / ".records").iterdir():
        record.unlink()
    clouds[0].write_text("a new cloud")
    shard = outputs(clouds, resume=True, overwrite=True, shard=Shard(1, 2))
    assert predict(shard) == ["a.laz"]
    assert listed(folder) == ["a.laz", "b.laz"]
    assert (folder / "predictions.json").read_bytes() != before


def test_a_list_in_another_order_is_not_written_again(clouds):
    folder = clouds[0].parents[1] / "out"
    predict(outputs(clouds))
    path = folder / "predictions.json"
    listing = json.loads(path.read_text())
    path.write_text(json.dumps({"clouds": listing["clouds"][::-1]}))
    before = path.read_bytes()
    assert [one.output for one in outcomes.assemble(folder)] == ["a.laz", "b.laz"]
    assert path.read_bytes() == before


def test_a_record_that_appears_while_the_list_is_made_gets_into_it(clouds, monkeypatch):
    folder = clouds[0].parents[1] / "out"
    predict(outputs(clouds[:1]))

    def write(path, text):
        monkeypatch.setattr(outcomes, "write_text", write_text)
        predict(outputs(clouds[1:], shard=Shard(1, 1)))  # in another process
        write_text(path, text)

    (folder / "predictions.json").unlink()
    monkeypatch.setattr(outcomes, "write_text", write)
    assert [record.output for record in outcomes.assemble(folder)] == ["a.laz", "b.laz"]
    assert listed(folder) == ["a.laz", "b.laz"]


def test_a_folder_that_stays_empty_is_removed(clouds):
    out = outputs(clouds)
    with out.claimed():
        assert out.folder.is_dir()
    assert not out.folder.exists()


def test_overwrite_starts_a_new_list_where_the_old_one_is_damaged(clouds, caplog):
    folder = clouds[0].parents[1] / "out"
    folder.mkdir()
    (folder / "predictions.json").write_text('{"clouds": [{"unsure": 1}]}')
    with pytest.raises(DataError, match="--overwrite"):
        outputs(clouds, resume=True)
    with caplog.at_level(logging.WARNING):
        predict(outputs(clouds[:1], overwrite=True))
    assert "A new list is started" in caplog.text
    assert [item.output for item in read_outcomes(folder)] == ["a.laz"]


def test_overwrite_keeps_the_other_clouds_of_a_list(clouds):
    predict(outputs(clouds))
    again = outputs(clouds[:1], overwrite=True)
    predict(again)
    assert list(again.outcomes) == ["a.laz", "b.laz"]
