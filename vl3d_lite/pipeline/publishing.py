"""The files of a run: what is written as it begins, and once it is trained."""

from pathlib import Path

import keras

from vl3d_lite.dataset import FeatureScaling
from vl3d_lite.errors import SpecError
from vl3d_lite.model import (
    kernels_of,
    load_kernels,
    save_kernels,
    save_model,
    uses_accelerator,
)
from vl3d_lite.pipeline.export import write_kernels
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


def begin_run(
    loaded: LoadedSpec,
    run: RunFolder,
    scaling: FeatureScaling,
    model: keras.Model,
    options: Options,
) -> None:
    """Create the run folder, and write what describes a run before its training.

    These are provenance, spec, scaling and initial kernels. A run that is resumed
    from a checkpoint has them already.
    """
    if not options.resume:
        run.create(overwrite=options.overwrite)
    if run.checkpoint_files():
        return
    text = dump_spec(loaded.spec)
    clouds = [*loaded.clouds["train"], *loaded.clouds["validation"]]
    content = {
        **spec_facts(text, loaded.path, loaded.spec.seed),
        **_initial_weights_facts(loaded.spec),
        "inputs": provenance.inputs(clouds),
    }
    kernels = kernels_of(model)
    write_json(run.provenance, content)
    write_text(run.spec, text)
    write_text(run.features, scaling.to_json())
    save_kernels(run.initial_kernels, kernels)
    if loaded.spec.export.kernels:
        write_kernels(run, loaded.spec, run.kernels, "INIT", kernels)


def publish(
    run: RunFolder,
    spec: Spec,
    model: keras.Model,
    temperature: Temperature,
) -> dict:
    """Write calibration, kernels and model of a finished training.

    Args:
        run: The run folder.
        spec: The spec of the run.
        model: The trained network.
        temperature: The calibration.

    Returns:
        The entries of ``run.json`` that identify the network.
    """
    write_json(run.calibration, temperature.to_dict())
    if spec.export.kernels:
        kernels = kernels_of(model)
        initial = load_kernels(run.initial_kernels, kernels)
        write_kernels(run, spec, run.kernels, "TRAINED", kernels, initial)
    # The model comes last of the files: with it a run counts as trained.
    save_model(model, run.model)
    return network_facts(run, model)


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


def network_facts(run: RunFolder, model: keras.Model) -> dict:
    """The entries of ``run.json`` that identify a network, once its files exist."""
    return {
        "files": {
            path.name: provenance.file_hash(path)
            for path in (run.model, run.features, run.calibration)
        },
        "weights_sha256": provenance.array_hash(
            keras.ops.convert_to_numpy(variable) for variable in model.variables
        ),
        "parameters": model.count_params(),
        "peak_memory": peak_memory(),
    }


def _initial_weights_facts(spec: Spec) -> dict:
    if spec.training.initial_weights is None:
        return {}
    model = RunFolder(Path(spec.training.initial_weights)).model
    facts = {"model": str(model), "sha256": provenance.file_hash(model)}
    return {"initial_weights": facts}
