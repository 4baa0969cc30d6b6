"""Tell other programs of tasks that changed, by HTTP, signed, in order and at least once."""

from milonga.webhooks._deliverer import DelivererStatistics, WebhookDeliverer
from milonga.webhooks._delivery import DeliverySettings
from milonga.webhooks._outbox import Message, Outbox
from milonga.webhooks._signature import SIGNATURE_HEADER, sign, verify
from milonga.webhooks._targets import LOOPBACK_ONLY, TargetPolicy

__all__ = [
    "LOOPBACK_ONLY",
    "SIGNATURE_HEADER",
    "DelivererStatistics",
    "DeliverySettings",
    "Message",
    "Outbox",
    "TargetPolicy",
    "WebhookDeliverer",
    "sign",
    "verify",
]
