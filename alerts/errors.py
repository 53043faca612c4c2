"""What can go wrong between a verdict and an operator.

::

    verdict stream ──> rules ──> history ──> outbox ──> sink ──> operator
                   StoreUnavailable / StorageFull    SinkError

    AlertError
    ├── SinkError   a sink's url is wrong, or a delivery failed and will be tried again
    └── PageError   the operators' page cannot be served
"""


class AlertError(Exception):
    """Base of all alerting errors: one line naming the thing, the value and the mend."""


class SinkError(AlertError):
    """A sink cannot be opened, or did not take a delivery."""


class PageError(AlertError):
    """The page cannot be served."""
