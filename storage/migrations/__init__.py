"""How the alert history's tables came to be: alembic revisions, run from code by `storage.history`."""
