"""Initial weights from another run: what is taken, and what is refused."""

import keras
import numpy as np
import pytest

from tests.pipeline.commands import OPTIONS, SHORT
from vl3d_lite import pipeline
from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.provenance import file_hash
from vl3d_lite.spec.reader import read_spec


@pytest.mark.slow
@pytest.mark.parametrize("renamed", [False, True], ids=["same", "renamed"])
def test_a_training_takes_initial_weights_from_another_run(
    trained, place, tmp_path, caplog, renamed
):
    caplog.set_level("INFO")
    settings = [
        f"training.initial_weights={trained.root}",
        "training.learning_rate=1e-12",
    ]
    if renamed:
        settings.append(
            "classes={ground: 2, tree: {codes: [3, 5], output_code: 5}, building: 6}"
        )
    run = RunFolder(tmp_path / "run")
    pipeline.train(
        read_spec(place / "spec.yaml", [*SHORT[2:], *settings]), run, OPTIONS
    )
    before, after = (
        [keras.ops.convert_to_numpy(value) for value in model.trainable_variables]
        for model in map(keras.saving.load_model, (trained.model, run.model))
    )
    # The head comes last: its kernel, then its bias.
    for one, other in zip(before[:-2], after[:-2], strict=True):
        np.testing.assert_allclose(other, one, atol=1e-6)
    same = np.abs(after[-2] - before[-2]).max(axis=0) < 1e-6
    assert same.tolist() == [True, not renamed, True]
    message = "tree new; vegetation left out" if renamed else "the head is kept"
    assert message in caplog.text
    assert run.features.read_text() == trained.features.read_text()
    initial = run.read_provenance()["initial_weights"]
    assert initial["sha256"] == file_hash(trained.model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("features=[height, return_ratio]", "this spec lacks relative_intensity"),
        (
            "features=[return_ratio, height, relative_intensity, intensity]",
            "this spec adds intensity",
        ),
        (
            "features=[return_ratio, height, relative_intensity]",
            "this spec reorders them",
        ),
        ("model.stages.1.channels=24", r"`model.stages\[1\].channels` is 24, was 16"),
        ("training.initial_weights=.", "not a run folder"),
    ],
)
def test_initial_weights_that_do_not_fit_are_refused(
    trained, place, tmp_path, change, message
):
    settings = [f"training.initial_weights={trained.root}", change]
    loaded = read_spec(place / "spec.yaml", settings)
    run = RunFolder(tmp_path / "run")
    with pytest.raises((SpecError, DataError), match=message):
        pipeline.train(loaded, run, OPTIONS)
    assert not run.root.exists()
