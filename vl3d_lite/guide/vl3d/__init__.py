"""`vl3d-lite convert`: specs of VL3D as specs of vl3d_lite."""
