"""What can go wrong at the front door.

::

    FrontError
    ├── ConfigError     linewatch.yaml is wrong: one line per problem, each with its place in the file
    └── AlreadyRunning  another `linewatch up` owns the data folder

The errors of the other packages pass through the front door as they are; `linewatch/cli.py` gives each its exit code.
"""


class FrontError(Exception):
    """Base of the front door's errors."""


class ConfigError(FrontError):
    """The configuration cannot be used; each argument is one problem, in one line."""

    def __init__(self, *problems: str) -> None:
        super().__init__(*problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(self.problems)


class AlreadyRunning(FrontError):  # noqa: N818 - a state of the world, not a mistake
    """The data folder is in use by another `linewatch up`."""
