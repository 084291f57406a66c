"""A step: one message of the exchange with a model in the middle of a run."""

from django.db import models

from sessions_app.models import triggers


class Step(models.Model):
    """What an attempt has kept so that the next one need not do it again, numbered 1..n in its run.

    A run that calls no tool has none: its answer is in the transcript.
    """

    run = models.ForeignKey("Run", on_delete=models.CASCADE, related_name="steps", db_index=False)
    number = models.PositiveIntegerField()
    # JSON of the engine that made it.
    data = models.JSONField()
    # The seq of the session's newest event then: what came of the step's tools follows it.
    event_seq = models.BigIntegerField()

    class Meta:
        ordering = ("run_id", "number")
        constraints = [
            # the steps of a run in order, and none twice
            models.UniqueConstraint("run", "number", name="step_number_once"),
        ]
        triggers = [triggers.unchangeable("step_unchangeable")]

    def __str__(self) -> str:
        return f"{self.run_id} step {self.number}"
