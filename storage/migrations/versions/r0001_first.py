"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    row = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    open_only = sa.text("cleared_ns IS NULL")
    op.create_table(
        "alerts",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("line", sa.String, nullable=False),
        sa.Column("kind", sa.String, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("raised_ns", sa.BigInteger, nullable=False),
        sa.Column("cleared_ns", sa.BigInteger),
        sa.Column("acknowledged_ns", sa.BigInteger),
        sa.Column("acknowledged_by", sa.String),
        sa.Column("verdict", sa.String),
        sa.Column("evidence", sa.String),
        sa.Column("score", sa.Float(53)),
        sa.Column("p_value", sa.Float(53)),
        sa.Column("threshold", sa.Float(53)),
        sa.Column("model", sa.String),
        sa.Column("count", sa.BigInteger, nullable=False),
    )
    op.create_index("alerts_by_time", "alerts", ["raised_ns"])
    op.create_index(
        "alerts_one_open",
        "alerts",
        ["line", "kind"],
        unique=True,
        sqlite_where=open_only,
        postgresql_where=open_only,
    )
    op.create_table(
        "alert_events",
        sa.Column("id", row, primary_key=True, autoincrement=True),
        sa.Column("alert", sa.String, sa.ForeignKey("alerts.id"), nullable=False),
        sa.Column("change", sa.String, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String),
    )
    op.create_index("alert_events_once", "alert_events", ["alert", "change"], unique=True)
    op.create_table(
        "outbox",
        sa.Column("id", row, primary_key=True, autoincrement=True),
        sa.Column("sink", sa.String, nullable=False),
        sa.Column("alert", sa.String, nullable=False),
        sa.Column("change", sa.String, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_try_ns", sa.BigInteger, nullable=False),
        sa.Column("delivered_ns", sa.BigInteger),
    )
    op.create_index("outbox_once", "outbox", ["sink", "alert", "change"], unique=True)
    op.create_index("outbox_due", "outbox", ["sink", "delivered_ns", "next_try_ns"])
    op.create_table(
        "stream_cursor",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("position", sa.String, nullable=False),
    )
    op.create_table(
        "rule_state",
        sa.Column("line", sa.String, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
    )
    op.create_table(
        "minutes",
        sa.Column("line", sa.String, primary_key=True),
        sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("passed", sa.Integer, nullable=False),
        sa.Column("rejected", sa.Integer, nullable=False),
        sa.Column("unknown", sa.Integer, nullable=False),
    )
