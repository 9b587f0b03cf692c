"""Classes chosen from point counts, and codes left out with a reason."""

import pytest

from vl3d_lite.guide.init.classes import choose_class_weights, choose_classes

TOWN = {1: 900, 2: 9000, 3: 250, 4: 400, 5: 2500, 6: 3000}


def codes_of(choices):
    return {choice.name: choice.codes for choice in choices.classes}


def test_vegetation_codes_are_one_class_and_other_codes_have_their_names():
    assert codes_of(choose_classes(TOWN)) == {
        "ground": (2,),
        "vegetation": (3, 4, 5),
        "building": (6,),
        "other": (1,),
    }


def test_noise_and_overlap_are_ignored_with_their_names():
    choices = choose_classes({**TOWN, 7: 5000, 12: 4000, 18: 3})
    assert choices.ignored == {7: "low_noise", 12: "overlap", 18: "high_noise"}
    assert not {7, 12, 18} & set(choices.index_by_code())


def test_too_few_points_make_no_class():
    choices = choose_classes({**TOWN, 9: 199, 17: 200})
    assert "bridge" in codes_of(choices)
    assert "water, 199 points are too few" in choices.ignored[9]


def test_unclassified_points_on_the_ground_are_ground():
    choices = choose_classes({**TOWN, 1: 30_000}, unclassified_on_ground=0.8)
    assert codes_of(choices)["ground"] == (1, 2)
    assert choices.classes[0].points == 39_000
    assert "80%" in choices.classes[0].reason


def test_code_1_is_ignored_if_most_points_have_it():
    choices = choose_classes({**TOWN, 1: 30_000}, unclassified_on_ground=0.1)
    assert 1 in choices.ignored
    assert "other" not in codes_of(choices)


def test_ground_and_unclassified_can_be_the_two_classes():
    assert codes_of(choose_classes({1: 9000, 2: 3000}, 0.02)) == {
        "ground": (2,),
        "other": (1,),
    }


def test_codes_0_and_1_alone_are_classes():
    choices = choose_classes({0: 700, 1: 300, 7: 5})
    assert codes_of(choices) == {"class_0": (0,), "class_1": (1,)}
    assert set(choices.ignored) == {7}


def test_never_classified_points_are_ignored():
    choices = choose_classes({0: 800, **TOWN})
    assert 0 in choices.ignored
    assert len(choices.classes) == 4


def test_user_defined_codes_are_named_by_number():
    assert codes_of(choose_classes({2: 500, 77: 500}))["class_77"] == (77,)


@pytest.mark.parametrize(("points", "setting"), [(40, "auto"), (600, "none")])
def test_a_very_rare_class_gets_loss_weights(points, setting):
    choices = choose_classes({2: 50_000, 6: 50_000, 5: 200 + points})
    assert choose_class_weights(choices.classes) == setting


def test_a_rare_class_other_needs_no_weights():
    choices = choose_classes({2: 500_000, 6: 500_000, 1: 300})
    assert choose_class_weights(choices.classes) == "none"
