//! The tables of a copy, in an order in which each row finds those that it refers to.
//!
//! Left out is what can be rebuilt: the index of the log. A test compares the list with the schema.

/// Says what a column holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Text,
    Int,
    Bytes,
}

/// Is a table as it is copied.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// How many of the columns, from the first on, are the key that the rows are read in the order of.
    pub(crate) key: usize,
    /// Which column names whose own data a row is.
    pub(crate) owner: Option<usize>,
    /// How many rows are read at a time: fewer where they are long.
    pub(crate) page: i64,
    /// Reads the next rows after a key.
    pub(crate) select: &'static str,
    /// Puts a row in.
    pub(crate) insert: &'static str,
}

use Kind::{Bytes, Int, Text};

/// Every table of a copy.
pub(crate) const TABLES: &[Table] = &[
    Table {
        name: "install",
        columns: &[("only_row", Int), ("id", Text), ("created_at", Int), ("signer", Bytes)],
        key: 1,
        owner: None,
        page: 200,
        select: "SELECT only_row, id, created_at, signer FROM install WHERE only_row > $1 ORDER BY only_row LIMIT $2",
        insert: "INSERT INTO install (only_row, id, created_at, signer) VALUES ($1, $2, $3, $4)",
    },
    Table {
        name: "vault_keys",
        columns: &[("id", Text), ("state", Text), ("created_at", Int)],
        key: 1,
        owner: None,
        page: 200,
        select: "SELECT id, state, created_at FROM vault_keys WHERE id > $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO vault_keys (id, state, created_at) VALUES ($1, $2, $3)",
    },
    Table {
        name: "retired_keys",
        columns: &[("id", Text), ("retired_at", Int)],
        key: 1,
        owner: None,
        page: 200,
        select: "SELECT id, retired_at FROM retired_keys WHERE id > $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO retired_keys (id, retired_at) VALUES ($1, $2)",
    },
    Table {
        name: "vault_secrets",
        columns: &[("name", Text), ("sealed", Bytes), ("created_at", Int)],
        key: 1,
        owner: None,
        page: 200,
        select: "SELECT name, sealed, created_at FROM vault_secrets WHERE name > $1 ORDER BY name LIMIT $2",
        insert: "INSERT INTO vault_secrets (name, sealed, created_at) VALUES ($1, $2, $3)",
    },
    Table {
        name: "world",
        columns: &[("only_row", Int), ("revision", Int)],
        key: 1,
        owner: None,
        page: 200,
        select: "SELECT only_row, revision FROM world WHERE only_row > $1 ORDER BY only_row LIMIT $2",
        insert: "UPDATE world SET revision = $2 WHERE only_row = $1",
    },
    Table {
        name: "changes",
        columns: &[("revision", Int), ("kind", Text), ("id", Text)],
        key: 3,
        owner: None,
        page: 500,
        select: "SELECT revision, kind, id FROM changes WHERE (revision, kind, id) > ($1, $2, $3) ORDER BY revision, \
            kind, id LIMIT $4",
        insert: "INSERT INTO changes (revision, kind, id) VALUES ($1, $2, $3)",
    },
    Table {
        name: "users",
        columns: &[
            ("id", Text),
            ("name", Text),
            ("email", Text),
            ("role", Text),
            ("auditor", Text),
            ("state", Text),
            ("revision", Int),
            ("created_at", Int),
        ],
        key: 1,
        owner: None,
        page: 200,
        select: "SELECT id, name, email, role, auditor, state, revision, created_at FROM users WHERE id > $1 ORDER BY \
            id LIMIT $2",
        insert: "INSERT INTO users (id, name, email, role, auditor, state, revision, created_at) VALUES ($1, $2, $3, \
            $4, $5, $6, $7, $8)",
    },
    Table {
        name: "paths",
        columns: &[("name", Text), ("kind", Text), ("id", Text)],
        key: 1,
        owner: None,
        page: 200,
        select: "SELECT name, kind, id FROM paths WHERE name > $1 ORDER BY name LIMIT $2",
        insert: "INSERT INTO paths (name, kind, id) VALUES ($1, $2, $3)",
    },
    Table {
        name: "groups",
        columns: &[("id", Text), ("name", Text), ("revision", Int), ("created_at", Int)],
        key: 1,
        owner: None,
        page: 200,
        select: "SELECT id, name, revision, created_at FROM groups WHERE id > $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO groups (id, name, revision, created_at) VALUES ($1, $2, $3, $4)",
    },
    Table {
        name: "memberships",
        columns: &[
            ("group_id", Text),
            ("user_id", Text),
            ("standing", Text),
            ("expires_at", Int),
            ("revision", Int),
        ],
        key: 2,
        owner: None,
        page: 200,
        select: "SELECT group_id, user_id, standing, expires_at, revision FROM memberships WHERE (group_id, user_id) \
            > ($1, $2) ORDER BY group_id, user_id LIMIT $3",
        insert: "INSERT INTO memberships (group_id, user_id, standing, expires_at, revision) VALUES ($1, $2, $3, $4, \
            $5)",
    },
    Table {
        name: "servers",
        columns: &[
            ("id", Text),
            ("name", Text),
            ("definition", Text),
            ("state", Text),
            ("listed_at", Int),
            ("revision", Int),
            ("created_at", Int),
        ],
        key: 1,
        owner: None,
        page: 50,
        select: "SELECT id, name, definition, state, listed_at, revision, created_at FROM servers WHERE id > $1 ORDER \
            BY id LIMIT $2",
        insert: "INSERT INTO servers (id, name, definition, state, listed_at, revision, created_at) VALUES ($1, $2, \
            $3, $4, $5, $6, $7)",
    },
    Table {
        name: "grants",
        columns: &[
            ("id", Text),
            ("group_id", Text),
            ("server_id", Text),
            ("verdict", Text),
            ("author", Text),
            ("rights", Text),
            ("tools", Text),
            ("expires_at", Int),
            ("revision", Int),
        ],
        key: 1,
        owner: None,
        page: 200,
        select: "SELECT id, group_id, server_id, verdict, author, rights, tools, expires_at, revision FROM grants \
            WHERE id > $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO grants (id, group_id, server_id, verdict, author, rights, tools, expires_at, revision) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    },
    Table {
        name: "tools",
        columns: &[
            ("server_id", Text),
            ("name", Text),
            ("effect", Text),
            ("state", Text),
            ("digest", Text),
            ("position", Int),
            ("revision", Int),
            ("definition", Bytes),
        ],
        key: 2,
        owner: None,
        page: 20,
        select: "SELECT server_id, name, effect, state, digest, position, revision, definition FROM tools WHERE \
            (server_id, name) > ($1, $2) ORDER BY server_id, name LIMIT $3",
        insert: "INSERT INTO tools (server_id, name, effect, state, digest, position, revision, definition) VALUES \
            ($1, $2, $3, $4, $5, $6, $7, $8)",
    },
    Table {
        name: "shared_values",
        columns: &[
            ("id", Text),
            ("server_id", Text),
            ("slot", Text),
            ("sealed", Bytes),
            ("destination", Bytes),
            ("revision", Int),
            ("updated_at", Int),
        ],
        key: 1,
        owner: None,
        page: 50,
        select: "SELECT id, server_id, slot, sealed, destination, revision, updated_at FROM shared_values WHERE id > \
            $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO shared_values (id, server_id, slot, sealed, destination, revision, updated_at) VALUES \
            ($1, $2, $3, $4, $5, $6, $7)",
    },
    Table {
        name: "credentials",
        columns: &[
            ("id", Text),
            ("owner_id", Text),
            ("server_id", Text),
            ("slot", Text),
            ("sealed", Bytes),
            ("destination", Bytes),
            ("revision", Int),
            ("updated_at", Int),
            ("renewing_until", Int),
        ],
        key: 1,
        owner: Some(1),
        page: 50,
        select: "SELECT id, owner_id, server_id, slot, sealed, destination, revision, updated_at, renewing_until FROM \
            credentials WHERE id > $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO credentials (id, owner_id, server_id, slot, sealed, destination, revision, updated_at, \
            renewing_until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    },
    Table {
        name: "hub_keys",
        columns: &[
            ("id", Text),
            ("owner_id", Text),
            ("name", Text),
            ("mac", Bytes),
            ("created_at", Int),
            ("expires_at", Int),
            ("revoked_at", Int),
            ("exposed_at", Int),
            ("revision", Int),
        ],
        key: 1,
        owner: Some(1),
        page: 200,
        select: "SELECT id, owner_id, name, mac, created_at, expires_at, revoked_at, exposed_at, revision FROM \
            hub_keys WHERE id > $1 ORDER BY id LIMIT $2",
        insert: "INSERT INTO hub_keys (id, owner_id, name, mac, created_at, expires_at, revoked_at, exposed_at, \
            revision) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    },
    Table {
        name: "sessions",
        columns: &[
            ("id_hash", Bytes),
            ("owner_id", Text),
            ("key_id", Text),
            ("endpoint", Text),
            ("version", Text),
            ("capabilities", Text),
            ("log_level", Text),
            ("created_at", Int),
            ("seen_at", Int),
            ("ended_at", Int),
        ],
        key: 1,
        owner: Some(1),
        page: 200,
        select: "SELECT id_hash, owner_id, key_id, endpoint, version, capabilities, log_level, created_at, seen_at, \
            ended_at FROM sessions WHERE id_hash > $1 ORDER BY id_hash LIMIT $2",
        insert: "INSERT INTO sessions (id_hash, owner_id, key_id, endpoint, version, capabilities, log_level, \
            created_at, seen_at, ended_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    },
    Table {
        name: "person_keys",
        columns: &[("owner_id", Text), ("sealed", Bytes), ("created_at", Int)],
        key: 1,
        owner: Some(0),
        page: 200,
        select: "SELECT owner_id, sealed, created_at FROM person_keys WHERE owner_id > $1 ORDER BY owner_id LIMIT $2",
        insert: "INSERT INTO person_keys (owner_id, sealed, created_at) VALUES ($1, $2, $3)",
    },
    Table {
        name: "audit_segments",
        columns: &[
            ("chain", Text),
            ("first", Int),
            ("count", Int),
            ("body", Bytes),
            ("leaves", Bytes),
            ("previous", Bytes),
            ("hash", Bytes),
            ("root", Bytes),
            ("at", Int),
        ],
        key: 2,
        owner: None,
        page: 8,
        select: "SELECT chain, first, count, body, leaves, previous, hash, root, at FROM audit_segments WHERE (chain, \
            first) > ($1, $2) ORDER BY chain, first LIMIT $3",
        insert: "INSERT INTO audit_segments (chain, first, count, body, leaves, previous, hash, root, at) VALUES ($1, \
            $2, $3, $4, $5, $6, $7, $8, $9)",
    },
    Table {
        name: "audit_named",
        columns: &[("chain", Text), ("size", Int), ("by_chain", Text)],
        key: 3,
        owner: None,
        page: 500,
        select: "SELECT chain, size, by_chain FROM audit_named WHERE (chain, size, by_chain) > ($1, $2, $3) ORDER BY \
            chain, size, by_chain LIMIT $4",
        insert: "INSERT INTO audit_named (chain, size, by_chain) VALUES ($1, $2, $3)",
    },
    Table {
        name: "nodes",
        columns: &[
            ("chain", Text),
            ("process", Text),
            ("seen_at", Int),
            ("state", Text),
            ("keys", Text),
            ("closed_before", Int),
        ],
        key: 1,
        owner: None,
        page: 200,
        select: "SELECT chain, process, seen_at, state, keys, closed_before FROM nodes WHERE chain > $1 \
            ORDER BY chain LIMIT $2",
        insert: "INSERT INTO nodes (chain, process, seen_at, state, keys, closed_before) \
            VALUES ($1, $2, $3, $4, $5, $6)",
    },
];
