"""Keep an append-only file in which every edit shows.

Each entry is one line of JSON, hash-chained, signed and fsynced. The room knows nothing of what an entry means: privacy
ledgers and audit logs are kept in journals. It may import keys, and nothing else of the project.
"""

from common.journal.journal import Journal, verify
from common.journal.line_format import Entry

__all__ = ["Entry", "Journal", "verify"]
