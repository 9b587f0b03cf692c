"""Measured rates of this machine: products, gathers and copies in float32."""

from benchmarks.timing import take_turns


def ceilings():
    """Operations, gathered bytes and copied bytes per second, measured now."""
    import numpy as np
    import tensorflow as tf

    square = tf.random.normal((1024, 1024))
    table, large = tf.random.normal((8192, 64)), tf.random.normal((4 << 20,))
    rows = np.arange(8192)[:, None] + np.arange(-8, 8)  # near in memory, as sorted
    index = tf.constant(np.clip(rows, 0, 8191).astype("int32"))
    gather = tf.function(
        lambda: tf.reduce_sum(tf.gather(table, index), axis=1), jit_compile=True
    )
    copy = np.empty(4 << 20, "float32")
    source = large.numpy()
    seconds = take_turns(
        {
            "product": lambda: tf.matmul(square, square).numpy(),
            "gather": lambda: gather().numpy(),
            "copy": lambda: np.copyto(copy, source),
        },
        rounds=15,
    )
    return {
        "product": 2 * 1024**3 / min(seconds["product"]),
        "gather": 8192 * 16 * 64 * 4 / min(seconds["gather"]),
        "copy": 2 * copy.nbytes / min(seconds["copy"]),
    }
