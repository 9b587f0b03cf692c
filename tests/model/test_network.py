"""Networks of odd specs."""

import numpy as np
from conftest import SPEC

from vl3d_lite.dataset import batch_spec, empty_batch
from vl3d_lite.model.network import build_network
from vl3d_lite.spec.reader import read_spec


def test_groups_of_the_attention_do_not_bind_layers_without_it(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC.replace("channels: 8,", "channels: 12,"))
    settings = [
        "model.kpconvx.groups=8",
        "model.downsampling=strided",
        "model.gva.groups=6",
    ]
    text = (tmp_path / "spec.yaml").read_text()
    text = text.replace("[kpconvx, gva]", "[kpconvd, gva]")
    (tmp_path / "spec.yaml").write_text(text)
    spec = read_spec(tmp_path / "spec.yaml", settings, check_files=False).spec
    model = build_network(
        spec.model, batch_spec(spec, 3), n_classes=3, spacings=spec.spacings
    )
    logits = np.asarray(model(empty_batch(spec, 3, 2), training=False))
    assert logits.shape == (2, 512, 3)
    assert np.isfinite(logits).all()
