"""What can go wrong from training data to verdict.

::

    InferenceError
    ├── DataError      training or test data cannot be used (no good images, a mask of the wrong size, …)
    ├── WeightsError   backbone weights are missing, incomplete or of another network
    ├── FitError       the data cannot be learned from (too few images)
    └── EngineError    no such device, or a model that does not fit it
"""


class InferenceError(Exception):
    """Base of all inference errors: one line naming the thing, the value and the mend."""


class DataError(InferenceError):
    """Training or test data cannot be used."""


class WeightsError(InferenceError):
    """Backbone weights cannot be used."""


class FitError(InferenceError):
    """The data cannot be learned from."""


class EngineError(InferenceError):
    """The asked device or model cannot be used."""
