"""How alembic runs the migrations: in the transaction that `milonga.records` has opened."""

from alembic import context

__all__: list[str] = []


def run() -> None:
    """Migrate over the connection in the configuration's attributes."""
    # Import here: whoever only imports this file, such as a test collector, has no migration.
    from milonga.records._tables import Base  # noqa: PLC0415

    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        render_as_batch=True,
        transaction_per_migration=False,
    )
    context.run_migrations()


if __name__ == "env_py":  # the name under which alembic loads this file
    run()
