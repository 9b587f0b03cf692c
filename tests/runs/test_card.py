"""The card of a shipped model."""

import re
from pathlib import Path

import pytest

from vl3d_lite.errors import DataError
from vl3d_lite.runs.card import read_card

MODELS = Path(__file__).resolve().parents[2] / "models"


@pytest.mark.parametrize("name", ["als_dense", "als_sparse"])
def test_the_scores_of_a_card_are_those_of_its_page(name):
    page = (MODELS / name / "README.md").read_text()
    for score in read_card(MODELS / name).scores:
        place = re.escape(score.cloud.removeprefix("other country: "))
        values = (f"{score.density:g}", *(f"{v:.3f}"[1:] for v in scores(score)))
        assert re.search(rf"\| {place}[^|]*\| " + r" \| ".join(values), page)


def scores(score):
    return score.accuracy, score.mean_iou


@pytest.mark.parametrize(
    ("text", "reason"), [("summary: a", "intended_use"), ("a: [", "while parsing")]
)
def test_a_damaged_card_names_file_and_remedy(text, reason, tmp_path):
    (tmp_path / "card.yaml").write_text(text)
    with pytest.raises(DataError, match=rf"card.yaml: .*{reason}.*restore it"):
        read_card(tmp_path)


def test_a_missing_card_is_an_error(tmp_path):
    with pytest.raises(DataError, match="restore it from a copy"):
        read_card(tmp_path)
