"""A check that a decoder layer commutes with its group."""

import keras
import numpy as np
from keras import ops

from vl3d_lite.errors import DeepLearningException


class EquivarianceCheck(keras.layers.Layer):
    """Base that adds `check_equivariance` to a decoder layer."""

    def check_equivariance(
        self,
        batch_size=4,
        tgt_len=3,
        mem_len=5,
        samples=20,
        atol=1e-4,
        rtol=1e-4,
    ):
        """Compare the layer, and its attention, on rotated and original inputs.

        Each sample draws inputs and an element of the group; positions lie within
        1 m, and neighbors are drawn where the layer takes them. The layer runs as
        in inference, and is built if it is not.

        Args:
            batch_size: Number of fields.
            tgt_len: Number of queries.
            mem_len: Number of tokens of the memory.
            samples: Number of draws.
            atol: Largest allowed absolute error.
            rtol: Largest allowed error relative to the value.

        Returns:
            The largest absolute error found.

        Raises:
            DeepLearningException: An error is larger than allowed; the message
                names the part.
        """
        rng = np.random.default_rng(0)
        largest = 0.0
        for _ in range(samples):
            element = int(rng.integers(self.group.order))
            inputs = self._draw(rng, batch_size, tgt_len, mem_len)
            rotated = self._rotate(inputs, element)
            for part, function in self._parts():
                expected = _float64(function(inputs)) @ self.in_rep.rho(element).T
                received = _float64(function(rotated))
                error = np.abs(received - expected)
                largest = max(largest, float(error.max()))
                if not (error <= atol + rtol * np.abs(expected)).all():
                    raise DeepLearningException(
                        f"{self.name}: {part} is not equivariant under element "
                        f"{element} of {self.group.name}: off by {error.max():.1e}"
                    )
        return largest

    def _draw(self, rng, batch, queries, tokens):
        size = self.in_rep.size
        inputs = {
            "tgt": rng.normal(size=(batch, queries, size)),
            "memory": rng.normal(size=(batch, tokens, size)),
        }
        if self._takes_positions():
            axes = self._position_axes()
            inputs["tgt_positions"] = rng.uniform(-1, 1, (batch, queries, axes))
            inputs["memory_positions"] = rng.uniform(-1, 1, (batch, tokens, axes))
        for attention, name, rows in (
            ("self_attn", "tgt_neighbors", queries),
            ("multihead_attn", "memory_neighbors", tokens),
        ):
            if self._given[attention] == "local":
                drawn = rng.integers(-1, rows, (batch, queries, min(3, rows)))
                inputs[name] = drawn.astype("int32")
        return inputs

    def _takes_positions(self):
        attentions = (self.self_attn, self.multihead_attn)
        return any(getattr(layer, "position_units", 0) for layer in attentions)

    def _position_axes(self):
        """Return the number of coordinates: that of the built layer, or three."""
        for layer in (self.self_attn, self.multihead_attn):
            offsets = getattr(layer, "offsets", None)
            if offsets is not None and offsets.built:
                return offsets.kernel.shape[0]
        return 3

    def _rotate(self, inputs, element):
        rotated = dict(inputs)
        matrix = self.group.matrices[element]
        for name in ("tgt", "memory"):
            rotated[name] = inputs[name] @ self.in_rep.rho(element).T
        for name in ("tgt_positions", "memory_positions"):
            if name in inputs:
                axes = inputs[name].shape[-1]
                rotated[name] = inputs[name] @ matrix[:axes, :axes].T
        return rotated

    def _parts(self):
        def whole(inputs):
            return self(**self._tensors(inputs))

        def attend(layer, sources):
            def run(inputs):
                values = self._tensors(inputs)
                context = {
                    name: values[source]
                    for name, source in sources.items()
                    if source in values
                }
                return layer(**context)

            return run

        yield "the layer", whole
        names = {"query": "tgt", "query_positions": "tgt_positions"}
        if self.self_attn is not None:
            own = {**names, "memory": "tgt", "neighbors": "tgt_neighbors"}
            own["memory_positions"] = "tgt_positions"
            yield "`self_attn`", attend(self.self_attn, own)
        if self.multihead_attn is not None:
            own = {**names, "memory": "memory", "neighbors": "memory_neighbors"}
            own["memory_positions"] = "memory_positions"
            yield "`multihead_attn`", attend(self.multihead_attn, own)

    def _tensors(self, inputs):
        return {
            name: ops.convert_to_tensor(value)
            if value.dtype == "int32"
            else ops.convert_to_tensor(value, dtype=self.variable_dtype)
            for name, value in inputs.items()
        }


def _float64(value):
    return np.asarray(ops.convert_to_numpy(value), "float64")
