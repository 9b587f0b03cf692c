import pytest
from pydantic import ValidationError

from tests.spec.spec_texts import make_spec

GQA_STAGES = [{"points": 64, "channels": 8, "blocks": ["gqa"]}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_query_heads": 6, "num_key_value_heads": 4}, "multiple of `num_key_val"),
        ({"num_query_heads": 0}, "greater than or equal to 1"),
        ({"num_key_value_heads": 0}, "greater than or equal to 1"),
        ({"head_dim": 0}, "greater than or equal to 1"),
        ({"flash_attention": True, "dropout": 0.1}, "flash attention has no dropout"),
        ({"kernel_initializer": "glorot"}, "glorot_uniform"),
        ({"kernel_regularizer": "l3"}, "l1_l2"),
        ({"bias_constraint": {"name": "max_norm", "limit": 0}}, "greater than 0"),
    ],
)
def test_refuses_global_attention_that_cannot_be_built(changes, message):
    make_spec(model={"stages": GQA_STAGES})
    with pytest.raises(ValidationError) as caught:
        make_spec(model={"stages": GQA_STAGES, "gqa": changes})
    assert message in str(caught.value)


def test_global_attention_is_for_stages_of_few_points():
    stage = {"points": 4096, "channels": 8, "blocks": ["gqa"]}
    with pytest.raises(
        ValidationError, match=r"at most 2048 points\. Received: 4096.*256 MiB"
    ):
        make_spec(model={"stages": [stage]})
    make_spec(model={"stages": [{**stage, "points": 2048}]})


def test_channels_are_bound_only_by_blocks_that_group_them():
    stage = {"points": 64, "channels": 12, "blocks": ["kpconvd"]}
    assert make_spec(model={"stages": [stage]}).model.stages[0].channels == 12
