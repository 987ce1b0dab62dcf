"""The PLC's door in the emulated server: no client writes past it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asyncua import ua
from asyncua.crypto.permission_rules import UserRole


class PlcDoor:
    """In place of asyncua's attribute service: every client's write must pass the PLC."""

    def __init__(
        self,
        inner: Any,
        writable: Mapping[Any, tuple[str, Any]],
        accept: Callable[[str, Any], Awaitable[int | None]],
        may_write: Callable[[Any], bool] = lambda _: True,
    ) -> None:
        self._inner = inner
        self._writable = writable
        self._accept = accept
        self._may_write = may_write

    def read(self, params: Any) -> Any:
        """As asyncua does."""
        return self._inner.read(params)

    async def write(self, params: Any, user: Any) -> list[Any]:
        """One status code per item; the server's own writes pass unchecked."""
        if user.role == UserRole.Admin:
            return list(await self._inner.write(params, user=user))
        if not self._may_write(user):
            denied = ua.StatusCodes.BadUserAccessDenied
            return [ua.StatusCode(denied) for _ in params.NodesToWrite]
        return [ua.StatusCode(await self._write_one(item)) for item in params.NodesToWrite]

    async def _write_one(self, item: Any) -> int:
        codes = ua.StatusCodes
        if item.NodeId not in self._writable or item.AttributeId != ua.AttributeIds.Value:
            wanted = ua.ReadValueId(NodeId=item.NodeId, AttributeId=ua.AttributeIds.NodeClass)
            shown = self._inner.read(ua.ReadParameters(NodesToRead=[wanted]))[0]
            return int(
                codes.BadNotWritable if shown.StatusCode.is_good() else codes.BadNodeIdUnknown
            )
        name, kind = self._writable[item.NodeId]
        variant = item.Value.Value
        if variant is None or variant.VariantType != kind or variant.is_array:
            return int(codes.BadTypeMismatch)
        if not math.isfinite(variant.Value):
            return int(codes.BadOutOfRange)
        refusal = await self._accept(name, variant)
        return int(codes.Good) if refusal is None else refusal
