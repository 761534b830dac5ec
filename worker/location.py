"""``request.cf``: where a request comes from. The place is miniflare's own for one without a network."""

from __future__ import annotations

from typing import Any

CF: dict[str, Any] = {
    "asOrganization": "",
    "asn": 395747,
    "city": "Austin",
    "clientAcceptEncoding": "gzip, deflate, br",
    "clientTcpRtt": 0,
    "colo": "DFW",
    "continent": "NA",
    "country": "US",
    "edgeRequestKeepAliveStatus": 0,
    "httpProtocol": "HTTP/1.1",
    "latitude": "30.27130",
    "longitude": "-97.74260",
    "metroCode": "635",
    "postalCode": "78701",
    "region": "Texas",
    "regionCode": "TX",
    "requestPriority": "weight=192;exclusive=0",
    "timezone": "America/Chicago",
    "tlsCipher": "AEAD-AES128-GCM-SHA256",
    "tlsVersion": "TLSv1.3",
}
