"""Reasons why values of a VL3D spec are dropped."""

import textwrap
from collections.abc import Iterable
from fnmatch import fnmatchcase

from vl3d_lite.guide.vl3d.source import Keys, Part, Vl3dSource

DISABLED = "disabled in VL3D by a leading underscore"
UNKNOWN = "unknown to this converter"
NULL = "null, so not set"
POINTNET = "a setting of the replaced PointNet or RBFNet; see the notes"

WEIGHTS = "weights of VL3D do not fit this network, which is trained from scratch"
KERNELS = "kernels have a radius of 2.1 point spacings of their stage, not in meters"

# The first pattern that matches gives the reason; the last key is matched first.
REASONS = (
    ("_*", DISABLED),
    ("out_pcloud", "outputs are written to the run folder; select it with --run"),
    (
        "pretrained_model",
        WEIGHTS,
    ),
    (
        "nn_path",
        WEIGHTS,
    ),
    (
        "kpconv_representation_dir",
        "kernels are always exported to `kernels/` in the run folder",
    ),
    (
        "skpconv_representation_dir",
        "kernels are always exported to `kernels/` in the run folder",
    ),
    (
        "checkpoint_*",
        "checkpoints are always kept; validation mIoU selects the best",
    ),
    ("*_path", "files of the run folder have fixed names"),
    ("*_dir", "files of the run folder have fixed names"),
    ("out_*", "files of the run folder have fixed names"),
    ("*metrics*", "all metrics are always computed"),
    ("nthreads", "set on the command line with --threads, or limited by memory"),
    ("*chunk_size", "set on the command line with --threads, or limited by memory"),
    (
        "separation_factor",
        "VL3D does not use it with other strategies for centers",
    ),
    ("to_unit_sphere", "fields are not rescaled, since kernels are measured in meters"),
    ("center_on_pcloud", "centers follow `fields.training_centers`"),
    ("support_strategy*", "centers follow `fields.training_centers`"),
    ("fast_flag_per_depth", "farthest-point sampling is always exact"),
    ("fast", "farthest-point sampling is always exact"),
    (
        "num_downsampling_neighbors",
        "a coarse point has as many neighbors as its stage",
    ),
    ("num_upsampling_neighbors", "set by `model.upsampling`: one neighbor or three"),
    (
        "sigma",
        KERNELS,
    ),
    (
        "kernel_radius",
        KERNELS,
    ),
    ("show_*", "`vl3d-lite inspect` describes a network"),
    ("*bn", "normalization and activation are part of the layers"),
    ("*momentum", "normalization and activation are part of the layers"),
    ("*activat*", "normalization and activation are part of the layers"),
    ("unary_*", "normalization and activation are part of the layers"),
    ("*initializer", "initialization is part of the layers"),
    ("*regularizer", "only `training.weight_decay` regularizes the weights"),
    ("*constraint", "only `training.weight_decay` regularizes the weights"),
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
    ("early_stopping", "any increase of validation mIoU counts as an improvement"),
    ("cell_size", "see the notes on `fields`"),
    ("interpolate", "see the notes on `fields`"),
    ("*architecture_graph*", "`vl3d-lite inspect` describes a network"),
    ("learning_rate_on_plateau", "`training.schedule` alone changes the rate"),
    ("staircase", "the rate decreases at every step"),
    ("*verbose", "set on the command line with --quiet"),
    ("training_type", "validation uses separate clouds: `clouds.validation`"),
    ("autoval_size", "validation uses separate clouds: `clouds.validation`"),
    ("num_folds", "validation uses separate clouds: `clouds.validation`"),
    ("shuffle_points", "batches are always shuffled"),
    ("random_shuffle_indices", "batches are always shuffled"),
    ("hyperparameter_tuning", "hyperparameters are not searched"),
    ("include_writer", "the run folder is the model: `vl3d-lite predict RUN CLOUD...`"),
)
# Reason by the kind of the other components.
COMPONENTS = {
    "writer": "the run folder is the model; `vl3d-lite predict RUN CLOUD...` uses it",
    "eval": "`vl3d-lite evaluate RUN` always computes all metrics",
    "predict": "models of VL3D cannot be read; use `vl3d-lite predict RUN CLOUD...`",
    "imputer": "values that are not finite are an error and are not replaced",
    "feature_transformer": "features are always scaled to mean 0 and deviation 1",
    "clustering": "points are not clustered",
    "train": "a spec trains one network",
    "miner": "only the features of the network are computed",
    "class_transformer": "codes are mapped to classes when clouds are read",
}


def dropped(source: Vl3dSource) -> dict[str, list[str]]:
    """The values that were not used: their keys, as text, by reason."""
    by_reason: dict[str, list[str]] = {}
    for keys in source.leftovers():
        by_reason.setdefault(_reason(source, keys), []).append(source.name(keys))
    return by_reason


def as_lines(by_reason: dict[str, list[str]], width: int) -> list[str]:
    """Format the dropped values: a reason, then its keys, indented."""
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
    """The reason why the value at `keys` is dropped."""
    words = [str(key) for key in keys]
    if any(word.startswith("_") for word in words):
        return DISABLED
    if Part(source, ()).peek(*keys) is None:
        return NULL
    base = keys[:2]
    component = source.components.get(base) if len(keys) > 1 else None
    if component is not None and base != source.chosen:
        for kind, reason in COMPONENTS.items():
            if component.get(kind):
                return reason
        disabled = any(f"_{kind}" in component for kind in COMPONENTS)
        return DISABLED if disabled else UNKNOWN
    for word in reversed(words):
        for pattern, reason in REASONS:
            if fnmatchcase(word, pattern):
                return reason
    return UNKNOWN
