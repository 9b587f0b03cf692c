"""Entry points: commands parse their arguments and call."""
