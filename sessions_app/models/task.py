"""A task: a call of a tool that another session answers."""

from django.db import models


class Task(models.Model):
    """What a run has given to a sub-session; the run is parked until that has settled it."""

    run = models.ForeignKey("Run", on_delete=models.CASCADE, related_name="tasks", db_index=False)
    # The newest step of the run when it delegated, and the call in it.
    step = models.PositiveIntegerField()
    tool_call_id = models.CharField(max_length=255)
    # The sub-session; null where there never was one, or it was deleted.
    session = models.OneToOneField(
        "Session", null=True, on_delete=models.SET_NULL, related_name="task"
    )
    # Why there is no sub-session.
    error = models.TextField(blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint("run", "step", "tool_call_id", name="task_given_once"),
        ]

    def __str__(self) -> str:
        return f"{self.run_id} → {self.session_id or self.error}"
