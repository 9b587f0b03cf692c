"""A simulated town and an airborne scanner; see ``data/make_town.py``."""
