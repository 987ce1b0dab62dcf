"""The plant over OPC UA: sessions that read, write, subscribe and look back.

With `connectors.emulator` the only importer of asyncua. A `Session` is one connection; whoever
needs a lasting link opens another when it is lost.
"""

from connectors.opcua.address import quiet_library_log
from connectors.opcua.link import SESSION_TIMEOUT_S
from connectors.opcua.session import Session

__all__ = ["SESSION_TIMEOUT_S", "Session", "quiet_library_log"]
