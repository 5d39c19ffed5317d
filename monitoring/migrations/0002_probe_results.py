"""The table of raw results, partitioned by day, and the function that counts into a histogram."""

from django.db import migrations

RESULTS = """
CREATE SEQUENCE service_health_metrics_id_seq CACHE 50;
CREATE TABLE service_health_metrics (
    id bigint NOT NULL DEFAULT nextval('service_health_metrics_id_seq'),
    at timestamptz NOT NULL,
    check_id bigint NOT NULL,
    outcome varchar(10) NOT NULL,
    category varchar(30) NOT NULL DEFAULT '',
    message varchar(500) NOT NULL DEFAULT '',
    total_ms double precision,
    dns_ms double precision,
    connect_ms double precision,
    tls_ms double precision,
    first_byte_ms double precision,
    http_status smallint,
    manual boolean NOT NULL DEFAULT false,
    details jsonb NOT NULL DEFAULT '{}'
) PARTITION BY RANGE (at);
ALTER SEQUENCE service_health_metrics_id_seq OWNED BY service_health_metrics.id;
-- The result log of a check, newest first.
CREATE INDEX service_health_metrics_log ON service_health_metrics (check_id, at DESC, id DESC);
-- The same, filtered to what was not healthy.
CREATE INDEX service_health_metrics_bad ON service_health_metrics (check_id, at DESC, id DESC)
    WHERE outcome <> 'healthy';
-- Catches what no partition covers, so that a clock far off loses no result.
CREATE TABLE service_health_metrics_other PARTITION OF service_health_metrics DEFAULT;
"""

DROP_RESULTS = "DROP TABLE service_health_metrics;"

ADD_BINS = """
CREATE FUNCTION wsmon_add_bins(histogram integer[], bins integer[]) RETURNS integer[]
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    bin integer;
BEGIN
    -- Assigning outside the bounds extends the array, so it spans only the bins in use.
    FOREACH bin IN ARRAY bins LOOP
        histogram[bin] := coalesce(histogram[bin], 0) + 1;
    END LOOP;
    RETURN histogram;
END
$$;
"""

DROP_ADD_BINS = "DROP FUNCTION wsmon_add_bins(integer[], integer[]);"

HOT_TABLES = """
-- Rows that are rewritten all the time: room on the page for the next version, early vacuum.
ALTER TABLE monitoring_checkstate SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);
ALTER TABLE monitoring_rollup SET (fillfactor = 70);
"""

COOL_TABLES = """
ALTER TABLE monitoring_checkstate RESET (fillfactor, autovacuum_vacuum_scale_factor);
ALTER TABLE monitoring_rollup RESET (fillfactor);
"""


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0001_initial")]

    operations = [
        migrations.RunSQL(RESULTS, DROP_RESULTS),
        migrations.RunSQL(ADD_BINS, DROP_ADD_BINS),
        migrations.RunSQL(HOT_TABLES, COOL_TABLES),
    ]
