"""Specs in VL3D's format, made up for tests."""

import copy
import json


def hierarchical(**changes):
    """A training spec with a hierarchical network; dotted names change a value."""
    spec = {
        "in_pcloud": ["train.laz"],
        "out_pcloud": ["out/*"],
        "sequential_pipeline": [
            {
                "class_transformer": "ClassReducer",
                "on_predictions": False,
                "input_class_names": [
                    "never",
                    "unknown",
                    "soil",
                    "grass",
                    "bush",
                    "tree",
                    "house",
                ],
                "output_class_names": ["green", "built", "rest", "nothing"],
                "class_groups": [
                    ["grass", "bush", "tree"],
                    ["house"],
                    ["soil"],
                    ["never", "unknown"],
                ],
                "report_path": "*classes.log",
            },
            {
                "train": "ConvolutionalAutoencoderPwiseClassifier",
                "training_type": "base",
                "random_seed": 11,
                "fnames": ["intensity", "ones"],
                "model_args": {
                    "fnames": ["intensity", "ones"],
                    "num_classes": 4,
                    "class_names": ["green", "built", "rest", "nothing"],
                    "pre_processing": {
                        "pre_processor": "hierarchical_fps",
                        "support_strategy": "fps",
                        "support_strategy_num_points": 100,
                        "support_strategy_fast": True,
                        "center_on_pcloud": True,
                        "neighborhood": {
                            "type": "sphere",
                            "radius": 8.0,
                            "separation_factor": 0.8,
                        },
                        "num_points_per_depth": [128, 32],
                        "num_downsampling_neighbors": [1, 8],
                        "num_pwise_neighbors": [12, 6],
                        "num_upsampling_neighbors": [1, 8],
                        "nthreads": 6,
                        "_receptive_fields_dir": "*fields/",
                        "receptive_fields_dir": None,
                    },
                    "feature_extraction": {
                        "type": "KPConv",
                        "operations_per_depth": [2, 1],
                        "feature_space_dims": [8, 16, 24],
                        "bn": True,
                        "sigma": [8.0, 8.0, 8.0],
                        "kernel_radius": [8.0, 8.0, 8.0],
                        "num_kernel_points": [15, 15, 15],
                        "deformable": [False, False, False],
                    },
                    "downsampling_filter": "strided_kpconv",
                    "upsampling_filter": "nearest",
                    "model_handling": {
                        "class_weight": [1, 1, 1, 0],
                        "training_epochs": 20,
                        "batch_size": 8,
                        "checkpoint_path": "*checkpoint.model",
                    },
                    "compilation_args": {
                        "optimizer": {
                            "algorithm": "Adam",
                            "learning_rate": {
                                "schedule": "exponential_decay",
                                "schedule_args": {
                                    "initial_learning_rate": 0.01,
                                    "decay_steps": 130,
                                    "decay_rate": 0.5,
                                },
                            },
                        },
                        "loss": {"function": "class_weighted_categorical_crossentropy"},
                        "metrics": ["categorical_accuracy"],
                    },
                },
                "autoval_metrics": ["OA", "IoU"],
            },
            {"writer": "PredictivePipelineWriter", "out_pipeline": "*model.pipe"},
        ],
    }
    return changed(spec, changes)


def flat(**changes):
    """A training spec with a PointNet."""
    spec = {
        "in_pcloud": ["train.laz"],
        "sequential_pipeline": [
            {
                "train": "PointNetPwiseClassifier",
                "fnames": ["AUTO"],
                "model_args": {
                    "num_classes": 2,
                    "class_names": ["wood", "leaf"],
                    "num_pwise_feats": 20,
                    "pre_processing": {
                        "pre_processor": "furthest_point_subsampling",
                        "support_strategy": "grid",
                        "num_points": 512,
                        "neighborhood": {
                            "type": "Rectangular3D",
                            "radius": 5.0,
                            "separation_factor": 1.2,
                        },
                    },
                    "tnet_pre_filters_spec": [32, 64],
                    "prefilter_spec": [{"filters": 32, "name": "a"}],
                    "model_handling": {"training_epochs": 5, "batch_size": 4},
                    "compilation_args": {
                        "optimizer": {"algorithm": "SGD", "learning_rate": 0.1}
                    },
                },
            }
        ],
    }
    return changed(spec, changes)


def changed(spec, changes):
    """A copy of a spec with values set by ``a__b__0`` names; `...` removes one."""
    spec = copy.deepcopy(spec)
    for name, value in changes.items():
        part = spec
        *way, last = [int(k) if k.isdigit() else k for k in name.split("__")]
        for key in way:
            part = part[key]
        if value is ...:
            del part[last]
        else:
            part[last] = value
    return spec


def write(path, spec):
    """Write a spec as JSON."""
    path.write_text(json.dumps(spec))
    return path
