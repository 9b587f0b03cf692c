"""`vl3d-lite convert`: translate specs of VL3D."""
