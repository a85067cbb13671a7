-- Who waits for a webhook: what is due is looked for account by account, so that one with a hundred
-- thousand of them is one step of the way and not all of it.
ALTER TABLE webhook ADD COLUMN account TEXT NOT NULL DEFAULT '';
UPDATE webhook SET account = (SELECT account FROM job WHERE job.id = webhook.job);
DROP INDEX webhook_due;
CREATE INDEX webhook_due ON webhook (account, next_unix_ms) WHERE state = 'waiting';
