"""One update for all weights, in place of one update each."""

import math
import re

import keras
from keras import ops

UNDECAYED = "undecayed"


@keras.saving.register_keras_serializable(package="vl3d_lite")
class JoinedOptimizer(keras.optimizers.Optimizer):
    """Let an optimizer update all variables as one or two long vectors.

    A Keras optimizer writes some twenty operations for every variable. Joined, they
    are written once, which spares tracing and compiling: a step of the reference
    network has 1502 kernels under XLA instead of 1865. Moments, moving averages and
    the clipping by the global norm are those of the inner optimizer; an update that
    treats every number alike (SGD, Adam, AdamW, Lion) gives what it would give apart,
    to rounding. Clipping by the norm of each variable, or LAMB, would not.

    A variable without a gradient counts as one with a gradient of zero, whereas
    Keras leaves it out: weight decay acts on it.

    Args:
        inner_optimizer: A `keras.optimizers.Optimizer`; not built yet.
        undecayed: Parts of the names of variables that weight decay leaves alone.
    """

    def __init__(self, inner_optimizer, undecayed=(), name="joined", **kwargs):
        super().__init__(learning_rate=0.0, name=name, **kwargs)
        self.inner_optimizer = inner_optimizer
        self.undecayed = tuple(undecayed)
        self.members, self.joined = [], []
        if self.undecayed:
            inner_optimizer.exclude_from_weight_decay(var_names=[UNDECAYED])

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        groups = {"decayed": [], UNDECAYED: []}
        for number, variable in enumerate(variables):
            spared = any(re.search(word, variable.name) for word in self.undecayed)
            groups[UNDECAYED if spared else "decayed"].append(number)
        groups = {name: members for name, members in groups.items() if members}
        self.members = list(groups.values())
        self.joined = [
            keras.Variable(
                ops.zeros(
                    sum(math.prod(variables[number].shape) for number in members)
                ),
                dtype=variables[0].dtype,
                name=name,
            )
            for name, members in groups.items()
        ]
        self.inner_optimizer.build(self.joined)

    @property
    def variables(self):
        return [*super().variables, *self.inner_optimizer.variables]

    def apply(self, grads, trainable_variables=None):
        if not self.built:
            self.build(list(trainable_variables))
        variables = self._trainable_variables
        gradients = [
            ops.zeros(variable.shape, variable.dtype) if gradient is None else gradient
            for gradient, variable in zip(grads, variables, strict=True)
        ]
        self._fill(variables)
        self.inner_optimizer.apply(self._join(gradients))
        self._part(variables)
        for variable in variables:
            if variable.constraint is not None:
                variable.assign(variable.constraint(variable))
        self._iterations.assign_add(1)

    def finalize_variable_values(self, var_list):
        self._fill(var_list)
        self.inner_optimizer.finalize_variable_values(self.joined)
        self._part(var_list)

    def _fill(self, variables):
        """Write the variables into the vectors."""
        for joined, vector in zip(self.joined, self._join(variables), strict=True):
            joined.assign(vector)

    def _join(self, values):
        """One vector for each group of what is given for every variable."""
        return [
            ops.concatenate([ops.reshape(values[number], (-1,)) for number in members])
            for members in self.members
        ]

    def _part(self, variables):
        """Write the vectors back into the variables."""
        for vector, members in zip(self.joined, self.members, strict=True):
            vector, start = ops.convert_to_tensor(vector), 0
            for number in members:
                variable = variables[number]
                end = start + math.prod(variable.shape)
                variable.assign(ops.reshape(vector[start:end], variable.shape))
                start = end

    @property
    def learning_rate(self):
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    @property
    def iterations(self):
        return self.inner_optimizer.iterations

    def get_config(self):
        return {
            "inner_optimizer": keras.optimizers.serialize(self.inner_optimizer),
            "undecayed": list(self.undecayed),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        inner = keras.optimizers.deserialize(config.pop("inner_optimizer"))
        return cls(inner, **config)


def innermost(optimizer):
    """The optimizer inside those that wrap it: joined, or scaling the loss."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer
