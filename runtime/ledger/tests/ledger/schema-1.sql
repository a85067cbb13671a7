CREATE TABLE account (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 64),
    kind TEXT NOT NULL CHECK (kind IN ('operator', 'publisher', 'caller', 'revenue', 'escrow')),
    debits_pending INTEGER NOT NULL CHECK (debits_pending >= 0),
    debits_posted INTEGER NOT NULL CHECK (debits_posted >= 0),
    credits_pending INTEGER NOT NULL CHECK (credits_pending >= 0),
    credits_posted INTEGER NOT NULL CHECK (credits_posted >= 0),
    created_unix_ms INTEGER NOT NULL CHECK (created_unix_ms >= 0),
    CONSTRAINT debits_are_covered
        CHECK (kind = 'operator' OR debits_pending <= credits_posted - debits_posted)
) STRICT;

CREATE TABLE component (
    name TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL CHECK (version >= 1)
) STRICT, WITHOUT ROWID;

CREATE TABLE history (
    account INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    debits_pending INTEGER NOT NULL CHECK (debits_pending >= 0),
    debits_posted INTEGER NOT NULL CHECK (debits_posted >= 0),
    credits_pending INTEGER NOT NULL CHECK (credits_pending >= 0),
    credits_posted INTEGER NOT NULL CHECK (credits_posted >= 0),
    PRIMARY KEY (account, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE open_pending (
    seq INTEGER PRIMARY KEY,
    expires_unix_ms INTEGER
) STRICT;

CREATE INDEX open_pending_expires ON open_pending (expires_unix_ms) WHERE expires_unix_ms IS NOT NULL;

CREATE TABLE transfer (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE CHECK (length(id) BETWEEN 1 AND 88),
    purpose TEXT NOT NULL
        CHECK (purpose IN ('top_up', 'payout', 'refund', 'hold', 'charge', 'share', 'fee')),
    action TEXT NOT NULL CHECK (action IN ('direct', 'pending', 'post', 'void')),
    debit INTEGER NOT NULL,
    credit INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount > 0 OR (amount = 0 AND action = 'post')),
    pending INTEGER,
    expires_unix_ms INTEGER CHECK (expires_unix_ms >= 0),
    recorded_unix_ms INTEGER NOT NULL CHECK (recorded_unix_ms >= 0),
    CHECK (debit <> credit),
    CHECK ((pending IS NOT NULL) = (action IN ('post', 'void'))),
    CHECK (expires_unix_ms IS NULL OR action = 'pending')
) STRICT;

CREATE UNIQUE INDEX transfer_pending ON transfer (pending) WHERE pending IS NOT NULL;
