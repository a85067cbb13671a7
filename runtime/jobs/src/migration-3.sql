-- How much is kept, and what is the oldest of it, without a look at any content.
DROP INDEX blob_expires;
CREATE INDEX blob_expires ON blob (expires_unix_ms, bytes);
