"""The files of a run: what is written as it begins, and once it is trained."""

from pathlib import Path

import keras

from vl3d_lite.errors import DataError, SpecError
from vl3d_lite.model import (
    kernels_of,
    load_kernels,
    save_kernels,
    save_model,
    uses_accelerator,
)
from vl3d_lite.pipeline.export import write_kernels
from vl3d_lite.pipeline.independence import ROLES, all_inputs
from vl3d_lite.pipeline.opening import InitialWeights
from vl3d_lite.pipeline.preparing import TrainingInputs
from vl3d_lite.prediction import Temperature
from vl3d_lite.runs import Options, RunFolder, provenance
from vl3d_lite.spec import LoadedSpec, Spec, dump_spec
from vl3d_lite.system import peak_memory, write_json, write_text


def require_same_spec(loaded: LoadedSpec, run: RunFolder) -> None:
    """Check that a run is resumed with the spec it was started with.

    Raises:
        SpecError: The spec is another one.
    """
    before = run.read_provenance().get("spec_sha256")
    if before != provenance.text_hash(dump_spec(loaded.spec)):
        raise SpecError(
            f"{loaded.path}: differs from the spec that {run.root} was started with; "
            f"resume with `{run.spec}`, or start over with --overwrite or another --run"
        )


def require_same_inputs(loaded: LoadedSpec, run: RunFolder) -> None:
    """Check that a run is resumed with the clouds it was started with.

    Raises:
        DataError: A training or validation cloud has changed under its name, or is
            not the one that ``run.json`` records in its place and role.
    """
    require_same_records(
        [
            {**entry, "role": role}
            for role in ROLES
            for entry in provenance.inputs(loaded.clouds[role])
        ],
        run,
    )


def require_same_records(now: list[dict], run: RunFolder) -> None:
    """Check that the records of clouds are those of ``run.json``.

    Args:
        now: What `input_records` returned.
        run: A run that is resumed.

    Raises:
        DataError: As `require_same_inputs`.
    """
    before = run.read_provenance().get("inputs", [])
    changed = _strangers(now, before) or _strangers(before, now)
    if changed := changed or _misplaced(now, before):
        raise DataError(
            f"{run.root}: cannot be resumed, because its clouds are not those that it "
            "was started with, by their SHA-256, roles and order: "
            f"{', '.join(changed)}; restore them, or start over with --overwrite or "
            "another --run"
        )


def require_unchanged(inputs: list[dict]) -> None:
    """Check that files are still as they were before they were read.

    Args:
        inputs: Path and SHA-256 of each, as `input_records` returned them before.

    Raises:
        DataError: One was replaced or changed.
    """
    now = provenance.inputs([Path(entry["path"]) for entry in inputs])
    if changed := _misplaced(now, inputs):
        raise DataError(
            f"{', '.join(changed)}: was replaced or changed while it was read; start "
            "again, and do not change it meanwhile"
        )


def _strangers(some: list[dict], others: list[dict]) -> list[str]:
    """Paths of the clouds that are not among others, by their hashes."""
    known = {entry["sha256"] for entry in others}
    return [entry["path"] for entry in some if entry["sha256"] not in known]


def _misplaced(some: list[dict], others: list[dict]) -> list[str]:
    """Paths of the clouds whose place among others has another hash or role.

    Entries without a role, which earlier versions wrote, are compared by hash alone.
    """
    found = []
    for position, entry in enumerate(some):
        other = others[position] if position < len(others) else {}
        role = entry.get("role")
        same_role = role is None or other.get("role", role) == role
        if entry["sha256"] != other.get("sha256") or not same_role:
            found.append(entry["path"])
    return found


def begin_run(
    loaded: LoadedSpec,
    run: RunFolder,
    inputs: TrainingInputs,
    initial: InitialWeights | None,
    model: keras.Model,
    recorded: list[dict],
    options: Options,
) -> None:
    """Create the run folder, and write what describes a run before its training.

    These are provenance, spec, scaling, domain and initial kernels. A run that is
    resumed from a checkpoint has them already.

    Args:
        loaded: The spec. Its clouds are not read: they may have changed since.
        run: The run folder.
        inputs: Its `scaling` and `domain` are written.
        initial: The run that gave the initial weights, if one did.
        model: The network before its training.
        recorded: What `input_records` returned.
        options: `resume` and `overwrite`.
    """
    if inputs.domain is None:
        return
    if not options.resume:
        run.create(overwrite=options.overwrite)
    text = dump_spec(loaded.spec)
    content = {
        **spec_facts(text, loaded.path, loaded.spec.seed),
        **_initial_weights_facts(initial),
        "inputs": recorded,
    }
    kernels = kernels_of(model)
    run.begin(content)
    write_text(run.spec, text)
    write_text(run.features, inputs.scaling.to_json())
    write_text(run.domain, inputs.domain.to_json())
    save_kernels(run.initial_kernels, kernels)
    if loaded.spec.export.kernels:
        write_kernels(run, loaded.spec, run.kernels, "INIT", kernels)


def publish(
    run: RunFolder,
    spec: Spec,
    model: keras.Model,
    temperature: Temperature,
    **facts: object,
) -> None:
    """Write calibration, kernels and model of a finished training, and record them.

    Args:
        run: The run folder.
        spec: The spec of the run.
        model: The trained network.
        temperature: The calibration.
        facts: Further entries of ``run.json``.
    """
    write_json(run.calibration, temperature.to_dict())
    if spec.export.kernels:
        kernels = kernels_of(model)
        initial = load_kernels(run.initial_kernels, kernels)
        write_kernels(run, spec, run.kernels, "TRAINED", kernels, initial)

    def record(draft: Path) -> None:
        run.update_provenance(**network_facts(run, model, draft), **facts)

    # With the model a run counts as trained, so it gets its name last of all.
    save_model(model, run.model, before_rename=record)


def spec_facts(text: str, path: Path, seed: int) -> dict:
    """The entries of ``run.json`` that name the machine and the spec.

    Args:
        text: The spec as the run folder holds it.
        path: The file it was read from.
        seed: The seed of all random number generators.
    """
    return {
        **provenance.environment(),
        "accelerator": uses_accelerator(),
        "spec": str(path),
        "spec_sha256": provenance.text_hash(text),
        "network_sha256": provenance.network_hash(text),
        "seed": seed,
    }


def network_facts(
    run: RunFolder, model: keras.Model, model_file: Path | None = None
) -> dict:
    """The entries of ``run.json`` that identify a network, once its files exist.

    Args:
        run: The run folder.
        model: The network.
        model_file: Its file, where it does not have the name of `run.model` yet.
    """
    files = {path.name: path for path in (run.model, run.features, run.calibration)}
    files[run.model.name] = model_file or run.model
    if run.domain.is_file():  # an ensemble has none where a member has none
        files[run.domain.name] = run.domain
    return {
        "files": {name: provenance.file_hash(path) for name, path in files.items()},
        "weights_sha256": provenance.array_hash(
            keras.ops.convert_to_numpy(variable) for variable in model.variables
        ),
        "parameters": model.count_params(),
        "peak_memory": peak_memory(),
    }


def _initial_weights_facts(initial: InitialWeights | None) -> dict:
    if initial is None:
        return {}
    facts = {
        "model": initial.record["path"],
        "sha256": initial.record["sha256"],
        # What was learned there is no test here.
        "inputs": all_inputs(initial.run.read_provenance()),
    }
    return {"initial_weights": facts}
