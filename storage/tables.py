"""The tables of the alert history. What is written here is created by `storage/migrations`; a test compares the two."""

from sqlalchemy import BigInteger, Column, Float, ForeignKey, Index, Integer, MetaData, String, Table, Text, text

metadata = MetaData()

_ROW = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers rows by itself only as INTEGER

alerts = Table(
    "alerts",
    metadata,
    Column("id", String, primary_key=True),
    Column("line", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("raised_ns", BigInteger, nullable=False),
    Column("cleared_ns", BigInteger),
    Column("acknowledged_ns", BigInteger),
    Column("acknowledged_by", String),
    Column("verdict", String),
    Column("evidence", String),
    Column("score", Float(53)),
    Column("p_value", Float(53)),
    Column("threshold", Float(53)),
    Column("model", String),
    Column("count", BigInteger, nullable=False),
    Column("started_ns", BigInteger),
    Column("ended_ns", BigInteger),
    Column("worst_verdict", String),
    Column("worst_score", Float(53)),
    Column("worst_evidence", String),
    Column("label", String),
    Column("labelled_ns", BigInteger),
    Column("labelled_by", String),
    Index("alerts_by_time", "raised_ns"),
    # The law of the rules, kept by the database too: one open alert of a kind and line.
    Index(
        "alerts_one_open",
        "line",
        "kind",
        unique=True,
        sqlite_where=text("cleared_ns IS NULL"),
        postgresql_where=text("cleared_ns IS NULL"),
    ),
)
"""One row an alert, as `storage.records.Alert`."""

alert_events = Table(
    "alert_events",
    metadata,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("alert", String, ForeignKey("alerts.id"), nullable=False),
    Column("change", String, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("by", String),
    Index("alert_events_once", "alert", "change", unique=True),
)
"""What happened to each alert, in order; append only."""

outbox = Table(
    "outbox",
    metadata,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("sink", String, nullable=False),
    Column("alert", String, nullable=False),
    Column("change", String, nullable=False),
    Column("payload", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_try_ns", BigInteger, nullable=False),
    Column("delivered_ns", BigInteger),
    Index("outbox_once", "sink", "alert", "change", unique=True),
    Index("outbox_due", "sink", "delivered_ns", "next_try_ns"),
)
"""What is to be told, to whom; delivered at least once, with the key `alert:change`."""

stream_cursor = Table(
    "stream_cursor",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("position", String, nullable=False),
)
"""Row 1: the last entry of the verdict stream that is part of this history. Row 2: the same of the challenges."""

rule_state = Table(
    "rule_state",
    metadata,
    Column("line", String, primary_key=True),
    Column("state", Text, nullable=False),
)
"""What the rules remember of each line, as JSON."""

minutes = Table(
    "minutes",
    metadata,
    Column("line", String, primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("passed", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("unknown", Integer, nullable=False),
)
"""Verdicts per line and minute of capture (minutes since the epoch, UTC)."""

reasons = Table(
    "reasons",
    metadata,
    Column("line", String, primary_key=True),
    Column("minute", BigInteger, primary_key=True, autoincrement=False),
    Column("reason", String, primary_key=True),
    Column("count", Integer, nullable=False),
)
"""Verdicts `unknown` per line, minute of capture and reason."""

held = Table(
    "held",
    metadata,
    Column("line", String, primary_key=True),
    Column("since_ns", BigInteger, primary_key=True, autoincrement=False),
    Column("model", String, nullable=False),
    Column("threshold", Float(53), nullable=False),
    Column("n_good", Integer),
)
"""Model and threshold each line was held to, from when on, as `storage.records.Held`."""

challenges = Table(
    "challenges",
    metadata,
    Column("id", String, primary_key=True),
    Column("line", String, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("missed", Integer, nullable=False),
    Column("challenge", Text, nullable=False),
    Index("challenges_by_time", "line", "at_ns"),
)
"""Golden samples that were shown, kept for audits: `storage.records.Challenge`, JSON; the id is the stream entry's."""

labels = Table(
    "labels",
    metadata,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("alert", String, ForeignKey("alerts.id"), nullable=False),
    Column("label", String, nullable=False),
    Column("at_ns", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    Column("note", Text, nullable=False),
    Index("labels_by_alert", "alert"),
)
"""What operators said of alerts, append only: the last one of an alert counts."""

escapes = Table(
    "escapes",
    metadata,
    Column("id", _ROW, primary_key=True, autoincrement=True),
    Column("line", String, nullable=False),
    Column("captured_ns", BigInteger, nullable=False),
    Column("part", String),
    Column("noted_ns", BigInteger, nullable=False),
    Column("by", String, nullable=False),
    Column("note", Text, nullable=False),
    Index("escapes_by_time", "line", "captured_ns"),
)
"""Defects that passed, as somebody found out later."""

accounts = Table(
    "accounts",
    metadata,
    Column("name", String, primary_key=True),
    Column("role", String, nullable=False),
    Column("password", String, nullable=False),
    Column("created_ns", BigInteger, nullable=False),
    Column("token", String),
    Column("token_ns", BigInteger),
    Index("accounts_by_token", "token", unique=True),
)
"""Who may look or act: scrypt of the password, SHA-256 of the token."""

sessions = Table(
    "sessions",
    metadata,
    Column("id", String, primary_key=True),
    Column("account", String, ForeignKey("accounts.name"), nullable=False),
    Column("opened_ns", BigInteger, nullable=False),
    Column("used_ns", BigInteger, nullable=False),
    Index("sessions_by_account", "account"),
)
"""Who is logged in; the id is the SHA-256 of what the browser holds."""
