"""Circuits: breakers of what is no service, and the view of whatever has a breaker.

The ids of circuits come from the sequence of the services' ids, so ``service_id`` of the breakers' tables may be
either, and loses its constraint. A later migration that changes a column which the view reads drops the view first
and makes it anew.
"""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models

GUARDED = """
CREATE VIEW monitoring_guarded (id, name, label, policy, archived_at, url, is_service) AS
SELECT id, slug::text, (CASE WHEN name = '' THEN slug ELSE name END)::text, breaker, archived_at, ''::text, true
FROM monitoring_service
UNION ALL
SELECT id, name::text, label::text, policy, archived_at, url::text, false
FROM monitoring_circuit;
"""

DROP_GUARDED = "DROP VIEW monitoring_guarded;"

FORGET_CIRCUITS = """
DELETE FROM circuit_breaker_status WHERE service_id NOT IN (SELECT id FROM monitoring_service);
DELETE FROM monitoring_breakerslot WHERE service_id NOT IN (SELECT id FROM monitoring_service);
DELETE FROM monitoring_breakerminute WHERE service_id NOT IN (SELECT id FROM monitoring_service);
DELETE FROM monitoring_breakertransition WHERE service_id NOT IN (SELECT id FROM monitoring_service);
"""
"""On the way back, before the constraints return."""


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0003_breakers")]

    operations = [
        migrations.CreateModel(
            name="Circuit",
            fields=[
                (
                    "id",
                    models.BigIntegerField(
                        db_default=models.Func(
                            models.Value("monitoring_service_id_seq"),
                            function="nextval",
                            output_field=models.BigIntegerField(),
                        ),
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "name",
                    models.CharField(help_text="with its kind, e.g. destination:app", max_length=100, unique=True),
                ),
                ("label", models.CharField(max_length=100)),
                ("policy", models.JSONField(blank=True, default=dict, help_text="as Service.breaker")),
                ("url", models.CharField(blank=True, help_text="its page", max_length=500)),
                ("archived_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
            ],
            options={
                "ordering": ["name"],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("name__regex", "^[a-z]+:[-a-zA-Z0-9_]+$")), name="circuit_name_with_kind"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Guarded",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("slug", models.CharField(db_column="name", max_length=100)),
                ("label", models.CharField(max_length=100)),
                ("policy", models.JSONField()),
                ("archived_at", models.DateTimeField(null=True)),
                ("url", models.CharField(max_length=500)),
                ("is_service", models.BooleanField()),
            ],
            options={
                "db_table": "monitoring_guarded",
                "ordering": ["-is_service", "slug"],
                "managed": False,
                "default_permissions": (),
            },
        ),
        migrations.RunSQL(GUARDED, DROP_GUARDED),
        migrations.AlterField(
            model_name="breaker",
            name="service",
            field=models.OneToOneField(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                primary_key=True,
                related_name="circuit",
                serialize=False,
                to="monitoring.service",
            ),
        ),
        migrations.AlterField(
            model_name="breakerminute",
            name="service",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="monitoring.service",
            ),
        ),
        migrations.AlterField(
            model_name="breakerslot",
            name="service",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="+",
                to="monitoring.service",
            ),
        ),
        migrations.AlterField(
            model_name="breakertransition",
            name="service",
            field=models.ForeignKey(
                db_constraint=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="transitions",
                to="monitoring.service",
            ),
        ),
        migrations.RunSQL(migrations.RunSQL.noop, FORGET_CIRCUITS),
    ]
