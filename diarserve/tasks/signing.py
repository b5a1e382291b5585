"""The headers of a callback that let its receiver tell who sent it, when, and whether it came before.

Two schemes side by side, both HMAC-SHA256:

- Standard Webhooks (https://www.standardwebhooks.com): webhook-id, webhook-timestamp, webhook-signature. Its key is
  what `whsec_<base64>` decodes to; where the configured secret has no such prefix, the secret's own bytes.
- `X-Diarserve-Signature: t=<unix seconds>,v1=<hex>` of "<t>.<body>". Its key is the secret's bytes as configured.

    secret = "any text"
    Webhook(secret.encode()).verify(body, headers)  # of the package standardwebhooks; a whsec_ secret: Webhook(secret)
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

from standardwebhooks.webhooks import Webhook


def headers(secret: str, id: str, body: bytes, now: float) -> dict[str, str]:
    """id: the same in every attempt to deliver one message. now: unix seconds. Without a secret nothing is signed."""
    moment = str(int(now))
    plain = {"webhook-id": id, "webhook-timestamp": moment}
    if not secret:
        return plain
    digest = hmac.new(secret.encode(), moment.encode() + b"." + body, hashlib.sha256).hexdigest()
    standard = Webhook(secret if secret.startswith("whsec_") else secret.encode())
    return plain | {
        "webhook-signature": standard.sign(id, datetime.fromtimestamp(int(now), UTC), body.decode()),
        "X-Diarserve-Signature": f"t={moment},v1={digest}",
    }
