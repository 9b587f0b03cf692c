"""Tensors: layers, networks and the backend. Keras lives here."""
