"""Combine runs: one run folder whose network says the mean of what several say."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from vl3d_lite.clouds.files import find_clouds
from vl3d_lite.dataset.files import check_clouds, prepare_files
from vl3d_lite.dataset.scaling import FeatureScaling
from vl3d_lite.errors import DataError, InterruptedRunError, SpecError
from vl3d_lite.model.backend import prepare_backend, uses_accelerator
from vl3d_lite.model.ensemble import Rescaling, combine_networks, member_prefix
from vl3d_lite.model.files import save_model
from vl3d_lite.model.kernels import Kernel, kernels_of, load_kernels, save_kernels
from vl3d_lite.pipeline.opening import load_network, open_calibration, open_run
from vl3d_lite.pipeline.train import (
    calibrate,
    labelled_sources,
    network_facts,
    shared_files,
)
from vl3d_lite.prediction.calibration import Temperature
from vl3d_lite.prediction.classifier import Classifier
from vl3d_lite.prediction.inference import Inference
from vl3d_lite.runs import provenance
from vl3d_lite.runs.folder import RunFolder
from vl3d_lite.runs.options import Options
from vl3d_lite.spec.difference import differing
from vl3d_lite.spec.reader import dump_spec
from vl3d_lite.spec.schema.results import PredictionSpec
from vl3d_lite.spec.schema.spec import Spec
from vl3d_lite.system.interrupts import Interrupts
from vl3d_lite.system.writing import replacing_entries, write_json, write_text

logger = logging.getLogger(__name__)

# What runs may differ in: nothing that their networks take in or give out.
FREE = {"seed", "clouds", "training", "prediction", "evaluation", "export"}


@dataclass(frozen=True)
class Member:
    """One of the runs.

    Attributes:
        run: Its folder.
        spec: Its spec.
        scaling: Of its features.
        receipt: What its run.json says.
    """

    run: RunFolder
    spec: Spec
    scaling: FeatureScaling
    receipt: dict


def combine(paths: Sequence[Path], run: RunFolder, options: Options) -> None:
    """Write a run whose network is the mean of those of several runs.

    Spec and scaling are those of the first. Confidence is calibrated anew on its
    validation clouds, or, where they are gone, with the geometric mean of the
    runs' temperatures.

    Args:
        paths: Run folders, two at least.
        run: The new one; it appears whole or not at all. Where one is replaced, a
            failure in that moment leaves neither.
        options: `threads`, `quiet` and `overwrite`.

    Raises:
        SpecError: There are too few runs, one comes twice, they differ in more
            than `FREE`, or the new folder is not to be touched.
        DataError: One is no trained run, or a validation cloud is damaged.
        InterruptedRunError: A signal came; the message says whether the run is
            written.
    """
    _require_free(run, overwrite=options.overwrite)
    members = _open(paths)
    first = members[0]
    clouds = _found(first.spec.clouds.validation)
    if options.overwrite:
        inputs = [member.run.model for member in members]
        run.require_apart([*inputs, *(clouds or ())])
    prepare_backend(first.spec.seed, options.threads)
    networks = [
        load_network(member.run, member.spec, member.scaling) for member in members
    ]
    model = combine_networks(
        networks, [_rescaling(first.scaling, member.scaling) for member in members]
    )
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
        _require_free(run, overwrite=options.overwrite)  # others work, too
        _write(run, members, model, temperature, _initial_kernels(members, networks))
        interrupts.check(f"{run.root}: interrupted; the run itself is whole")


def _require_free(run: RunFolder, *, overwrite: bool) -> None:
    if run.exists() and not overwrite:
        raise SpecError(
            f"{run.root}: a run lies here already; replace it with --overwrite, or "
            "name another folder with --run"
        )
    run.refuse_if_present(resume=False, overwrite=overwrite)


def _open(paths: Sequence[Path]) -> list[Member]:
    """The runs, which fit together."""
    if len(paths) < 2:
        raise SpecError(
            f"combine needs at least two run folders. Received: {len(paths)}; name "
            "another one"
        )
    members: list[Member] = []
    seen: set[Path] = set()
    for path in paths:
        run = RunFolder(path)
        spec, scaling = open_run(run)
        member = Member(run, spec, scaling, run.read_provenance())
        if path.resolve() in seen:
            raise SpecError(f"{path}: is named twice; name each run once")
        seen.add(path.resolve())
        if combined := member.provenance.get("combined"):
            names = ", ".join(entry["run"] for entry in combined)
            raise SpecError(
                f"{path}: is combined already, so its runs would not count as much as "
                f"the others; name them instead: {names}"
            )
        if members:
            _require_same(members[0], member)
        members.append(member)
    return members


def _require_same(first: Member, other: Member) -> None:
    """Check that two networks take in and give out the same.

    Raises:
        SpecError: Their specs differ in a section that is not in `FREE`.
        DataError: A features.json is not that of its spec.
    """
    now, before = other.spec.model_dump(), first.spec.model_dump()
    for section in Spec.model_fields:
        if section in FREE or now[section] == before[section]:
            continue
        told = next(differing(now[section], before[section], section), None)
        how = f"`{told[0]}` is {told[1]}, not {told[2]}" if told else "it lacks some"
        raise SpecError(
            f"{other.run.root}: its `{section}` differs from that of {first.run.root} "
            f"({how}); only runs of one spec, with other seeds, can be combined"
        )
    if list(now["classes"]) != list(before["classes"]):
        raise SpecError(
            f"{other.run.root}: its `classes` stand in another order than those of "
            f"{first.run.root}; only runs of one spec can be combined"
        )
    if other.scaling.names != first.scaling.names:
        raise DataError(
            f"{other.run.features}: names other features than {first.run.features}; "
            "restore both from copies"
        )


def _rescaling(first: FeatureScaling, own: FeatureScaling) -> Rescaling | None:
    """From features scaled by `first` to the same scaled by `own`; None: no change."""
    if np.array_equal(first.mean, own.mean) and np.array_equal(first.std, own.std):
        return None
    return first.std / own.std, (first.mean - own.mean) / own.std


def _found(patterns: Sequence[str]) -> list[Path] | None:
    """The clouds that a spec names; None where one of them is gone."""
    try:
        return find_clouds(patterns, Path.cwd())
    except DataError:
        return None


def _trained_on(member: Member, clouds: Sequence[Path]) -> list[Path]:
    """Those of some clouds that a run learned from, as far as its clouds are here."""
    return shared_files(clouds, _found(member.spec.clouds.train) or [])


def _temperature(
    members: Sequence[Member], clouds: Sequence[Path] | None, classifier: Classifier
) -> Temperature:
    spec, options = classifier.spec, classifier.options
    if clouds is None:
        plain = PredictionSpec()  # whatever a spec says of using the fitted one
        values = [
            open_calibration(
                member.run, member.spec.model_copy(update={"prediction": plain})
            ).value
            for member in members
        ]
        mean = round(float(np.exp(np.mean(np.log(values)))), 4)
        logger.warning(
            "%s: its validation clouds are gone, so confidence is calibrated with the "
            "mean of the runs' temperatures, %g, not anew",
            members[0].run.root,
            mean,
        )
        return Temperature(mean)
    check_clouds(clouds, spec, count_classes=False)
    for member in members[1:]:
        if shared := _trained_on(member, clouds):
            logger.warning(
                "%s: was trained on %s, which confidence is calibrated on, so it will "
                "be too sure; combine runs that hold the same clouds back",
                member.run.root,
                shared[0],
            )
    prepared = prepare_files(
        clouds, spec, options.threads, quiet=options.quiet, what="validation clouds"
    )
    sources = labelled_sources(clouds, prepared, spec, classifier.scaling)
    return calibrate(members[0].run, sources, classifier)


def _initial_kernels(
    members: Sequence[Member], networks: Sequence[keras.Model]
) -> list[Kernel] | None:
    """Kernels of all runs as they began; None where a run keeps none."""
    kernels: list[Kernel] = []
    for number, (member, network) in enumerate(
        zip(members, networks, strict=True), start=1
    ):
        path = member.run.initial_kernels
        if not path.is_file():
            logger.info("%s: is missing, so kernels cannot be exported", path)
            return None
        kernels += [
            replace(kernel, name=member_prefix(number) + kernel.name)
            for kernel in load_kernels(path, kernels_of(network))
        ]
    return kernels


def _write(
    run: RunFolder,
    members: Sequence[Member],
    model: keras.Model,
    temperature: Temperature,
    kernels: list[Kernel] | None,
) -> None:
    with replacing_entries(
        run.root,
        clear=lambda _: run.create(overwrite=True),
        last=run.provenance.name,  # with it the folder is a run
    ) as folder:
        draft = RunFolder(folder)
        draft.create(overwrite=False)
        write_text(draft.spec, dump_spec(_without_temperature(members[0].spec)))
        write_text(draft.features, members[0].scaling.to_json())
        write_json(draft.calibration, temperature.to_dict())
        save_model(model, draft.model)
        if kernels is not None:
            save_kernels(draft.initial_kernels, kernels)
        write_json(draft.provenance, _receipt(draft, members, model))


def _without_temperature(spec: Spec) -> Spec:
    """The spec with confidence calibrated by what was fitted on the mean."""
    given = spec.prediction.model_copy(update={"temperature": None})
    return spec.model_copy(update={"prediction": given})


def _receipt(draft: RunFolder, members: Sequence[Member], model: keras.Model) -> dict:
    first = members[0]
    text = draft.spec.read_text()
    inputs = {
        (entry["path"], entry["sha256"]): entry
        for member in members
        for entry in member.provenance.get("inputs", [])
    }
    return {
        **provenance.environment(),
        "accelerator": uses_accelerator(),
        "spec": str(first.run.spec),
        "spec_sha256": provenance.text_hash(text),
        "network_sha256": provenance.network_hash(text),
        "seed": first.spec.seed,
        "combined": [
            {
                "run": str(member.run.root),
                "seed": member.spec.seed,
                "model": provenance.file_hash(member.run.model),
            }
            for member in members
        ],
        "inputs": list(inputs.values()),
        **network_facts(draft, model),
    }
