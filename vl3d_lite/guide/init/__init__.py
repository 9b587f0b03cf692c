"""`vl3d-lite init`: a commented spec for labelled clouds."""
