"""`vl3d-lite init`: a commented spec for labeled clouds."""
