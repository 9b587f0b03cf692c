from vl3d_lite.spec.suggestions import closest, did_you_mean

KNOWN = ["radius", "size", "grid_size"]


def test_suggests_the_most_similar_word():
    assert closest("grid_sise", KNOWN) == "grid_size"
    assert did_you_mean("raduis", KNOWN) == "; did you mean `radius`?"


def test_suggests_nothing_where_no_word_is_similar():
    assert closest("zzzz", KNOWN) is None
    assert did_you_mean("zzzz", KNOWN) == ""
    assert did_you_mean("zzzz", KNOWN, otherwise=".") == "."
