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
ALTER TABLE webhooks_eventcount SET (fillfactor = 70);
ALTER TABLE webhooks_deliverycount SET (fillfactor = 70);
"""
BACKWARD = """
ALTER TABLE webhooks_event ALTER COLUMN sealed SET STORAGE EXTENDED, ALTER COLUMN request SET STORAGE EXTENDED;
ALTER TABLE webhooks_event RESET (toast_tuple_target, fillfactor);
ALTER TABLE webhook_delivery_log ALTER COLUMN sealed SET STORAGE EXTENDED;
ALTER TABLE webhooks_delivery RESET (fillfactor, autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
ALTER TABLE webhooks_destinationstate RESET (fillfactor);
ALTER TABLE webhooks_eventcount RESET (fillfactor);
ALTER TABLE webhooks_deliverycount RESET (fillfactor);
"""


class Migration(migrations.Migration):
    dependencies = [("webhooks", "0001_initial")]

    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
