"""Deliveries are counted by the day, too: pages about a week read a few days and hours, not 168 hours."""

from django.db import migrations, models

FORWARD = """
CREATE TABLE webhooks_deliverycount_day PARTITION OF webhooks_deliverycount FOR VALUES IN (86400)
    WITH (fillfactor = 70);
INSERT INTO webhooks_deliverycount (level, source_id, destination_id, start, tries, tries_failed, delivered, failed,
    sum_ms, histogram)
SELECT 86400, source_id, destination_id, day, sum(tries), sum(tries_failed), sum(delivered), sum(failed), sum(sum_ms),
    coalesce((SELECT array_agg(n ORDER BY place) FROM (
        SELECT place, sum(number)::int AS n
        FROM webhooks_deliverycount b CROSS JOIN unnest(b.histogram) WITH ORDINALITY AS u(number, place)
        WHERE b.level = 3600 AND b.source_id = h.source_id AND b.destination_id = h.destination_id
            AND b.start >= h.day AND b.start < h.day + interval '1 day'
        GROUP BY place) bins), '{}')
FROM (SELECT *, date_bin('1 day', start, 'epoch') AS day FROM webhooks_deliverycount WHERE level = 3600) h
GROUP BY source_id, destination_id, day
"""
BACKWARD = "DROP TABLE webhooks_deliverycount_day"


class Migration(migrations.Migration):
    dependencies = [("webhooks", "0002_storage")]

    operations = [
        migrations.RunSQL(FORWARD, BACKWARD),
        migrations.AlterField(
            "deliverycount", "level", models.IntegerField(choices=[(60, "Minute"), (3600, "Hour"), (86400, "Day")])
        ),
    ]
