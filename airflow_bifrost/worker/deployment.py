"""Which Airflow deployment this is, for the tag of a batch. Two deployments may share a provider account and have equal run IDs."""

from __future__ import annotations

import hashlib
import hmac

from airflow_bifrost._compat import conf
from airflow_bifrost.submission.ledger import Deployment


def this_deployment() -> Deployment:
    """``[bifrost] deployment`` if it is set, else an ID that is derived from Airflow's Fernet key and URLs.

    The Fernet key is random and the same for all attempts. An HMAC of it goes into the tag, which tells nothing about the key. Workers
    may lack the key, or have another one, so a derived ID that differs proves nothing; only a name that a user set does.
    """
    if name := conf.get("bifrost", "deployment", fallback="").strip():
        return Deployment.named(name)
    key = (conf.get("core", "fernet_key", fallback="") or "").strip()
    if not key:
        return Deployment()
    urls = [
        conf.get(section, option, fallback="") or ""
        for section, option in (("api", "base_url"), ("core", "execution_api_server_url"))
    ]
    text = "\n".join(["airflow_bifrost deployment", *urls])
    return Deployment(hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()[:16])
