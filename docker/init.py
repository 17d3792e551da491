"""What has to be there before the stack's components start: databases with a role each, the bucket, Airflow's tables and admin.

Runs as often as it likes: what is there stays as it is, a role's password becomes what the environment says.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

import boto3
import psycopg
from botocore.exceptions import BotoCoreError, ClientError
from psycopg import sql

# Databases of a role that owns them; its password is the variable ROLE_DB_PASSWORD.
DATABASES = {"airflow": ["airflow"], "mlflow": ["mlflow", "mlflow_auth"], "evergreen": ["evergreen"]}
PATIENCE = 60.0


def until_there(what: str, ask: Callable[[], None]) -> None:
    """Asks until it answers: in a new stack all starts at once."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except (psycopg.OperationalError, BotoCoreError, ClientError) as error:
            if time.monotonic() > deadline:
                raise SystemExit(f"init: {what} does not answer: {error}") from error
            time.sleep(1)


def databases() -> None:
    with psycopg.connect(os.environ["POSTGRES_ADMIN"], autocommit=True, connect_timeout=5) as connection:
        for role, names in DATABASES.items():
            password = os.environ[f"{role.upper()}_DB_PASSWORD"]
            there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
            verb = sql.SQL("ALTER" if there else "CREATE")
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, sql.Identifier(role), sql.Literal(password))
            )
            for name in names:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
                    named = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(name), sql.Identifier(role))
                    connection.execute(named)
                    shut = sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name))
                    connection.execute(shut)


def bucket() -> None:
    name, client = os.environ["S3_BUCKET"], boto3.client("s3")
    try:
        client.create_bucket(Bucket=name)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise


def airflow() -> None:
    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    # Not by the command line, whose arguments everybody on the machine can see.
    password = os.environ["AIRFLOW_ADMIN_PASSWORD"]
    with get_application_builder() as builder:
        people = builder.sm
        if admin := people.find_user(username="admin"):
            people.reset_password(admin.id, password)
        elif not people.add_user(
            "admin", "Ever", "Green", "admin@localhost", people.find_role("Admin"), password=password
        ):
            raise SystemExit("init: Airflow's admin could not be made; the lines above say why")


def main() -> None:
    until_there("Postgres", databases)
    until_there("the S3 server", bucket)
    airflow()
    print("init: databases, bucket and admin are there")


if __name__ == "__main__":
    main()
