"""What an account of the page may do."""

from enum import StrEnum


class Role(StrEnum):
    """What an account may do."""

    VIEWER = "viewer"
    """Look."""
    OPERATOR = "operator"
    """Look, acknowledge, label, note what was missed."""
