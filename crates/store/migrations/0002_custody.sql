-- The key-encryption keys that something may be sealed under. The 'current' one seals, the 'next' one
-- will, an 'old' one only opens. There is at most one current and one next.
CREATE TABLE vault_keys (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX vault_keys_by_state ON vault_keys (state) WHERE state <> 'old';

-- Keys that were taken away; none comes back.
CREATE TABLE retired_keys (
    id TEXT PRIMARY KEY,
    retired_at BIGINT NOT NULL
);

-- The keys that the process holds, as far as it has said so, with commas between them.
ALTER TABLE nodes ADD COLUMN keys TEXT NOT NULL DEFAULT '';
