"""Settings that are advised where memory does not suffice."""

import pytest

from vl3d_lite.dataset.sizes import CloudSize
from vl3d_lite.errors import ResourceError
from vl3d_lite.spec.reader import read_spec
from vl3d_lite.training import memory, remedies
from vl3d_lite.training.memory import estimate
from vl3d_lite.training.remedies import require_memory_for


def spec_of(place, *sets):
    return read_spec(place / "spec.yaml", sets).spec


def limit(monkeypatch, count):
    monkeypatch.setattr(remedies, "memory_limit", lambda: count)


def test_three_settings_that_lower_the_memory_are_named(place, monkeypatch):
    spec = spec_of(place, "training.batch_size=2000000")
    limit(monkeypatch, 8 * 2**30)
    with pytest.raises(ResourceError) as refusal:
        require_memory_for(spec, "spec.yaml")
    message = str(refusal.value)
    assert message.startswith("spec.yaml: needs about ")
    assert message.count(" GiB)") == 3
    sizes = [float(part.split("(")[-1]) for part in message.split(" GiB)")[:3]]
    assert sizes == sorted(sizes)
    assert sizes[0] <= 8
    # What is advised is a change that fits.
    advice = message.split("`--set ")[1].split("`")[0]
    assert advice.startswith("training.batch_size=")
    require_memory_for(spec_of(place, advice), "spec.yaml")


def test_a_coarser_grid_is_named_where_clouds_take_the_memory(place, monkeypatch):
    spec = spec_of(place)
    limit(monkeypatch, 8 * 2**30)
    huge = CloudSize(60_000_000, (50_000_000, 20_000_000))
    with pytest.raises(ResourceError, match=r"lowers it: `--set fields\.grid_size="):
        require_memory_for(spec, "spec.yaml", [huge])


def test_a_training_that_is_close_to_the_limit_is_a_warning(place, monkeypatch, caplog):
    spec = spec_of(place)
    limit(monkeypatch, estimate(spec).host / 1.1)
    require_memory_for(spec, "spec.yaml", refuse_above=memory.REFUSE_ABOVE)
    assert "may not fit" in caplog.text
    with pytest.raises(ResourceError):
        require_memory_for(spec, "spec.yaml")
