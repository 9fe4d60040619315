"""django-outbox-pattern drains a backlog to a broker: its own producer, in one transaction, without receipts."""

import json
import logging
import sys
import time
from urllib.parse import urlparse

import django
from django.conf import settings
from django.core.management import call_command

config = json.loads(sys.argv[1])
database = urlparse(config["database"])
broker = urlparse(config["broker"])
settings.configure(
    USE_TZ=True,
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database.path[1:],
            "USER": database.username,
            "PASSWORD": database.password,
            "HOST": database.hostname,
            "PORT": database.port,
        }
    },
    INSTALLED_APPS=["django_outbox_pattern"],
    DJANGO_OUTBOX_PATTERN={
        "DEFAULT_STOMP_HOST_AND_PORTS": [(broker.hostname, broker.port)],
        "DEFAULT_STOMP_USERNAME": broker.username,
        "DEFAULT_STOMP_PASSCODE": broker.password,
        # Only the pause after the backlog, which is not measured.
        "DEFAULT_PRODUCER_WAITING_TIME": 0,
    },
)
django.setup()
logging.disable(logging.CRITICAL)
call_command("migrate", verbosity=0)

from django_outbox_pattern.choices import StatusChoice  # noqa: E402
from django_outbox_pattern.factories import factory_producer  # noqa: E402
from django_outbox_pattern.headers import get_message_headers  # noqa: E402
from django_outbox_pattern.models import Published  # noqa: E402

Published.objects.all().delete()
messages = []
for n in range(config["messages"]):
    message = Published(
        destination=config["destination"], body={"order_id": n, "status": "placed", "note": "x" * 150}
    )
    message.headers = get_message_headers(message)
    messages.append(message)
Published.objects.bulk_create(messages, batch_size=1000)

producer = factory_producer()
began = time.perf_counter()
while Published.objects.filter(status=StatusChoice.SCHEDULE).exists():
    producer.publish_message_from_database()
seconds = time.perf_counter() - began
done = Published.objects.filter(status=StatusChoice.SUCCEEDED).count()
print(json.dumps({"rate": done / seconds}))
