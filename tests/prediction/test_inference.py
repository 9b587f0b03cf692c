"""Batches of a network that are predicted at once."""

from vl3d_lite.prediction import inference


def test_only_what_xla_compiled_predicts_two_batches_at_once(monkeypatch):
    monkeypatch.setattr(inference, "uses_accelerator", lambda: False)
    network = inference.Inference(None, None)
    assert [network.batches_at_once(threads) for threads in (1, 2)] == [1, 1]
    network.xla = True
    assert [network.batches_at_once(threads) for threads in (1, 2)] == [1, 2]
    monkeypatch.setattr(inference, "uses_accelerator", lambda: True)
    assert network.batches_at_once(2) == 1
