"""Why a value of a VL3D spec has no place in a spec of ours."""

import textwrap
from collections.abc import Iterable
from fnmatch import fnmatchcase

from vl3d_lite.guide.vl3d.source import Keys, Part, Vl3dSource

SWITCHED_OFF = "switched off in VL3D by a leading underscore"
UNKNOWN = "this converter does not know it"
NOTHING_SET = "null, so nothing was set"
POINTNET = "of the PointNet or RBFNet that is replaced; see the notes"

# The first pattern that fits the last keys of a place gives the reason.
REASONS = (
    ("_*", SWITCHED_OFF),
    ("out_pcloud", "outputs go to the run folder; choose it with --run"),
    ("pretrained_model", "weights of VL3D do not fit this network; it starts anew"),
    ("nn_path", "weights of VL3D do not fit this network; it starts anew"),
    (
        "kpconv_representation_dir",
        "kernels are always exported, to `kernels/` of the run folder",
    ),
    (
        "skpconv_representation_dir",
        "kernels are always exported, to `kernels/` of the run folder",
    ),
    ("checkpoint_*", "checkpoints are always kept; validation mIoU chooses the best"),
    ("*_path", "the run folder has a name for every file it holds"),
    ("*_dir", "the run folder has a name for every file it holds"),
    ("out_*", "the run folder has a name for every file it holds"),
    ("*metrics*", "all metrics are always computed"),
    ("nthreads", "a matter of the command line, --threads, or of memory"),
    ("*chunk_size", "a matter of the command line, --threads, or of memory"),
    (
        "separation_factor",
        "VL3D itself does not use it where it draws centers otherwise",
    ),
    ("to_unit_sphere", "fields keep their size: kernels are measured in meters"),
    ("center_on_pcloud", "centers follow `fields.training_centers`"),
    ("support_strategy*", "centers follow `fields.training_centers`"),
    ("fast_flag_per_depth", "farthest points are always searched exactly"),
    ("fast", "farthest points are always searched exactly"),
    (
        "num_downsampling_neighbors",
        "a coarse point gathers as many neighbors as its stage has",
    ),
    ("num_upsampling_neighbors", "follows `model.upsampling`: one neighbor, or three"),
    (
        "sigma",
        "kernels are 2.1 point spacings of their stage wide, not a length in meters",
    ),
    (
        "kernel_radius",
        "kernels are 2.1 point spacings of their stage wide, not a length in meters",
    ),
    ("show_*", "`vl3d-lite inspect` describes a network"),
    ("*bn", "normalization and activation belong to the layers"),
    ("*momentum", "normalization and activation belong to the layers"),
    ("*activat*", "normalization and activation belong to the layers"),
    ("unary_*", "normalization and activation belong to the layers"),
    ("*initializer", "initialization belongs to the layers"),
    ("*regularizer", "the weights are regularized by `training.weight_decay` alone"),
    ("*constraint", "the weights are regularized by `training.weight_decay` alone"),
    ("*alignment*", "there is no alignment network"),
    ("tnet_*", POINTNET),
    ("*_spec", POINTNET),
    ("*_mlps", POINTNET),
    ("skip_link_features_*", POINTNET),
    ("include_*_feats_*", POINTNET),
    ("num_pwise_feats", POINTNET),
    ("num_encoding_neighbors", POINTNET),
    ("rbfs*", POINTNET),
    ("include_prepooling_features", POINTNET),
    ("include_global_features", POINTNET),
    ("transform_input_features", POINTNET),
    ("skip_link_features", POINTNET),
    ("enhanced_dim", POINTNET),
    ("after_features_*", POINTNET),
    ("feature_processing", POINTNET),
    ("features_structuring_layer", POINTNET),
    ("gamma_*", POINTNET),
    ("early_stopping", "validation mIoU decides: more is better, by any amount"),
    ("cell_size", "see the notes on `fields`"),
    ("interpolate", "see the notes on `fields`"),
    ("*architecture_graph*", "`vl3d-lite inspect` describes a network"),
    ("learning_rate_on_plateau", "one schedule moves the rate: `training.schedule`"),
    ("staircase", "the rate falls every step"),
    ("*verbose", "a matter of the command line, --quiet"),
    ("training_type", "validation is a cloud of its own: `clouds.validation`"),
    ("autoval_size", "validation is a cloud of its own: `clouds.validation`"),
    ("num_folds", "validation is a cloud of its own: `clouds.validation`"),
    ("shuffle_points", "batches are always shuffled"),
    ("random_shuffle_indices", "batches are always shuffled"),
    ("hyperparameter_tuning", "there is no search for hyperparameters"),
    ("include_writer", "the run folder is the model: `vl3d-lite predict RUN CLOUD...`"),
)
# Of the components other than the one that trains, by what they are.
COMPONENTS = {
    "writer": "the run folder is the model; `vl3d-lite predict RUN CLOUD...` writes",
    "eval": "`vl3d-lite evaluate RUN` scores; all metrics are always computed",
    "predict": "a model of VL3D cannot be read; `vl3d-lite predict RUN CLOUD...`",
    "imputer": "a value that is not finite is an error here, not replaced",
    "feature_transformer": "inputs are always scaled to mean 0 and deviation 1",
    "clustering": "nothing is clustered",
    "train": "a spec trains one network",
    "miner": "only features that the network takes are computed",
    "class_transformer": "codes become classes when they are read",
}


def dropped(source: Vl3dSource) -> dict[str, list[str]]:
    """Every value that was not used: places by the reason they were dropped for."""
    by_reason: dict[str, list[str]] = {}
    for keys in source.leftovers():
        by_reason.setdefault(_reason(source, keys), []).append(source.name(keys))
    return by_reason


def as_lines(by_reason: dict[str, list[str]], width: int) -> list[str]:
    """The dropped places as text: a reason, then its places indented."""
    lines = []
    for reason, names in by_reason.items():
        lines += textwrap.wrap(f"{reason}:", width)
        lines += _wrapped(names, width)
    return lines


def _wrapped(names: Iterable[str], width: int) -> list[str]:
    return textwrap.wrap(
        ", ".join(names),
        width,
        initial_indent="  ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _reason(source: Vl3dSource, keys: Keys) -> str:
    words = [str(key) for key in keys]
    if any(word.startswith("_") for word in words):
        return SWITCHED_OFF
    if Part(source, ()).peek(*keys) is None:
        return NOTHING_SET
    base = keys[:2]
    component = source.components.get(base) if len(keys) > 1 else None
    if component is not None and base != source.chosen:
        kind = next((kind for kind in COMPONENTS if component.get(kind)), None)
        off = kind is None and any(f"_{kind}" in component for kind in COMPONENTS)
        return SWITCHED_OFF if off else COMPONENTS.get(kind, UNKNOWN)
    for word in reversed(words):
        for pattern, reason in REASONS:
            if fnmatchcase(word, pattern):
                return reason
    return UNKNOWN
