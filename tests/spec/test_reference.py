import json
from pathlib import Path

import pytest
import yaml

from vl3d_lite.spec.kinds import fields_of, kind_of
from vl3d_lite.spec.reference import json_schema, markdown
from vl3d_lite.spec.schema.spec import Spec

DOCS = Path(__file__).parents[2] / "docs"
UPDATE = "run `python -m vl3d_lite.spec.reference docs/`"

GOOD = """
classes: {ground: 2, vegetation: [4], building: {codes: [6, 7], output_code: 6}}
features: [height, {name: planarity, radius: 1.5}]
fields: {radius: 20, grid_size: 0.5}
model: {stages: [{points: 64, channels: 8}]}
training: {schedule: cosine, class_weights: [1, 2.5, 3], gradient_clipping: null}
"""


def test_the_stored_reference_is_current():
    assert (DOCS / "spec.md").read_text(encoding="utf-8") == markdown(), UPDATE


def test_the_stored_schema_is_current():
    stored = json.loads((DOCS / "spec.schema.json").read_text(encoding="utf-8"))
    assert stored == json_schema(), UPDATE


def _sections(kind, found):
    if kind.section:
        found.add(kind.section)
        for child in fields_of(kind.section).values():
            _sections(child, found)
    for option in (*kind.alternatives, kind.item):
        if option:
            _sections(option, found)
    return found


def test_every_key_has_a_meaning_and_an_entry():
    text = markdown()
    sections = _sections(kind_of(Spec), set())
    assert len(sections) == 25
    for section in sections:
        for name, field in section.model_fields.items():
            described = field.description or kind_of(field.annotation).section.__doc__
            assert described, f"{section.__name__}.{name}"
            assert f"- `{name}` (" in text


def _errors(text):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json_schema())
    return [error.json_path for error in validator.iter_errors(yaml.safe_load(text))]


def test_the_schema_accepts_short_forms():
    assert _errors(GOOD) == []


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("radius: 20", "radius: ten", "$.fields.radius"),
        ("radius: 20", "pionts: 20", "$.fields"),
        (", grid_size: 0.5", "", "$.fields"),
        ("ground: 2", "ground: two", "$.classes.ground"),
        ("schedule: cosine", "schedule: cosin", "$.training.schedule"),
        ("features:", "extras:", "$"),
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(old, new, path):
    assert path in _errors(GOOD.replace(old, new))


def test_the_schema_lets_a_spec_lean_on_another():
    assert _errors("extends: a.yaml\nfields: {radius: 3}\nmodel: {dropout: 0.1}") == []
