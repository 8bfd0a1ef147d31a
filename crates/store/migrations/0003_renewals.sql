-- Until when a process has claimed the renewal of the account in this row: a token that is good once is spent by one alone.
ALTER TABLE credentials ADD COLUMN renewing_until BIGINT;
