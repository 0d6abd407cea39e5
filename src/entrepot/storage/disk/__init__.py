"""The store on a disk, over diskcache: what a single node uses, and a fleet's local tier.

    cache/                 below the data directory; one file system, for `rename` admits content
    ├── version            of this layout
    ├── cache.db           `index`: a row per entry, small content within the row
    ├── content/ab/…       larger content, a file each, named after digest and chance
    ├── fills/….part       `draft`: content that is coming in, fetched or pushed
    └── ledger/cache.db    `ledger`: small records

Rows never name a file that is not whole: write, verify, sync, rename, insert, in this order.
The other way round, row first and file second, goes removal. What a crash leaves between two of
these steps is a file without a row, or after power loss a row without its file; `sweep` collects
both. SQLite and files are touched in threads only (`workers`), except for bytes that the page
cache holds (`reading`). Other processes may do all of this in the same directory at once.
"""

from entrepot.storage.disk.scrub import ScrubReport
from entrepot.storage.disk.store import DiskStore, open_disk_store
from entrepot.storage.disk.sweep import SweepReport

__all__ = ["DiskStore", "ScrubReport", "SweepReport", "open_disk_store"]
