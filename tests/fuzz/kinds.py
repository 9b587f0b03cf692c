"""The kinds of input by name."""

from tests.fuzz import (
    of_arguments,
    of_checkpoints,
    of_clouds,
    of_models,
    of_records,
    of_runs,
    of_specs,
)
from tests.fuzz.harness import Kind

KINDS = {
    "las": Kind(of_clouds.prepare, of_clouds.attempt),
    "yaml": Kind(of_specs.prepare, of_specs.attempt),
    "json": Kind(of_records.prepare, of_records.attempt),
    "npz": Kind(of_checkpoints.prepare, of_checkpoints.attempt),
    "keras": Kind(of_models.prepare, of_models.attempt),
    "runs": Kind(of_runs.prepare, of_runs.attempt),
    "arguments": Kind(of_arguments.prepare, of_arguments.attempt),
}
