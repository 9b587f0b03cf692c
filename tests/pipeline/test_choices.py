"""Every value a spec may choose goes through a whole run."""

import typing

import laspy
import numpy as np
import pytest

from tests.conftest import SPEC, write_place
from vl3d_lite import pipeline
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.spec.schema.blocks import KPConvXSpec
from vl3d_lite.spec.schema.clouds import FieldsSpec
from vl3d_lite.spec.schema.network import ModelSpec, StageSpec
from vl3d_lite.spec.schema.results import PredictionSpec
from vl3d_lite.spec.schema.training import ScheduleSpec, TrainingSpec

SMALL = [
    "model.stages.0.points=96",
    "model.stages.1.points=24",
    "training.epochs=1",
    "training.steps_per_epoch=1",
    "prediction.votes=1",
    "training.deterministic=false",
    "training.batch_size=1",
    "clouds.validation=[]",
    "model.kpconvx.hidden_ratio=1",
    "model.kpconvx.shell_points=[1, 3, 5]",
]
# Each combination is a run; together they hold every value of every choice.
COMBINATIONS = {
    "sphere, farthest sampling": [
        "fields.shape=sphere",
        "fields.training_centers=grid",
        "fields.sampling=farthest",
        "training.optimizer=adam",
        "training.schedule=cosine",
        "training.precision=mixed_float16",
        "training.weight_averaging=0.5",
        "training.gradient_clipping=null",
        "model.gva.weights=channels",
        "model.gva.positional_multiplier=true",
        "model.stages.0.blocks=[gva]",
        "model.stages.1.blocks=[envelope]",
    ],
    "2D box": [
        "fields={shape: box, size: [12, 14], grid_size: 0.5}",
        "fields.training_centers=random",
        "training.optimizer=sgd",
        "training.schedule=exponential",
        "training.class_weights=none",
        "model.stages.0.neighbor_radius=1.5",
        "model.kpconvx.influence=constant",
        "model.symmetry=D1",
    ],
    "3D box, interpolated": [
        "fields={shape: box, size: [12, 14, 8], grid_size: 0.5}",
        "fields.training_centers=farthest",
        "fields.prediction_centers=farthest",
        "fields.sampling=farthest",
        "training.schedule=plateau",
        "training.early_stopping=1",
        "clouds.validation=[val.laz]",
        "training.class_weights={building: 3}",
        "training.label_smoothing=0.1",
        "training.tensorboard=true",
        "training.jit=auto",
        "model.upsampling=interpolated",
        "model.downsampling=strided",
        "model.kpconvx.order=apple",
        "model.kpconvx.influence=gaussian",
        "prediction.write=[classification, entropy]",
        "prediction.keep_codes=[6]",
    ],
    "nearest interlevel neighbors": [
        "fields.interlevel_neighbors=nearest",
        "training.jit=on",
        "model.stages.0.blocks=[kpconvd]",
        "model.stages.1.blocks=[]",
        "model.symmetry=C2",
        "export.kernels=false",
    ],
    "nearest, noise": [
        "fields={shape: nearest, grid_size: 0.5}",
        "features=[height, height_above_ground, vertical, {name: density, radius: 2}, "
        "intensity, "
        "{name: planarity, radii: [1, 2]}, {name: linearity, radius: 1}, "
        "{name: verticality, radius: 1}, {name: curvature, radius: 1}]",
        "training.schedule=constant",
        "training.precision=mixed_bfloat16",
        "training.augmentation={rotation: false, flip: false, scale: 0, jitter: 0.3, "
        "point_dropout: 0.5, feature_dropout: 0.5, intensity_shift: 0.5}",
        "model.kpconvx.deformable=true",
        "model.kpconvx.drop_path=0.5",
        "model.gva.drop_path=0.5",
        "model.gva.dropout=0.2",
        "model.dropout=0.3",
        "model.head_channels=5",
        "model.gqa={drop_path: 0.5, dropout: 0.2, kernel_regularizer: l2}",
        "model.stages.1.blocks=[kpconvx, gqa]",
    ],
}


@pytest.fixture(scope="module")
def hamlet(tmp_path_factory):
    """A folder with clouds of 600 points and spec.yaml."""
    folder = tmp_path_factory.mktemp("hamlet")
    for seed, name in enumerate(("train", "val", "test")):
        write_place(folder / f"{name}.laz", seed, n=600)
    (folder / "spec.yaml").write_text(SPEC)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("overrides", COMBINATIONS.values(), ids=COMBINATIONS)
def test_a_spec_of_these_choices_runs_to_the_end(
    hamlet, tmp_path, monkeypatch, overrides
):
    if "training.tensorboard=true" in overrides:
        pytest.importorskip("tensorboard", reason="the package of the option")
    monkeypatch.chdir(hamlet)
    loaded = read_spec("spec.yaml", [*SMALL, *overrides])
    run = RunFolder(tmp_path / "run")
    result = pipeline.run(loaded, run, Options(threads=1, quiet=True))
    assert result.pooled.confusion.sum() > 0
    before = laspy.read(hamlet / "test.laz")
    after = laspy.read(run.predictions / "test.laz")
    np.testing.assert_array_equal(after.X, before.X)
    written = loaded.spec.prediction.write
    column = "prediction" if "prediction" in written else "classification"
    assert set(np.unique(after[column])) <= {2, 5, 6}
    if "entropy" in written:
        assert np.isfinite(after["entropy"]).all()
    blocks = {block for stage in loaded.spec.model.stages for block in stage.blocks}
    has_kernels = loaded.spec.export.kernels and bool(
        blocks - {"gva", "gqa", "envelope"}
    )
    assert run.kernels.exists() == has_kernels
    assert run.tensorboard.exists() == loaded.spec.training.tensorboard


CHOICES = {
    "fields": (FieldsSpec, lambda spec: [spec.fields]),
    "model": (ModelSpec, lambda spec: [spec.model]),
    "stages": (StageSpec, lambda spec: spec.model.stages),
    "kpconvx": (KPConvXSpec, lambda spec: [spec.model.kpconvx]),
    "training": (TrainingSpec, lambda spec: [spec.training]),
    "schedule": (ScheduleSpec, lambda spec: [spec.training.schedule]),
    "prediction": (PredictionSpec, lambda spec: [spec.prediction]),
}


def literals(annotation):
    """Every value of every `Literal` in a type."""
    if typing.get_origin(annotation) is typing.Literal:
        return set(typing.get_args(annotation))
    return set().union(*map(literals, typing.get_args(annotation)))


@pytest.mark.parametrize(("model", "of"), CHOICES.values(), ids=CHOICES)
def test_the_combinations_hold_every_choice(hamlet, model, of):
    specs = [
        read_spec(hamlet / "spec.yaml", [*SMALL, *overrides], check_files=False).spec
        for overrides in ([], *COMBINATIONS.values())
    ]
    for name, info in model.model_fields.items():
        held = set()
        for spec in specs:
            for section in of(spec):
                value = getattr(section, name)
                held |= set(value) if name in ("blocks", "write") else {str(value)}
        choices = literals(info.annotation)
        if name == "symmetry":  # one group of rotations, one with mirrors
            choices, held = (
                {value[0] for value in values} for values in (choices, held)
            )
        assert choices <= held, name
