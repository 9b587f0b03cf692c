import os
from pathlib import Path

import pytest

from tests.spec.spec_texts import GOOD, errors_of, read
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.spec.reader import read_spec


@pytest.mark.parametrize(
    ("content", "place", "text"),
    [
        (b"", "1:1", "the spec is empty. It needs classes"),
        (b"# only a comment\n", "1:1", "the spec is empty"),
        (b"just text", "1:1", "must be a mapping such as `seed: 7`. Received: just"),
        (b"- a\n- b\n", "1:1", "Received: a list"),
        (
            b"seed: 7\nx: \xff\xfe\n",
            "2:4",
            "must be text in UTF-8. Received: byte 0xff",
        ),
        (b"LASF\x00\x00\x01", "1:5", "must be printable text. Received: character 0x0"),
        (b"a: b\n" * 100_000, "1:1", "must have at most 100,000 bytes"),
        (b"[" * 5000, "1:41", "nested at most 40 levels"),
        (b"seed: " + b"[" * 60 + b"]" * 60, "1:46", "nested at most 40 levels"),
        (b"seed: &a [*a, *a]\n", "1:7", "nested at most 40 levels"),
    ],
    ids=lambda value: value[:12] if isinstance(value, bytes) else None,
)
def test_refuses_files_that_are_not_specs(folder, content, place, text):
    Path("a.yaml").write_bytes(content)
    with pytest.raises(SpecError) as caught:
        read_spec("a.yaml")
    lines = str(caught.value).split("\n")
    assert any(x.startswith(f"a.yaml:{place}: ") and text in x for x in lines), lines


def test_refuses_an_alias_bomb_at_once(folder):
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    lines = errors_of("\n".join(levels))
    assert any("at most 20,000 values" in line for line in lines)


def test_expands_aliases_and_merge_keys(folder):
    text = GOOD.replace(
        "- {points: 4096", "- &one {neighbors: 8, points: 4096"
    ).replace("- {points: 1024, channels: 64}", "- {<<: *one, points: 512}\n    - *one")
    line = errors_of(text)[0]
    assert "`model.stages[2].points`: must be at most the 512 points" in line
    stages = read(text.replace("\n    - *one", "")).spec.model.stages
    assert [s.points for s in stages] == [4096, 512]
    assert [s.channels for s in stages] == [32, 32]
    assert [s.neighbors for s in stages] == [8, 8]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[*.laz]", 'a text that begins with * must be in quotes, such as "*.laz"'),
        ("*.laz", "a text that begins with * must be in quotes"),
        ("*town", "a text that begins with * must be in quotes"),
        ("**/*.laz", "a text that begins with * must be in quotes"),
        ("&town.laz", "a text that begins with & must be in quotes"),
        ("@town.laz", "a text that begins with @ must be in quotes"),
        ("%town.laz", "a text that begins with % must be in quotes"),
        ("|town.laz", "a text that begins with | must be in quotes"),
        ("!town.laz", "a text that begins with ! must be in quotes"),
        ("[a].laz", "a text that begins with [ or { must be in quotes"),
    ],
)
def test_a_value_that_lacks_quotes_has_its_own_remedy(folder, value, message):
    Path("a.yaml").write_text(f"clouds:\n  train: {value}\n")
    with pytest.raises(SpecError) as caught:
        read_spec("a.yaml")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r'"\ud800": 2', r"'\ud800'"),
        (r'"a\u009b": 2', r"'a\x9b'"),
        (r'"a\e[2J": 2', r"'a\x1b[2J'"),
        (r'"a\u202eb": 2', r"'a\u202eb'"),
        (r'"a\nb": 2', r"the name of a class must be printable"),
        (r'a: "\udc00"', r"'\udc00'"),
    ],
)
def test_text_that_no_file_or_terminal_can_show_is_refused(folder, text, shown):
    content = GOOD.replace("classes:\n", f"classes:\n  {text}\n")
    assert content != GOOD
    Path("a.yaml").write_text(content)
    with pytest.raises(SpecError, match="printable") as caught:
        read_spec("a.yaml", check_files=False)
    assert shown in str(caught.value)


def test_a_class_name_that_cannot_be_shown_is_reported_once(folder):
    write = "prediction: {write: [prediction, probabilities]}"
    name = r'"a\e[2J": 77'
    content = GOOD.replace("classes:\n", f"{write}\nclasses:\n  {name}\n")
    Path("a.yaml").write_text(content)
    with pytest.raises(SpecError) as caught:
        read_spec("a.yaml", check_files=False)
    (line,) = str(caught.value).split("\n")
    assert "a text must be printable" in line


def test_paths_of_specs_that_cannot_be_read_are_refused(folder):
    os.mkfifo("pipe.yaml")
    Path("circle.yaml").symlink_to("circle.yaml")
    for path, kind, message in (
        ("pipe.yaml", SpecError, "is a pipe or a device; name a YAML file"),
        ("circle.yaml", SpecError, "symbolic links; repair the links"),
        ("~nobodyx/a.yaml", SpecError, "No such file or directory; check the path"),
        ("a\0b.yaml", DataError, "null character"),
        ("\udcff.yaml", DataError, "rename the file"),
        ("x" * 300, DataError, "shorten it"),
    ):
        with pytest.raises(kind, match=message):
            read_spec(path)
    for name, message in (
        (r'"a\0b"', "must be printable"),
        (r'"~nobodyx/a.yaml"', "~nobodyx/a.yaml cannot be read"),
        (r'"pipe.yaml"', "is a pipe or a device"),
        (r'"\udcff"', "must be printable"),
    ):
        Path("b.yaml").write_text(f"extends: {name}\n")
        with pytest.raises(SpecError, match=r"b\.yaml:1:10: .*" + message):
            read_spec("b.yaml")
