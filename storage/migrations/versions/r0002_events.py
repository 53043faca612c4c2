"""Events with their worst frame, labels, golden samples, what lines were held to, and why frames were not inspected."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns and tables."""
    row = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    for name, kind in (
        ("started_ns", sa.BigInteger),
        ("ended_ns", sa.BigInteger),
        ("worst_verdict", sa.String),
        ("worst_score", sa.Float(53)),
        ("worst_evidence", sa.String),
        ("label", sa.String),
        ("labelled_ns", sa.BigInteger),
        ("labelled_by", sa.String),
    ):
        op.add_column("alerts", sa.Column(name, kind))
    op.create_table(
        "reasons",
        sa.Column("line", sa.String, primary_key=True),
        sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("reason", sa.String, primary_key=True),
        sa.Column("count", sa.Integer, nullable=False),
    )
    op.create_table(
        "held",
        sa.Column("line", sa.String, primary_key=True),
        sa.Column("since_ns", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("model", sa.String, nullable=False),
        sa.Column("threshold", sa.Float(53), nullable=False),
        sa.Column("n_good", sa.Integer),
    )
    op.create_table(
        "challenges",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("line", sa.String, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("missed", sa.Integer, nullable=False),
        sa.Column("challenge", sa.Text, nullable=False),
    )
    op.create_index("challenges_by_time", "challenges", ["line", "at_ns"])
    op.create_table(
        "labels",
        sa.Column("id", row, primary_key=True, autoincrement=True),
        sa.Column("alert", sa.String, sa.ForeignKey("alerts.id"), nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("at_ns", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("labels_by_alert", "labels", ["alert"])
    op.create_table(
        "escapes",
        sa.Column("id", row, primary_key=True, autoincrement=True),
        sa.Column("line", sa.String, nullable=False),
        sa.Column("captured_ns", sa.BigInteger, nullable=False),
        sa.Column("part", sa.String),
        sa.Column("noted_ns", sa.BigInteger, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("escapes_by_time", "escapes", ["line", "captured_ns"])
