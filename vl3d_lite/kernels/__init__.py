"""Kernel files in VL3D's layout, and their pictures."""
