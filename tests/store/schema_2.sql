-- A database of schema version 2, as it was made then.
CREATE TABLE attempts (
    job BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    site TEXT NOT NULL,
    state SMALLINT NOT NULL,
    live BOOLEAN NOT NULL,
    leased BOOLEAN NOT NULL,
    gpu_class TEXT NOT NULL,
    gpu_milli BIGINT NOT NULL,
    country TEXT NOT NULL,
    reason TEXT,
    message TEXT NOT NULL,
    placed_at_ms BIGINT NOT NULL,
    started_at_ms BIGINT NOT NULL,
    ended_at_ms BIGINT NOT NULL,
    PRIMARY KEY (job, attempt)
) WITHOUT ROWID;
CREATE INDEX ix_attempts_live_site ON attempts (site) WHERE live;
CREATE TABLE audit (
    leaf_index INTEGER NOT NULL,
    kind TEXT NOT NULL,
    tenant TEXT NOT NULL,
    job BIGINT,
    at_ms BIGINT NOT NULL,
    body TEXT NOT NULL,
    salt BLOB NOT NULL,
    leaf_hash BLOB NOT NULL,
    PRIMARY KEY (leaf_index)
);
CREATE INDEX ix_audit_job ON audit (job, leaf_index) WHERE job IS NOT NULL;
CREATE INDEX ix_audit_tenant ON audit (tenant, leaf_index);
CREATE TABLE audit_tree (
    name TEXT NOT NULL,
    size BIGINT NOT NULL,
    peaks BLOB,
    PRIMARY KEY (name)
) WITHOUT ROWID;
CREATE TABLE changes (
    seq INTEGER NOT NULL,
    kind SMALLINT NOT NULL,
    "key" TEXT NOT NULL,
    PRIMARY KEY (seq)
);
CREATE TABLE counters (
    name TEXT NOT NULL,
    value BIGINT NOT NULL,
    PRIMARY KEY (name)
) WITHOUT ROWID;
CREATE TABLE idempotency (
    principal TEXT NOT NULL,
    "key" TEXT NOT NULL,
    request_digest TEXT NOT NULL,
    job BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    PRIMARY KEY (principal, "key")
) WITHOUT ROWID;
CREATE INDEX ix_idempotency_at ON idempotency (at_ms);
CREATE TABLE job_classes (
    id INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (body)
);
CREATE TABLE jobs (
    id INTEGER NOT NULL,
    class_id BIGINT NOT NULL,
    tenant TEXT NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    state SMALLINT NOT NULL,
    submitted_at_ms BIGINT NOT NULL,
    next_attempt BIGINT NOT NULL,
    not_before_ms BIGINT NOT NULL,
    spec_digest TEXT NOT NULL,
    leased BOOLEAN NOT NULL,
    reason TEXT,
    message TEXT NOT NULL,
    ended_at_ms BIGINT NOT NULL,
    exit_code BIGINT,
    cancel_requested BOOLEAN NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_jobs_open ON jobs (state, tenant) WHERE state < 8;
CREATE INDEX ix_jobs_tenant ON jobs (tenant, id);
CREATE TABLE join_tokens (
    token_hash BLOB NOT NULL,
    name TEXT NOT NULL,
    created_by TEXT NOT NULL,
    expires_at_ms BIGINT NOT NULL,
    used_at_ms BIGINT,
    PRIMARY KEY (token_hash)
) WITHOUT ROWID;
CREATE TABLE leases (
    name TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (name)
) WITHOUT ROWID;
CREATE TABLE meta (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
) WITHOUT ROWID;
CREATE TABLE nodes (
    id TEXT NOT NULL,
    site TEXT NOT NULL,
    body TEXT NOT NULL,
    cordoned BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    drain_at_ms BIGINT,
    report TEXT,
    reported_at_ms BIGINT,
    PRIMARY KEY (id)
) WITHOUT ROWID;
CREATE INDEX ix_nodes_site ON nodes (site);
CREATE TABLE outbox (
    site TEXT NOT NULL,
    job BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    action SMALLINT NOT NULL,
    grace_ms BIGINT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (site, job, attempt)
) WITHOUT ROWID;
CREATE INDEX ix_outbox_generation ON outbox (site, generation);
CREATE TABLE placements (
    job BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    ordinal BIGINT NOT NULL,
    node TEXT NOT NULL,
    gpu_mask BIGINT NOT NULL,
    live BOOLEAN NOT NULL,
    boot_id TEXT NOT NULL,
    gone TEXT NOT NULL,
    PRIMARY KEY (job, attempt, ordinal)
) WITHOUT ROWID;
CREATE INDEX ix_placements_live_node ON placements (node) WHERE live;
CREATE TABLE policies (
    revision BIGINT NOT NULL,
    body TEXT NOT NULL,
    applied_at_ms BIGINT NOT NULL,
    PRIMARY KEY (revision)
) WITHOUT ROWID;
CREATE TABLE ranks (
    job BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    rank BIGINT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (job, attempt, rank)
) WITHOUT ROWID;
CREATE TABLE revocations (
    name TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    revoked_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (name)
) WITHOUT ROWID;
CREATE TABLE site_state (
    site TEXT NOT NULL,
    connected BOOLEAN NOT NULL,
    generation BIGINT NOT NULL,
    acked_generation BIGINT NOT NULL,
    agent_version TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    contact_at_ms BIGINT NOT NULL,
    metrics_address TEXT NOT NULL,
    PRIMARY KEY (site)
) WITHOUT ROWID;
CREATE TABLE sites (
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    cordoned BOOLEAN NOT NULL,
    reason TEXT NOT NULL,
    drain_at_ms BIGINT,
    PRIMARY KEY (id)
) WITHOUT ROWID;
CREATE TABLE specs (
    digest TEXT NOT NULL,
    body BLOB,
    PRIMARY KEY (digest)
) WITHOUT ROWID;
CREATE TABLE tenants (
    path TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (path)
) WITHOUT ROWID;
