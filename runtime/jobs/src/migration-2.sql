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

CREATE TABLE publisher_key (
    id BLOB PRIMARY KEY CHECK (length(id) = 32),
    account TEXT NOT NULL,
    public_key BLOB NOT NULL CHECK (length(public_key) = 32),
    created_unix_ms INTEGER NOT NULL,
    revoked_unix_ms INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX publisher_key_account ON publisher_key (account);

CREATE TABLE space (
    name TEXT PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    account TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

ALTER TABLE package ADD COLUMN visibility TEXT NOT NULL DEFAULT 'public'
    CHECK (visibility IN ('public', 'private'));
ALTER TABLE package ADD COLUMN deprecated TEXT;
ALTER TABLE package ADD COLUMN signature_key BLOB CHECK (length(signature_key) = 32);
ALTER TABLE package ADD COLUMN signature BLOB
    CHECK (length(signature) = 64 AND (signature IS NULL) = (signature_key IS NULL));

CREATE TABLE reader (
    package BLOB NOT NULL REFERENCES package (digest),
    account TEXT NOT NULL,
    PRIMARY KEY (package, account)
) STRICT, WITHOUT ROWID;

ALTER TABLE job ADD COLUMN access_key TEXT CHECK (length(access_key) = 16);
ALTER TABLE job ADD COLUMN share INTEGER CHECK (share >= 0);
UPDATE job SET share = coalesce((SELECT amount FROM transfer WHERE transfer.id =
    'job:' || lower(substr(hex(job.id), 1, 8)) || '-' || lower(substr(hex(job.id), 9, 4)) || '-'
    || lower(substr(hex(job.id), 13, 4)) || '-' || lower(substr(hex(job.id), 17, 4)) || '-'
    || lower(substr(hex(job.id), 21)) || ':share'), 0)
    WHERE credits IS NOT NULL;
CREATE INDEX job_package ON job (package);

CREATE TABLE webhook (
    job BLOB PRIMARY KEY REFERENCES job (id),
    url TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'delivered', 'given_up')),
    attempts INTEGER NOT NULL DEFAULT 0,
    next_unix_ms INTEGER NOT NULL,
    status INTEGER,
    error TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_due ON webhook (next_unix_ms) WHERE state = 'waiting';

-- Content in files, for whoever finds a file and asks whether it is needed.
CREATE INDEX blob_file ON blob (digest) WHERE content IS NULL;
