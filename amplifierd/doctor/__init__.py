"""What is wrong with this installation, and what to do: one look at each part that it needs."""

from amplifierd.doctor.examination import examine
from amplifierd.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "examine"]
