CREATE TABLE access_key (
    id TEXT PRIMARY KEY CHECK (length(id) = 16),
    secret BLOB NOT NULL CHECK (length(secret) = 32),
    account TEXT NOT NULL,
    scopes TEXT NOT NULL,
    spaces TEXT, -- null: all that the account may publish
    name TEXT,
    created_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER,
    revoked_unix_ms INTEGER,
    spend_limit INTEGER CHECK (spend_limit >= 0),
    spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0),
    CONSTRAINT spent_is_within_the_limit CHECK (spend_limit IS NULL OR spent <= spend_limit)
) STRICT, WITHOUT ROWID;
CREATE INDEX access_key_account ON access_key (account);
CREATE TABLE blob (
    seq INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    content BLOB, -- null when it is in a file
    bytes INTEGER NOT NULL,
    expires_unix_ms INTEGER NOT NULL,
    UNIQUE (epoch, digest)
) STRICT;
CREATE INDEX blob_expires ON blob (expires_unix_ms, bytes);
CREATE INDEX blob_file ON blob (digest) WHERE content IS NULL;
CREATE TABLE job (
    id BLOB PRIMARY KEY CHECK (length(id) = 16),
    account TEXT NOT NULL,
    package BLOB NOT NULL REFERENCES package (digest),
    state TEXT NOT NULL CHECK
        (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled', 'faulted')),
    priority INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
    submitted_unix_ms INTEGER NOT NULL,
    deadline_unix_ms INTEGER,
    finished_unix_ms INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    seed INTEGER NOT NULL,
    fuel_limit INTEGER NOT NULL,
    memory_limit INTEGER NOT NULL,
    load_limit INTEGER NOT NULL,
    hold INTEGER NOT NULL,
    input BLOB NOT NULL CHECK (length(input) = 32),
    parameters BLOB NOT NULL,
    key TEXT,
    request BLOB NOT NULL CHECK (length(request) = 32),
    schedule BLOB NOT NULL CHECK (length(schedule) = 32),
    verdict TEXT,
    detail TEXT,
    output BLOB CHECK (length(output) = 32),
    fuel INTEGER,
    memory_bytes INTEGER,
    load_fuel INTEGER,
    credits INTEGER,
    receipt BLOB CHECK (length(receipt) = 32),
    receipt_idx INTEGER,
    reply BLOB,
    log TEXT, access_key TEXT CHECK (length(access_key) = 16), share INTEGER CHECK (share >= 0),
    -- What was billed has a receipt, and nothing else has one.
    CHECK ((receipt IS NULL) = (credits IS NULL)),
    CHECK ((receipt IS NULL) = (receipt_idx IS NULL)),
    CHECK (state NOT IN ('succeeded', 'failed') OR receipt IS NOT NULL),
    CHECK (state NOT IN ('queued', 'running', 'faulted') OR receipt IS NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_account ON job (account, id);
CREATE UNIQUE INDEX job_key ON job (account, key) WHERE key IS NOT NULL;
CREATE INDEX job_open ON job (state) WHERE state IN ('queued', 'running');
CREATE INDEX job_package ON job (package);
CREATE TABLE package (
    digest BLOB PRIMARY KEY CHECK (length(digest) = 32),
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    publisher TEXT NOT NULL,
    manifest BLOB NOT NULL,
    load_fuel INTEGER NOT NULL CHECK (load_fuel >= 0),
    load_credits INTEGER NOT NULL CHECK (load_credits >= 0),
    published_unix_ms INTEGER NOT NULL, visibility TEXT NOT NULL DEFAULT 'public'
    CHECK (visibility IN ('public', 'private')), deprecated TEXT, signature_key BLOB CHECK (length(signature_key) = 32), signature BLOB
    CHECK (length(signature) = 64 AND (signature IS NULL) = (signature_key IS NULL)),
    UNIQUE (name, version)
) STRICT;
CREATE TABLE publisher_key (
    id BLOB PRIMARY KEY CHECK (length(id) = 32),
    account TEXT NOT NULL,
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    created_unix_ms INTEGER NOT NULL,
    revoked_unix_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX publisher_key_account ON publisher_key (account);
CREATE TABLE quote (
    package BLOB NOT NULL REFERENCES package (digest),
    shapes BLOB NOT NULL CHECK (length(shapes) = 32),
    fuel INTEGER NOT NULL CHECK (fuel >= 0),
    memory_bytes INTEGER NOT NULL CHECK (memory_bytes >= 0),
    PRIMARY KEY (package, shapes)
) STRICT, WITHOUT ROWID;
CREATE TABLE reader (
    package BLOB NOT NULL REFERENCES package (digest),
    account TEXT NOT NULL,
    PRIMARY KEY (package, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE receipt (
    idx INTEGER PRIMARY KEY CHECK (idx >= 0),
    job BLOB NOT NULL CHECK (length(job) = 16),
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    key_id BLOB NOT NULL CHECK (length(key_id) = 32),
    signature BLOB NOT NULL CHECK (length(signature) = 64),
    payload BLOB NOT NULL
) STRICT;
CREATE TABLE schedule (
    version INTEGER PRIMARY KEY,
    digest BLOB NOT NULL CHECK (length(digest) = 32),
    content BLOB NOT NULL
) STRICT;
CREATE TABLE shape (
    package BLOB NOT NULL REFERENCES package (digest),
    shapes BLOB NOT NULL CHECK (length(shapes) = 32),
    load_fuel INTEGER NOT NULL CHECK (load_fuel >= 0),
    paid_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (package, shapes)
) STRICT, WITHOUT ROWID;
CREATE TABLE space (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    account TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE tile (
    level INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    hashes BLOB NOT NULL,
    PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;
CREATE TABLE webhook (
    job BLOB PRIMARY KEY REFERENCES job (id),
    url TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'given_up')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_unix_ms INTEGER NOT NULL,
    status INTEGER,
    error TEXT
, account TEXT NOT NULL DEFAULT '') STRICT, WITHOUT ROWID;
CREATE INDEX webhook_due ON webhook (account, next_unix_ms) WHERE state = 'waiting';
