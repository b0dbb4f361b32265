"""Limits that both ends of a connection must agree on."""

from __future__ import annotations

REQUEST_BYTES_MAX = 8 * 1024 * 1024
"""Largest message a server accepts."""

ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""Largest message a client accepts: all that is desired of a large site comes in one."""

METADATA_BYTES_MAX = 64 * 1024
"""Headers and trailers together; the details of a refusal travel in a trailer."""

CHUNK_BYTES_MAX = 256 * 1024
"""Largest piece of a bundle or a log in one message."""

BUNDLE_BYTES_MAX = 256 * 1024 * 1024
"""Largest bundle: the tar of a working directory."""

BUNDLE_ENTRIES_MAX = 100_000
"""Most files and directories in a bundle."""

KEEPALIVE_MS = 20_000
"""A client asks a silent server whether it is there this often."""

KEEPALIVE_TIMEOUT_MS = 10_000
"""Without an answer for this long the connection is given up."""

PING_INTERVAL_MIN_MS = 10_000
"""A server refuses clients that ask more often."""

SITE_PROTOCOL_VERSION = 1
"""Version in the first message of the streams between control plane, site and node agents."""

STORED_JOBS_MAX = 1_000
"""Jobs in one question of which are over, by a site whose store has checkpoints of theirs."""
