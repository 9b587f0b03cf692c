"""LAS and LAZ files, byte for byte."""
