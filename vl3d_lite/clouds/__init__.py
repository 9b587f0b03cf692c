"""LAS and LAZ files in and out."""
