"""Rules that a database itself keeps, whoever writes: one wording for SQLite and PostgreSQL.

A rule is a trigger that refuses a change of a table. Which rules there are stands in the
migrations, beside the tables they guard.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

_INSERT, _DELETE = "INSERT", "DELETE"


@dataclass(frozen=True)
class Rule:
    """Refuse `change` of `table` with `message` (without "%") where `when` holds of a row.

    `change` is INSERT, UPDATE, DELETE or UPDATE OF with columns. `when` is SQL over OLD and NEW
    that both databases read; "NEW.x IS NOT OLD.x" says that a column changed.
    """

    name: str
    change: str
    table: str
    message: str
    when: str = ""


def never_replaced(table: str, key: str, thing: str = "") -> Rule:
    """A row of a key that is stored already is refused.

    SQLite's INSERT OR REPLACE would delete the stored one without asking the rule on DELETE.
    """
    return Rule(
        f"{table}_never_replace",
        _INSERT,
        table,
        f"this {thing or table.replace('_', ' ')} is stored already",
        f"EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key})",
    )


def add_rules(connection: Connection, *rules: Rule) -> None:
    """Let the database keep these rules from now on."""
    if connection.dialect.name == "sqlite":
        statements = [each for rule in rules for each in _on_sqlite(rule)]
    else:
        schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
        statements = [each for rule in rules for each in _on_postgres(rule, schema)]
    for statement in statements:
        connection.exec_driver_sql(statement)


def drop_rules(connection: Connection, *rules: Rule) -> None:
    """Let the database forget these rules, of tables that are still there."""
    for rule in rules:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"DROP TRIGGER {rule.name}")
        else:
            connection.exec_driver_sql(f"DROP FUNCTION {rule.name} CASCADE")


def drop_orphans(connection: Connection, *rules: Rule) -> None:
    """Clear away what is left of rules whose table was dropped: nothing on SQLite."""
    if connection.dialect.name != "sqlite":
        for rule in rules:
            connection.exec_driver_sql(f"DROP FUNCTION {rule.name}")


def _on_sqlite(rule: Rule) -> list[str]:
    return [
        f"CREATE TRIGGER {rule.name} BEFORE {rule.change} ON {rule.table} FOR EACH ROW "
        f"WHEN {rule.when or '1'} BEGIN SELECT RAISE(ABORT, '{_quoted(rule)}'); END"
    ]


def _on_postgres(rule: Rule, schema: str) -> list[str]:
    """One function for each rule: a trigger's own WHEN may not look into other rows.

    It looks into the tables beside its own and no others: a session may have temporary ones of
    the same names. Refusals are check violations, as SQLite's are constraint failures.
    """
    when = rule.when.replace(" IS NOT OLD.", " IS DISTINCT FROM OLD.") or "true"
    trigger = f"CREATE TRIGGER {rule.name} BEFORE {rule.change} ON {rule.table}"
    statements = [
        f"CREATE FUNCTION {rule.name}() RETURNS trigger LANGUAGE plpgsql "
        f'SET search_path = "{schema}", pg_temp AS $$ BEGIN '
        f"IF {when} THEN RAISE EXCEPTION '{_quoted(rule)}' "
        "USING ERRCODE = 'check_violation'; END IF; "
        f"RETURN {'OLD' if rule.change == _DELETE else 'NEW'}; END $$",
        f"{trigger} FOR EACH ROW EXECUTE FUNCTION {rule.name}()",
    ]
    if rule.change == _DELETE and not rule.when:
        # TRUNCATE deletes every row and asks no rule about rows.
        statements.append(
            f"CREATE TRIGGER {rule.name}_all BEFORE TRUNCATE ON {rule.table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {rule.name}()"
        )
    return statements


def _quoted(rule: Rule) -> str:
    return rule.message.replace("'", "''")
