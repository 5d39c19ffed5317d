"""How the busiest tables are kept on disk."""

from django.db import migrations

# Encrypted bytes cannot be compressed: do not try, and keep them in the row as long as it fits its page.
# Deliveries are rewritten a few times each: leave room for it, and vacuum early.
FORWARD = """
ALTER TABLE webhooks_event ALTER COLUMN sealed SET STORAGE EXTERNAL, ALTER COLUMN request SET STORAGE EXTERNAL;
ALTER TABLE webhooks_event SET (toast_tuple_target = 4080, fillfactor = 95);
ALTER TABLE webhook_delivery_log ALTER COLUMN sealed SET STORAGE EXTERNAL;
ALTER TABLE webhooks_delivery SET (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_scale_factor = 0.02);
ALTER TABLE webhooks_destinationstate SET (fillfactor = 50);
"""
BACKWARD = """
ALTER TABLE webhooks_event ALTER COLUMN sealed SET STORAGE EXTENDED, ALTER COLUMN request SET STORAGE EXTENDED;
ALTER TABLE webhooks_event RESET (toast_tuple_target, fillfactor);
ALTER TABLE webhook_delivery_log ALTER COLUMN sealed SET STORAGE EXTENDED;
ALTER TABLE webhooks_delivery RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
ALTER TABLE webhooks_destinationstate RESET (fillfactor);
"""

# Of sixty counts one is an hour's: in a table of their own a week of them lies close together, and is read in
# milliseconds. They are rewritten all the time, too.
COUNTS = {"eventcount": "level, source_id, type, start", "deliverycount": "level, source_id, destination_id, start"}
REBUILT = """
ALTER TABLE webhooks_{name} RENAME TO webhooks_{name}_old;
CREATE TABLE webhooks_{name} (LIKE webhooks_{name}_old INCLUDING DEFAULTS) {how};
INSERT INTO webhooks_{name} SELECT * FROM webhooks_{name}_old;
DROP TABLE webhooks_{name}_old;
ALTER TABLE webhooks_{name} ADD PRIMARY KEY ({key});
CREATE INDEX {name}_start ON webhooks_{name} (level, start);
"""
PARTS = """PARTITION BY LIST (level);
CREATE TABLE webhooks_{name}_minute PARTITION OF webhooks_{name} FOR VALUES IN (60) WITH (fillfactor = 70);
CREATE TABLE webhooks_{name}_hour PARTITION OF webhooks_{name} FOR VALUES IN (3600) WITH (fillfactor = 70)"""
IN_PARTS = "".join(REBUILT.format(name=name, key=key, how=PARTS.format(name=name)) for name, key in COUNTS.items())
IN_ONE = "".join(REBUILT.format(name=name, key=key, how="") for name, key in COUNTS.items())


class Migration(migrations.Migration):
    dependencies = [("webhooks", "0001_initial")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD), migrations.RunSQL(IN_PARTS, IN_ONE)]
