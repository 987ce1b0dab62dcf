"""Where things are on this machine, read once at the door from options, environment or defaults."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.buffering import READINGS_PER_S, Buffering
from connectors.security import Access, Secrets
from twin.plant import Plant, Security, is_loopback, is_opcua_address, read_plant


class Settings(BaseSettings):
    """Paths and addresses of one installation; each can be set as PLANTWRIGHT_<NAME>."""

    model_config = SettingsConfigDict(env_prefix="PLANTWRIGHT_", extra="ignore")

    state_dir: Path = Field(
        default=Path(".plantwright"), description="folder of database, models, logs, stop latch"
    )
    database: str | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="SQLAlchemy database URL: SQLite or PostgreSQL",
    )
    endpoint: str | None = Field(
        default=None, description="OPC UA endpoint to use instead of the plant file's"
    )
    secrets: str | None = Field(
        default=None, description="file of users and passwords; default: in the state folder"
    )
    spool_quota_mb: int = Field(
        default=2_000, ge=10, description="disk that readings may take while the database is away"
    )
    backfill_readings_per_s: float = Field(
        default=READINGS_PER_S, gt=0, description="most asked per second of a plant's history"
    )
    keep_raw_days: int = Field(
        default=90,
        ge=0,
        le=36_500,  # a century
        description="days with readings that are kept; 0: all, for ever",
    )
    keep_minute_days: int = Field(
        default=730,
        ge=0,
        le=36_500,  # a century
        description="days with 1-minute rollups that are kept; 0: all, for ever",
    )
    dashboard_port: int = Field(
        default=8501, ge=1, le=65535, description="port of the web page, loopback only"
    )

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, endpoint: str | None) -> str | None:
        if endpoint and not is_opcua_address(endpoint):
            raise ValueError("an OPC UA address reads opc.tcp://HOST:PORT/PATH")
        return endpoint

    def plant(self, path_or_name: str) -> Plant:
        """The plant file, at the endpoint set here if there is one.

        Security policy None was said of a server on this machine: it does not go along to another,
        which must be as secure as where the plant file says nothing.
        """
        plant = read_plant(path_or_name)
        source = plant.opcua
        if not self.endpoint or source is None:
            return plant
        security = source.security
        if security.is_none and not is_loopback(self.endpoint):
            security = replace(security, policy=Security().policy)
        return replace(plant, opcua=replace(source, endpoint=self.endpoint, security=security))

    def access(self, identity: str) -> Access:
        """Who a process is to the plant's servers: where its certificates and secrets are."""
        state = self.state_dir.resolve()
        told = {key: value for key, value in os.environ.items() if key.startswith("PLANTWRIGHT_")}
        path = Path(self.secrets) if self.secrets else state / "secrets.yaml"
        return Access(state / "pki", Secrets(path, told), identity)

    def environment(self) -> dict[str, str]:
        """These settings as variables, for the processes we start; unset ones are empty.

        Empty, not absent: a child must not fall back to what our own environment says.
        """
        values = self.model_dump(mode="json")
        return {
            f"PLANTWRIGHT_{name.upper()}": "" if value is None else str(value)
            for name, value in values.items()
        }

    def emulator_pki(self) -> Path:
        """Where the emulated server keeps its certificates, apart from ours."""
        return self.state_dir.resolve() / "pki" / "emulator"

    def database_url(self, plant: Plant) -> str:
        """The database URL: as set, else a SQLite file for this plant in the state folder.

        It may hold a password: `twin.historian.printable` is what can be shown of it.
        """
        if self.database:
            return self.database
        return f"sqlite:///{(self.state_dir / f'{plant.plant}.db').resolve()}"

    def spool(self, plant: Plant) -> Path:
        """Where readings wait on this machine for a database on a server."""
        return self.state_dir / f"{plant.plant}.spool"

    def buffering(self, plant: Plant) -> Buffering:
        """Where this plant's readings wait for the database, and how fast its past is read.

        Beside a database file that was named, so that no two databases share a spool.
        """
        is_named_file = bool(self.database) and not str(self.database).startswith("postgresql")
        spool = None if is_named_file else self.spool(plant).resolve()
        return Buffering(spool, self.spool_quota_mb * 1_000_000, self.backfill_readings_per_s)

    def models_dir(self, plant: Plant) -> Path:
        """Where this plant's trained models are kept."""
        return self.state_dir / "models" / plant.plant

    def stop_latch(self, plant: Plant | str) -> Path:
        """The latch file that stands above everything: while it exists, nothing is written."""
        name = plant if isinstance(plant, str) else plant.plant
        return self.state_dir / f"{name}.stop"

    def logs_dir(self) -> Path:
        """Where the processes' logs go."""
        return self.state_dir / "logs"
