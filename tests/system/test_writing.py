"""Outputs are complete or absent."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from vl3d_lite.errors import ResourceError, SpecError
from vl3d_lite.system.writing import (
    output_errors,
    replacing,
    replacing_entries,
    require_free,
    write_json,
    write_text,
)


def test_a_file_appears_whole_in_a_folder_that_is_made(tmp_path):
    write_text(tmp_path / "new/deep/note.txt", "größe")
    assert (tmp_path / "new/deep/note.txt").read_bytes() == "größe".encode()
    assert [path.name for path in (tmp_path / "new/deep").iterdir()] == ["note.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path, error):
    target = tmp_path / "note.txt"
    write_text(target, "old")

    def fail():
        with replacing(target) as draft:
            draft.write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_a_resource_error_with_a_remedy(tmp_path, monkeypatch):
    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ResourceError, match=r"No space left.*free some space"):
        write_text(tmp_path / "note.txt", "text")
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_a_folder_is_a_resource_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        write_text(tmp_path / "file/note.txt", "text")


def test_json_refuses_what_no_reader_could_read(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "run.json", {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space or write elsewhere"),
        (errno.EDQUOT, "free some space or write elsewhere"),
        (errno.ENOENT, "create the folder first"),
        (errno.EACCES, "check the folder's permissions or write elsewhere"),
        (None, "check the folder's permissions or write elsewhere"),
    ],
)
def test_an_error_names_the_path_the_reason_and_the_remedy(number, remedy):
    reason = OSError("odd") if number is None else OSError(number, "odd")
    with pytest.raises(ResourceError) as caught, output_errors(Path("run/out.json")):
        raise reason
    assert str(caught.value) == f"run/out.json: cannot be written (odd); {remedy}"


def test_a_folder_is_not_made_where_that_is_not_wanted(tmp_path):
    def write():
        with replacing(tmp_path / "none/out.txt", make_folder=False) as draft:
            draft.write_text("text")

    with pytest.raises(ResourceError, match="create the folder first"):
        write()
    assert not list(tmp_path.iterdir())


def fill(folder, contents, **kwargs):
    with replacing_entries(folder, **kwargs) as draft:
        for name, text in contents.items():
            (draft / name).write_text(text)


def contents(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_new_folder_appears_as_a_whole(tmp_path):
    with replacing_entries(tmp_path / "deep/new") as draft:
        (draft / "a").write_text("1")
        assert not (tmp_path / "deep/new").exists()
    assert contents(tmp_path / "deep/new") == {"a": "1"}
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]


def test_entries_of_an_existing_folder_are_replaced_and_others_stay(tmp_path):
    (tmp_path / "a").write_text("old")
    (tmp_path / "note").write_text("mine")
    (tmp_path / "stale").write_text("old")
    given = []

    def clear(names):
        given.append(names)
        assert (tmp_path / "a").read_text() == "old"
        (tmp_path / "stale").unlink()

    fill(tmp_path, {"a": "new", "b": "new"}, clear=clear)
    assert given == [{"a", "b"}]
    assert contents(tmp_path) == {"a": "new", "b": "new", "note": "mine"}


def test_the_file_that_completes_a_folder_moves_last(tmp_path, monkeypatch):
    moved = []
    replace = Path.replace

    def watched(self, target):
        moved.append(target.name)
        return replace(self, target)

    (tmp_path / "note").touch()
    monkeypatch.setattr(Path, "replace", watched)
    fill(tmp_path, dict.fromkeys("abcd", ""), last="b")
    assert len(moved) == 4
    assert moved[-1] == "b"


@pytest.mark.parametrize("exists", [False, True])
def test_an_interrupted_write_of_a_folder_changes_nothing(tmp_path, exists):
    folder = tmp_path / "out"
    if exists:
        folder.mkdir()
        (folder / "a").write_text("old")

    def fail():
        with replacing_entries(folder) as draft:
            (draft / "a").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    if exists:
        assert contents(folder) == {"a": "old"}
    else:
        assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_replaced_in_one_step(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    with replacing_entries(folder) as draft:
        (draft / "a").write_text("1")
        assert not list(folder.iterdir())
    assert contents(folder) == {"a": "1"}


def test_the_draft_of_a_killed_process_is_not_mixed_in(tmp_path):
    with replacing_entries(tmp_path) as draft:
        name = draft.name
    (tmp_path / name).mkdir()
    (tmp_path / name / "leftover").write_text("")
    fill(tmp_path, {"a": "new"})
    assert contents(tmp_path) == {"a": "new"}


def test_a_file_in_place_of_a_folder_is_refused_and_stays(tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(ResourceError, match="out: cannot be written"):
        fill(tmp_path / "out", {"a": "1"})
    assert contents(tmp_path) == {"out": "in the way"}


@pytest.mark.parametrize(
    ("resume", "middle"),
    [(None, ""), ("skip finished clouds", "skip finished clouds with --resume, ")],
)
def test_an_existing_file_is_not_overwritten_by_default(tmp_path, resume, middle):
    path, remedy = tmp_path / "a.txt", "name another file with --output"
    require_free(path, overwrite=False, remedy=remedy, resume=resume)
    path.touch()
    require_free(path, overwrite=True, remedy=remedy, resume=resume)
    with pytest.raises(SpecError) as raised:
        require_free(path, overwrite=False, remedy=remedy, resume=resume)
    assert str(raised.value) == (
        f"{path}: already exists; {middle}overwrite it with --overwrite, or {remedy}"
    )


def test_a_draft_is_new_and_leaves_the_file_of_a_user_and_its_links_alone(tmp_path):
    mine = tmp_path / "scan.las.part"
    mine.write_text("mine")
    with replacing(tmp_path / "scan.las") as draft:
        assert draft.is_file()
        assert not draft.is_symlink()
        assert draft.suffix == ".las"
        with replacing(tmp_path / "scan.las") as other:
            assert other != draft
            other.write_text("other")
        draft.write_text("draft")
    assert (tmp_path / "scan.las").read_text() == "draft"
    assert mine.read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_appears_meanwhile_is_never_replaced_by_default(tmp_path):
    def write():
        with replacing(tmp_path / "a", overwrite=False) as draft:
            draft.write_text("draft")
            (tmp_path / "a").write_text("theirs")

    with pytest.raises(SpecError, match="has appeared"):
        write()
    assert (tmp_path / "a").read_text() == "theirs"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_name_as_long_as_the_file_system_bears_has_a_draft(tmp_path):
    name = "ä" * 125 + ".json"
    write_text(tmp_path / name, "whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_leftovers_of_killed_processes_are_removed_and_living_drafts_stay(tmp_path):
    for name in (".123.part-a.las", ".7-0a1b2c3d.part-a.las", "a.las.part", ".part-b"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".9-00000000.part-kernels").mkdir()
    (tmp_path / ".9-00000001.part-link").symlink_to(tmp_path / ".part-b")
    code = "import sys; from vl3d_lite.system import remove_leftovers as remove\n"
    code += "from pathlib import Path; remove(Path(sys.argv[1]))"
    with replacing(tmp_path / "b.las") as draft, replacing_entries(tmp_path / "c") as d:
        draft.write_text("alive")
        subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
        assert draft.is_file()
        assert d.is_dir()
    names = {path.name for path in tmp_path.iterdir()}
    link = ".9-00000001.part-link"
    assert names == {"a.las.part", ".part-b", "b.las", "c", link}
