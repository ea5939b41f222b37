"""The same extraction and the same race on a Dask cluster.

What all tasks need, the backbone or the rows of the task, is sent to each worker process once. A shard of an
extraction commits parts to the shared folder as any extraction does: rows are found by content, so a shard may run
twice, or by halves, and no row is lost or there twice.
"""

from ftransfer.cluster.connect import check_address, connect
from ftransfer.cluster.extraction import extract_on_cluster
from ftransfer.cluster.race import race_on_cluster

__all__ = ["check_address", "connect", "extract_on_cluster", "race_on_cluster"]
