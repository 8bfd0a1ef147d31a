INSERT INTO vault_keys (id, state, created_at)
SELECT DISTINCT lower(hex(substr(sealed, 3, 16))), 'old', 0 FROM (
    SELECT sealed FROM vault_secrets UNION ALL SELECT sealed FROM person_keys UNION ALL
    SELECT sealed FROM shared_values UNION ALL SELECT sealed FROM credentials) s
 WHERE length(sealed) >= 138;

-- Each sealed value names its key in its own bytes, and the key has to be there: a key goes only when
-- nothing is under it, and nothing comes under a key that is gone. What is too short isn't sealed.
ALTER TABLE vault_secrets ADD COLUMN key_id TEXT GENERATED ALWAYS AS
    (CASE WHEN length(sealed) >= 138 THEN lower(hex(substr(sealed, 3, 16))) END) VIRTUAL REFERENCES vault_keys (id);
ALTER TABLE person_keys ADD COLUMN key_id TEXT GENERATED ALWAYS AS
    (CASE WHEN length(sealed) >= 138 THEN lower(hex(substr(sealed, 3, 16))) END) VIRTUAL REFERENCES vault_keys (id);
ALTER TABLE shared_values ADD COLUMN key_id TEXT GENERATED ALWAYS AS
    (CASE WHEN length(sealed) >= 138 THEN lower(hex(substr(sealed, 3, 16))) END) VIRTUAL REFERENCES vault_keys (id);
ALTER TABLE credentials ADD COLUMN key_id TEXT GENERATED ALWAYS AS
    (CASE WHEN length(sealed) >= 138 THEN lower(hex(substr(sealed, 3, 16))) END) VIRTUAL REFERENCES vault_keys (id);

CREATE INDEX vault_secrets_by_key ON vault_secrets (key_id);
CREATE INDEX person_keys_by_key ON person_keys (key_id);
CREATE INDEX shared_values_by_key ON shared_values (key_id);
CREATE INDEX credentials_by_key ON credentials (key_id);
