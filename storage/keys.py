"""Every Redis key, in one place. `{p0}` is a hash tag: all keys of one atomic step live in one cluster slot."""

PARTITION = "{p0}"
VERDICTS = f"lw:{PARTITION}:verdicts"
"""Stream of verdicts, one entry each, field `v` = the verdict as JSON."""
LINES = f"lw:{PARTITION}:lines"
"""Set: names of all lines ever heard of, so that no one has to scan the server's keys."""
CHALLENGES = f"lw:{PARTITION}:challenges"
"""Stream of golden samples' results, one entry each, field `c` = the challenge as JSON."""
WORKERS = "lw:workers"
"""Hash worker name -> JSON of its last heartbeat."""
CAPTURES = "lw:captures"
"""Hash line -> JSON of what its capture last told of its queues."""


def line(line: str) -> str:
    """Hash: the line's state (`storage.records.LineState`)."""
    return f"lw:{PARTITION}:line:{line}"


def run(line: str, run: str) -> str:
    """Hash `floor` (all numbers below have ended), `next` (frames captured): the accounts of one run."""
    return f"lw:{PARTITION}:run:{line}:{run}"


def ended(line: str, run: str) -> str:
    """Set: numbers at or above `floor` that have ended; bounded by the frames in flight."""
    return f"lw:{PARTITION}:ended:{line}:{run}"


def unsettled(line: str) -> str:
    """Set: runs of the line of which captured numbers have not ended."""
    return f"lw:{PARTITION}:unsettled:{line}"


def golden_request(line: str) -> str:
    """Number, counted up by whoever asks for the line's golden samples to be shown to its workers now."""
    return f"lw:golden:{line}"


def settings(line: str) -> str:
    """Hash: what an operator changed for this line while it runs."""
    return f"lw:settings:{line}"
