"""The rig's host in memory by the names that tests know it by."""

from ipsec_dp.rig.memory_host import FIRST_INDEX, MemoryEchoes, MemoryHost, MemoryReports, MemoryRoutes
from ipsec_dp.rig.memory_links import MemoryLinks
from ipsec_dp.rig.memory_links import OuterNetwork as Network

__all__ = ["FIRST_INDEX", "MemoryEchoes", "MemoryHost", "MemoryLinks", "MemoryReports", "MemoryRoutes", "Network"]
