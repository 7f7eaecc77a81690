"""Alembic's environment: runs on the connection that `aero_sql.migrate` hands over."""

from alembic import context

from aero_sql import schema

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=schema.metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
