-- One text for SQLite and PostgreSQL: ids and JSON are TEXT, times BIGINT microseconds since 1970.
CREATE TABLE install (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
    id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    signer BYTEA
);

-- Secrets of the hub itself, sealed by the vault: the pepper of keys, the signer of heads.
CREATE TABLE vault_secrets (
    name TEXT PRIMARY KEY,
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE world (
    only_row BIGINT PRIMARY KEY CHECK (only_row = 1),
    revision BIGINT NOT NULL
);
INSERT INTO world (only_row, revision) VALUES (1, 0);

CREATE TABLE changes (
    revision BIGINT NOT NULL,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    PRIMARY KEY (revision, kind, id)
);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    email TEXT,
    role TEXT NOT NULL,
    auditor TEXT NOT NULL,
    state TEXT NOT NULL,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Groups and servers share one set of names: both are paths under /mcp/.
CREATE TABLE paths (
    name TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL
);

CREATE TABLE groups (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE REFERENCES paths (name),
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE memberships (
    group_id TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    user_id TEXT NOT NULL REFERENCES users (id),
    standing TEXT NOT NULL,
    expires_at BIGINT,
    revision BIGINT NOT NULL,
    PRIMARY KEY (group_id, user_id)
);

CREATE TABLE servers (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE REFERENCES paths (name),
    definition TEXT NOT NULL,
    state TEXT NOT NULL,
    listed_at BIGINT,
    revision BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE grants (
    id TEXT PRIMARY KEY,
    group_id TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    verdict TEXT NOT NULL,
    author TEXT NOT NULL,
    rights TEXT NOT NULL,
    tools TEXT NOT NULL,
    expires_at BIGINT,
    revision BIGINT NOT NULL
);
CREATE INDEX grants_of_group ON grants (group_id);

-- `definition` is the tool as its server sent it; `digest` names it.
CREATE TABLE tools (
    server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    effect TEXT NOT NULL,
    state TEXT NOT NULL,
    digest TEXT NOT NULL,
    position BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    definition BYTEA NOT NULL,
    PRIMARY KEY (server_id, name)
);

-- A value is usable while `destination` is the server's own; it is also sealed into the value.
CREATE TABLE shared_values (
    id TEXT PRIMARY KEY,
    server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    slot TEXT NOT NULL,
    sealed BYTEA NOT NULL,
    destination BYTEA NOT NULL,
    revision BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (server_id, slot)
);

-- Tables below hold people's own data: PostgreSQL shows each row to its owner alone.
CREATE TABLE credentials (
    id TEXT PRIMARY KEY,
    owner_id TEXT NOT NULL REFERENCES users (id),
    server_id TEXT NOT NULL REFERENCES servers (id) ON DELETE CASCADE,
    slot TEXT NOT NULL,
    sealed BYTEA NOT NULL,
    destination BYTEA NOT NULL,
    revision BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE (owner_id, server_id, slot)
);

CREATE TABLE hub_keys (
    id TEXT PRIMARY KEY,
    owner_id TEXT NOT NULL REFERENCES users (id),
    name TEXT NOT NULL,
    mac BYTEA NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT,
    exposed_at BIGINT,
    revision BIGINT NOT NULL
);

CREATE TABLE sessions (
    id_hash BYTEA PRIMARY KEY,
    owner_id TEXT NOT NULL REFERENCES users (id),
    key_id TEXT NOT NULL REFERENCES hub_keys (id),
    endpoint TEXT NOT NULL,
    version TEXT NOT NULL,
    capabilities TEXT NOT NULL,
    log_level TEXT,
    created_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX sessions_by_time ON sessions (seen_at);
CREATE INDEX sessions_ended ON sessions (ended_at);
CREATE INDEX sessions_of_owner ON sessions (owner_id, seen_at);

-- The key that a person's personal fields in the log are encrypted with; destroying it erases her.
-- It is there before the person is, for the record that adds her.
CREATE TABLE person_keys (
    owner_id TEXT PRIMARY KEY,
    sealed BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

-- One row per group commit. `body` is the records, one canonical JSON text per line; `leaves` their
-- RFC 6962 leaf hashes; `hash` chains the rows; `root` is the tree's root after the last record.
CREATE TABLE audit_segments (
    chain TEXT NOT NULL,
    first BIGINT NOT NULL,
    count BIGINT NOT NULL,
    body BYTEA NOT NULL,
    leaves BYTEA NOT NULL,
    previous BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    root BYTEA NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (chain, first)
);
CREATE INDEX audit_segments_by_time ON audit_segments (at);

-- Which ends of chains stand in another chain's first record.
CREATE TABLE audit_named (
    chain TEXT NOT NULL,
    size BIGINT NOT NULL,
    by_chain TEXT NOT NULL,
    PRIMARY KEY (chain, size, by_chain)
);

-- The search index, which can be rebuilt from the segments at any time. `at` is the time of the
-- earliest of these records in the segment; none in it is later than the segment's own time.
CREATE TABLE audit_index (
    chain TEXT NOT NULL,
    first BIGINT NOT NULL,
    person TEXT NOT NULL,
    server TEXT NOT NULL,
    tool TEXT NOT NULL,
    outcome TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (chain, first, person, server, tool, outcome)
);
CREATE INDEX audit_index_by_person ON audit_index (person, at);
CREATE INDEX audit_index_by_time ON audit_index (at);

CREATE TABLE audit_indexed (
    chain TEXT PRIMARY KEY,
    upto BIGINT NOT NULL
);

-- Which chain a running process writes, and when it last said so.
CREATE TABLE nodes (
    chain TEXT PRIMARY KEY,
    process TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    state TEXT NOT NULL
);
