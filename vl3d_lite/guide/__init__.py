"""Before a run: proposing, planning and converting specs; checking an installation."""
