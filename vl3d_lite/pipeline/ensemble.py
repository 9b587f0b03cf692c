"""Build an ensemble: one run whose network averages those of several runs."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from vl3d_lite.dataset import Domain, check_clouds, prepare_files, read_domain
from vl3d_lite.errors import InterruptedRunError
from vl3d_lite.model import (
    LayerKernel,
    combine_networks,
    kernels_of,
    load_kernels,
    member_prefix,
    prepare_backend,
    save_kernels,
    save_model,
)
from vl3d_lite.pipeline.calibrating import calibrate
from vl3d_lite.pipeline.independence import initial_inputs
from vl3d_lite.pipeline.members import Member, found_clouds, open_members
from vl3d_lite.pipeline.opening import load_network, open_calibration
from vl3d_lite.pipeline.preparing import labeled_clouds
from vl3d_lite.pipeline.publishing import network_facts, spec_facts
from vl3d_lite.prediction import Classifier, Inference, Temperature
from vl3d_lite.runs import Options, RunFolder, provenance
from vl3d_lite.spec import Spec, dump_spec
from vl3d_lite.system import (
    Interrupts,
    read_text,
    replacing_entries,
    require_free,
    write_json,
    write_text,
)

logger = logging.getLogger(__name__)


def ensemble(paths: Sequence[Path], run: RunFolder, options: Options) -> None:
    """Write a run whose network averages the class probabilities of several runs.

    Spec and scaling are those of the first run. Confidence is calibrated on its
    validation clouds or, where they are not found, have changed, or a run was trained
    on them, with the geometric mean of the temperatures of the runs.

    Args:
        paths: At least two run folders.
        run: The new run; it appears completely or not at all. Where it replaces
            another one, a failure in that moment leaves neither.
        options: `threads`, `quiet` and `overwrite`.

    Raises:
        SpecError: There are fewer than two runs, one is named twice, they differ in
            more than seed, clouds and settings, or the new folder is in use.
        DataError: One is not a trained run, or a validation cloud is damaged.
        InterruptedRunError: A signal came; the message states whether the run is
            written.
    """
    _require_free(run, overwrite=options.overwrite)
    members = open_members(paths)
    first = members[0]
    clouds = found_clouds(first.spec, "validation")
    if options.overwrite:
        inputs = [member.run.model for member in members]
        run.require_apart([*inputs, *(clouds or ())])
    prepare_backend(first.spec.seed, options.threads)
    networks = [
        load_network(member.run, member.spec, member.scaling) for member in members
    ]
    rescalings = [member.rescaling(first.scaling) for member in members]
    model = combine_networks(networks, rescalings)
    with Interrupts() as interrupts:
        classifier = Classifier(
            Inference(model, first.spec),
            first.spec,
            first.scaling,
            options,
            interrupts,
        )
        try:
            temperature = _temperature(members, clouds, classifier)
            interrupts.check("")
        except InterruptedRunError as error:
            raise InterruptedRunError(
                f"{run.root}: interrupted; nothing was written", error.exit_code
            ) from None
        kernels = _initial_kernels(members, networks)
        with run.locked():
            # Another process may have written to the folder in the meantime.
            _require_free(run, overwrite=options.overwrite)
            _publish(run, members, model, temperature, kernels)
        interrupts.check(f"{run.root}: interrupted; the run itself is complete")


def _require_free(run: RunFolder, *, overwrite: bool) -> None:
    if run.exists():
        require_free(
            run.root, overwrite=overwrite, remedy="name another folder with --run"
        )
    run.refuse_if_present(resume=False, overwrite=overwrite)


def _temperature(
    members: Sequence[Member], clouds: Sequence[Path] | None, classifier: Classifier
) -> Temperature:
    """The calibration of an ensemble, on clouds if there are any."""
    spec, options = classifier.spec, classifier.options
    if reason := obstacle(members, clouds):
        return _mean_temperature(members, reason)
    assert clouds is not None
    check_clouds(clouds, spec, count_classes=False)
    prepared = prepare_files(
        clouds, spec, options.threads, quiet=options.quiet, role="validation clouds"
    )
    labeled = labeled_clouds(clouds, prepared, spec, classifier.scaling)
    return calibrate(members[0].run, labeled, classifier)


def obstacle(members: Sequence[Member], clouds: Sequence[Path] | None) -> str:
    """Why confidence cannot be calibrated on clouds; empty if it can."""
    first = members[0]
    if clouds is None:
        return f"{first.run.root}: its validation clouds are not found"
    if unrecorded := first.unrecorded(clouds):
        return (
            f"{unrecorded[0]}: is not a validation cloud that {first.run.root} "
            "recorded, by its SHA-256"
        )
    for member in members:
        if shared := member.trained_on(clouds):
            return (
                f"{member.run.root}: was trained on {shared[0]}, a validation cloud of "
                f"{first.run.root}"
            )
    return ""


def _mean_temperature(members: Sequence[Member], reason: str) -> Temperature:
    """The geometric mean of the temperatures that were fitted for the members."""
    values = []
    for member in members:
        # A temperature of the spec or `calibrate: false` does not count here.
        prediction = member.spec.prediction.model_copy(
            update={"temperature": None, "calibrate": True}
        )
        fitted = member.spec.model_copy(update={"prediction": prediction})
        values.append(open_calibration(member.run, fitted).value)
    mean = round(float(np.exp(np.mean(np.log(values)))), 4)
    logger.warning(
        "%s, so confidence is calibrated with the mean of the temperatures of the "
        "runs, %g, instead of a new fit",
        reason,
        mean,
    )
    return Temperature(mean)


def _initial_kernels(
    members: Sequence[Member], networks: Sequence[keras.Model]
) -> list[LayerKernel] | None:
    """The initial kernels of all members; None where a member does not store them."""
    kernels: list[LayerKernel] = []
    for number, (member, network) in enumerate(
        zip(members, networks, strict=True), start=1
    ):
        path = member.run.initial_kernels
        if not path.is_file():
            logger.info("%s: not found, so only trained kernels can be exported", path)
            return None
        kernels += [
            replace(kernel, name=member_prefix(number) + kernel.name)
            for kernel in load_kernels(path, kernels_of(network))
        ]
    return kernels


def _publish(
    run: RunFolder,
    members: Sequence[Member],
    model: keras.Model,
    temperature: Temperature,
    kernels: list[LayerKernel] | None,
) -> None:
    """Write the run folder, completely or not at all."""
    with replacing_entries(
        run.root,
        clear=lambda _: run.create(overwrite=True),
        last=run.provenance.name,  # with it the folder is a run
    ) as folder:
        draft = RunFolder(folder)
        draft.checkpoints.mkdir()
        write_text(draft.spec, dump_spec(_without_temperature(members[0].spec)))
        write_text(draft.features, members[0].scaling.to_json())
        write_json(draft.calibration, temperature.to_dict())
        if (domain := _domain(members)) is not None:
            write_text(draft.domain, domain.to_json())
        save_model(model, draft.model)
        if kernels is not None:
            save_kernels(draft.initial_kernels, kernels)
        write_json(draft.provenance, _provenance(draft, members, model))
    run.started()


def _domain(members: Sequence[Member]) -> Domain | None:
    """The domain of all members; None where the run of one holds none."""
    domains = [read_domain(member.run.recorded_domain()) for member in members]
    known = [domain for domain in domains if domain is not None]
    return Domain.union(known) if len(known) == len(domains) else None


def _without_temperature(spec: Spec) -> Spec:
    """The spec without a temperature, so that the one of the ensemble is used."""
    prediction = spec.prediction.model_copy(update={"temperature": None})
    return spec.model_copy(update={"prediction": prediction})


def _provenance(
    draft: RunFolder, members: Sequence[Member], model: keras.Model
) -> dict:
    """The content of ``run.json``."""
    first = members[0]
    inputs = {
        (entry["path"], entry["sha256"], entry.get("role")): entry
        for member in members
        for entry in member.provenance.get("inputs", [])
    }
    initial = [
        entry for member in members for entry in initial_inputs(member.provenance)
    ]
    return {
        **spec_facts(
            read_text(draft.spec, "try again"), first.run.spec, first.spec.seed
        ),
        "ensemble": [
            {
                "run": str(member.run.root),
                "seed": member.spec.seed,
                "model": provenance.file_hash(member.run.model),
            }
            for member in members
        ],
        "inputs": list(inputs.values()),
        **({"initial_weights": {"inputs": initial}} if initial else {}),
        **network_facts(draft, model),
    }
