"""Gradients written by hand."""


def upstream_gradient(upstream, torch_arguments):
    """Return the upstream gradient that a custom gradient receives.

    Keras passes it by position on TensorFlow and JAX, and by name on PyTorch.

    Args:
        upstream: Positional arguments of the gradient function.
        torch_arguments: Its arguments by name.
    """
    return torch_arguments["upstream"] if torch_arguments else upstream[0]
