"""Identifies this Airflow deployment in the tags of batches. Two deployments may share a provider account and have the same run IDs."""

from __future__ import annotations

import hashlib
import hmac

from airflow_bifrost._compat import conf
from airflow_bifrost.submission.ledger import Deployment


def this_deployment() -> Deployment:
    """``[bifrost] deployment`` if it is set; otherwise an ID derived from Airflow's Fernet key and URLs.

    The Fernet key is random and the same for all attempts. The tag holds an HMAC made with the key, which reveals nothing about the key.
    Some workers may lack the key or have a different one, so a different derived ID does not prove that a batch belongs to another
    deployment. A different name that a user has set does.
    """
    if name := conf.get("bifrost", "deployment", fallback="").strip():
        return Deployment.named(name)
    key = (conf.get("core", "fernet_key", fallback="") or "").strip()
    if not key or key.startswith(
        "{"
    ):  # without airflow.cfg, Airflow's SDK returns the default's placeholder, {FERNET_KEY}
        return Deployment()
    urls = [
        conf.get(section, option, fallback="") or ""
        for section, option in (("api", "base_url"), ("core", "execution_api_server_url"))
    ]
    text = "\n".join(["airflow_bifrost deployment", *urls])
    return Deployment(hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()[:16])
