"""One update for all weights, in place of one update each."""

import math
import re

import keras
from keras import ops

from vl3d_lite.errors import DeepLearningException

DECAYED, UNDECAYED = "decayed", "undecayed"
# Their update of a number depends on its place in its variable.
BY_VARIABLE = (
    keras.optimizers.Lamb,
    keras.optimizers.Adafactor,
    keras.optimizers.Muon,
)


@keras.saving.register_keras_serializable(package="vl3d_lite")
class JoinedOptimizer(keras.optimizers.Optimizer):
    """Let an optimizer update all variables as one or two long vectors.

    A Keras optimizer writes some twenty operations for every variable. Joined, they
    are written once, which spares tracing and compiling: a step of the reference
    network has 1502 kernels under XLA instead of 1865. Moments, moving averages and
    the clipping by the global norm are those of the inner optimizer; an update that
    treats every number alike (SGD, Adam, AdamW, Lion) gives what it would give apart,
    to rounding. Variables of another type have vectors of their own.

    A variable that is given no gradient, or is not given at all, stays as it is. Its
    moments count a gradient of zero, and its moving average the step that would
    follow; Keras leaves the moments and averages the variable itself.

    Args:
        inner_optimizer: A `keras.optimizers.Optimizer`; not built yet. What it leaves
            out of weight decay stays out.
        undecayed: Parts of the names of variables that weight decay leaves alone.
        loss_scale_factor: Factor of the loss, or None for the inner optimizer's.

    Raises:
        DeepLearningException: The inner optimizer is built, scales the loss
            dynamically, or treats each variable on its own: `clipnorm`, LAMB,
            Adafactor, Muon.
    """

    def __init__(
        self, inner_optimizer, undecayed=(), loss_scale_factor=None, name="joined"
    ):
        _require_joinable(inner_optimizer)
        super().__init__(
            learning_rate=0.0,
            loss_scale_factor=loss_scale_factor or inner_optimizer.loss_scale_factor,
            name=name,
        )
        # Or gradients would be divided by it a second time.
        inner_optimizer.loss_scale_factor = None
        self.inner_optimizer = inner_optimizer
        self.undecayed = tuple(undecayed)
        self.members, self.joined = [], []

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        groups: dict[tuple[str, str], list[int]] = {}
        for number, variable in enumerate(variables):
            name = UNDECAYED if self._is_spared(variable) else DECAYED
            groups.setdefault((name, variable.dtype), []).append(number)
        groups = dict(sorted(groups.items(), key=lambda group: group[0][0]))
        self.members = list(groups.values())
        self.joined = [
            keras.Variable(
                ops.zeros(
                    sum(math.prod(variables[number].shape) for number in members),
                    dtype=dtype,
                ),
                dtype=dtype,
                name=name,
            )
            for (name, dtype), members in groups.items()
        ]
        self.inner_optimizer.exclude_from_weight_decay(var_names=[UNDECAYED])
        self.inner_optimizer.build(self.joined)

    def _is_spared(self, variable):
        return any(re.search(word, variable.name) for word in self.undecayed) or not (
            self._use_weight_decay(variable)
            and self.inner_optimizer._use_weight_decay(variable)
        )

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        if self.built:
            raise DeepLearningException(
                f"{self.name}: variables can be excluded from weight decay before the "
                "optimizer is built, not after"
            )
        super().exclude_from_weight_decay(var_list, var_names)

    @property
    def variables(self):
        return [*super().variables, *self.inner_optimizer.variables]

    def _backend_apply_gradients(self, grads, trainable_variables):
        given = {
            self._get_variable_index(variable): gradient
            for gradient, variable in zip(grads, trainable_variables, strict=True)
        }
        gradients = [
            given[number]
            if number in given
            else ops.zeros(variable.shape, variable.dtype)
            for number, variable in enumerate(self._trainable_variables)
        ]
        self._fill()
        self.inner_optimizer.apply(self._join(gradients))
        self._part(given)

    def finalize_variable_values(self, var_list):
        self._check_variables_are_known(var_list)
        self._fill()
        self.inner_optimizer.finalize_variable_values(self.joined)
        self._part({self._get_variable_index(variable) for variable in var_list})

    def _fill(self):
        """Write the variables into the vectors."""
        vectors = self._join(self._trainable_variables)
        for joined, vector in zip(self.joined, vectors, strict=True):
            joined.assign(vector)

    def _join(self, values):
        """One vector for each group of what is given for every variable."""
        return [
            ops.concatenate([ops.reshape(values[number], (-1,)) for number in members])
            for members in self.members
        ]

    def _part(self, chosen):
        """Write the vectors back into the variables of the numbers `chosen`."""
        for vector, members in zip(self.joined, self.members, strict=True):
            vector, start = ops.convert_to_tensor(vector), 0
            for number in members:
                variable = self._trainable_variables[number]
                end = start + math.prod(variable.shape)
                if number in chosen:
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
            "loss_scale_factor": self.loss_scale_factor,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        inner = keras.optimizers.deserialize(config["inner_optimizer"], custom_objects)
        return cls(**{**config, "inner_optimizer": inner})


def _require_joinable(optimizer):
    faults = {
        "is built already": optimizer.built,
        "scales the loss; let it wrap this one": isinstance(
            optimizer, keras.optimizers.LossScaleOptimizer
        ),
        "clips each variable's gradient on its own; take `global_clipnorm`": (
            optimizer.clipnorm is not None
        ),
        "updates each variable on its own": isinstance(optimizer, BY_VARIABLE),
    }
    for fault, found in faults.items():
        if found:
            raise DeepLearningException(
                "JoinedOptimizer: expected an optimizer that can update all variables "
                f"as one vector. Received: {type(optimizer).__name__}, which {fault}"
            )


def innermost(optimizer):
    """The optimizer inside those that wrap it: joined, or scaling the loss."""
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer
