from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models

import sessions_app.states


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ('sessions_app', '0015_owner_limits'),
    ]

    operations = [
        AddIndexConcurrently(
            model_name='run',
            index=models.Index(models.F('owner'), models.F('status'), condition=models.Q(('status__in', (sessions_app.states.RunStatus['QUEUED'], sessions_app.states.RunStatus['RUNNING']))), name='run_of_owner'),
        ),
    ]
